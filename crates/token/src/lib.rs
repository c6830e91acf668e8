//! Tokens: whom a signed JSON Web Token (RFC 7519) names, and what it grants.
//!
//! A back end signs tokens and gives them to its users' clients; [`Verifier::verify`] turns one into
//! [`Claims`] or says why not. This crate is pure: time is an argument, and keys are given to it.
//! Where they come from, and who waits for them, is the server's affair.
//!
//! What is signed is checked by aws-lc-rs. Everything else is decided here, because that is where
//! token libraries differ and have been broken (RFC 8725):
//!
//! - A [`Key`] has one [`Algorithm`], and the header has to name that one. No key is ever used in a
//!   way that the token chose.
//! - Nothing of the claims is read before the signature is known to be good.
//! - JSON is read by the protocol's own reader of objects: a member that comes twice is refused.
//! - Every [`Refused`] is a sentence for a developer that repeats nothing of the token.
//!
//! | module | noun |
//! |---|---|
//! | [`key`] | a key and its one algorithm; signing with it, for tools |
//! | [`jwks`] | the keys that a URL serves (RFC 7517) |
//! | [`verify`] | header, key, signature, and the time at which all this is |
//! | [`claims`] | what a good token says |
//! | [`refused`] | why one is not good |

pub mod claims;
pub mod jwks;
pub mod key;
pub mod refused;
pub mod verify;

pub use claims::{Action, Claims, Limits};
pub use key::{Algorithm, Key, KeyError};
pub use refused::Refused;
pub use verify::{TOKEN_SIZE_MAX, Verifier};
