//! What the connections of one thread share: compressors and inflaters between two messages.

use super::compressor::Compressor;
use super::inflater::Inflater;
use super::quick::Quick;

/// How many bytes are inflated at a time.
const CHUNK_BYTES: usize = 16 * 1024;

/// The most inflaters that wait for their next message. One serves all messages that arrive whole;
/// each that is split holds another until its end.
const INFLATER_COUNT_MAX: usize = 8;

/// Compressors, inflaters and a buffer, for all connections of one thread.
///
/// An empty pool is a few words and costs nothing to make. It grows to what is used at a time: at
/// most one compressor for each size of window (140 to 380 KB each, seven sizes, of which a server
/// that agrees to 15 bits alone uses one), one of 32 KB for level 1 and all windows, and eight
/// inflaters of 48 KB.
#[derive(Default)]
pub struct Pool {
    /// By window bits, from 9.
    compressors: [Option<Box<Compressor>>; 7],
    quick: Option<Quick>,
    #[expect(clippy::vec_box, reason = "the box goes to a message and comes back")]
    inflaters: Vec<Box<Inflater>>,
    chunk: Vec<u8>,
    counts: Counts,
}

/// What was done with a [`Pool`] since it was made, whoever's contexts it was done with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages that were compressed. Those are not counted that did not shrink.
    pub deflated: Work,
    /// Compressed messages that were received to their end.
    pub inflated: Work,
}

/// One direction of [`Counts`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// How many messages.
    pub messages: u64,
    /// Their payloads, in bytes, as the application knows them.
    pub plain_bytes: u64,
    /// The same as they go over the wire, in bytes; of what was deflated, with its header.
    pub compressed_bytes: u64,
}

impl Work {
    fn count(&mut self, plain_size: usize, compressed_size: usize) {
        self.messages += 1;
        self.plain_bytes += plain_size as u64;
        self.compressed_bytes += compressed_size as u64;
    }
}

/// What compresses the next message.
pub(crate) enum Deflater<'a> {
    /// Within a window of so many bits, and from the message alone.
    Quick(&'a mut Quick, u8),
    Zlib(&'a mut Compressor),
}

impl Deflater<'_> {
    /// Appends the compressed payload to `out`, or nothing and returns false if it is not shorter.
    pub(crate) fn compress(self, payload: &[u8], out: &mut Vec<u8>) -> bool {
        match self {
            Self::Quick(quick, window_bits) => quick.compress(window_bits, payload, out),
            Self::Zlib(compressor) => compressor.compress(payload, out),
        }
    }
}

impl Pool {
    /// Lends what compresses a message that refers to none before it.
    pub(crate) fn deflater(&mut self, window_bits: u8, level: u8) -> Deflater<'_> {
        if level <= 1 {
            return Deflater::Quick(self.quick.get_or_insert_default(), window_bits);
        }
        let slot = &mut self.compressors[usize::from(window_bits - 9)];
        if slot.as_ref().is_some_and(|compressor| compressor.level() != level) {
            *slot = None;
        }
        let compressor = slot.get_or_insert_with(|| Box::new(Compressor::new(window_bits, level)));
        compressor.reset();
        Deflater::Zlib(compressor)
    }

    /// Returns what was done with this pool so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    pub(crate) fn count_deflated(&mut self, plain_size: usize, compressed_size: usize) {
        self.counts.deflated.count(plain_size, compressed_size);
    }

    pub(crate) fn count_inflated(&mut self, plain_size: usize, compressed_size: usize) {
        self.counts.inflated.count(plain_size, compressed_size);
    }

    /// Takes an inflater, to be [started](Inflater::start).
    pub(crate) fn take_inflater(&mut self) -> Box<Inflater> {
        self.inflaters.pop().unwrap_or_default()
    }

    /// Gives back an inflater whose message has ended.
    pub(crate) fn give_inflater(&mut self, inflater: Box<Inflater>) {
        if self.inflaters.len() < INFLATER_COUNT_MAX {
            self.inflaters.push(inflater);
        }
    }

    /// Lends a buffer to inflate into.
    pub(crate) fn chunk(&mut self) -> &mut [u8] {
        if self.chunk.is_empty() {
            self.chunk = vec![0; CHUNK_BYTES];
        }
        &mut self.chunk
    }
}

impl std::fmt::Debug for Pool {
    /// Shows no payload, which the buffers are full of.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}
