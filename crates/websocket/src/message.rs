//! A message that is put together from pieces: fragments, or a frame cut by the end of a read.
//!
//! A message that arrives whole never comes here; the reader lends it from the input.

use crate::ProtocolError;
use crate::deflate::{Inflater, Receiving, Step, WINDOW_BYTES_MAX};
use crate::reader::Item;
use crate::utf8::Decoder;

/// What a peer may send. Breaking a limit fails the connection with close code 1009.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest message in bytes; default 65,536. A longer one is refused at the header that
    /// tells, before its payload is read. It bounds the memory that a split message can hold here.
    ///
    /// Of a compressed message it bounds what it is inflated to, which stops there. What it comes in
    /// may be 1 KiB more than twice as long, since a peer may compress badly.
    pub message_bytes: usize,
    /// The most frames a message may come in; default 1,024. It bounds the work a peer can ask for
    /// with empty fragments, which `message_bytes` does not count. 0 is taken for 1. Each block of
    /// a compressed message that says it is the last, and is not, counts as one more.
    pub fragments: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { message_bytes: 65_536, fragments: 1024 }
    }
}

/// The least memory reserved for a message whose frame announces as much, in bytes.
const RESERVE_MIN: usize = 1024;

/// How many times what has arrived may be reserved for what is announced.
///
/// A peer that announces much and sends little costs little; one that keeps sending soon has a
/// buffer of the right size.
const RESERVE_FACTOR: usize = 4;

/// A message whose end has not been read.
pub(crate) struct Message {
    body: Body,
    fragments: u32,
    /// What the payload goes through first, if the message is compressed.
    inflater: Option<Box<Inflater>>,
}

/// The payload so far, unmasked.
enum Body {
    Text(String, Decoder),
    Binary(Vec<u8>),
}

impl Message {
    /// `inflater` is for a compressed message, and has been started.
    pub(crate) fn text(inflater: Option<Box<Inflater>>) -> Self {
        Self { body: Body::Text(String::new(), Decoder::default()), fragments: 1, inflater }
    }

    /// `inflater` is for a compressed message, and has been started.
    pub(crate) fn binary(inflater: Option<Box<Inflater>>) -> Self {
        Self { body: Body::Binary(Vec::new()), fragments: 1, inflater }
    }

    /// Counts a continuation frame.
    pub(crate) fn add_fragment(&mut self, limits: &Limits) -> Result<(), ProtocolError> {
        if self.fragments >= limits.fragments {
            return Err(ProtocolError::TooManyFragments);
        }
        self.fragments += 1;
        Ok(())
    }

    /// Returns how many more bytes its frames may bring.
    pub(crate) fn room(&self, limits: &Limits) -> usize {
        match &self.inflater {
            Some(inflater) => compressed_bytes_max(limits).saturating_sub(inflater.received_size()),
            None => limits.message_bytes.saturating_sub(self.body.size()),
        }
    }

    /// Appends a piece, inflated if it is compressed. `announced_size` is how many more bytes its
    /// frame will bring.
    pub(crate) fn push(
        &mut self,
        piece: &[u8],
        announced_size: u64,
        limits: &Limits,
        receiving: &mut Option<Receiving<'_>>,
    ) -> Result<(), ProtocolError> {
        match (self.inflater.take(), receiving) {
            (Some(mut inflater), Some(receiving)) => {
                self.inflate(piece, &mut inflater, limits, receiving)?;
                self.inflater = Some(inflater);
                Ok(())
            }
            (_, _) => self.body.push(piece, announced_size),
        }
    }

    /// Inflates a piece, a buffer at a time, so that no check waits for more than a buffer.
    ///
    /// What is checked comes in the order of the payload's bytes, wherever the input is cut: text
    /// before length before what is wrong with the next block.
    fn inflate(
        &mut self,
        mut piece: &[u8],
        inflater: &mut Inflater,
        limits: &Limits,
        receiving: &mut Receiving<'_>,
    ) -> Result<(), ProtocolError> {
        loop {
            let room = limits.message_bytes.saturating_sub(self.body.size());
            let buffer = receiving.pool.chunk();
            // One byte over, which only a message that is too long can fill.
            let size = buffer.len().min(room.saturating_add(1));
            let (made, step) = inflater.step(&mut piece, &mut buffer[..size]);
            self.body.push(&buffer[..made.min(room)], 0)?;
            if made > room {
                return Err(ProtocolError::MessageTooBig);
            }
            match step? {
                Step::Full => {}
                Step::Empty => return Ok(()),
                // "a block with the "BFINAL" bit set to 1" (RFC 7692 section 7.2.3.5) ends a stream
                // and not the message. The blocks after it may refer to those before.
                Step::Ended => {
                    self.add_fragment(limits)?;
                    inflater.restart(&self.window(receiving.history()));
                }
            }
        }
    }

    /// Returns what the next byte may refer to: the end of `history` and of this message.
    fn window(&self, history: &[u8]) -> Vec<u8> {
        let (text, held) = match &self.body {
            Body::Text(text, decoder) => (text.as_bytes(), decoder.held()),
            Body::Binary(bytes) => (&bytes[..], &[][..]),
        };
        let mut window = Vec::with_capacity(WINDOW_BYTES_MAX);
        let mut room = WINDOW_BYTES_MAX;
        let mut parts = [history, text, held];
        for part in parts.iter_mut().rev() {
            *part = &part[part.len().saturating_sub(room)..];
            room -= part.len();
        }
        for part in parts {
            window.extend_from_slice(part);
        }
        window
    }

    /// Checks that the message may end here, and gives back what only its way here needed.
    pub(crate) fn finish(
        &mut self,
        receiving: &mut Option<Receiving<'_>>,
    ) -> Result<(), ProtocolError> {
        if let (Some(mut inflater), Some(receiving)) = (self.inflater.take(), receiving) {
            let received_size = inflater.received_size();
            inflater.finish(receiving.pool.chunk())?;
            receiving.pool.count_inflated(self.body.size(), received_size);
            receiving.pool.give_inflater(inflater);
            receiving.remember(self.body.bytes());
        }
        match &self.body {
            Body::Text(_, decoder) => decoder.finish(),
            Body::Binary(_) => Ok(()),
        }
    }

    /// Lends the payload, once the end has been read.
    pub(crate) fn item(&self) -> Item<'_> {
        match &self.body {
            Body::Text(text, _) => Item::Text(text),
            Body::Binary(bytes) => Item::Binary(bytes),
        }
    }
}

/// Returns how long a compressed message may be as it comes: longer than what it is inflated to,
/// since a peer may compress badly, and yet not without end.
pub(crate) fn compressed_bytes_max(limits: &Limits) -> usize {
    limits.message_bytes.saturating_mul(2).saturating_add(1024)
}

impl Body {
    fn size(&self) -> usize {
        match self {
            Self::Text(text, decoder) => text.len() + decoder.held().len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }

    /// Returns the payload without a character that has not ended.
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Text(text, _) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }

    fn push(&mut self, piece: &[u8], announced_size: u64) -> Result<(), ProtocolError> {
        let size = self.size() + piece.len();
        let announced_size = usize::try_from(announced_size).unwrap_or(usize::MAX);
        let capacity = size
            .saturating_add(announced_size)
            .min(size.saturating_mul(RESERVE_FACTOR).max(RESERVE_MIN));
        match self {
            Self::Text(text, decoder) => {
                if text.capacity() < size {
                    text.reserve(capacity - text.len());
                }
                decoder.push(piece, text)
            }
            Self::Binary(bytes) => {
                if bytes.capacity() < size {
                    bytes.reserve(capacity - bytes.len());
                }
                bytes.extend_from_slice(piece);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deflate::{Compressor, Pool};

    fn capacity(body: &Body) -> usize {
        match body {
            Body::Text(text, _) => text.capacity(),
            Body::Binary(bytes) => bytes.capacity(),
        }
    }

    fn bodies() -> [Body; 2] {
        [Body::Text(String::new(), Decoder::default()), Body::Binary(Vec::new())]
    }

    #[test]
    fn a_peer_that_announces_much_and_sends_little_costs_little() {
        for mut body in bodies() {
            body.push(b"", 16 << 20).unwrap();
            assert_eq!(capacity(&body), 0);
            body.push(b"x", u64::MAX >> 1).unwrap();
            assert_eq!(capacity(&body), RESERVE_MIN);
        }
    }

    #[test]
    fn memory_is_in_proportion_to_what_has_arrived() {
        for mut body in bodies() {
            for piece in 1..2000 {
                body.push(b"sixteen bytes...", 16 << 20).unwrap();
                assert!(capacity(&body) <= RESERVE_MIN.max(RESERVE_FACTOR * 16 * piece));
            }
        }
    }

    #[test]
    fn a_message_in_a_few_pieces_gets_a_buffer_of_its_size() {
        for mut body in bodies() {
            for rest in (0..4).rev() {
                body.push(&[b'x'; 16_384], rest * 16_384).unwrap();
                assert_eq!(capacity(&body), 65_536);
            }
        }
    }

    #[test]
    fn many_small_fragments_do_not_move_the_message_each_time() {
        let mut body = Body::Binary(Vec::new());
        let mut capacities: Vec<usize> = (0..10_000)
            .map(|_| {
                body.push(b"x", 0).unwrap();
                capacity(&body)
            })
            .collect();
        capacities.dedup();
        assert!(capacities.len() < 16, "{capacities:?}");
    }

    #[test]
    fn a_bomb_holds_no_more_than_twice_the_limit() {
        let limits = Limits { message_bytes: 100_000, ..Limits::default() };
        let mut pool = Pool::default();
        let zeros = vec![0; 64 << 20];
        let mut bomb = Vec::new();
        assert!(Compressor::new(15, 9).compress(&zeros, &mut bomb));
        assert!(bomb.len() < 70_000, "it is admitted: {}", bomb.len());
        let mut receiving =
            Some(Receiving { pool: &mut pool, contexts: &mut None, window_bytes: 0 });
        let start =
            |receiving: &mut Option<Receiving<'_>>| receiving.as_mut().map(Receiving::start);
        for mut message in
            [Message::text(start(&mut receiving)), Message::binary(start(&mut receiving))]
        {
            let result = message.push(&bomb, 0, &limits, &mut receiving);
            assert_eq!(result, Err(ProtocolError::MessageTooBig));
            assert_eq!(message.body.size(), 100_000);
            assert!(capacity(&message.body) <= 200_000);
        }
    }
}
