//! A key and the one algorithm it is for.

use aws_lc_rs::{hmac, rsa::PublicEncryptingKey, signature};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject;
use signature::{ParsedPublicKey, RsaPublicKeyComponents};
use std::fmt;

/// The smallest RSA modulus, bits. RFC 7518 section 3.3: "A key of size 2048 bits or larger MUST be
/// used".
const RSA_BITS_MIN: usize = 2048;

/// How a token is signed, by its name in RFC 7518 and RFC 8037.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC with SHA-256.
    Hs256,
    /// HMAC with SHA-384.
    Hs384,
    /// HMAC with SHA-512.
    Hs512,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Hs256, Self::Hs384, Self::Hs512, Self::Rs256, Self::Es256, Self::EdDsa];

    /// The algorithm of this name, if it is one of ours. Names are compared byte by byte.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// Its name in a header.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }

    /// Whether who verifies can also sign.
    #[must_use]
    pub fn is_symmetric(self) -> bool {
        self.hmac().is_some()
    }

    fn hmac(self) -> Option<hmac::Algorithm> {
        match self {
            Self::Hs256 => Some(hmac::HMAC_SHA256),
            Self::Hs384 => Some(hmac::HMAC_SHA384),
            Self::Hs512 => Some(hmac::HMAC_SHA512),
            Self::Rs256 | Self::Es256 | Self::EdDsa => None,
        }
    }

    fn public(self) -> Option<&'static dyn signature::VerificationAlgorithm> {
        match self {
            Self::Hs256 | Self::Hs384 | Self::Hs512 => None,
            Self::Rs256 => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
            Self::Es256 => Some(&signature::ECDSA_P256_SHA256_FIXED),
            Self::EdDsa => Some(&signature::ED25519),
        }
    }
}

/// A key for one algorithm. `{:?}` shows nothing secret.
pub struct Key {
    kid: Option<Box<str>>,
    algorithm: Algorithm,
    material: Material,
}

enum Material {
    Secret(Box<hmac::Key>),
    Public(ParsedPublicKey),
}

/// Why a key cannot be used. Its text names the rule, not the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyError {
    /// A secret for an algorithm that takes a public key, or the reverse.
    Kind(&'static str),
    /// An HMAC secret shorter than its hash. RFC 7518 section 3.2: "A key of the same size as the
    /// hash output (for instance, 256 bits for "HS256") or larger MUST be used".
    Short {
        /// The least length, bytes.
        min: usize,
    },
    /// RSA of fewer than 2048 bits.
    SmallRsa,
    /// Not a public key in PEM.
    Pem,
    /// Not a key of this algorithm: another kind, another curve, or damaged.
    NotThisAlgorithm,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind(rule) => f.write_str(rule),
            Self::Short { min } => {
                write!(f, "the secret must have at least {min} bytes for this algorithm")
            }
            Self::SmallRsa => write!(f, "an RSA key must have at least {RSA_BITS_MIN} bits"),
            Self::Pem => f.write_str(
                "a public key is PEM that begins with `-----BEGIN PUBLIC KEY-----`, as `openssl pkey \
                 -pubout` writes it",
            ),
            Self::NotThisAlgorithm => f.write_str("this is no public key for this algorithm"),
        }
    }
}

impl std::error::Error for KeyError {}

impl Key {
    /// A shared secret, for HS256, HS384 and HS512.
    ///
    /// # Errors
    /// [`KeyError::Kind`] for another algorithm, [`KeyError::Short`] if it is shorter than the hash.
    pub fn secret(
        algorithm: Algorithm,
        kid: Option<&str>,
        secret: &[u8],
    ) -> Result<Self, KeyError> {
        let hmac = algorithm
            .hmac()
            .ok_or(KeyError::Kind("this algorithm takes a public key, not a secret"))?;
        let min = hmac.digest_algorithm().output_len();
        if secret.len() < min {
            return Err(KeyError::Short { min });
        }
        let material = Material::Secret(Box::new(hmac::Key::new(hmac, secret)));
        Ok(Self { kid: kid.map(Into::into), algorithm, material })
    }

    /// A public key in PEM (`BEGIN PUBLIC KEY`, RFC 7468 section 13), for RS256, ES256 and EdDSA.
    ///
    /// # Errors
    /// [`KeyError`], but for [`KeyError::Short`].
    pub fn public_pem(
        algorithm: Algorithm,
        kid: Option<&str>,
        pem: &str,
    ) -> Result<Self, KeyError> {
        if algorithm.is_symmetric() {
            return Err(KeyError::Kind("this algorithm takes a secret, not a public key"));
        }
        let der =
            SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes()).map_err(|_| KeyError::Pem)?;
        Self::public(algorithm, kid, der.as_ref())
    }

    /// A public key as SubjectPublicKeyInfo, or as the bare point or 32 bytes that JWKs carry.
    pub(crate) fn public(
        algorithm: Algorithm,
        kid: Option<&str>,
        bytes: &[u8],
    ) -> Result<Self, KeyError> {
        let public = algorithm.public().ok_or(KeyError::NotThisAlgorithm)?;
        let key = ParsedPublicKey::new(public, bytes).map_err(|_| KeyError::NotThisAlgorithm)?;
        Self::parsed(algorithm, kid, key)
    }

    /// An RSA key by its numbers, big-endian.
    pub(crate) fn rsa(kid: Option<&str>, n: &[u8], e: &[u8]) -> Result<Self, KeyError> {
        // "Implementers have found that some cryptographic libraries prefix an extra zero-valued
        // octet to the modulus representations they return" RFC 7518 section 6.3.1.1.
        let trimmed = |mut number: &[u8]| {
            while let [0, rest @ ..] = number {
                number = rest;
            }
            number.to_vec()
        };
        let key = RsaPublicKeyComponents { n: trimmed(n), e: trimmed(e) }
            .to_parsed_public_key(&signature::RSA_PKCS1_2048_8192_SHA256)
            .map_err(|_| KeyError::NotThisAlgorithm)?;
        Self::parsed(Algorithm::Rs256, kid, key)
    }

    fn parsed(
        algorithm: Algorithm,
        kid: Option<&str>,
        key: ParsedPublicKey,
    ) -> Result<Self, KeyError> {
        if algorithm == Algorithm::Rs256 {
            // It is looked at here and not at the first token: aws-lc-rs would refuse each.
            let rsa = PublicEncryptingKey::from_der(key.as_ref());
            let bits = rsa.map_err(|_| KeyError::SmallRsa)?.key_size_bits();
            if bits < RSA_BITS_MIN {
                return Err(KeyError::SmallRsa);
            }
        }
        Ok(Self { kid: kid.map(Into::into), algorithm, material: Material::Public(key) })
    }

    /// The name that a token's header picks it by; one without is tried for every name.
    #[must_use]
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The one algorithm it is for.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.material {
            // Compares in constant time.
            Material::Secret(key) => hmac::verify(key, message, signature).is_ok(),
            Material::Public(key) => key.verify_sig(message, signature).is_ok(),
        }
    }

    /// A token of these claims, which are one JSON object; `None` if this key can only verify.
    #[must_use]
    pub fn sign(&self, claims: &str) -> Option<String> {
        let Material::Secret(key) = &self.material else { return None };
        let kid = self
            .kid
            .as_deref()
            .map_or_else(String::new, |kid| format!(",\"kid\":{}", serde_json::Value::from(kid)));
        let header = format!("{{\"alg\":\"{}\",\"typ\":\"JWT\"{kid}}}", self.algorithm.name());
        let signed =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = URL_SAFE_NO_PAD.encode(hmac::sign(key, signed.as_bytes()));
        Some(format!("{signed}.{signature}"))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("kid", &self.kid)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}
