//! The client's half of the opening handshake: asking, and judging the answer.

use std::error::Error;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::field::{self, List, Single};
use super::{VERSION, accept_key};
use crate::deflate;

/// A request to open a connection that has not been answered.
///
/// It offers no extension, unless [`with_deflate`](Self::with_deflate) makes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    key: String,
    /// As on the wire: separated by a comma and a space.
    subprotocols: String,
    /// What is wanted of compression, and how that is offered.
    deflate: Option<(deflate::Config, String)>,
}

/// What a server chose of that which was on offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened<'a> {
    /// The subprotocol, if any.
    pub subprotocol: Option<&'a str>,
    /// How messages are compressed, if they are. The connection has to be told.
    pub deflate: Option<deflate::Agreed>,
}

/// Why a server's answer does not open a connection.
///
/// [`Status`](Self::Status) is the server's decision; the others are its mistake, or that of
/// something between which does not know WebSocket.
///
/// RFC 6455 section 4.1, the numbered list at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ResponseError {
    /// The status is this one and not 101 (item 1). HTTP says what to do: follow, authenticate, or
    /// give up.
    Status(u16),
    /// The Upgrade header is not exactly `websocket` (item 2).
    Upgrade,
    /// The Connection header does not name Upgrade (item 3).
    Connection,
    /// The Sec-WebSocket-Accept header is not the one that belongs to our key (item 4). Suspect a
    /// cache.
    Accept,
    /// An extension is in use that was not offered, or not so (item 5).
    Extension,
    /// A subprotocol is in use that was not offered (item 6).
    Subprotocol,
}

impl Opening {
    /// Prepares a request.
    ///
    /// `nonce` is 16 random bytes, chosen for this request alone. `subprotocols` are in order of
    /// preference, the best first.
    ///
    /// # Panics
    /// If the subprotocols are not different tokens: they are constants of the program.
    pub fn new(nonce: [u8; 16], subprotocols: &[&str]) -> Self {
        for (i, name) in subprotocols.iter().enumerate() {
            assert!(field::is_token(name), "a subprotocol is not a token");
            assert!(!subprotocols[..i].contains(name), "a subprotocol is offered twice");
        }
        Self { key: STANDARD.encode(nonce), subprotocols: subprotocols.join(", "), deflate: None }
    }

    /// Returns the request with an offer to compress messages, to be judged by
    /// [`verify_all`](Self::verify_all).
    ///
    /// RFC 7692 section 5.1.
    #[must_use]
    pub fn with_deflate(self, config: deflate::Config) -> Self {
        Self { deflate: Some((config, config.offer())), ..self }
    }

    /// Returns the headers that make a GET request a request to open a connection. Host, and
    /// whatever else the server wants, is the caller's to add.
    ///
    /// RFC 6455 section 4.1.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [
            ("upgrade", "websocket"),
            ("connection", "Upgrade"),
            ("sec-websocket-key", self.key.as_str()),
            ("sec-websocket-version", VERSION),
        ]
        .into_iter()
        .chain(
            (!self.subprotocols.is_empty())
                .then_some(("sec-websocket-protocol", self.subprotocols.as_str())),
        )
        .chain(self.deflate.iter().map(|(_, offer)| ("sec-websocket-extensions", offer.as_str())))
    }

    /// Judges the answer, and returns the subprotocol that the server chose, if any. For a request
    /// that offers no extension.
    ///
    /// # Errors
    /// The first requirement that the answer does not meet. The socket is to be shut; no frame may
    /// be sent on it.
    pub fn verify<'a>(
        &self,
        status: u16,
        headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    ) -> Result<Option<&'a str>, ResponseError> {
        match self.verify_all(status, headers)? {
            Opened { subprotocol, deflate: None } => Ok(subprotocol),
            // The caller could not know of it.
            Opened { deflate: Some(_), .. } => Err(ResponseError::Extension),
        }
    }

    /// Judges the answer, and returns all that the server chose.
    ///
    /// # Errors
    /// The first requirement that the answer does not meet. The socket is to be shut; no frame may
    /// be sent on it.
    pub fn verify_all<'a>(
        &self,
        status: u16,
        headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    ) -> Result<Opened<'a>, ResponseError> {
        if status != 101 {
            return Err(ResponseError::Status(status));
        }
        let mut upgrade = Single::Absent;
        let mut accept = Single::Absent;
        let mut subprotocol = Single::Absent;
        let mut connection_upgrades = false;
        let mut extensions = List::new();
        for (name, value) in headers {
            let is = |wanted: &str| name.eq_ignore_ascii_case(wanted);
            if is("upgrade") {
                upgrade.see(value);
            } else if is("sec-websocket-accept") {
                accept.see(value);
            } else if is("sec-websocket-protocol") {
                subprotocol.see(value);
            } else if is("connection") {
                connection_upgrades |= field::has_element(value, "upgrade");
            } else if is("sec-websocket-extensions") {
                extensions.see(value, field::add_extensions);
            }
        }

        match upgrade {
            Single::Once(value) if value.eq_ignore_ascii_case("websocket") => {}
            Single::Once(_) | Single::Absent | Single::Malformed => {
                return Err(ResponseError::Upgrade);
            }
        }
        if !connection_upgrades {
            return Err(ResponseError::Connection);
        }
        if accept != Single::Once(&accept_key(&self.key)) {
            return Err(ResponseError::Accept);
        }
        let extensions = extensions.finish().ok_or(ResponseError::Extension)?;
        let deflate = match &self.deflate {
            Some((config, _)) => {
                deflate::verify(config, &extensions).map_err(|()| ResponseError::Extension)?
            }
            None if extensions.is_empty() => None,
            None => return Err(ResponseError::Extension),
        };
        let subprotocol = match subprotocol {
            Single::Absent => None,
            Single::Once(name) if self.offers(name) => Some(name),
            Single::Once(_) | Single::Malformed => return Err(ResponseError::Subprotocol),
        };
        Ok(Opened { subprotocol, deflate })
    }

    fn offers(&self, subprotocol: &str) -> bool {
        !self.subprotocols.is_empty() && self.subprotocols.split(", ").any(|it| it == subprotocol)
    }
}

impl fmt::Display for ResponseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "the server answered with status {status}"),
            Self::Upgrade => f.write_str("the answer's Upgrade header is not websocket"),
            Self::Connection => f.write_str("the answer's Connection header does not say Upgrade"),
            Self::Accept => f.write_str("the answer's Sec-WebSocket-Accept is not for our key"),
            Self::Extension => f.write_str("the server uses an extension that was not offered"),
            Self::Subprotocol => f.write_str("the server uses a subprotocol that was not offered"),
        }
    }
}

impl Error for ResponseError {}
