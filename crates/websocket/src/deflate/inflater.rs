//! One direction's decompression: pieces of a compressed message in, pieces of its payload out.

use zlib_rs::{Inflate, InflateFlush};

use super::{Compressor, Pool};
use crate::ProtocolError;

/// The most bytes that a compressed message can refer back.
pub(crate) const WINDOW_BYTES_MAX: usize = 1 << 15;

/// What a compressed message left out, and then a last block that is empty.
///
/// The first four bytes are those of RFC 7692 section 7.2.2. Inflating them tells nothing: a message
/// cut inside a block would take them for more of that block. Only at the end of a block does the
/// last block end the stream.
const TAIL: [u8; 9] = [0x00, 0x00, 0xff, 0xff, 0x01, 0x00, 0x00, 0xff, 0xff];

/// The decompression of one message that is under way.
pub(crate) struct Inflater {
    stream: Inflate,
    /// How many compressed bytes of this message were taken.
    received_size: usize,
}

/// How far one step has brought an inflater.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It stopped because the buffer is full.
    Full,
    /// It took all of the input.
    Empty,
    /// It came to the end of a block that says it is the last. The message may go on after it.
    Ended,
}

impl Default for Inflater {
    fn default() -> Self {
        // Always the largest window: what was agreed bounds the peer, and a peer that goes beyond
        // harms nobody here, since an inflater is as large for the smallest.
        Self { stream: Inflate::new(false, 15), received_size: 0 }
    }
}

impl Inflater {
    /// Begins a message that may refer to `history`.
    pub(crate) fn start(&mut self, history: &[u8]) {
        self.received_size = 0;
        self.restart(history);
    }

    /// Begins a new stream of blocks inside a message.
    pub(crate) fn restart(&mut self, history: &[u8]) {
        self.stream.reset(false);
        if !history.is_empty() {
            // It fails for streams with a header only.
            let _ = self.stream.set_dictionary(history);
        }
    }

    pub(crate) fn received_size(&self) -> usize {
        self.received_size
    }

    /// Takes from the front of `input`, and returns how much of `buffer` was filled even if what
    /// came after is malformed.
    pub(crate) fn step(
        &mut self,
        input: &mut &[u8],
        buffer: &mut [u8],
    ) -> (usize, Result<Step, ProtocolError>) {
        let (taken, made) = (self.stream.total_in(), self.stream.total_out());
        let result = self.stream.decompress(input, buffer, InflateFlush::NoFlush);
        let taken = (self.stream.total_in() - taken) as usize;
        let made = (self.stream.total_out() - made) as usize;
        *input = &input[taken..];
        self.received_size += taken;
        let step = match result {
            Ok(zlib_rs::Status::StreamEnd) => Ok(Step::Ended),
            Ok(_) if made == buffer.len() => Ok(Step::Full),
            Ok(_) if input.is_empty() => Ok(Step::Empty),
            Ok(_) | Err(_) => Err(ProtocolError::InvalidDeflate),
        };
        (made, step)
    }

    /// Checks that the message may end here: between two blocks, on a whole byte.
    ///
    /// An empty payload is also taken, for an empty message. Section 7.2.3.6 wants a zero byte, but
    /// a sender that follows section 7.2.1 with zlib comes to this when nothing was left to flush.
    pub(crate) fn finish(&mut self, buffer: &mut [u8]) -> Result<(), ProtocolError> {
        if self.received_size == 0 {
            return Ok(());
        }
        let mut tail = &TAIL[..];
        match self.step(&mut tail, buffer) {
            (0, Ok(Step::Ended)) if tail.is_empty() => Ok(()),
            _ => Err(ProtocolError::InvalidDeflate),
        }
    }
}

/// What a connection owns because context takeover was agreed for one direction or both.
#[derive(Default)]
pub(crate) struct Contexts {
    /// The compressor, from the first message that was compressed.
    pub(crate) compressor: Option<Compressor>,
    /// The last bytes of the messages that came compressed: the window, and no more.
    ///
    /// It takes the place of an inflater: to hand it to one from the pool costs one or two
    /// microseconds a message and saves from 15 KB to all of 48 KB.
    pub(crate) history: Vec<u8>,
}

impl Contexts {
    /// Lends the compressor as the last message left it. One of another level is replaced, since a
    /// sender may begin anew at any time.
    pub(crate) fn compressor(&mut self, window_bits: u8, level: u8) -> &mut Compressor {
        self.compressor.take_if(|compressor| compressor.level() != level);
        self.compressor.get_or_insert_with(|| Compressor::new(window_bits, level))
    }
}

/// What reading compressed messages needs beside the input.
pub(crate) struct Receiving<'a> {
    pub(crate) pool: &'a mut Pool,
    pub(crate) contexts: &'a mut Option<Box<Contexts>>,
    /// How many bytes of a message the next one may refer to; 0 without context takeover.
    pub(crate) window_bytes: usize,
}

impl Receiving<'_> {
    /// Takes an inflater from the pool and begins a message.
    pub(crate) fn start(&mut self) -> Box<Inflater> {
        let mut inflater = self.pool.take_inflater();
        inflater.start(self.history());
        inflater
    }

    /// What messages before this one left for it to refer to.
    pub(crate) fn history(&self) -> &[u8] {
        self.contexts.as_ref().map_or(&[], |contexts| &contexts.history)
    }

    /// Remembers a message that has ended, as far as the next may refer to it.
    pub(crate) fn remember(&mut self, payload: &[u8]) {
        if self.window_bytes == 0 || payload.is_empty() {
            return;
        }
        let history = &mut self.contexts.get_or_insert_default().history;
        let payload = &payload[payload.len().saturating_sub(self.window_bytes)..];
        let kept_size = history.len().min(self.window_bytes - payload.len());
        history.drain(..history.len() - kept_size);
        // Exactly, so that a window of 9 bits costs 512 bytes and not the next power of two.
        history.reserve_exact(payload.len());
        history.extend_from_slice(payload);
    }
}
