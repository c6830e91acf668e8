//! The opening handshake: one HTTP request and its answer, judged without parsing HTTP.
//!
//! Headers come in as pairs of name and value from whatever library read them. What is not here is
//! policy: which origins, subprotocols and extensions are welcome is the caller's to decide from
//! what [`accept`] returns.
//!
//! RFC 6455 section 4.

mod client;
mod field;
mod server;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

pub use client::{Opened, Opening, ResponseError};
pub use field::Extension;
pub use server::{Accepted, Refusal, Request, accept};

/// The one version there is (RFC 6455 section 4.1, item 9).
const VERSION: &str = "13";

/// Returns what a server answers to a `Sec-WebSocket-Key`: 28 characters of base64.
///
/// It proves that the server speaks WebSocket and is not a cache that repeats itself; it
/// authenticates nobody. `key` is taken as it came, without white space around it.
///
/// RFC 6455 section 4.2.2, item 5.4.
pub fn accept_key(key: &str) -> String {
    let mut hash = sha1_smol::Sha1::from(key);
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(hash.digest().bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accept_key_is_that_of_section_1_3() {
        assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
