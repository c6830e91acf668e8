//! Keys that a URL serves: fetched ahead of need, kept when they cannot be, and asked for again, within
//! bounds, when a token names one that is not among them.
//!
//! One task fetches, so there is never more than one request under way. It asks again when the answer
//! says that it is too old (`Cache-Control`), at the latest after `auth.jwks_refresh` and never sooner
//! than after `auth.jwks_cooldown`; while nothing can be fetched, after 1 s, then twice as long each
//! time. A token with an unknown `kid` makes it ask at once if the cooldown is over, and waits for that;
//! within the cooldown it is refused if the keys are current, and told to come again if they are not.

use super::fetch::{Source, fetch};
use crate::config;
use clarion_token::Key;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::Instant;

/// Most sessions that wait for keys at a time; further ones are told to come again.
const WAITING_MAX: usize = 1_024;
/// What the log is told of a failure at most.
const WHY_CHARS: usize = 200;
/// The first pause after a failure; each further one is twice as long, up to the cooldown.
const RETRY: Duration = Duration::from_secs(1);

/// Keys of one URL.
#[derive(Debug)]
pub(super) struct Remote {
    source: Source,
    refresh: Duration,
    cooldown: Duration,
    timeout: Duration,
    runtime: Handle,
    /// Somebody wants the keys now.
    wanted: Notify,
    /// Told when a request has ended.
    ended: watch::Sender<Waited>,
    waiting: Arc<Semaphore>,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug)]
struct State {
    /// When the last request began, and whether it is under way.
    asked: Option<Instant>,
    asking: bool,
    /// What the last one that ended says of the keys.
    last: Waited,
    status: Status,
    /// When the keys were fetched, or the start.
    since: Instant,
}

/// What is known after waiting, if the key is still unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waited {
    /// The keys are those that are served now.
    Current,
    /// They could not be fetched.
    Unknown,
}

/// What is told of the keys.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Status {
    /// How many were fetched.
    pub(crate) keys: usize,
    /// Since they were, or since the start.
    pub(crate) age: Duration,
    /// Requests that brought keys.
    pub(crate) fetched: u64,
    /// Requests that did not.
    pub(crate) failed: u64,
}

impl Remote {
    /// Call it on a runtime.
    pub(super) fn new(source: Source, settings: &config::Auth) -> Self {
        let state = State {
            asked: None,
            asking: false,
            last: Waited::Unknown,
            status: Status::default(),
            since: Instant::now(),
        };
        Self {
            source,
            refresh: settings.jwks_refresh.0,
            cooldown: settings.jwks_cooldown.0,
            timeout: settings.jwks_timeout.0,
            runtime: Handle::current(),
            wanted: Notify::new(),
            ended: watch::Sender::new(Waited::Unknown),
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
            state: Mutex::new(state),
        }
    }

    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }

    /// Waits for the request that is under way, or for a new one if it is time for one; `Err` if there
    /// is nothing to wait for.
    pub(super) fn wait(&self) -> Result<impl Future<Output = Waited> + Send + use<>, Waited> {
        let Ok(permit) = self.waiting.clone().try_acquire_owned() else {
            return Err(Waited::Unknown);
        };
        // Before the state is looked at: what is under way then has its end still to be told.
        let mut ended = self.ended.subscribe();
        let State { asking, last, .. } = *self.state();
        if !asking {
            if !self.rested() {
                return Err(last);
            }
            self.wanted.notify_one();
        }
        // Longer than a request takes; only for a task that is gone.
        let patience = self.timeout * 2;
        Ok(async move {
            let _permit = permit;
            match tokio::time::timeout(patience, ended.changed()).await {
                Ok(Ok(())) => *ended.borrow(),
                _ => Waited::Unknown,
            }
        })
    }

    /// Fetches for as long as the server runs; `keep` is given what was fetched.
    pub(super) async fn run(&self, keep: impl Fn(Vec<Arc<Key>>)) {
        let mut failures = 0;
        let mut names = None;
        loop {
            {
                let mut state = self.state();
                (state.asked, state.asking) = (Some(Instant::now()), true);
            }
            let pause = match fetch(&self.source, self.timeout).await {
                Ok(fetched) => {
                    failures = 0;
                    let keys: Vec<Arc<Key>> = fetched.set.keys.into_iter().map(Arc::new).collect();
                    let found: Vec<_> =
                        keys.iter().map(|key| key.kid().map(str::to_owned)).collect();
                    if names.as_ref() != Some(&found) {
                        let passed_over = fetched.set.passed_over;
                        tracing::info!(keys = keys.len(), passed_over, "keys for tokens fetched");
                        names = Some(found);
                    }
                    let count = keys.len();
                    keep(keys);
                    self.end(Some(count));
                    // The cooldown wins where it is longer.
                    fetched.max_age.unwrap_or(self.refresh).min(self.refresh).max(self.cooldown)
                }
                Err(why) => {
                    self.end(None);
                    // A certificate that is refused may have many names.
                    let why: String = why.chars().take(WHY_CHARS).collect();
                    let Status { keys, age, .. } = self.status();
                    tracing::warn!(%why, keys, age_s = age.as_secs(), "keys for tokens not fetched");
                    failures = (failures + 1).min(16);
                    (RETRY * 2_u32.pow(failures - 1)).min(self.cooldown)
                }
            };
            let until = Instant::now() + pause;
            loop {
                tokio::select! {
                    () = tokio::time::sleep_until(until) => break,
                    () = self.wanted.notified() => if self.rested() { break },
                }
            }
        }
    }

    /// A request has ended: with so many keys, or without.
    fn end(&self, keys: Option<usize>) {
        let last = if keys.is_some() { Waited::Current } else { Waited::Unknown };
        {
            let mut state = self.state();
            (state.asking, state.last) = (false, last);
            match keys {
                Some(keys) => {
                    state.since = Instant::now();
                    state.status.keys = keys;
                    state.status.fetched += 1;
                }
                None => state.status.failed += 1,
            }
        }
        self.ended.send_replace(last);
    }

    /// Whether it may be asked again because of a token.
    fn rested(&self) -> bool {
        self.state().asked.is_none_or(|at| at.elapsed() >= self.cooldown)
    }

    pub(super) fn status(&self) -> Status {
        let state = *self.state();
        Status { age: state.since.elapsed(), ..state.status }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nobody runs it, so nothing is ever fetched.
    fn remote() -> Remote {
        Remote::new("http://127.0.0.1:1/".parse().unwrap(), &config::Auth::default())
    }

    #[tokio::test]
    async fn no_more_sessions_wait_than_are_allowed() {
        let remote = remote();
        let mut waiting: Vec<_> = (0..WAITING_MAX).map(|_| remote.wait().ok().unwrap()).collect();
        assert_eq!(remote.wait().err(), Some(Waited::Unknown));
        waiting.pop();
        assert!(remote.wait().is_ok(), "one has given up");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever() {
        let remote = remote();
        assert_eq!(remote.wait().ok().unwrap().await, Waited::Unknown);
        assert_eq!(remote.waiting.available_permits(), WAITING_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn all_that_wait_are_told_of_one_end_and_then_it_rests() {
        let remote = remote();
        remote.state().asking = true;
        remote.state().asked = Some(Instant::now());
        let waiting: Vec<_> = (0..3).map(|_| remote.wait().ok().unwrap()).collect();
        remote.end(Some(2));
        for one in waiting {
            assert_eq!(one.await, Waited::Current);
        }
        assert_eq!(remote.wait().err(), Some(Waited::Current), "it was asked just now");
        tokio::time::advance(remote.cooldown).await;
        assert!(remote.wait().is_ok());
        remote.end(None);
        let Status { keys, fetched, failed, .. } = remote.status();
        assert_eq!((keys, fetched, failed), (2, 1, 1), "the old keys stay");
    }
}
