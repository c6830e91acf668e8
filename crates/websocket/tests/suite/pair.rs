//! Two ends joined without a socket.

use clarion_websocket::deflate::Pool;
use clarion_websocket::{Connection, Event, Limits, ProtocolError};

/// An event that owns its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Closed(Option<u16>, String),
    Failed(ProtocolError),
}

impl From<Event<'_>> for Seen {
    fn from(event: Event<'_>) -> Self {
        match event {
            Event::Text(text) => Self::Text(text.to_owned()),
            Event::Binary(bytes) => Self::Binary(bytes.to_owned()),
            Event::Ping(payload) => Self::Ping(payload.to_owned()),
            Event::Pong(payload) => Self::Pong(payload.to_owned()),
            Event::Closed { code, reason } => {
                Self::Closed(code.map(|code| code.get()), reason.to_owned())
            }
            Event::Failed(error) => Self::Failed(error),
        }
    }
}

/// A text event, for short expectations.
pub(crate) fn text(text: &str) -> Seen {
    Seen::Text(text.to_owned())
}

/// A connection with what it has to send and what it has seen.
pub(crate) struct End {
    pub(crate) connection: Connection,
    pub(crate) limits: Limits,
    pub(crate) pool: Pool,
    pub(crate) out: Vec<u8>,
    pub(crate) seen: Vec<Seen>,
}

impl End {
    pub(crate) fn new(connection: Connection) -> Self {
        Self {
            connection,
            limits: Limits::default(),
            pool: Pool::default(),
            out: Vec::new(),
            seen: Vec::new(),
        }
    }

    /// Reads bytes as one read of a socket.
    pub(crate) fn read(&mut self, bytes: &[u8]) {
        let mut buffer = bytes.to_vec();
        let mut input = &mut buffer[..];
        while let Some(event) =
            self.connection.receive_with(&self.limits, &mut self.pool, &mut input, &mut self.out)
        {
            self.seen.push(event.into());
        }
        assert!(input.is_empty(), "None means that all input is used up");
    }

    /// Reads bytes as several reads, cut at these places.
    pub(crate) fn read_cut(&mut self, bytes: &[u8], cuts: &[usize]) {
        let mut start = 0;
        for &cut in cuts {
            self.read(&bytes[start..cut]);
            start = cut;
        }
        self.read(&bytes[start..]);
    }

    pub(crate) fn take_seen(&mut self) -> Vec<Seen> {
        std::mem::take(&mut self.seen)
    }
}

/// A client and a server.
pub(crate) struct Pair {
    pub(crate) client: End,
    pub(crate) server: End,
}

impl Pair {
    pub(crate) fn new() -> Self {
        Self::of(Connection::client([7; 32]), Connection::server())
    }

    pub(crate) fn of(client: Connection, server: Connection) -> Self {
        Self { client: End::new(client), server: End::new(server) }
    }

    /// Carries bytes both ways until neither end has anything to send.
    pub(crate) fn drive(&mut self) {
        while !self.client.out.is_empty() || !self.server.out.is_empty() {
            let wire = std::mem::take(&mut self.client.out);
            self.server.read(&wire);
            let wire = std::mem::take(&mut self.server.out);
            self.client.read(&wire);
        }
    }
}
