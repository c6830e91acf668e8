//! One direction's compression: a message's payload in, its compressed payload out.

use zlib_rs::{Deflate, DeflateConfig, DeflateFlush};

/// What a flush ends with, and a compressed message leaves out.
///
/// RFC 7692 section 7.2.1.
const FLUSH_TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// A compressor with the window that was agreed.
///
/// It is also a context: until it is [reset](Self::reset), a message may refer to those before it.
pub(crate) struct Compressor {
    stream: Deflate,
    level: u8,
}

impl Compressor {
    /// `window_bits` is from 9 to 15. `level` outside of 1 to 9 is taken for the nearest.
    pub(crate) fn new(window_bits: u8, level: u8) -> Self {
        debug_assert!((9..=15).contains(&window_bits));
        let stream = Deflate::new_with_config(DeflateConfig {
            // Negative: deflate alone, without zlib's header and checksum.
            window_bits: -i32::from(window_bits),
            ..DeflateConfig::new(i32::from(level.clamp(1, 9)))
        });
        Self { stream, level }
    }

    pub(crate) fn level(&self) -> u8 {
        self.level
    }

    /// Forgets what was compressed so far, which a sender may do before any message.
    pub(crate) fn reset(&mut self) {
        self.stream.reset();
    }

    /// Appends the compressed payload to `out`.
    ///
    /// Returns false if that is not shorter than `payload`. Then nothing is appended, and the
    /// compressor is reset: the peer's window does not have this message, so none may refer to it.
    ///
    /// RFC 7692 section 7.2.1.
    pub(crate) fn compress(&mut self, payload: &[u8], out: &mut Vec<u8>) -> bool {
        let start = out.len();
        // All that is worth having fits with its tail in front of the last byte. A compressor that
        // leaves room has flushed all.
        out.resize(start + payload.len() + FLUSH_TAIL.len(), 0);
        let (taken, made) = (self.stream.total_in(), self.stream.total_out());
        let result = self.stream.compress(payload, &mut out[start..], DeflateFlush::SyncFlush);
        let taken = (self.stream.total_in() - taken) as usize;
        let made = (self.stream.total_out() - made) as usize;
        let is_whole = result.is_ok() && taken == payload.len() && start + made < out.len();
        out.truncate(start + made);
        if is_whole && out[start..].ends_with(&FLUSH_TAIL) {
            out.truncate(out.len() - FLUSH_TAIL.len());
            return true;
        }
        out.truncate(start);
        self.reset();
        false
    }
}
