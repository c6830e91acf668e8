//! Who somebody is: tokens, against the keys that are trusted now.
//!
//! A token is verified where it comes up: on the worker, in the middle of a turn. That takes 1 µs for
//! HMAC and some ten for the others, less than the handshake before it; docs/performance.md has the
//! figures.

pub(crate) mod command;
pub(crate) mod keys;

use crate::config;
use clarion_engine::effects::{Action, AuthOutcome, Credentials, Grants, RoomGrant, TokenLimits};
use clarion_protocol::Pattern;
use clarion_token::{Claims, Key, Refused, Verifier};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Verifies tokens, for all workers and the front.
#[derive(Debug)]
pub(crate) struct Auth {
    verifier: Verifier,
    accepted: AtomicU64,
    refused: [AtomicU64; Refused::LABELS.len()],
}

impl Auth {
    pub(crate) fn new(settings: &config::Auth, keys: Vec<Arc<Key>>) -> Self {
        Self {
            verifier: verifier(settings, keys),
            accepted: AtomicU64::new(0),
            refused: Default::default(),
        }
    }

    /// Says who a client is. `guests`: whether one without a token is a guest on its connection.
    pub(crate) fn authenticate(
        &self,
        credentials: &Credentials,
        guests: bool,
        now_ms: u64,
    ) -> AuthOutcome {
        let token = match credentials {
            Credentials::Token(token) => token,
            Credentials::None if guests => return AuthOutcome::Guest,
            Credentials::None => return AuthOutcome::Denied("guests are not allowed here"),
        };
        match self.verifier.verify(token, now_ms) {
            Ok(claims) => {
                self.accepted.fetch_add(1, Relaxed);
                user(claims)
            }
            Err(refused) => {
                self.refused[refused.index()].fetch_add(1, Relaxed);
                tracing::debug!(reason = refused.label(), "token refused");
                AuthOutcome::Denied(refused.message())
            }
        }
    }

    /// How often a token was good, and how often it was refused for which reason.
    pub(crate) fn outcomes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let refused = Refused::LABELS.into_iter().zip(&self.refused);
        let counts = std::iter::once(("accepted", &self.accepted)).chain(refused);
        counts.map(|(name, count)| (name, count.load(Relaxed)))
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

    fn auth() -> (Auth, Arc<Key>) {
        let key = Arc::new(Key::secret(Algorithm::Hs256, None, &[7; 32]).unwrap());
        (Auth::new(&config::Auth::default(), vec![key.clone()]), key)
    }

    #[test]
    fn guests_come_in_where_they_are_allowed() {
        let (auth, _) = auth();
        assert_eq!(auth.authenticate(&Credentials::None, true, 0), AuthOutcome::Guest);
        let outcome = auth.authenticate(&Credentials::None, false, 0);
        assert!(matches!(outcome, AuthOutcome::Denied(_)));
    }

    #[test]
    fn a_token_is_a_user_or_refused_and_either_is_counted() {
        let (auth, key) = auth();
        let token = key.sign(r#"{"sub":"ada","exp":100,"groups":["staff"]}"#).unwrap();
        let token = Credentials::Token(token.into());
        let outcome = auth.authenticate(&token, true, 0);
        let AuthOutcome::User { user, grants, expires_at_ms, .. } = outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!((&*user, expires_at_ms), ("ada", Some(130_000)));
        assert_eq!(grants.groups, ["staff".into()]);
        let outcome = auth.authenticate(&token, true, 130_000);
        assert!(matches!(outcome, AuthOutcome::Denied(_)), "never a guest");
        let counts: Vec<_> = auth.outcomes().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counts, [("accepted", 1), ("expired", 1)]);
    }
}
