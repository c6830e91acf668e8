//! The keys that a URL serves: a JWK Set (RFC 7517).

use crate::key::{Algorithm, Key, KeyError};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clarion_protocol::codec::json::object::{Object, string};
use serde_json::value::RawValue;
use std::fmt;

/// The most keys in a set, usable or not.
pub const KEYS_MAX: usize = 64;

/// What a set brought.
#[derive(Debug)]
pub struct KeySet {
    /// The usable keys, in their order.
    pub keys: Vec<Key>,
    /// How many there are that are not used: for encryption, of another algorithm or curve, symmetric,
    /// too small or damaged. RFC 7517 section 5 wants such keys ignored, not the whole set refused.
    pub passed_over: usize,
}

/// Why a document is no set of keys for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetError {
    /// Not a JSON object with an array `keys` of objects.
    Malformed,
    /// More than [`KEYS_MAX`].
    TooMany,
    /// None of the keys can be used.
    Empty,
}

impl fmt::Display for SetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str("it is no JWK Set: {\"keys\": [...]}"),
            Self::TooMany => write!(f, "it has more than {KEYS_MAX} keys"),
            Self::Empty => f.write_str("it has no key that can be used: RS256, ES256 or EdDSA"),
        }
    }
}

impl std::error::Error for SetError {}

/// Reads a set.
///
/// A key's algorithm is its `alg`, or else follows from its kind: RSA is RS256, P-256 is ES256, Ed25519
/// is EdDSA. A symmetric key (`oct`) is never used: what a URL serves is no secret.
///
/// # Errors
/// [`SetError`].
pub fn read(text: &str) -> Result<KeySet, SetError> {
    let set = Object::read(text, ["keys"]).map_err(|_| SetError::Malformed)?;
    let keys = set.unique(0).ok_or(SetError::Malformed)?;
    let items: Vec<&RawValue> = serde_json::from_str(keys).map_err(|_| SetError::Malformed)?;
    if items.len() > KEYS_MAX {
        return Err(SetError::TooMany);
    }
    let keys: Vec<Key> = items.iter().filter_map(|item| key(item.get())).collect();
    if keys.is_empty() {
        return Err(SetError::Empty);
    }
    let passed_over = items.len() - keys.len();
    Ok(KeySet { keys, passed_over })
}

/// A key of a set, if it is one of ours.
fn key(text: &str) -> Option<Key> {
    let key = Object::read(text, ["kty", "alg", "use", "kid", "crv", "n", "e", "x", "y"]).ok()?;
    if key.duplicate().is_some() {
        return None;
    }
    let [kind, algorithm, usage, kid, curve, n, e, x, y] = key.members;
    let text = |raw: Option<&str>| Some(string(raw?)?.into_owned());
    let bytes = |raw: Option<&str>| URL_SAFE_NO_PAD.decode(text(raw)?).ok();
    if usage.is_some() && text(usage)? != "sig" {
        return None;
    }
    let kid = if kid.is_some() { Some(text(kid)?) } else { None };
    let kid = kid.as_deref();
    let (kind, curve) = (text(kind)?, text(curve));
    let (own, key): (_, Result<Key, KeyError>) = match (kind.as_str(), curve.as_deref()) {
        ("RSA", _) => (Algorithm::Rs256, Key::rsa(kid, &bytes(n)?, &bytes(e)?)),
        ("EC", Some("P-256")) => {
            let (x, y) = (bytes(x)?, bytes(y)?);
            if x.len() != 32 || y.len() != 32 {
                return None;
            }
            // The point as SEC 1 writes it, uncompressed.
            let point = [&[4][..], &x, &y].concat();
            (Algorithm::Es256, Key::public(Algorithm::Es256, kid, &point))
        }
        ("OKP", Some("Ed25519")) => {
            let x = bytes(x)?;
            if x.len() != 32 {
                return None;
            }
            (Algorithm::EdDsa, Key::public(Algorithm::EdDsa, kid, &x))
        }
        _ => return None,
    };
    if algorithm.is_some() && text(algorithm)? != own.name() {
        return None;
    }
    key.ok()
}
