//! From a token to its claims: header, key, signature, time.

use crate::claims::{self, Claims};
use crate::key::{Algorithm, Key};
use crate::refused::Refused;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clarion_protocol::codec::json::object::{Object, string};
use std::sync::Arc;

/// The longest token, bytes. Nothing of a longer one is decoded.
pub const TOKEN_SIZE_MAX: usize = 8_192;

/// The most signatures that are computed for one token: keys of its algorithm that it could mean.
/// Further keys are not tried, so that nobody can make a token cost more.
pub const CANDIDATES_MAX: usize = 8;

/// Keys, and what else a token has to fulfil. Cloning it shares the keys.
#[derive(Clone, Debug, Default)]
pub struct Verifier {
    /// In the order in which they are tried.
    pub keys: Vec<Arc<Key>>,
    /// If not empty, `aud` has to name one of these; if empty, a token must have no `aud`.
    pub audience: Vec<Box<str>>,
    /// If set, `iss` has to be this.
    pub issuer: Option<Box<str>>,
    /// How far clocks may be apart, milliseconds: taken from `nbf` and `iat`, added to `exp`.
    pub leeway_ms: u64,
}

/// The header of a token (RFC 7515 section 4), as far as it is used. `typ` and whatever else there
/// is means nothing here, in particular keys and addresses of keys (`jwk`, `jku`, `x5u`, …).
struct Header {
    algorithm: Algorithm,
    kid: Option<Box<str>>,
}

impl Verifier {
    /// What `token` says, if it is good at `now_ms` (Unix milliseconds).
    ///
    /// Takes time in proportion to its length, and at most [`CANDIDATES_MAX`] signatures.
    ///
    /// # Errors
    /// [`Refused`]; if several rules are broken, the first in this order: size, form, header, key,
    /// signature, form of the claims, time, audience, issuer, the other claims.
    pub fn verify(&self, token: &str, now_ms: u64) -> Result<Claims, Refused> {
        if token.len() > TOKEN_SIZE_MAX {
            return Err(Refused::TooLarge);
        }
        let parts: Vec<&str> = token.split('.').take(6).collect();
        let [header, payload, signature] = *parts.as_slice() else {
            return Err(Refused::Malformed(match parts.len() {
                5 => "the token is encrypted (JWE); only signed ones are taken",
                _ => "a token has three parts with dots between them",
            }));
        };
        let header =
            self.header(&decoded(header, "the token's header is not base64url of UTF-8")?)?;
        let signed = &token.as_bytes()[..token.len() - signature.len() - 1];
        let signature = URL_SAFE_NO_PAD
            .decode(signature)
            .map_err(|_| Refused::Malformed("the token's signature is not base64url"))?;
        self.check_signature(&header, signed, &signature)?;
        let payload = decoded(payload, "the token's claims are not base64url of UTF-8")?;
        claims::read(&payload, self, now_ms)
    }

    fn header(&self, text: &str) -> Result<Header, Refused> {
        let header = Object::read(text, ["alg", "kid", "crit"])
            .map_err(|_| Refused::Malformed("the token's header is not a JSON object"))?;
        if header.duplicate().is_some() {
            return Err(Refused::Malformed("the token's header has a member twice"));
        }
        let [algorithm, kid, critical] = header.members;
        // "If any of the listed extension Header Parameters are not understood and supported by the
        // recipient, then the JWS is invalid." RFC 7515 section 4.1.11. We support none.
        if critical.is_some() {
            return Err(Refused::Malformed(
                "the token has extensions (`crit`) that are unknown here",
            ));
        }
        let algorithm = algorithm
            .and_then(string)
            .and_then(|name| Algorithm::named(&name))
            .ok_or(Refused::Algorithm("the token's `alg` is none that this server takes"))?;
        let kid = kid
            .map(|raw| string(raw).ok_or(Refused::Malformed("the token's `kid` is not a string")))
            .transpose()?
            .map(Into::into);
        Ok(Header { algorithm, kid })
    }

    /// The header's `kid` picks the key; without one, and for keys without, those of the algorithm are
    /// tried in order.
    fn check_signature(&self, header: &Header, signed: &[u8], got: &[u8]) -> Result<(), Refused> {
        let kid = header.kid.as_deref();
        let named = |key: &&Arc<Key>| kid.is_none() || key.kid().is_none() || key.kid() == kid;
        let keys = self.keys.iter().filter(named);
        let mut candidates = keys.filter(|key| key.algorithm() == header.algorithm).peekable();
        if candidates.peek().is_none() {
            // A key without a name is no reason to believe that the one that was meant is here.
            let known = self.keys.iter().any(|key| kid.is_none() || key.kid() == kid);
            let rule = "the token's `alg` is not that of its key";
            return Err(if known { Refused::Algorithm(rule) } else { Refused::UnknownKey });
        }
        let good = candidates.take(CANDIDATES_MAX).any(|key| key.verifies(signed, got));
        if good { Ok(()) } else { Err(Refused::Signature) }
    }
}

fn decoded(part: &str, rule: &'static str) -> Result<String, Refused> {
    let bytes = URL_SAFE_NO_PAD.decode(part).ok();
    bytes.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or(Refused::Malformed(rule))
}
