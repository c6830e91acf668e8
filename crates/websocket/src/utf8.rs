//! Validation of text: whole, or in pieces cut anywhere.
//!
//! RFC 6455 section 8.1.

use std::str;

use crate::ProtocolError;

/// Returns a whole message's payload as the text it must be.
pub(crate) fn whole(payload: &[u8]) -> Result<&str, ProtocolError> {
    simdutf8::basic::from_utf8(payload).map_err(|_| ProtocolError::InvalidUtf8)
}

/// Appends validated text to a string, holding back a character whose end has not arrived.
#[derive(Default)]
pub(crate) struct Decoder {
    /// The first `held_size` bytes are the beginning of a character.
    ///
    /// Invariant: they are a valid beginning, and at most three between calls.
    held: [u8; 4],
    held_size: usize,
}

impl Decoder {
    /// Appends what of `piece` completes whole characters to `text`.
    ///
    /// # Errors
    /// [`ProtocolError::InvalidUtf8`] at the first byte that no continuation could make valid.
    pub(crate) fn push(&mut self, piece: &[u8], text: &mut String) -> Result<(), ProtocolError> {
        let mut piece = piece;
        while self.held_size > 0 {
            let Some((&byte, rest)) = piece.split_first() else { return Ok(()) };
            piece = rest;
            self.held[self.held_size] = byte;
            self.held_size += 1;
            match str::from_utf8(&self.held[..self.held_size]) {
                Ok(character) => {
                    text.push_str(character);
                    self.held_size = 0;
                }
                // A character of four bytes is either valid or not, so `held` is never overrun.
                Err(error) if error.error_len().is_none() => {}
                Err(_) => return Err(ProtocolError::InvalidUtf8),
            }
        }
        match simdutf8::compat::from_utf8(piece) {
            Ok(valid) => text.push_str(valid),
            Err(error) if error.error_len().is_none() => {
                let (valid, tail) = piece.split_at(error.valid_up_to());
                // A second look at the same bytes is what it costs to do without unsafe.
                text.push_str(whole(valid)?);
                self.held[..tail.len()].copy_from_slice(tail);
                self.held_size = tail.len();
            }
            Err(_) => return Err(ProtocolError::InvalidUtf8),
        }
        Ok(())
    }

    /// Returns the bytes that are held back: at most three.
    pub(crate) fn held(&self) -> &[u8] {
        &self.held[..self.held_size]
    }

    /// Checks that the text may end here.
    pub(crate) fn finish(&self) -> Result<(), ProtocolError> {
        if self.held_size == 0 { Ok(()) } else { Err(ProtocolError::InvalidUtf8) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(pieces: &[&[u8]]) -> Result<String, ProtocolError> {
        let mut decoder = Decoder::default();
        let mut text = String::new();
        for piece in pieces {
            decoder.push(piece, &mut text)?;
        }
        decoder.finish().map(|()| text)
    }

    #[test]
    fn text_cut_twice_anywhere_is_the_same_text() {
        // One, two, three and four bytes a character, and the first and last of each length.
        let text = "a\u{7f}\u{80}ß\u{7ff}\u{800}€\u{d7ff}\u{e000}\u{ffff}\u{10000}😀\u{10ffff}z";
        let bytes = text.as_bytes();
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                let pieces = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                assert_eq!(decode(&pieces).as_deref(), Ok(text));
            }
        }
    }

    #[test]
    fn fails_at_the_first_byte_that_cannot_be_continued() {
        // Each is invalid at its last byte and not before.
        let cases: [&[u8]; 11] = [
            &[0x80],
            &[0xc0],
            &[0xc1],
            &[0xc3, 0x28],
            &[0xe0, 0x9f],
            &[0xed, 0xa0],
            &[0xe2, 0x82, 0x28],
            &[0xf0, 0x8f],
            &[0xf4, 0x90],
            &[0xf0, 0x9f, 0x98, 0x41],
            &[0xf5],
        ];
        for case in cases {
            let mut decoder = Decoder::default();
            let mut text = String::new();
            let (last, before) = case.split_last().unwrap();
            for byte in before {
                assert_eq!(decoder.push(&[*byte], &mut text), Ok(()), "{case:x?}");
            }
            assert_eq!(decoder.push(&[*last], &mut text), Err(ProtocolError::InvalidUtf8));
            assert_eq!(decode(&[case]), Err(ProtocolError::InvalidUtf8), "{case:x?}");
        }
    }

    #[test]
    fn text_may_not_end_inside_a_character() {
        assert_eq!(
            decode(&["€".as_bytes().split_last().unwrap().1]),
            Err(ProtocolError::InvalidUtf8)
        );
    }
}
