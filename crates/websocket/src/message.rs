//! A message that is put together from pieces: fragments, or a frame cut by the end of a read.
//!
//! A message that arrives whole never comes here; the reader lends it from the input.

use crate::ProtocolError;
use crate::reader::Item;
use crate::utf8::Decoder;

/// What a peer may send. Breaking a limit fails the connection with close code 1009.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest message in bytes; default 65,536. A longer one is refused at the header that
    /// tells, before its payload is read. It bounds the memory that a split message can hold here.
    pub message_bytes: usize,
    /// The most frames a message may come in; default 1,024. It bounds the work a peer can ask for
    /// with empty fragments, which `message_bytes` does not count. 0 is taken for 1.
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
}

/// The payload so far, unmasked.
enum Body {
    Text(String, Decoder),
    Binary(Vec<u8>),
}

impl Message {
    pub(crate) fn text() -> Self {
        Self { body: Body::Text(String::new(), Decoder::default()), fragments: 1 }
    }

    pub(crate) fn binary() -> Self {
        Self { body: Body::Binary(Vec::new()), fragments: 1 }
    }

    /// Counts a continuation frame.
    pub(crate) fn add_fragment(&mut self, limits: &Limits) -> Result<(), ProtocolError> {
        if self.fragments >= limits.fragments {
            return Err(ProtocolError::TooManyFragments);
        }
        self.fragments += 1;
        Ok(())
    }

    /// Returns how many bytes have been read.
    pub(crate) fn size(&self) -> usize {
        match &self.body {
            Body::Text(text, decoder) => text.len() + decoder.held_size(),
            Body::Binary(bytes) => bytes.len(),
        }
    }

    /// Appends a piece. `announced_size` is how many more bytes its frame will bring.
    pub(crate) fn push(&mut self, piece: &[u8], announced_size: u64) -> Result<(), ProtocolError> {
        let size = self.size() + piece.len();
        let announced_size = usize::try_from(announced_size).unwrap_or(usize::MAX);
        let capacity = size
            .saturating_add(announced_size)
            .min(size.saturating_mul(RESERVE_FACTOR).max(RESERVE_MIN));
        match &mut self.body {
            Body::Text(text, decoder) => {
                if text.capacity() < size {
                    text.reserve(capacity - text.len());
                }
                decoder.push(piece, text)
            }
            Body::Binary(bytes) => {
                if bytes.capacity() < size {
                    bytes.reserve(capacity - bytes.len());
                }
                bytes.extend_from_slice(piece);
                Ok(())
            }
        }
    }

    /// Checks that the message may end here.
    pub(crate) fn finish(&self) -> Result<(), ProtocolError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn capacity(message: &Message) -> usize {
        match &message.body {
            Body::Text(text, _) => text.capacity(),
            Body::Binary(bytes) => bytes.capacity(),
        }
    }

    #[test]
    fn a_peer_that_announces_much_and_sends_little_costs_little() {
        for mut message in [Message::text(), Message::binary()] {
            message.push(b"", 16 << 20).unwrap();
            assert_eq!(capacity(&message), 0);
            message.push(b"x", u64::MAX >> 1).unwrap();
            assert_eq!(capacity(&message), RESERVE_MIN);
        }
    }

    #[test]
    fn memory_is_in_proportion_to_what_has_arrived() {
        for mut message in [Message::text(), Message::binary()] {
            for piece in 1..2000 {
                message.push(b"sixteen bytes...", 16 << 20).unwrap();
                assert!(capacity(&message) <= RESERVE_MIN.max(RESERVE_FACTOR * 16 * piece));
            }
        }
    }

    #[test]
    fn a_message_in_a_few_pieces_gets_a_buffer_of_its_size() {
        for mut message in [Message::text(), Message::binary()] {
            for rest in (0..4).rev() {
                message.push(&[b'x'; 16_384], rest * 16_384).unwrap();
                assert_eq!(capacity(&message), 65_536);
            }
        }
    }

    #[test]
    fn many_small_fragments_do_not_move_the_message_each_time() {
        let mut message = Message::binary();
        let mut capacities: Vec<usize> = (0..10_000)
            .map(|_| {
                message.push(b"x", 0).unwrap();
                capacity(&message)
            })
            .collect();
        capacities.dedup();
        assert!(capacities.len() < 16, "{capacities:?}");
    }
}
