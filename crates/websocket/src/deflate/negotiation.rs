//! Offers of the extension, and answers to them. Headers are parsed by the handshake.

use std::fmt::Write as _;

use crate::Role;
use crate::handshake::Extension;

const NAME: &str = "permessage-deflate";
const SERVER_NO_CONTEXT_TAKEOVER: &str = "server_no_context_takeover";
const CLIENT_NO_CONTEXT_TAKEOVER: &str = "client_no_context_takeover";
const SERVER_MAX_WINDOW_BITS: &str = "server_max_window_bits";
const CLIENT_MAX_WINDOW_BITS: &str = "client_max_window_bits";

const WINDOW_BITS_MAX: u8 = 15;

/// The smallest window that can be compressed with. The RFC allows 8 bits, but zlib in all its
/// forms cannot make a raw stream with them.
const WINDOW_BITS_MIN: u8 = 9;

/// What one end wants of the extension.
///
/// The default is no context takeover in either direction and the largest windows: nothing is kept
/// between messages, and one compressed message serves many connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Whether the server's messages may refer to those before them; default no. It makes small
    /// messages two or three times smaller and costs a server 140 to 380 KB for each connection.
    pub server_takeover: bool,
    /// Whether the client's messages may refer to those before them; default no. It costs a server
    /// as many bytes for each connection as the client's window has.
    pub client_takeover: bool,
    /// The largest window for the server's messages, from 9 to 15 bits; default 15 (32 KiB). A
    /// number outside is taken for the nearest.
    pub server_window_bits: u8,
    /// The largest window for the client's messages, from 9 to 15 bits; default 15. A number
    /// outside is taken for the nearest.
    pub client_window_bits: u8,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            server_takeover: false,
            client_takeover: false,
            server_window_bits: WINDOW_BITS_MAX,
            client_window_bits: WINDOW_BITS_MAX,
        }
    }
}

impl Config {
    fn clamped(self) -> Self {
        Self {
            server_window_bits: self.server_window_bits.clamp(WINDOW_BITS_MIN, WINDOW_BITS_MAX),
            client_window_bits: self.client_window_bits.clamp(WINDOW_BITS_MIN, WINDOW_BITS_MAX),
            ..self
        }
    }

    /// Returns what a client that wants this sends as `Sec-WebSocket-Extensions`.
    pub(crate) fn offer(self) -> String {
        let config = self.clamped();
        let mut header = header(config.server_takeover, config.client_takeover);
        if config.server_window_bits < WINDOW_BITS_MAX {
            add_bits(&mut header, SERVER_MAX_WINDOW_BITS, config.server_window_bits);
        }
        // Always there: it allows the server to choose a smaller window for us (7.1.2.2).
        if config.client_window_bits < WINDOW_BITS_MAX {
            add_bits(&mut header, CLIENT_MAX_WINDOW_BITS, config.client_window_bits);
        } else {
            header.push_str("; ");
            header.push_str(CLIENT_MAX_WINDOW_BITS);
        }
        header
    }
}

/// What both ends settled on for one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreed {
    server_takeover: bool,
    client_takeover: bool,
    server_window_bits: u8,
    client_window_bits: u8,
}

impl Agreed {
    /// Tells whether messages of this end may refer to those before them.
    pub fn takeover(self, sender: Role) -> bool {
        match sender {
            Role::Server => self.server_takeover,
            Role::Client => self.client_takeover,
        }
    }

    /// Returns the largest window for messages of this end: from 8 to 15 bits.
    pub fn window_bits(self, sender: Role) -> u8 {
        match sender {
            Role::Server => self.server_window_bits,
            Role::Client => self.client_window_bits,
        }
    }

    /// Tells whether a server may send this connection what [`encode`](super::encode) made.
    ///
    /// With context takeover it may not: the client would add the message to its window, and the
    /// connection's own compressor would not know.
    pub fn takes_shared(self) -> bool {
        !self.server_takeover && self.server_window_bits == super::SHARED_WINDOW_BITS
    }

    /// Tells whether this end can compress at all: not with a window of 8 bits, which a server may
    /// still ask of a client. Then messages go as they are, which is always allowed.
    pub(crate) fn can_compress(self, sender: Role) -> bool {
        self.window_bits(sender) >= WINDOW_BITS_MIN
    }
}

/// A server's answer to an offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What the connection has to be told.
    pub agreed: Agreed,
    /// The value for `Sec-WebSocket-Extensions`.
    pub header: String,
}

/// Chooses the first of a client's offers that a server can accept. `None` is no compression.
///
/// An offer that breaks a rule, or asks for what cannot be had (a server's window of 8 bits), is
/// declined and the next one is looked at. A client that cannot be told how large its window may
/// be, and wants more than `config` allows, may not keep it between messages instead.
///
/// RFC 7692 sections 5.1 and 7.1.
pub fn accept(config: &Config, extensions: &[Extension<'_>]) -> Option<Answer> {
    let config = config.clamped();
    extensions
        .iter()
        .filter(|extension| extension.name == NAME)
        .find_map(|extension| answer(&config, &Parameters::parse(extension, Role::Client)?))
}

fn answer(config: &Config, offer: &Parameters) -> Option<Answer> {
    let server_window_bits = match offer.server_window_bits {
        Some(bits) if bits < WINDOW_BITS_MIN => return None,
        Some(bits) => bits.min(config.server_window_bits),
        None => config.server_window_bits,
    };
    // "This parameter without a value" is a client that can be told any size (7.1.2.2).
    let offered = offer.client_window_bits.map(|bits| bits.unwrap_or(WINDOW_BITS_MAX));
    let client_window_bits =
        offered.map_or(WINDOW_BITS_MAX, |bits| bits.min(config.client_window_bits));
    let agreed = Agreed {
        server_takeover: config.server_takeover && !offer.server_no_context_takeover,
        client_takeover: config.client_takeover
            && !offer.client_no_context_takeover
            && client_window_bits <= config.client_window_bits,
        server_window_bits,
        client_window_bits,
    };

    let mut header = header(agreed.server_takeover, agreed.client_takeover);
    // "A server accepts an extension negotiation offer with this parameter by including" it, also
    // if it says 15 (7.1.2.1).
    if offer.server_window_bits.is_some() || server_window_bits < WINDOW_BITS_MAX {
        add_bits(&mut header, SERVER_MAX_WINDOW_BITS, server_window_bits);
    }
    // "If a received extension negotiation offer doesn't have the "client_max_window_bits"
    // extension parameter, the corresponding extension negotiation response to the offer MUST NOT
    // include" it (7.1.2.2). What the client said it keeps to by itself need not be repeated.
    if offered.is_some_and(|bits| client_window_bits < bits) {
        add_bits(&mut header, CLIENT_MAX_WINDOW_BITS, client_window_bits);
    }
    Some(Answer { agreed, header })
}

/// Judges a server's answer to the offer that `config` made. `Err` is one that does not fit it.
///
/// RFC 7692 sections 5.1 and 7.1.
pub(crate) fn verify(config: &Config, extensions: &[Extension<'_>]) -> Result<Option<Agreed>, ()> {
    let config = config.clamped();
    let extension = match extensions {
        [] => return Ok(None),
        [extension] if extension.name == NAME => extension,
        _ => return Err(()),
    };
    let answer = Parameters::parse(extension, Role::Server).ok_or(())?;
    let agreed = Agreed {
        server_takeover: !answer.server_no_context_takeover,
        client_takeover: config.client_takeover && !answer.client_no_context_takeover,
        server_window_bits: answer.server_window_bits.unwrap_or(WINDOW_BITS_MAX),
        client_window_bits: answer
            .client_window_bits
            .flatten()
            .unwrap_or(config.client_window_bits),
    };
    let fits = (config.server_takeover || !agreed.server_takeover)
        && agreed.server_window_bits <= config.server_window_bits
        && agreed.client_window_bits <= config.client_window_bits;
    if fits { Ok(Some(agreed)) } else { Err(()) }
}

/// The parameters of one offer or answer, each at most once and with a value it can have.
#[derive(Default)]
struct Parameters {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_window_bits: Option<u8>,
    /// Without a value in an offer only.
    client_window_bits: Option<Option<u8>>,
}

impl Parameters {
    /// Reads what an end of this role sent. `None` is one of the four reasons to decline that
    /// section 7.1 lists: an unknown parameter, an invalid value, a parameter given twice, or one
    /// that does not belong there.
    fn parse(extension: &Extension<'_>, sender: Role) -> Option<Self> {
        let mut parameters = Self::default();
        for (name, value) in &extension.parameters {
            let is_new = match (*name, value.as_deref()) {
                (SERVER_NO_CONTEXT_TAKEOVER, None) => {
                    !std::mem::replace(&mut parameters.server_no_context_takeover, true)
                }
                (CLIENT_NO_CONTEXT_TAKEOVER, None) => {
                    !std::mem::replace(&mut parameters.client_no_context_takeover, true)
                }
                (SERVER_MAX_WINDOW_BITS, Some(value)) => {
                    parameters.server_window_bits.replace(window_bits(value)?).is_none()
                }
                (CLIENT_MAX_WINDOW_BITS, Some(value)) => {
                    parameters.client_window_bits.replace(Some(window_bits(value)?)).is_none()
                }
                (CLIENT_MAX_WINDOW_BITS, None) if sender == Role::Client => {
                    parameters.client_window_bits.replace(None).is_none()
                }
                _ => false,
            };
            if !is_new {
                return None;
            }
        }
        Some(parameters)
    }
}

/// "a decimal integer value without leading zeroes between 8 to 15, inclusive" (7.1.2)
fn window_bits(value: &str) -> Option<u8> {
    match value.as_bytes() {
        [digit @ b'8'..=b'9'] => Some(digit - b'0'),
        [b'1', digit @ b'0'..=b'5'] => Some(10 + digit - b'0'),
        _ => None,
    }
}

fn header(server_takeover: bool, client_takeover: bool) -> String {
    let mut header = NAME.to_owned();
    for (takeover, name) in [
        (server_takeover, SERVER_NO_CONTEXT_TAKEOVER),
        (client_takeover, CLIENT_NO_CONTEXT_TAKEOVER),
    ] {
        if !takeover {
            header.push_str("; ");
            header.push_str(name);
        }
    }
    header
}

fn add_bits(header: &mut String, name: &str, bits: u8) {
    // Writing to a string does not fail.
    let _ = write!(header, "; {name}={bits}");
}
