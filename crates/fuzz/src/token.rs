//! Any text as a token, and any claims well signed.

use clarion_protocol::{Pattern, UserId};
use clarion_token::claims::{INFO_SIZE_MAX, JTI_SIZE_MAX, ROOMS_MAX};
use clarion_token::{Algorithm, Key, Refused, TOKEN_SIZE_MAX, Verifier, jwks};
use serde_json::Value;
use std::sync::{Arc, LazyLock};

const NOW_MS: u64 = 1_800_000_000_000;
const LEEWAY_MS: u64 = 30_000;

static KEY: LazyLock<Arc<Key>> = LazyLock::new(|| {
    Arc::new(Key::secret(Algorithm::Hs256, None, &[7; 32]).expect("a key of 32 bytes"))
});

pub(crate) fn run(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    let mut verifier =
        Verifier { keys: vec![KEY.clone()], leeway_ms: LEEWAY_MS, ..Verifier::default() };
    if let Ok(set) = jwks::read(text) {
        assert!((1..=jwks::KEYS_MAX).contains(&set.keys.len()));
        assert!(set.keys.iter().all(|key| !key.algorithm().is_symmetric()), "nobody is to know it");
        verifier.keys.extend(set.keys.into_iter().map(Arc::new));
    }
    // Nobody finds a signature by trying.
    assert!(verifier.verify(text, NOW_MS).is_err());
    let token = KEY.sign(text).expect("it can sign");
    let claims = match verifier.verify(&token, NOW_MS) {
        Ok(claims) => claims,
        Err(refused) => {
            assert!(Refused::LABELS.contains(&refused.label()));
            assert!(!matches!(refused, Refused::Signature | Refused::UnknownKey), "{refused}");
            return;
        }
    };
    assert!(token.len() <= TOKEN_SIZE_MAX);
    assert!(UserId::validate_segment(&claims.user).is_ok() && !claims.user.starts_with("guest:"));
    assert!(claims.groups.iter().all(|group| UserId::validate_segment(group).is_ok()));
    assert!(claims.rooms.iter().flatten().count() <= ROOMS_MAX);
    assert!((NOW_MS + 1..=253_402_300_799_000 + LEEWAY_MS).contains(&claims.expires_at_ms));
    assert!(claims.issued_at_ms.is_none_or(|at_ms| at_ms <= NOW_MS + LEEWAY_MS));
    assert!(claims.jti.is_none_or(|jti| (1..=JTI_SIZE_MAX).contains(&jti.len())));
    if let Some(info) = &claims.info {
        assert!(info.len() <= INFO_SIZE_MAX);
        // It goes out as it is, in the middle of a message.
        let is_object = info.starts_with('{') && info.ends_with('}');
        assert!(is_object && serde_json::from_str::<&serde_json::value::RawValue>(info).is_ok());
    }
    // Another reader of the same claims. It refuses numbers and surrogates that ours only passes over.
    let Ok(Value::Object(other)) = serde_json::from_str(text) else { return };
    assert_eq!(other["sub"].as_str(), Some(&*claims.user));
    for (pattern, _) in claims.rooms.iter().flatten() {
        assert!(Pattern::parse(pattern.as_str()).is_ok());
        assert!(other["rooms"].get(pattern.as_str()).is_some());
    }
    if let (Some(info), Some(name)) = (&claims.info, other.get("name"))
        && let Ok(info) = serde_json::from_str::<Value>(info)
    {
        let own = other.get("info").and_then(|info| info.get("name"));
        assert_eq!(info.get("name"), own.or(Some(name)));
    }
}
