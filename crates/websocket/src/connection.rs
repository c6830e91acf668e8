//! One end of an open connection: what may be sent, what is answered, and how it closes.
//!
//! Reading frames is the reader's, writing them the writer's. Keep-alive needs a clock and queues
//! need a policy; both are the caller's.

use std::fmt;

use crate::deflate::{Agreed, Contexts, Deflater, Pool, Receiving, Settings};
use crate::frame::CONTROL_BYTES_MAX;
use crate::reader::{Item, Reader};
use crate::writer::Writer;
use crate::{CloseCode, Limits, Opcode, ProtocolError, Role, UsageError, close};

/// One end of a connection after the opening handshake.
///
/// It has two kinds of methods. [`receive`](Self::receive) takes what the socket brought and
/// returns what it means. `send_text`, `send_binary`, `ping` and `close` turn what the caller wants
/// into bytes. All of them append to a buffer which the caller then writes to the socket, in order.
///
/// ```text
///          close                  peer's close
///   Open ────────────► Closing ──────────────────► Closed
///    │                    │ rule broken               ▲
///    │                    └───────────────────────────┤
///    └────────────────────────────────────────────────┘
///      peer's close (echoed) or rule broken (close frame sent)
/// ```
///
/// In `Closed` both ends have said their last, so the socket can be shut once the buffer is
/// written: by the server first, as section 7.1.1 asks. How long to wait in `Closing` for the peer
/// is the caller's to decide.
///
/// Where compression was agreed on, `receive_with`, `send_text_with` and `send_binary_with` take
/// compressors and inflaters from a [`Pool`] that many connections share.
///
/// Between messages a server's connection is a few words and owns nothing on the heap, unless
/// context takeover was agreed on: see [`Config`](crate::deflate::Config).
pub struct Connection {
    reader: Reader,
    writer: Writer,
    state: State,
    deflate: Option<Agreed>,
    /// With context takeover, from the first compressed message.
    contexts: Option<Box<Contexts>>,
}

/// How far the closing handshake is.
///
/// RFC 6455 section 7.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No close frame was sent or received.
    Open,
    /// A close frame was sent. Messages that the peer sent before it saw ours still arrive.
    Closing,
    /// The peer's close frame was read, or the connection failed. Input is thrown away unread.
    Closed,
}

/// What the peer did.
///
/// The payload is lent until the next call of [`Connection::receive`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// A whole message of text.
    Text(&'a str),
    /// A whole message of bytes.
    Binary(&'a [u8]),
    /// A ping. The pong is already in `out`.
    Ping(&'a [u8]),
    /// A pong: the payload of a ping of ours, or one that nobody asked for.
    Pong(&'a [u8]),
    /// The peer's close frame. Unless ours went first, its echo is already in `out`. Nothing is
    /// read after it.
    Closed {
        /// The peer's code; `None` if it gave none, which an API reports as 1005.
        code: Option<CloseCode>,
        /// The peer's words, possibly empty. They are not fit to be shown to a person.
        reason: &'a str,
    },
    /// The peer broke a rule. Unless one went before, a close frame that names the rule is already
    /// in `out`. Nothing is read after it.
    Failed(ProtocolError),
}

impl Connection {
    /// Returns the end that accepted the opening handshake.
    pub fn server() -> Self {
        Self::new(Writer::Server)
    }

    /// Returns the end that began the opening handshake.
    ///
    /// `seed` must come from a strong source of entropy, and serves this one connection: masking
    /// keys are derived from it with ChaCha20. A page that could guess them could choose the bytes
    /// on the wire (RFC 6455 section 10.3).
    pub fn client(seed: [u8; 32]) -> Self {
        Self::new(Writer::client(seed))
    }

    fn new(writer: Writer) -> Self {
        Self {
            reader: Reader::default(),
            writer,
            state: State::Open,
            deflate: None,
            contexts: None,
        }
    }

    /// Returns the connection with compression as the opening handshake agreed on it. To be called
    /// before anything is read or sent.
    #[must_use]
    pub fn with_deflate(self, agreed: Agreed) -> Self {
        Self { deflate: Some(agreed), ..self }
    }

    /// Returns what was agreed on for compression, if it was.
    pub fn deflate(&self) -> Option<Agreed> {
        self.deflate
    }

    /// Takes the next event from the front of `input`; call it until it returns `None`.
    ///
    /// `input` is what the socket brought, cut anywhere. It is unmasked in place and advanced; when
    /// `None` is returned it is used up. Answers that the protocol demands (the pong to a ping, the
    /// echo of a close frame, the close frame after a broken rule) are appended to `out`: at most
    /// three bytes for each byte of `input`, and one close frame.
    ///
    /// A message that is whole in `input` is lent from there. One that is split is copied once and
    /// held until the call after the one that returned it, in at most 1 KiB or four times the bytes
    /// that have arrived of it, which are at most [`Limits::message_bytes`].
    ///
    /// Where compression was agreed on, [`receive_with`](Self::receive_with) is the cheaper way:
    /// this one makes a pool for the call.
    ///
    /// RFC 6455 sections 5.4, 5.5 and 6.2.
    pub fn receive<'a, 'i: 'a>(
        &'a mut self,
        limits: &Limits,
        input: &mut &'i mut [u8],
        out: &mut Vec<u8>,
    ) -> Option<Event<'a>> {
        self.receive_with(limits, &mut Pool::default(), input, out)
    }

    /// Does what [`receive`](Self::receive) does, with inflaters of this pool.
    ///
    /// A compressed message is always held as one that is split is. It is inflated as it comes, by
    /// 16 KiB, and every rule is checked on the way: whatever it could be inflated to, no more than
    /// twice [`Limits::message_bytes`] is ever held. While it is under way it also has an inflater
    /// (48 KB).
    ///
    /// RFC 7692 section 6.2.
    pub fn receive_with<'a, 'i: 'a>(
        &'a mut self,
        limits: &Limits,
        pool: &mut Pool,
        input: &mut &'i mut [u8],
        out: &mut Vec<u8>,
    ) -> Option<Event<'a>> {
        let Self { reader, writer, state, deflate, contexts } = self;
        if *state == State::Closed {
            *reader = Reader::default();
            *contexts = None;
            *input = &mut [];
            return None;
        }
        let peer = match writer.role() {
            Role::Server => Role::Client,
            Role::Client => Role::Server,
        };
        let mut receiving = deflate.map(|agreed| Receiving {
            pool,
            contexts,
            window_bytes: if agreed.takeover(peer) { 1 << agreed.window_bits(peer) } else { 0 },
        });
        let item = match reader.next(writer.role(), limits, &mut receiving, input) {
            Ok(item) => item?,
            Err(error) => return Some(fail(writer, state, error, out)),
        };
        Some(match item {
            Item::Text(text) => Event::Text(text),
            Item::Binary(bytes) => Event::Binary(bytes),
            // "Upon receipt of a Ping frame, an endpoint MUST send a Pong frame in response,
            // unless it already received a Close frame." (5.5.2) So also while closing.
            Item::Ping(payload) => {
                writer.frame(Opcode::Pong, payload, out);
                Event::Ping(payload)
            }
            Item::Pong(payload) => Event::Pong(payload),
            Item::Close(payload) => match close::decode(payload) {
                Ok((code, reason)) => {
                    // "If an endpoint receives a Close frame and did not previously send a Close
                    // frame, the endpoint MUST send a Close frame in response. (When sending a
                    // Close frame in response, the endpoint typically echos the status code it
                    // received.)" (5.5.1) The reason is not echoed; it was ours to read.
                    if *state == State::Open {
                        writer.frame(Opcode::Close, &payload[..payload.len().min(2)], out);
                    }
                    *state = State::Closed;
                    Event::Closed { code, reason }
                }
                Err(error) => fail(writer, state, error, out),
            },
        })
    }

    /// Appends a message of text to `out`, in one frame.
    ///
    /// # Errors
    /// [`UsageError::Closing`] once a close frame was sent.
    pub fn send_text(&mut self, text: &str, out: &mut Vec<u8>) -> Result<(), UsageError> {
        self.send(Opcode::Text, text.as_bytes(), out)
    }

    /// Appends a message of bytes to `out`, in one frame.
    ///
    /// # Errors
    /// [`UsageError::Closing`] once a close frame was sent.
    pub fn send_binary(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), UsageError> {
        self.send(Opcode::Binary, bytes, out)
    }

    /// Appends a message of text to `out`, in one frame, compressed if that was agreed on and the
    /// settings and the text are such that it is worth it.
    ///
    /// RFC 7692 section 6.1.
    ///
    /// # Errors
    /// [`UsageError::Closing`] once a close frame was sent.
    pub fn send_text_with(
        &mut self,
        text: &str,
        settings: &Settings,
        pool: &mut Pool,
        out: &mut Vec<u8>,
    ) -> Result<(), UsageError> {
        self.send_with(Opcode::Text, text.as_bytes(), settings, pool, out)
    }

    /// Appends a message of bytes to `out`, in one frame, compressed as
    /// [`send_text_with`](Self::send_text_with) says.
    ///
    /// # Errors
    /// [`UsageError::Closing`] once a close frame was sent.
    pub fn send_binary_with(
        &mut self,
        bytes: &[u8],
        settings: &Settings,
        pool: &mut Pool,
        out: &mut Vec<u8>,
    ) -> Result<(), UsageError> {
        self.send_with(Opcode::Binary, bytes, settings, pool, out)
    }

    /// Appends a message to `out`, in one frame, compressed as [`send_text_with`](Self::send_text_with)
    /// says. Text has to be UTF-8.
    ///
    /// Returns false, and appends nothing, where that says that the message goes as it is: then
    /// [`frame::encode`](crate::frame::encode) it. It is for a caller that has that frame already,
    /// or can do better than to copy the payload.
    pub fn compress(
        &mut self,
        opcode: Opcode,
        payload: &[u8],
        settings: &Settings,
        pool: &mut Pool,
        out: &mut Vec<u8>,
    ) -> bool {
        debug_assert!(matches!(opcode, Opcode::Text | Opcode::Binary));
        let role = self.role();
        if self.state != State::Open || payload.len() < settings.threshold_bytes {
            return false;
        }
        let Some(agreed) = self.deflate.filter(|agreed| agreed.can_compress(role)) else {
            return false;
        };
        let bits = agreed.window_bits(role);
        let deflater = if agreed.takeover(role) {
            let contexts = self.contexts.get_or_insert_default();
            Deflater::Zlib(contexts.compressor(bits, settings.level))
        } else {
            pool.deflater(bits, settings.level)
        };
        let before = out.len();
        let is_shorter = self.writer.compressed_frame(opcode, payload, deflater, out);
        if is_shorter {
            pool.count_deflated(payload.len(), out.len() - before);
        }
        is_shorter
    }

    /// Frees the compressor that context takeover made this connection's own: 140 to 380 KB.
    ///
    /// The next message is compressed as the first was. It is allowed at any time, and fit for a
    /// connection that has been idle for long.
    pub fn release_compressor(&mut self) {
        if let Some(contexts) = &mut self.contexts {
            contexts.compressor = None;
        }
    }

    /// Returns a connection that sends messages in place of this one while an [`Event`] borrows it.
    ///
    /// It agreed to the same, and has the compressor that context takeover made this one's own: what
    /// both ends keep of a message follows from the order in which messages are compressed. Give it
    /// back with [`rejoin`](Self::rejoin) before this connection sends again. Only a server's can be
    /// doubled: a client's has masking keys, which must not be used twice.
    #[must_use]
    pub fn stand_in(&mut self) -> Self {
        debug_assert_eq!(self.role(), Role::Server);
        let compressor = self.contexts.as_mut().and_then(|contexts| contexts.compressor.take());
        let contexts = compressor
            .map(|compressor| Box::new(Contexts { compressor: Some(compressor), history: vec![] }));
        Self { deflate: self.deflate, contexts, ..Self::server() }
    }

    /// Takes back the compressor of a [`stand_in`](Self::stand_in).
    pub fn rejoin(&mut self, stand_in: Self) {
        let compressor = stand_in.contexts.and_then(|contexts| contexts.compressor);
        if compressor.is_some() && self.state != State::Closed {
            self.contexts.get_or_insert_default().compressor = compressor;
        }
    }

    /// Appends a ping to `out`. The peer's pong has the same payload, of at most 125 bytes.
    ///
    /// RFC 6455 section 5.5.2.
    ///
    /// # Errors
    /// [`UsageError::PingTooLong`], and [`UsageError::Closing`] once a close frame was sent.
    pub fn ping(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), UsageError> {
        if payload.len() > CONTROL_BYTES_MAX {
            return Err(UsageError::PingTooLong);
        }
        self.send(Opcode::Ping, payload, out)
    }

    /// Appends a close frame to `out` and begins the closing handshake.
    ///
    /// Keep reading until [`Event::Closed`], for as long as the caller cares to wait. A reason of
    /// more than 123 bytes is cut after the last character that fits.
    ///
    /// RFC 6455 section 7.1.2.
    ///
    /// # Errors
    /// [`UsageError::CloseCode`] if the code is not [sendable](CloseCode::is_sendable), and
    /// [`UsageError::Closing`] once a close frame was sent.
    pub fn close(
        &mut self,
        code: CloseCode,
        reason: &str,
        out: &mut Vec<u8>,
    ) -> Result<(), UsageError> {
        if !code.is_sendable() {
            return Err(UsageError::CloseCode);
        }
        self.send(Opcode::Close, close::encode(code, reason, &mut [0; CONTROL_BYTES_MAX]), out)?;
        self.state = State::Closing;
        Ok(())
    }

    /// Tells whether messages can be sent: no close frame was sent or received.
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Tells whether nothing more will be read: the peer closed, or the connection failed.
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Returns which end this is.
    pub fn role(&self) -> Role {
        self.writer.role()
    }

    fn send_with(
        &mut self,
        opcode: Opcode,
        payload: &[u8],
        settings: &Settings,
        pool: &mut Pool,
        out: &mut Vec<u8>,
    ) -> Result<(), UsageError> {
        if self.compress(opcode, payload, settings, pool, out) {
            return Ok(());
        }
        self.send(opcode, payload, out)
    }

    /// "The application MUST NOT send any more data frames after sending a Close frame." (5.5.1)
    /// A ping of ours would not be answered either.
    fn send(
        &mut self,
        opcode: Opcode,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), UsageError> {
        match self.state {
            State::Open => {
                self.writer.frame(opcode, payload, out);
                Ok(())
            }
            State::Closing | State::Closed => Err(UsageError::Closing),
        }
    }
}

impl fmt::Debug for Connection {
    /// Shows no payload: it is the user's and has no place in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("role", &self.role())
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// Fails the connection (RFC 6455 section 7.1.7).
fn fail<'a>(
    writer: &mut Writer,
    state: &mut State,
    error: ProtocolError,
    out: &mut Vec<u8>,
) -> Event<'a> {
    if *state == State::Open {
        let mut buffer = [0; CONTROL_BYTES_MAX];
        let payload = close::encode(error.code(), error.reason(), &mut buffer);
        writer.frame(Opcode::Close, payload, out);
    }
    *state = State::Closed;
    Event::Failed(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deflate::{self, Config};
    use crate::handshake::Extension;

    #[test]
    fn an_idle_server_connection_is_a_few_words() {
        assert!(size_of::<Connection>() <= 32);
    }

    #[test]
    fn debug_output_has_no_payload() {
        let mut connection = Connection::server();
        let mut input = [0x01, 0x86, 0, 0, 0, 0, b's', b'e', b'c', b'r'];
        let read = connection.receive(&Limits::default(), &mut &mut input[..], &mut Vec::new());
        assert_eq!(read, None);
        assert_eq!(format!("{connection:?}"), "Connection { role: Server, state: Open, .. }");
    }

    #[test]
    fn a_stand_in_goes_on_with_the_context() {
        let settings = Settings { threshold_bytes: 0, ..Settings::default() };
        let config = Config { server_takeover: true, ..Config::default() };
        let offer = Extension { name: "permessage-deflate", parameters: vec![] };
        let agreed = deflate::accept(&config, &[offer]).unwrap().agreed;
        let mut client = Connection::client([7; 32]).with_deflate(agreed);
        let mut server = Connection::server().with_deflate(agreed);
        let mut pool = Pool::default();
        let text = "what comes again is short if what came is known";
        let mut sizes = Vec::new();
        for stands_in in [true, false, true, true] {
            let mut wire = Vec::new();
            let mut stand_in = server.stand_in();
            if stands_in {
                stand_in.send_text_with(text, &settings, &mut pool, &mut wire).unwrap();
            }
            server.rejoin(stand_in);
            if !stands_in {
                server.send_text_with(text, &settings, &mut pool, &mut wire).unwrap();
            }
            sizes.push(wire.len());
            let read = client.receive(&Limits::default(), &mut &mut wire[..], &mut Vec::new());
            assert_eq!(read, Some(Event::Text(text)));
        }
        assert!(sizes[1..].iter().all(|size| *size < 16), "{sizes:?}");
        let stand_in = server.stand_in();
        assert!(server.contexts.as_ref().unwrap().compressor.is_none());
        server.state = State::Closed;
        server.rejoin(stand_in);
        assert!(server.contexts.as_ref().unwrap().compressor.is_none());
    }

    #[test]
    fn only_takeover_makes_an_idle_connection_own_anything() {
        let message = "all work and no play makes Jack a dull boy; ".repeat(100);
        let settings = Settings::default();
        for (takeover, bits) in [(false, 15), (true, 9), (true, 15)] {
            let config = Config {
                server_takeover: takeover,
                client_takeover: takeover,
                client_window_bits: bits,
                ..Config::default()
            };
            let bits_parameter = ("client_max_window_bits", None);
            let offer = Extension { name: "permessage-deflate", parameters: vec![bits_parameter] };
            let agreed = deflate::accept(&config, &[offer]).unwrap().agreed;
            let mut client = Connection::client([7; 32]).with_deflate(agreed);
            let mut server = Connection::server().with_deflate(agreed);
            assert!(server.contexts.is_none());
            let mut pool = Pool::default();
            for _ in 0..12 {
                let mut wire = Vec::new();
                client.send_text_with(&message, &settings, &mut pool, &mut wire).unwrap();
                let mut input = &mut wire[..];
                let mut replies = Vec::new();
                while let Some(event) =
                    server.receive_with(&Limits::default(), &mut pool, &mut input, &mut replies)
                {
                    assert_eq!(event, Event::Text(&message));
                }
                server.send_text_with(&message, &settings, &mut pool, &mut replies).unwrap();
            }
            match &mut server.contexts {
                None => assert!(!takeover),
                Some(contexts) => {
                    assert!(takeover && contexts.compressor.is_some());
                    assert_eq!(contexts.history.len(), 1 << bits);
                    assert!(contexts.history.capacity() <= (1 << bits) + message.len());
                    server.release_compressor();
                    assert!(server.contexts.as_ref().unwrap().compressor.is_none());
                }
            }
        }
    }
}
