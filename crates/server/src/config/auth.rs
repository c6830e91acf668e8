//! Who may come in: the section `auth`.

use super::{Secret, Span};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Who may come in.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Auth {
    /// Where clients without a token are guests.
    pub(crate) guests: Guests,
    /// Whom a token's `aud` has to name; if there is nobody, it must have none.
    pub(crate) audience: Vec<String>,
    /// What a token's `iss` has to be. Empty: anything.
    pub(crate) issuer: String,
    /// How far clocks may be apart: taken from `nbf` and `iat`, added to `exp`.
    pub(crate) leeway: Span,
    /// Whether `?token=` counts. Proxies log addresses, and so do browsers.
    pub(crate) query_token: bool,
    /// The cookie that a token may be in, for pages of an allowed origin. Empty: none.
    pub(crate) cookie: String,
    /// Keys that tokens are signed with.
    pub(crate) keys: Vec<AuthKey>,
    /// Where more of them are served, as a JWK Set. Empty: nowhere.
    pub(crate) jwks_url: String,
    /// The keys there are fetched again after this at the latest.
    pub(crate) jwks_refresh: Span,
    /// And not sooner than this, also if a token has an unknown `kid`.
    pub(crate) jwks_cooldown: Span,
    /// How long fetching them may take.
    pub(crate) jwks_timeout: Span,
}

/// Where clients without a token are guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Guests {
    /// As `loopback`, and as `never` once keys for tokens are set.
    Auto,
    /// On connections that came in at a loopback address.
    Loopback,
    /// On all connections.
    Always,
    /// Nowhere.
    Never,
}

/// A key that tokens are signed with: exactly one of the last four.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AuthKey {
    /// The one algorithm it is good for.
    pub(crate) alg: String,
    /// What a token's `kid` picks it by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) kid: Option<String>,
    /// For HS256, HS384 and HS512: the secret itself, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) secret: Option<Secret>,
    /// A file with the secret; whitespace around it is none of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) secret_file: Option<PathBuf>,
    /// For RS256, ES256 and EdDSA: the public key in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) public_key: Option<String>,
    /// A file with the public key in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) public_key_file: Option<PathBuf>,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            guests: Guests::Auto,
            audience: Vec::new(),
            issuer: String::new(),
            leeway: Span::from_ms(30_000),
            query_token: false,
            cookie: String::new(),
            keys: Vec::new(),
            jwks_url: String::new(),
            jwks_refresh: Span::from_ms(600_000),
            jwks_cooldown: Span::from_ms(60_000),
            jwks_timeout: Span::from_ms(5_000),
        }
    }
}

/// More leeway than this would only hide a clock that is wrong.
const LEEWAY_MAX: Span = Span::from_ms(600_000);
/// The shortest time between two requests for keys, and for one.
const SPAN_MIN: Span = Span::from_ms(100);
/// Most keys that can be set.
const KEYS_MAX: usize = 32;

impl Auth {
    /// Whether keys for tokens are set, so that the one of the data directory is not asked for.
    pub(crate) fn has_keys(&self) -> bool {
        !self.keys.is_empty() || !self.jwks_url.is_empty()
    }

    /// Where clients without a token are guests; never `Auto`.
    pub(crate) fn guests(&self) -> Guests {
        match self.guests {
            Guests::Auto if self.has_keys() => Guests::Never,
            Guests::Auto => Guests::Loopback,
            said => said,
        }
    }

    /// The first setting that cannot be, by its name in the section, with the rule it breaks. What
    /// is in files is seen when they are read.
    pub(super) fn check(&self) -> Result<(), (String, String)> {
        let fail = |name: &str, rule: &str| Err((format!("auth.{name}"), rule.to_owned()));
        if self.leeway > LEEWAY_MAX {
            return fail("leeway", &format!("must be at most {LEEWAY_MAX}"));
        }
        // RFC 6265 section 4.1.1: a cookie's name is a token.
        let of_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if !self.cookie.bytes().all(of_token) {
            return fail("cookie", "is no name of a cookie");
        }
        if self.audience.iter().any(String::is_empty) {
            return fail("audience", "an audience has a name");
        }
        if !self.jwks_url.is_empty()
            && let Err(rule) = self.jwks_url.parse::<crate::auth::Source>()
        {
            return fail("jwks_url", rule);
        }
        for (name, value) in [
            ("jwks_refresh", self.jwks_refresh),
            ("jwks_cooldown", self.jwks_cooldown),
            ("jwks_timeout", self.jwks_timeout),
        ] {
            if value < SPAN_MIN {
                return fail(name, &format!("must be at least {SPAN_MIN}"));
            }
        }
        if self.keys.len() > KEYS_MAX {
            return fail("keys", &format!("there are at most {KEYS_MAX}"));
        }
        for (index, key) in self.keys.iter().enumerate() {
            key.check().map_err(|rule| (format!("auth.keys[{index}]"), rule))?;
        }
        Ok(())
    }
}

impl AuthKey {
    fn check(&self) -> Result<(), String> {
        let given = [
            self.secret.is_some(),
            self.secret_file.is_some(),
            self.public_key.is_some(),
            self.public_key_file.is_some(),
        ];
        if given.into_iter().filter(|given| *given).count() != 1 {
            let rule = "needs exactly one of secret, secret_file, public_key, public_key_file";
            return Err(rule.into());
        }
        if self.secret_file.is_none() && self.public_key_file.is_none() {
            crate::auth::keys::read(self)?;
        }
        Ok(())
    }
}
