//! Keys of the HTTP API: several, named, each with what it may do, kept as digests.
//!
//! | module | noun |
//! |---|---|
//! | [`file`] | the keys of a data directory, read and changed whole |
//! | [`live`] | the keys that a running server accepts |
//! | [`command`] | `clarion key` |
//!
//! A key is 256 random bits, so its digest needs neither salt nor work: nobody finds the key by
//! trying. The name is what a key *is*: it owns the idempotency keys that were used with it, and keeps
//! them when the secret is rotated.

pub(crate) mod command;
mod file;
mod live;

pub(crate) use live::{ApiKeys, Caller, Denied};

use crate::api::rfc3339;
use crate::config::Secret;
use crate::keys;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::ValueEnum;
use clarion_protocol::time;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};
use subtle::{Choice, ConstantTimeEq};

/// Keys of one server; more are refused.
const KEYS_MAX: usize = 1_000;
/// The name of the key that the first start makes, and of the one in the setting `api_key`.
const DEFAULT: &str = "default";
/// What a key begins with, so that one that has leaked can be found and told from other secrets.
const PREFIX: &str = "clk_";

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Scope {
    /// Publish, to rooms and to everybody.
    Publish,
    /// Look at everything: history, who is where, metrics.
    Read,
    /// Everything, also what the other two may not.
    Admin,
}

impl Scope {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Read => "read",
            Self::Admin => "admin",
        }
    }
}

/// What is kept of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    #[serde(deserialize_with = "name")]
    name: String,
    scopes: Vec<Scope>,
    sha256: Digest,
    /// For people: when this secret was made.
    created_at: String,
    /// The secret before this one, while it is still good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    previous: Option<Previous>,
}

/// A secret that was replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Previous {
    sha256: Digest,
    #[serde(deserialize_with = "instant", serialize_with = "instant_text")]
    until: u64,
}

impl Entry {
    fn new(name: &str, scopes: Vec<Scope>, secret: &Secret) -> Self {
        let created_at = rfc3339(now_ms());
        Self {
            name: name.to_owned(),
            scopes,
            sha256: Digest::of(secret.expose()),
            created_at,
            previous: None,
        }
    }

    fn may(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope) || self.scopes.contains(&Scope::Admin)
    }

    /// Whether `digest` is that of this key now. It takes the same time whatever differs.
    fn is(&self, digest: &Digest, now_ms: u64) -> Choice {
        let previous = self.previous.as_ref().filter(|previous| now_ms < previous.until);
        let also = previous.map_or(Choice::from(0), |previous| previous.sha256.0.ct_eq(&digest.0));
        self.sha256.0.ct_eq(&digest.0) | also
    }
}

/// SHA-256 of a key; in the file as base64url without padding.
#[derive(Clone, PartialEq, Eq)]
struct Digest([u8; 32]);

impl Digest {
    fn of(secret: &str) -> Self {
        Self(Sha256::digest(secret).into())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(..)")
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| de::Error::custom("a digest is 32 bytes in base64url"))
    }
}

/// A new key.
fn fresh() -> Secret {
    Secret::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(keys::random::<32>())))
}

/// What breaks the rules of names.
fn check_name(name: &str) -> Result<(), String> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    if (1..=64).contains(&name.len()) && name.bytes().all(good) {
        return Ok(());
    }
    Err("a name has 1 to 64 of A-Z a-z 0-9 _ . -".into())
}

fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    check_name(&name).map_err(de::Error::custom)?;
    Ok(name)
}

fn instant<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = String::deserialize(deserializer)?;
    let rule = "an instant is written as in 2026-01-01T12:00:00.000Z";
    time::parse_rfc3339_ms(&text).ok_or_else(|| de::Error::custom(rule))
}

fn instant_text<S: Serializer>(unix_ms: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&rfc3339(*unix_ms))
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}
