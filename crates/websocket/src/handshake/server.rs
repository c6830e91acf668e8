//! The server's half of the opening handshake: judging a request.

use std::error::Error;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::field::{self, Extension, List, Single};
use super::{VERSION, accept_key};

/// The first line of an HTTP request.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The method, such as `GET`, in the case it came in.
    pub method: &'a str,
    /// The request target: a path, or an absolute HTTP URI.
    pub target: &'a str,
    /// The HTTP version, major and minor.
    pub version: (u8, u8),
}

/// A request that may become a connection, if the caller's policy agrees.
///
/// What the client offered is in the client's order of preference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted<'a> {
    /// The value for `Sec-WebSocket-Accept`.
    pub accept_key: String,
    /// The authority that the client asked for, to compare an origin with.
    pub host: &'a str,
    /// Which site's page opened the connection. `None` is a client that is not a browser, or does
    /// not say; it proves nothing, since only browsers tell the truth here (section 10.2).
    pub origin: Option<&'a str>,
    /// The subprotocols on offer: tokens, none twice, at most 32. Choose one or none.
    pub subprotocols: Vec<&'a str>,
    /// The extensions on offer, at most 32 with 32 parameters each. An unknown one is ignored.
    pub extensions: Vec<Extension<'a>>,
}

/// Why a request does not become a connection: the first requirement that it does not meet.
///
/// It is the client's mistake, or a proxy's on the way, and the same request fails again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The method is not GET (section 4.1, item 2).
    Method,
    /// HTTP is older than 1.1 (section 4.1, item 2).
    HttpVersion,
    /// The target is neither a path nor an absolute HTTP URI (section 4.2.1, item 1).
    Target,
    /// There is no Host header, or more than one (section 4.2.1, item 2).
    Host,
    /// The Upgrade header does not ask for WebSocket (section 4.2.1, item 3). Suspect a plain HTTP
    /// client, or a proxy that keeps this header to itself.
    Upgrade,
    /// The Connection header does not name Upgrade (section 4.2.1, item 4). Suspect a proxy.
    Connection,
    /// The version is missing, repeated or not 13 (section 4.2.1, item 6).
    Version,
    /// The key is missing, repeated or not 16 bytes in base64 (section 4.2.1, item 5).
    Key,
    /// The Origin header is repeated or not text (section 4.2.1, item 7).
    Origin,
    /// The subprotocols are not a list of different tokens, or are too many or none (section 4.1,
    /// item 10).
    Subprotocols,
    /// The extensions are out of grammar, too many or none (section 9.1).
    Extensions,
}

/// Judges a request to open a connection.
///
/// Header names are compared in any case, and white space around values is ignored. Bodies and all
/// other headers are not looked at.
///
/// RFC 6455 section 4.2.1.
///
/// # Errors
/// The first requirement that the request does not meet, in the order of [`Refusal`]'s variants.
///
/// # Examples
/// ```
/// use clarion_websocket::handshake::{Request, accept};
///
/// let request = Request { method: "GET", target: "/chat", version: (1, 1) };
/// let headers: [(&str, &[u8]); 5] = [
///     ("host", b"server.example.com"),
///     ("upgrade", b"websocket"),
///     ("connection", b"Upgrade"),
///     ("sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
///     ("sec-websocket-version", b"13"),
/// ];
/// let accepted = accept(&request, headers)?;
/// assert_eq!(accepted.accept_key, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
/// # Ok::<(), clarion_websocket::handshake::Refusal>(())
/// ```
pub fn accept<'a>(
    request: &Request<'a>,
    headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
) -> Result<Accepted<'a>, Refusal> {
    let mut host = Single::Absent;
    let mut origin = Single::Absent;
    let mut key = Single::Absent;
    let mut version = Single::Absent;
    let mut upgrades = false;
    let mut connection_upgrades = false;
    let mut subprotocols = List::new();
    let mut extensions = List::new();
    for (name, value) in headers {
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted);
        if is("host") {
            host.see(value);
        } else if is("origin") {
            origin.see(value);
        } else if is("sec-websocket-key") {
            key.see(value);
        } else if is("sec-websocket-version") {
            version.see(value);
        } else if is("upgrade") {
            upgrades |= field::has_element(value, "websocket");
        } else if is("connection") {
            connection_upgrades |= field::has_element(value, "upgrade");
        } else if is("sec-websocket-protocol") {
            subprotocols.see(value, field::add_unique_tokens);
        } else if is("sec-websocket-extensions") {
            extensions.see(value, field::add_extensions);
        }
    }

    if request.method != "GET" {
        return Err(Refusal::Method);
    }
    if request.version < (1, 1) {
        return Err(Refusal::HttpVersion);
    }
    if !is_target(request.target) {
        return Err(Refusal::Target);
    }
    let Single::Once(host) = host else { return Err(Refusal::Host) };
    if !upgrades {
        return Err(Refusal::Upgrade);
    }
    if !connection_upgrades {
        return Err(Refusal::Connection);
    }
    // Before the key: who speaks another version is told so, whatever else that version wants.
    if version != Single::Once(VERSION) {
        return Err(Refusal::Version);
    }
    let accept_key = match key {
        Single::Once(key) if is_key(key) => accept_key(key),
        Single::Once(_) | Single::Absent | Single::Malformed => return Err(Refusal::Key),
    };
    let origin = match origin {
        Single::Absent => None,
        Single::Once(origin) => Some(origin),
        Single::Malformed => return Err(Refusal::Origin),
    };
    let subprotocols = subprotocols.finish().ok_or(Refusal::Subprotocols)?;
    let extensions = extensions.finish().ok_or(Refusal::Extensions)?;
    Ok(Accepted { accept_key, host, origin, subprotocols, extensions })
}

/// "a Request-URI that should be interpreted as a resource name [..] (or an absolute HTTP/HTTPS URI
/// containing the resource name)" (4.2.1, item 1)
fn is_target(target: &str) -> bool {
    let is_http = |scheme: &str| ["http", "https"].iter().any(|it| scheme.eq_ignore_ascii_case(it));
    target.starts_with('/') || target.split_once("://").is_some_and(|(scheme, _)| is_http(scheme))
}

/// "a base64-encoded value that, when decoded, is 16 bytes in length" (4.2.1, item 5)
fn is_key(key: &str) -> bool {
    // What 24 characters can decode to; a longer key does not fit and is an error.
    STANDARD.decode_slice(key, &mut [0; 18]) == Ok(16)
}

impl Accepted<'_> {
    /// Returns the headers of the answer, whose status is 101.
    ///
    /// `subprotocol` is the one chosen of those on offer, if any. No extension is accepted unless
    /// the caller adds a `Sec-WebSocket-Extensions` header; for compression
    /// [`deflate::accept`](crate::deflate::accept) makes its value.
    ///
    /// RFC 6455 section 4.2.2, item 5.
    pub fn headers<'s>(
        &'s self,
        subprotocol: Option<&'s str>,
    ) -> impl Iterator<Item = (&'static str, &'s str)> {
        [
            ("upgrade", "websocket"),
            ("connection", "Upgrade"),
            ("sec-websocket-accept", self.accept_key.as_str()),
        ]
        .into_iter()
        .chain(subprotocol.map(|name| ("sec-websocket-protocol", name)))
    }
}

impl Refusal {
    /// Returns the HTTP status to answer with: 400, 405 or 426.
    pub fn status(self) -> u16 {
        match self {
            Self::Method => 405,
            Self::Upgrade | Self::Connection | Self::Version => 426,
            Self::HttpVersion
            | Self::Target
            | Self::Host
            | Self::Key
            | Self::Origin
            | Self::Subprotocols
            | Self::Extensions => 400,
        }
    }

    /// Returns the headers that this status demands: what the client could have asked for.
    ///
    /// RFC 9110 sections 15.5.6 and 15.5.22, RFC 6455 section 4.4.
    pub fn headers(self) -> &'static [(&'static str, &'static str)] {
        match self.status() {
            405 => &[("allow", "GET")],
            426 => &[
                ("upgrade", "websocket"),
                ("connection", "Upgrade"),
                ("sec-websocket-version", VERSION),
            ],
            _ => &[],
        }
    }

    /// Says in one sentence what the request should have been, naming the header. Fit for a
    /// response; nothing of the request is in it.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Method => "The method of a WebSocket request is GET.",
            Self::HttpVersion => "A WebSocket request needs HTTP/1.1 or later.",
            Self::Target => "The request target is neither a path nor an absolute HTTP URI.",
            Self::Host => "There must be exactly one Host header.",
            Self::Upgrade => {
                "The Upgrade header must say websocket; a proxy on the way may have removed it."
            }
            Self::Connection => {
                "The Connection header must say Upgrade; a proxy on the way may have removed it."
            }
            Self::Version => "There must be exactly one Sec-WebSocket-Version header, saying 13.",
            Self::Key => {
                "There must be exactly one Sec-WebSocket-Key header, with 16 bytes in base64."
            }
            Self::Origin => "There may be at most one Origin header.",
            Self::Subprotocols => {
                "The Sec-WebSocket-Protocol header must list 1 to 32 tokens, none twice."
            }
            Self::Extensions => "The Sec-WebSocket-Extensions header is malformed.",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl Error for Refusal {}
