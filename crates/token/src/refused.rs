//! Why a token is not taken.

use std::fmt;

/// Why a token is not taken. Its text is a sentence for a developer and repeats nothing of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Longer than [`TOKEN_SIZE_MAX`](crate::TOKEN_SIZE_MAX).
    TooLarge,
    /// Not the compact form of a signed token; which rule it breaks.
    Malformed(&'static str),
    /// The header's `alg` is none of ours, no key has it, or the key of that `kid` has another.
    Algorithm(&'static str),
    /// No key has the token's `kid`, or there is none at all. It may have been made a moment ago.
    UnknownKey,
    /// Signed by somebody else, or changed since.
    Signature,
    /// `exp` has passed.
    Expired,
    /// `nbf` is not yet there.
    NotYetValid,
    /// For somebody else: `aud`.
    Audience(&'static str),
    /// By somebody else: `iss`.
    Issuer,
    /// Well signed, but a claim is not as it has to be; which, and how it has to be.
    Claim(&'static str),
}

impl Refused {
    /// All labels, for counters that exist from the start.
    pub const LABELS: [&'static str; 10] = [
        "too_large",
        "malformed",
        "algorithm",
        "unknown_key",
        "signature",
        "expired",
        "not_yet_valid",
        "audience",
        "issuer",
        "claim",
    ];

    /// What a metric calls it; one of [`Self::LABELS`].
    #[must_use]
    pub fn label(self) -> &'static str {
        Self::LABELS[self.index()]
    }

    /// Its place in [`Self::LABELS`].
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Self::TooLarge => 0,
            Self::Malformed(_) => 1,
            Self::Algorithm(_) => 2,
            Self::UnknownKey => 3,
            Self::Signature => 4,
            Self::Expired => 5,
            Self::NotYetValid => 6,
            Self::Audience(_) => 7,
            Self::Issuer => 8,
            Self::Claim(_) => 9,
        }
    }

    /// The sentence.
    #[must_use]
    pub fn message(self) -> &'static str {
        match self {
            Self::TooLarge => "the token is longer than 8192 bytes",
            Self::Malformed(rule) | Self::Algorithm(rule) => rule,
            Self::UnknownKey => "this server has no key for the token's `kid` and `alg`",
            Self::Signature => "the token's signature is not by a key of this server",
            Self::Expired => "the token has expired",
            Self::NotYetValid => "the token is not valid yet: its `nbf` is in the future",
            Self::Audience(rule) => rule,
            Self::Issuer => "the token's `iss` is not the issuer that this server trusts",
            Self::Claim(rule) => rule,
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for Refused {}
