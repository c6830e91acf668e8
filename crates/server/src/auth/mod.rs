//! Who somebody is: tokens, against the keys that are trusted now.
//!
//! A token is verified where it comes up: on the worker, in the middle of a turn. That takes 1 µs for
//! HMAC, 15 for RS256, 35 for EdDSA and 50 for ES256, once for a session that has no ticket. A pool
//! would take as much and its hand-over besides, and a second queue to bound. Only a token whose key
//! may just have been made waits, for [`remote`] to fetch the keys again, and is answered by mail.

pub(crate) mod command;
mod fetch;
pub(crate) mod keys;
mod remote;

pub(crate) use fetch::Source;

use crate::config;
use crate::worker::Clock;
use clarion_engine::effects::{Action, AuthOutcome, Credentials, Grants, RoomGrant, TokenLimits};
use clarion_protocol::Pattern;
use clarion_token::{Claims, Key, Refused, Verifier};
use remote::{Remote, Waited};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};

/// Verifies tokens, for all workers and the front.
#[derive(Debug)]
pub(crate) struct Auth {
    /// Replaced as a whole when other keys are fetched. Locked to clone the pointer, once for each
    /// token.
    verifier: RwLock<Arc<Verifier>>,
    /// Keys that are there from the start, and stay.
    own: Vec<Arc<Key>>,
    /// Keys that come from elsewhere, if any do.
    remote: Option<Remote>,
    clock: Clock,
    accepted: AtomicU64,
    refused: [AtomicU64; Refused::LABELS.len()],
    unavailable: AtomicU64,
}

/// What can be said of a token at once.
enum Judged {
    Settled(AuthOutcome),
    /// Its key may be there soon.
    UnknownKey,
}

/// Takes what is said later.
pub(crate) type Later = Box<dyn FnOnce(AuthOutcome) + Send>;

impl Auth {
    /// With keys that are there from the start; call [`Self::run`] for the others.
    pub(crate) fn new(settings: &config::Auth, keys: Vec<Arc<Key>>, clock: Clock) -> Self {
        let source = settings.jwks_url.parse().ok();
        let remote = source.map(|source| Remote::new(source, settings));
        Self {
            own: keys.clone(),
            verifier: RwLock::new(Arc::new(verifier(settings, keys))),
            remote,
            clock,
            accepted: AtomicU64::new(0),
            refused: Default::default(),
            unavailable: AtomicU64::new(0),
        }
    }

    /// Says who a client is. `guests`: whether one without a token is a guest on its connection.
    /// `None`: `later` is told.
    pub(crate) fn authenticate(
        self: &Arc<Self>,
        credentials: &Credentials,
        guests: bool,
        later: impl FnOnce() -> Later,
    ) -> Option<AuthOutcome> {
        let token = match credentials {
            Credentials::Token(token) => token,
            Credentials::None if guests => return Some(AuthOutcome::Guest),
            Credentials::None => return Some(AuthOutcome::Denied("guests are not allowed here")),
        };
        match (self.judge(token), &self.remote) {
            (Judged::Settled(outcome), _) => Some(outcome),
            (Judged::UnknownKey, None) => Some(self.refuse(Refused::UnknownKey)),
            (Judged::UnknownKey, Some(remote)) => match remote.wait() {
                Err(waited) => Some(self.after(waited, token)),
                Ok(waiting) => {
                    let (auth, token, later) = (self.clone(), token.clone(), later());
                    remote.spawn(async move { later(auth.after(waiting.await, &token)) });
                    None
                }
            },
        }
    }

    /// The same for whoever can wait.
    pub(crate) async fn check(
        self: &Arc<Self>,
        credentials: &Credentials,
        guests: bool,
    ) -> AuthOutcome {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let later = || -> Later { Box::new(move |outcome| drop(sender.send(outcome))) };
        match self.authenticate(credentials, guests, later) {
            Some(outcome) => outcome,
            None => receiver.await.unwrap_or(AuthOutcome::Unavailable),
        }
    }

    /// Fetches keys from elsewhere for as long as the server runs.
    pub(crate) async fn run(self: Arc<Self>) {
        let Some(remote) = &self.remote else { return };
        remote
            .run(|fetched| {
                let mut verifier = self.verifier.write().unwrap_or_else(PoisonError::into_inner);
                let keys = self.own.iter().cloned().chain(fetched).collect();
                *verifier = Arc::new(Verifier { keys, ..(**verifier).clone() });
            })
            .await;
    }

    /// What is known of keys from elsewhere; zeros if there are none.
    pub(crate) fn remote(&self) -> remote::Status {
        self.remote.as_ref().map(Remote::status).unwrap_or_default()
    }

    fn judge(&self, token: &str) -> Judged {
        let verifier = self.verifier.read().unwrap_or_else(PoisonError::into_inner).clone();
        match verifier.verify(token, self.clock.now().wall_ms) {
            Ok(claims) => {
                self.accepted.fetch_add(1, Relaxed);
                Judged::Settled(user(claims))
            }
            Err(Refused::UnknownKey) => Judged::UnknownKey,
            Err(refused) => Judged::Settled(self.refuse(refused)),
        }
    }

    fn after(&self, waited: Waited, token: &str) -> AuthOutcome {
        match (self.judge(token), waited) {
            (Judged::Settled(outcome), _) => outcome,
            (Judged::UnknownKey, Waited::Current) => self.refuse(Refused::UnknownKey),
            (Judged::UnknownKey, Waited::Unknown) => {
                self.unavailable.fetch_add(1, Relaxed);
                AuthOutcome::Unavailable
            }
        }
    }

    fn refuse(&self, refused: Refused) -> AuthOutcome {
        self.refused[refused.index()].fetch_add(1, Relaxed);
        tracing::debug!(reason = refused.label(), "token refused");
        AuthOutcome::Denied(refused.message())
    }

    /// How often a token was good, and how often it was refused for which reason.
    pub(crate) fn outcomes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let refused = Refused::LABELS.into_iter().zip(&self.refused);
        let counts = [("accepted", &self.accepted), ("unavailable", &self.unavailable)];
        counts.into_iter().chain(refused).map(|(name, count)| (name, count.load(Relaxed)))
    }
}

/// What the settings demand of a token, with these keys.
fn verifier(settings: &config::Auth, keys: Vec<Arc<Key>>) -> Verifier {
    Verifier {
        keys,
        audience: settings.audience.iter().map(|name| name.as_str().into()).collect(),
        issuer: (!settings.issuer.is_empty()).then(|| settings.issuer.as_str().into()),
        leeway_ms: settings.leeway.as_ms(),
    }
}

/// What the engine is told of a good token.
fn user(claims: Claims) -> AuthOutcome {
    let room = |(pattern, actions): (Pattern, Vec<clarion_token::Action>)| RoomGrant {
        pattern,
        actions: actions.into_iter().map(action).collect(),
    };
    let clarion_token::Limits { publish_per_s, commands_per_s, rooms } = claims.limits;
    AuthOutcome::User {
        user: claims.user,
        info: claims.info,
        grants: Grants {
            groups: claims.groups,
            rooms: claims.rooms.map(|rooms| rooms.into_iter().map(room).collect()),
            limits: TokenLimits { publish_per_s, commands_per_s, rooms },
            token_id: claims.jti,
        },
        issued_at_ms: claims.issued_at_ms.unwrap_or(0),
        expires_at_ms: Some(claims.expires_at_ms),
    }
}

fn action(action: clarion_token::Action) -> Action {
    match action {
        clarion_token::Action::Join => Action::Join,
        clarion_token::Action::Publish => Action::Publish,
        clarion_token::Action::History => Action::History,
        clarion_token::Action::Members => Action::Members,
        clarion_token::Action::State => Action::State,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clarion_token::Algorithm;

    fn auth() -> (Arc<Auth>, Arc<Key>) {
        let key = Arc::new(Key::secret(Algorithm::Hs256, None, &[7; 32]).unwrap());
        let auth = Auth::new(&config::Auth::default(), vec![key.clone()], Clock::start());
        (Arc::new(auth), key)
    }

    fn at_once(auth: &Arc<Auth>, credentials: &Credentials, guests: bool) -> AuthOutcome {
        auth.authenticate(credentials, guests, || panic!("there is nothing to wait for")).unwrap()
    }

    #[test]
    fn guests_come_in_where_they_are_allowed() {
        let (auth, _) = auth();
        assert_eq!(at_once(&auth, &Credentials::None, true), AuthOutcome::Guest);
        assert!(matches!(at_once(&auth, &Credentials::None, false), AuthOutcome::Denied(_)));
    }

    #[test]
    fn a_token_is_a_user_or_refused_and_either_is_counted() {
        let (auth, key) = auth();
        let token = |exp: u64| {
            let claims = format!(r#"{{"sub":"ada","exp":{exp},"groups":["staff"]}}"#);
            Credentials::Token(key.sign(&claims).unwrap().into())
        };
        let outcome = at_once(&auth, &token(4_000_000_000), true);
        let AuthOutcome::User { user, grants, expires_at_ms, .. } = outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!((&*user, expires_at_ms), ("ada", Some(4_000_000_030_000)));
        assert_eq!(grants.groups, ["staff".into()]);
        let outcome = at_once(&auth, &token(100), true);
        assert!(matches!(outcome, AuthOutcome::Denied(_)), "never a guest");
        let counts: Vec<_> = auth.outcomes().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counts, [("accepted", 1), ("expired", 1)]);
    }
}
