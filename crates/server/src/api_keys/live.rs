//! The keys that a running server accepts, and how often each was used.

use super::{DEFAULT, Digest, Entry, KEYS_MAX, Scope, file, fresh, now_ms};
use crate::api::bearer;
use crate::audit::{Audit, Record};
use crate::config::Secret;
use crate::front::{Bucket, Problem};
use crate::worker::Clock;
use clarion_protocol::Refusal;
use file::Stamp;
use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The keys that are good now: at most [`KEYS_MAX`], and one of the settings.
#[derive(Debug)]
pub(crate) struct ApiKeys {
    dir: PathBuf,
    /// The key `default` of the settings, which then is not the one of the file.
    set: Option<Entry>,
    /// Requests a second of each key. 0: no limit.
    rate: u32,
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    keys: Vec<Arc<Key>>,
    stamp: Option<Stamp>,
    /// Why the file cannot be read, while that is so.
    failing: Option<String>,
}

#[derive(Debug)]
struct Key {
    entry: Entry,
    uses: Arc<Uses>,
}

/// What was done with a key of this name since the start.
#[derive(Debug, Default)]
struct Uses {
    bucket: Mutex<Bucket>,
    counts: [AtomicU64; Use::ALL.len()],
}

/// What became of a request with a key that is good.
#[derive(Clone, Copy, Debug)]
enum Use {
    Allowed,
    Forbidden,
    Limited,
}

impl Use {
    const ALL: [(Self, &'static str); 3] =
        [(Self::Allowed, "allowed"), (Self::Forbidden, "forbidden"), (Self::Limited, "limited")];
}

/// Whose request it is.
#[derive(Clone, Debug)]
pub(crate) struct Caller(Arc<Key>);

impl Caller {
    /// The name of the key.
    pub(crate) fn name(&self) -> &str {
        &self.0.entry.name
    }
}

/// Why a request is not carried out.
#[derive(Debug)]
pub(crate) enum Denied {
    /// Nobody has this key.
    Unknown,
    /// More requests a second than the given number; when to try again, seconds.
    Limited(u32, u32),
    /// Its key has not the scope.
    Forbidden(Caller, Scope),
}

impl From<Denied> for Problem {
    /// RFC 6750 section 3.1.
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Unknown => {
                let detail = "The HTTP API wants the header Authorization: Bearer <API key>.";
                Self::from(Refusal::unauthenticated(detail))
                    .with_header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
            }
            Denied::Limited(rate, retry_after_s) => {
                Self::too_many("This API key asks too often.", rate, retry_after_s)
            }
            Denied::Forbidden(_, scope) => {
                let scope = scope.as_str();
                let detail = format!("This API key has not the scope `{scope}`.");
                let challenge = format!("Bearer error=\"insufficient_scope\", scope=\"{scope}\"");
                let challenge = HeaderValue::from_str(&challenge).expect("it is visible ASCII");
                Self::from(Refusal::forbidden(detail)).with_header(WWW_AUTHENTICATE, challenge)
            }
        }
    }
}

impl ApiKeys {
    /// Reads the keys of a data directory. If there are none and the settings have none either, one
    /// is made that may do everything; it is the second value, to be shown once.
    ///
    /// # Errors
    /// A sentence that names the file.
    pub(crate) fn open(
        dir: &Path,
        set: &Secret,
        rate: u32,
        clock: Clock,
    ) -> Result<(Self, Option<Secret>), String> {
        let set = (!set.is_empty()).then(|| Entry::new(DEFAULT, vec![Scope::Admin], set));
        let mut made = None;
        let stamp =
            |dir| file::stamp(dir).map_err(|e| format!("{}: {e}", file::path(dir).display()));
        let mut seen = stamp(dir)?;
        let entries = match file::read(dir)? {
            Some(entries) => entries,
            None if set.is_some() => Vec::new(),
            None => {
                let entries = file::edit(dir, |keys| {
                    let keys = keys.unwrap_or_else(|| {
                        let secret = made.insert(fresh());
                        vec![Entry::new(DEFAULT, vec![Scope::Admin], secret)]
                    });
                    Ok((keys.clone(), keys))
                })?;
                seen = stamp(dir)?;
                entries
            }
        };
        let keys = Self { dir: dir.into(), set, rate, clock, state: Mutex::default() };
        {
            let mut state = keys.lock();
            state.keys = keys.live(entries, &[]);
            state.stamp = seen;
        }
        Ok((keys, made))
    }

    /// `entries` and the key of the settings, with the uses that keys of their names have.
    fn live(&self, entries: Vec<Entry>, before: &[Arc<Key>]) -> Vec<Arc<Key>> {
        let others = entries.into_iter().filter(|e| self.set.is_none() || e.name != DEFAULT);
        let entries = self.set.iter().cloned().chain(others);
        let key = |entry: Entry| {
            let same = before.iter().find(|key| key.entry.name == entry.name);
            Arc::new(Key { uses: same.map(|key| key.uses.clone()).unwrap_or_default(), entry })
        };
        entries.map(key).collect()
    }

    /// Whose request it is, if it may be made; RFC 6750 section 2.1.
    pub(crate) fn authorize(&self, headers: &HeaderMap, scope: Scope) -> Result<Caller, Denied> {
        let given = headers.get(AUTHORIZATION).and_then(bearer).ok_or(Denied::Unknown)?;
        let (digest, now_ms) = (Digest::of(given), now_ms());
        let mut found = None;
        // All are looked at, whichever it is.
        for key in &self.lock().keys {
            if bool::from(key.entry.is(&digest, now_ms)) {
                found = Some(key.clone());
            }
        }
        let key = found.ok_or(Denied::Unknown)?;
        let count = |what: Use| key.uses.counts[what as usize].fetch_add(1, Relaxed);
        let taken = lock(&key.uses.bucket).take(self.rate, self.clock.mono_us());
        if let Err(retry_after_s) = taken {
            count(Use::Limited);
            return Err(Denied::Limited(self.rate, retry_after_s));
        }
        if !key.entry.may(scope) {
            count(Use::Forbidden);
            return Err(Denied::Forbidden(Caller(key), scope));
        }
        count(Use::Allowed);
        Ok(Caller(key))
    }

    /// Looks at the file again and again, for as long as the process lives.
    pub(crate) async fn watch(self: Arc<Self>, audit: Arc<Audit>) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let keys = self.clone();
            // A disk may take its time; the front's threads have more to do.
            let looked = tokio::task::spawn_blocking(move || keys.look()).await;
            for (action, name) in looked.unwrap_or_default() {
                let subject = [("name", name)].into_iter().collect();
                audit.record(Record { action, subject, ..Record::default() }).await;
            }
        }
    }

    /// Takes what is new in the file; what changed, and the names of the keys. One that cannot be
    /// read, or is gone, changes nothing and is said once.
    fn look(&self) -> Vec<(&'static str, String)> {
        let (before, known, failing) = {
            let state = self.lock();
            (state.keys.clone(), state.stamp, state.failing.clone())
        };
        let stamp = file::stamp(&self.dir).map_err(|error| error.to_string());
        if stamp.as_ref().is_ok_and(|stamp| *stamp == known) && failing.is_none() {
            return Vec::new();
        }
        let read = stamp.and_then(|stamp| {
            let gone = || format!("{}: is gone", file::path(&self.dir).display());
            Ok((stamp, file::read(&self.dir)?.ok_or_else(gone)?))
        });
        let (stamp, entries) = match read {
            Ok(read) => read,
            Err(why) => {
                if failing.as_ref() != Some(&why) {
                    tracing::warn!(why, "API keys cannot be read; those before stay good");
                }
                self.lock().failing = Some(why);
                return Vec::new();
            }
        };
        let after = self.live(entries, &before);
        let changes = changes(&before, &after);
        {
            let mut state = self.lock();
            (state.keys, state.stamp, state.failing) = (after, stamp, None);
        }
        if failing.is_some() {
            tracing::info!("API keys can be read again");
        }
        changes
    }

    /// How many keys there are, and whether the file cannot be read.
    pub(crate) fn state(&self) -> (usize, bool) {
        let state = self.lock();
        (state.keys.len(), state.failing.is_some())
    }

    /// Requests by name of the key and what became of them.
    pub(crate) fn uses(&self) -> Vec<([String; 2], u64)> {
        let keys = self.lock().keys.clone();
        let each = |key: &Arc<Key>| {
            let (name, uses) = (key.entry.name.clone(), key.uses.clone());
            Use::ALL.map(|(what, label)| {
                ([name.clone(), label.to_owned()], uses.counts[what as usize].load(Relaxed))
            })
        };
        keys.iter().flat_map(each).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn changes(before: &[Arc<Key>], after: &[Arc<Key>]) -> Vec<(&'static str, String)> {
    let find = |keys: &[Arc<Key>], name: &str| {
        keys.iter().find(|key| key.entry.name == name).map(|key| key.entry.clone())
    };
    let mut changes = Vec::with_capacity(KEYS_MAX.min(after.len()));
    for key in after {
        match find(before, &key.entry.name) {
            None => changes.push(("key_added", key.entry.name.clone())),
            Some(entry) if entry != key.entry => {
                changes.push(("key_changed", key.entry.name.clone()));
            }
            Some(_) => {}
        }
    }
    let gone = before.iter().filter(|key| find(after, &key.entry.name).is_none());
    changes.extend(gone.map(|key| ("key_revoked", key.entry.name.clone())));
    changes
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::Previous;
    use super::*;
    use crate::keys::tests::directory;
    use std::fs;

    const RATE: u32 = 1_000;

    fn headers(key: &str) -> HeaderMap {
        let value = HeaderValue::from_str(&format!("Bearer {key}")).unwrap();
        HeaderMap::from_iter([(AUTHORIZATION, value)])
    }

    fn open(dir: &Path, set: &str, rate: u32) -> (ApiKeys, Option<Secret>) {
        ApiKeys::open(dir, &Secret::new(set.into()), rate, Clock::start()).unwrap()
    }

    fn add(dir: &Path, name: &str, scopes: &[Scope]) -> Secret {
        let secret = fresh();
        file::edit(dir, |keys| {
            let mut keys = keys.unwrap_or_default();
            keys.push(Entry::new(name, scopes.to_vec(), &secret));
            Ok((keys, ()))
        })
        .unwrap();
        secret
    }

    #[test]
    fn the_first_start_makes_a_key_for_everything_once() {
        let dir = directory("live-first");
        let (keys, made) = open(&dir, "", RATE);
        let made = made.unwrap();
        for scope in [Scope::Publish, Scope::Read, Scope::Admin] {
            assert_eq!(keys.authorize(&headers(made.expose()), scope).unwrap().name(), DEFAULT);
        }
        let (keys, again) = open(&dir, "", RATE);
        assert_eq!(again, None);
        assert!(keys.authorize(&headers(made.expose()), Scope::Admin).is_ok());
        assert!(keys.look().is_empty());
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn the_key_of_the_settings_takes_the_place_of_the_default() {
        let dir = directory("live-set");
        let set = "0123456789abcdef";
        let (keys, made) = open(&dir, set, RATE);
        assert_eq!((made, keys.state()), (None, (1, false)));
        assert!(!file::path(&dir).exists());
        assert!(keys.look().is_empty(), "no file is none that is gone");
        let (default, other) =
            (add(&dir, DEFAULT, &[Scope::Admin]), add(&dir, "other", &[Scope::Read]));
        assert_eq!(keys.look(), [("key_added", "other".to_owned())]);
        let ask = |key: &str| keys.authorize(&headers(key), Scope::Read).map(|_| ());
        assert!(ask(set).is_ok() && ask(other.expose()).is_ok());
        assert!(matches!(ask(default.expose()), Err(Denied::Unknown)));
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_key_may_what_its_scopes_say() {
        let dir = directory("live-scopes");
        let (keys, _) = open(&dir, "", RATE);
        let all = [Scope::Publish, Scope::Read, Scope::Admin];
        for (index, scopes) in [&all[..1], &all[1..2], &all[..2], &all[2..]].iter().enumerate() {
            let secret = add(&dir, &format!("key-{index}"), scopes);
            keys.look();
            for wanted in all {
                let may = scopes.contains(&wanted) || scopes.contains(&Scope::Admin);
                match keys.authorize(&headers(secret.expose()), wanted) {
                    Ok(_) => assert!(may),
                    Err(Denied::Forbidden(_, scope)) => assert!(!may && scope == wanted),
                    Err(denied) => panic!("{denied:?}"),
                }
            }
        }
        for wrong in ["", "clk_", "nonsense", &"x".repeat(10_000)] {
            assert!(matches!(keys.authorize(&headers(wrong), Scope::Read), Err(Denied::Unknown)));
        }
        assert!(matches!(keys.authorize(&HeaderMap::new(), Scope::Read), Err(Denied::Unknown)));
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn changes_of_the_file_are_taken_and_told_and_a_broken_one_is_not() {
        let dir = directory("live-reload");
        let (keys, made) = open(&dir, "", RATE);
        let made = made.unwrap();
        let other = add(&dir, "other", &[Scope::Read]);
        assert_eq!(keys.look(), [("key_added", "other".to_owned())]);
        let ask = |key: &Secret| keys.authorize(&headers(key.expose()), Scope::Read).is_ok();
        assert!(ask(&other) && ask(&made));
        let good = fs::read_to_string(file::path(&dir)).unwrap();
        fs::write(file::path(&dir), "nonsense").unwrap();
        assert_eq!((keys.look(), keys.state()), (Vec::new(), (2, true)));
        fs::remove_file(file::path(&dir)).unwrap();
        assert_eq!((keys.look(), keys.state()), (Vec::new(), (2, true)));
        assert!(ask(&other) && ask(&made));
        fs::write(file::path(&dir), good).unwrap();
        assert_eq!((keys.look(), keys.state()), (Vec::new(), (2, false)));
        file::edit(&dir, |keys| Ok((keys.unwrap().split_off(1), ()))).unwrap();
        assert_eq!(keys.look(), [("key_revoked", DEFAULT.to_owned())]);
        assert!(ask(&other) && !ask(&made));
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_secret_that_was_replaced_is_good_until_its_time() {
        let (old, new) = (Digest::of("old"), fresh());
        let mut entry = Entry::new("a", vec![Scope::Read], &new);
        entry.previous = Some(Previous { sha256: old.clone(), until: 100 });
        assert!(bool::from(entry.is(&old, 99)) && !bool::from(entry.is(&old, 100)));
        assert!(bool::from(entry.is(&Digest::of(new.expose()), 100)));
    }

    #[test]
    fn each_key_has_a_rate_of_its_own_and_uses_are_counted_by_name() {
        let dir = directory("live-rate");
        let (keys, made) = open(&dir, "", 1);
        let (made, other) = (made.unwrap(), add(&dir, "other", &[Scope::Read]));
        keys.look();
        let ask = |key: &Secret, scope| keys.authorize(&headers(key.expose()), scope).map(|_| ());
        assert!(ask(&made, Scope::Read).is_ok());
        assert!(matches!(ask(&made, Scope::Read), Err(Denied::Limited(1, 1))));
        assert!(matches!(ask(&other, Scope::Admin), Err(Denied::Forbidden(_, Scope::Admin))));
        let uses = |name: &str| -> Vec<u64> {
            let uses = keys.uses();
            uses.iter().filter(|(labels, _)| labels[0] == name).map(|(_, count)| *count).collect()
        };
        assert_eq!((uses(DEFAULT), uses("other")), (vec![1, 0, 1], vec![0, 1, 0]));
        // The name keeps its account when the secret changes.
        file::edit(&dir, |keys| {
            let mut keys = keys.unwrap();
            keys[0].sha256 = Digest::of("another");
            Ok((keys, ()))
        })
        .unwrap();
        assert_eq!(keys.look(), [("key_changed", DEFAULT.to_owned())]);
        assert!(matches!(ask(&made, Scope::Read), Err(Denied::Unknown)));
        assert_eq!(uses(DEFAULT), [1, 0, 1]);
        fs::remove_dir_all(dir).unwrap();
    }
}
