//! One end of a connection, with what it has seen and what it has to send.

use clarion_websocket::deflate::{Agreed, Pool};
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

pub(crate) struct End {
    pub(crate) connection: Connection,
    pub(crate) limits: Limits,
    pub(crate) pool: Pool,
    pub(crate) out: Vec<u8>,
    pub(crate) seen: Vec<Seen>,
}

impl End {
    pub(crate) fn new(connection: Connection, limits: Limits, agreed: Option<Agreed>) -> Self {
        let connection = match agreed {
            Some(agreed) => connection.with_deflate(agreed),
            None => connection,
        };
        Self { connection, limits, pool: Pool::default(), out: Vec::new(), seen: Vec::new() }
    }

    /// Reads bytes as one read of a socket, and checks what every caller relies on.
    pub(crate) fn read(&mut self, bytes: &[u8]) {
        let out_size = self.out.len();
        let mut buffer = bytes.to_vec();
        let mut input = &mut buffer[..];
        while let Some(event) =
            self.connection.receive_with(&self.limits, &mut self.pool, &mut input, &mut self.out)
        {
            let (Event::Text(_) | Event::Binary(_)) = event else {
                self.seen.push(event.into());
                continue;
            };
            let event = Seen::from(event);
            let size = match &event {
                Seen::Text(text) => text.len(),
                Seen::Binary(bytes) => bytes.len(),
                _ => 0,
            };
            assert!(size <= self.limits.message_bytes, "a message is within the limit");
            self.seen.push(event);
        }
        assert!(input.is_empty(), "None means that all input is used up");
        let most = out_size + 3 * bytes.len() + 131;
        assert!(self.out.len() <= most, "answers are in proportion to the input");
        let is_last = |seen: &Seen| matches!(seen, Seen::Closed(..) | Seen::Failed(_));
        let last = self.seen.iter().position(is_last);
        assert_eq!(last.is_some(), self.connection.is_closed());
        assert!(last.is_none_or(|index| index + 1 == self.seen.len()), "the end is the end");
    }
}
