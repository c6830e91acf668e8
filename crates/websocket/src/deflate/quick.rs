//! The fastest compression of one message: what level 1 is without context takeover.
//!
//! It makes raw DEFLATE (RFC 1951) in one pass over the message: a table of hashes tells where four
//! bytes were seen last, a match there is taken if there is one, and all of it goes out at once in
//! one block of the fixed codes. There are no trees to make, and nothing is cleared from one message
//! to the next. The two were two fifths of the CPU that an echo of one KiB cost with zlib-rs.
//!
//! It is not for context takeover: it knows no message but the one it is given. zlib-rs
//! ([`Compressor`](super::Compressor)) does that, and everything that is to be smaller.

/// How many bits a hash has. The table takes 32 KiB. Of JSON half as large a table leaves half a
/// percent more at 64 KiB, one four times as large a tenth of a percent less; at 4 KiB all do alike.
const HASH_BITS: u32 = 13;

/// What is found by its hash. A match of three bytes is allowed, and is rarely shorter than three
/// literals.
const MATCH_MIN: usize = 4;

const MATCH_MAX: usize = 258;

/// After how many bytes without a match one more is skipped from try to try: what does not shrink
/// costs less.
const SKIP_AFTER_LOG2: u32 = 8;

/// The longest way from try to try. A repetition is still found soon, and then from its beginning.
const STEP_MAX: usize = 8;

/// How many literals fit behind seven held bits without a flush.
const LITERALS_MAX: usize = 6;

/// A compressor that keeps a table, and no message.
pub(crate) struct Quick {
    /// By hash of four bytes, where they were last: an offset in the stream of all messages that
    /// were ever compressed.
    ///
    /// Invariant: all are below `base` between two messages, so what is left from the ones before
    /// lies before the beginning of this one, farther than a match may reach.
    table: Box<[u32; 1 << HASH_BITS]>,
    /// The offset of the next message. At least 1: 0 is what was never seen.
    base: u32,
}

impl Default for Quick {
    fn default() -> Self {
        let table = vec![0; 1 << HASH_BITS].into_boxed_slice();
        Self { table: table.try_into().expect("as many entries as a hash has values"), base: 1 }
    }
}

impl Quick {
    /// Appends the compressed payload to `out`, without the tail that a sender leaves out. No match
    /// is farther away than a window of `window_bits`, 9 to 15, reaches.
    ///
    /// Returns false, and appends nothing, if that is not shorter than `payload`.
    ///
    /// RFC 7692 section 7.2.1.
    pub(crate) fn compress(&mut self, window_bits: u8, payload: &[u8], out: &mut Vec<u8>) -> bool {
        debug_assert!((9..=15).contains(&window_bits));
        // Offsets of this message must not wrap around in its middle.
        let Some(end) =
            u32::try_from(payload.len()).ok().and_then(|size| self.base.checked_add(size))
        else {
            if self.base == 1 {
                // Four gigabytes in one message.
                return false;
            }
            self.table.fill(0);
            self.base = 1;
            return self.compress(window_bits, payload, out);
        };
        let start = out.len();
        // Room for all that is worth having, and for whole words to be written at its end.
        out.resize(start + payload.len() + size_of::<u64>(), 0);
        let size = self.block(1 << window_bits, payload, &mut out[start..]);
        self.base = end;
        let size = size.filter(|size| *size < payload.len());
        out.truncate(start + size.unwrap_or(0));
        size.is_some()
    }

    /// Fills `out` with one block, and returns how much of it was filled; `None` if it is too small.
    fn block(&mut self, window_bytes: usize, payload: &[u8], out: &mut [u8]) -> Option<usize> {
        let mut bits = Bits { out, size: 0, held: 0, count: 0 };
        bits.put(BLOCK);
        // All in front of `done` is in the block.
        let (mut done, mut at) = (0, 0);
        while let Some(word) = word(payload, at) {
            let offset = self.base + at as u32;
            let entry = &mut self.table[hash(word)];
            let distance = offset.wrapping_sub(*entry) as usize;
            *entry = offset;
            // An entry of an earlier message is farther away than this one is long so far.
            let is_match = distance <= window_bytes.min(at)
                && self::word(payload, at - distance) == Some(word);
            if !is_match {
                at += (1 + ((at - done) >> SKIP_AFTER_LOG2)).min(STEP_MAX);
                continue;
            }
            debug_assert!(distance > 0, "each place is looked at once");
            at -= common_before(payload, done, at, distance);
            let length = common(payload, at, distance);
            bits.literals(&payload[done..at])?;
            bits.put(LENGTHS[length - LENGTH_MIN]);
            bits.put_distance(distance);
            bits.flush()?;
            // What begins inside of the match is not looked for, but its end often goes on as it did.
            at += length;
            done = at;
            let last = at - 2;
            if let Some(word) = self::word(payload, last) {
                self.table[hash(word)] = self.base + last as u32;
            }
        }
        bits.literals(&payload[done..])?;
        bits.put(END);
        // The stored block of a flush; the rest of it is what the sender leaves out.
        bits.put(STORED);
        bits.finish()
    }
}

/// The four bytes from there, if there are as many.
fn word(payload: &[u8], at: usize) -> Option<u32> {
    payload.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

fn hash(word: u32) -> usize {
    // Knuth's, by the golden ratio: the upper bits depend on all of the word.
    (word.wrapping_mul(2_654_435_761) >> (u32::BITS - HASH_BITS)) as usize
}

/// How many bytes in front of `at`, but not of `start`, are the same as `distance` before. So few
/// that a match from there reaches beyond `at`.
fn common_before(payload: &[u8], start: usize, at: usize, distance: usize) -> usize {
    let now = payload[start..at].iter().rev().take(MATCH_MAX - MATCH_MIN);
    let before = payload[..at - distance].iter().rev();
    now.zip(before).take_while(|(now, before)| now == before).count()
}

/// How many bytes from `at` are the same as `distance` before, up to a match's longest.
fn common(payload: &[u8], at: usize, distance: usize) -> usize {
    let now = &payload[at..payload.len().min(at + MATCH_MAX)];
    let before = &payload[at - distance..][..now.len()];
    let (now_words, now_rest) = now.as_chunks::<8>();
    let (before_words, before_rest) = before.as_chunks::<8>();
    let mut same = 0;
    for (now, before) in now_words.iter().zip(before_words) {
        let difference = u64::from_le_bytes(*now) ^ u64::from_le_bytes(*before);
        if difference != 0 {
            return same + difference.trailing_zeros() as usize / 8;
        }
        same += 8;
    }
    same + now_rest.iter().zip(before_rest).take_while(|(now, before)| now == before).count()
}

/// Some bits, the first of them lowest, and how many.
#[derive(Clone, Copy)]
struct Code {
    bits: u32,
    count: u32,
}

/// The header of a block that is not the last, of the fixed codes.
const BLOCK: Code = Code { bits: 0b010, count: 3 };

/// The header of a block that is not the last, stored.
const STORED: Code = Code { bits: 0b000, count: 3 };

/// The end of a block.
const END: Code = fixed(256);

const LENGTH_MIN: usize = 3;

static LITERALS: [Code; 256] = literals();

/// By length less 3: its code and the bits that say which of that code's lengths it is.
static LENGTHS: [Code; 256] = lengths();

/// The code of a literal, a length or the end of the block.
///
/// RFC 1951 section 3.2.6. Codes go out from their most significant bit, all else from the least.
const fn fixed(symbol: u32) -> Code {
    let (code, count) = match symbol {
        0..=143 => (0x30 + symbol, 8),
        144..=255 => (0x190 + symbol - 144, 9),
        256..=279 => (symbol - 256, 7),
        _ => (0xc0 + symbol - 280, 8),
    };
    Code { bits: code.reverse_bits() >> (u32::BITS - count), count }
}

const fn literals() -> [Code; 256] {
    let mut codes = [END; 256];
    let mut literal = 0;
    while literal < codes.len() {
        codes[literal] = fixed(literal as u32);
        literal += 1;
    }
    codes
}

/// RFC 1951 section 3.2.5: eight symbols for one length each, then four for each count of extra
/// bits, and the longest has a symbol of its own.
const fn lengths() -> [Code; 256] {
    let mut codes = [END; 256];
    let mut i = 0;
    while i < codes.len() {
        let length = i as u32;
        let (symbol, extra) = match length {
            0..=7 => (257 + length, 0),
            255 => (285, 0),
            _ => {
                let extra = length.ilog2() - 2;
                (257 + 4 * extra + (length >> extra), extra)
            }
        };
        let Code { bits, count } = fixed(symbol);
        let extra_bits = if extra == 0 { 0 } else { length & ((1 << extra) - 1) };
        codes[i] = Code { bits: bits | extra_bits << count, count: count + extra };
        i += 1;
    }
    codes
}

/// Writes bits to the front of a slice.
struct Bits<'a> {
    out: &'a mut [u8],
    /// How many whole bytes were written.
    size: usize,
    /// What comes next, the first bit lowest.
    held: u64,
    /// How many bits are held: less than 8 after a flush.
    count: u32,
}

impl Bits<'_> {
    /// Adds a code. Between two flushes at most 56 bits may be.
    fn put(&mut self, code: Code) {
        self.held |= u64::from(code.bits) << self.count;
        self.count += code.count;
    }

    /// Adds a distance of 1 to 32,768: its code, 5 bits, and which of that code's it is, up to 13.
    ///
    /// RFC 1951 section 3.2.5: two symbols for each count of extra bits.
    fn put_distance(&mut self, distance: usize) {
        let distance = distance as u32 - 1;
        let extra = distance.max(2).ilog2() - 1;
        let symbol = 2 * extra + (distance >> extra);
        let bits = symbol.reverse_bits() >> (u32::BITS - 5) | (distance & ((1 << extra) - 1)) << 5;
        self.put(Code { bits, count: 5 + extra });
    }

    fn literals(&mut self, literals: &[u8]) -> Option<()> {
        for part in literals.chunks(LITERALS_MAX) {
            for literal in part {
                self.put(LITERALS[usize::from(*literal)]);
            }
            self.flush()?;
        }
        Some(())
    }

    /// Writes the whole bytes that are held, if there is room for eight.
    fn flush(&mut self) -> Option<()> {
        debug_assert!(self.count < u64::BITS);
        let room = self.out.get_mut(self.size..)?.first_chunk_mut()?;
        *room = self.held.to_le_bytes();
        self.size += self.count as usize / 8;
        self.held >>= self.count / 8 * 8;
        self.count %= 8;
        Some(())
    }

    /// Fills up the last byte, and returns how many were written in all.
    fn finish(mut self) -> Option<usize> {
        self.count = self.count.next_multiple_of(8);
        self.flush()?;
        Some(self.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zlib_rs::{Inflate, InflateFlush};

    /// Inflates a message to a payload of this size, by zlib.
    fn inflate(message: &[u8], size: usize) -> Vec<u8> {
        let message = [message, &[0, 0, 0xff, 0xff]].concat();
        let mut out = vec![0; size + 1];
        let mut stream = Inflate::new(false, 15);
        stream.decompress(&message, &mut out, InflateFlush::SyncFlush).unwrap();
        assert_eq!(stream.total_in(), message.len() as u64);
        out.truncate(stream.total_out() as usize);
        out
    }

    /// Bytes that repeat nothing.
    fn noise(size: usize, seed: u64) -> Vec<u8> {
        let mut state = seed | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        };
        (0..size).map(|_| next()).collect()
    }

    #[test]
    fn every_length_and_every_distance_has_its_code() {
        const HISTORY: usize = 1 << 15;
        let mut expected = noise(HISTORY, 1);
        // Each length at some distance, and each distance with some length.
        let lengths = (LENGTH_MIN..=MATCH_MAX).cycle();
        let matches: Vec<(usize, usize)> = (1..=HISTORY).zip(lengths).collect();
        let size = HISTORY + matches.iter().map(|(_, length)| length).sum::<usize>();
        let mut out = vec![0; size];
        let mut bits = Bits { out: &mut out, size: 0, held: 0, count: 0 };
        bits.put(BLOCK);
        bits.literals(&expected).unwrap();
        for (distance, length) in matches {
            bits.put(LENGTHS[length - LENGTH_MIN]);
            bits.put_distance(distance);
            bits.flush().unwrap();
            for _ in 0..length {
                expected.push(expected[expected.len() - distance]);
            }
        }
        bits.put(END);
        bits.put(STORED);
        let made = bits.finish().unwrap();
        assert!(inflate(&out[..made], size) == expected);
    }

    #[test]
    fn nothing_of_earlier_messages_is_found_whatever_the_offset() {
        let message = b"what was said before is not said again, what was said before is not";
        let mut first = Vec::new();
        assert!(Quick::default().compress(15, message, &mut first));
        let mut quick = Quick::default();
        let size = message.len() as u32;
        for base in (u32::MAX - 5 * size..u32::MAX - 3 * size).chain([1, u32::MAX]) {
            quick.base = base;
            quick.table.fill(base - 1);
            for _ in 0..8 {
                let mut out = Vec::new();
                assert!(quick.compress(15, message, &mut out));
                assert_eq!(out, first);
            }
            assert!(quick.table.iter().all(|entry| *entry < quick.base));
        }
    }

    #[test]
    fn what_does_not_shrink_leaves_nothing() {
        let mut quick = Quick::default();
        for size in (0..600).chain([70_000, 1 << 20]) {
            let mut out = b"before".to_vec();
            assert!(!quick.compress(15, &noise(size, 3), &mut out), "{size}");
            assert_eq!(out, b"before");
        }
        // A message that is one byte longer than what comes of it, and one that is not.
        let mut out = Vec::new();
        assert!(quick.compress(15, &[b'x'; 9], &mut out));
        assert!(out.len() < 9);
        assert!(!quick.compress(15, &[b'x'; 5], &mut out));
    }

    #[test]
    fn the_largest_message_comes_back() {
        let part = noise(9_000, 5);
        let mut message = part.repeat((16 << 20) / part.len());
        message.extend(noise((16 << 20) - message.len(), 7));
        let mut quick = Quick::default();
        let mut out = Vec::new();
        for bits in [9, 15] {
            out.clear();
            // A window of 9 bits sees no repetition.
            assert_eq!(quick.compress(bits, &message, &mut out), bits == 15);
        }
        assert!(out.len() < message.len() / 20, "{}", out.len());
        assert!(inflate(&out, message.len()) == message);
    }

    #[test]
    fn it_takes_less_than_64_kib() {
        let quick = Quick::default();
        assert!(size_of_val(&*quick.table) + size_of::<Quick>() < 64 * 1024);
    }
}
