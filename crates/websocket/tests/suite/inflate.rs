//! A second inflater, small and slow, that tells how far back a compressed message refers.
//!
//! zlib-rs cannot: its window is 32 KiB whatever it is asked for, and it takes all distances that
//! reach into it. RFC 1951 is in here as it is written there.

/// What a message without its tail is inflated to, and its farthest distance. It ends where its bits
/// do, so it is for what a well-behaved end sent.
///
/// # Panics
/// If the message is malformed.
pub(crate) fn inflate(message: &[u8]) -> (Vec<u8>, usize) {
    let mut bits = Bits { bytes: [message, &[0, 0, 0xff, 0xff]].concat(), place: 0 };
    let (mut out, mut farthest) = (Vec::new(), 0);
    while bits.place < bits.bytes.len() * 8 {
        assert_eq!(bits.take(1), 0, "no block says it is the last");
        match bits.take(2) {
            0 => {
                bits.place = bits.place.next_multiple_of(8);
                let size = bits.take(16);
                assert_eq!(bits.take(16), size ^ 0xffff);
                out.extend((0..size).map(|_| bits.take(8) as u8));
            }
            1 => {
                let mut sizes = vec![8; 288];
                sizes[144..256].fill(9);
                sizes[256..280].fill(7);
                let (literals, distances) = (Code::new(&sizes), Code::new(&[5; 30]));
                farthest = farthest.max(block(&mut bits, &literals, &distances, &mut out));
            }
            2 => {
                let (literals, distances) = codes(&mut bits);
                farthest = farthest.max(block(&mut bits, &literals, &distances, &mut out));
            }
            _ => panic!("the reserved type of block"),
        }
    }
    (out, farthest)
}

/// Inflates one block and returns its farthest distance.
fn block(bits: &mut Bits, literals: &Code, distances: &Code, out: &mut Vec<u8>) -> usize {
    let mut farthest = 0;
    loop {
        let length = match literals.take(bits) {
            literal @ 0..=255 => {
                out.push(literal as u8);
                continue;
            }
            256 => return farthest,
            symbol @ 257..=264 => symbol - 254,
            285 => 258,
            symbol => {
                let extra = (symbol - 261) / 4;
                3 + ((4 + (symbol - 261) % 4) << extra) + bits.take(extra)
            }
        };
        let distance = match distances.take(bits) {
            symbol @ 0..=3 => symbol + 1,
            symbol => {
                let extra = symbol / 2 - 1;
                1 + ((2 + symbol % 2) << extra) + bits.take(extra)
            }
        };
        farthest = farthest.max(distance);
        for _ in 0..length {
            out.push(out[out.len() - distance]);
        }
    }
}

/// Reads the codes of a block that brings its own (section 3.2.7).
fn codes(bits: &mut Bits) -> (Code, Code) {
    let literal_count = bits.take(5) + 257;
    let distance_count = bits.take(5) + 1;
    let size_count = bits.take(4) + 4;
    let order = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
    let mut sizes = [0; 19];
    for &symbol in &order[..size_count] {
        sizes[symbol] = bits.take(3);
    }
    let code = Code::new(&sizes);
    let mut sizes = Vec::new();
    while sizes.len() < literal_count + distance_count {
        let (size, count) = match code.take(bits) {
            16 => (sizes[sizes.len() - 1], 3 + bits.take(2)),
            17 => (0, 3 + bits.take(3)),
            18 => (0, 11 + bits.take(7)),
            size => (size, 1),
        };
        sizes.extend(std::iter::repeat_n(size, count));
    }
    (Code::new(&sizes[..literal_count]), Code::new(&sizes[literal_count..]))
}

struct Bits {
    bytes: Vec<u8>,
    place: usize,
}

impl Bits {
    /// Takes a number whose least significant bit comes first.
    fn take(&mut self, count: usize) -> usize {
        (0..count).fold(0, |number, i| {
            let bit = self.bytes[self.place / 8] >> (self.place % 8) & 1;
            self.place += 1;
            number | usize::from(bit) << i
        })
    }
}

/// A Huffman code: the symbols by size and value, and how many there are of each size.
struct Code {
    counts: [usize; 16],
    symbols: Vec<usize>,
}

impl Code {
    /// Section 3.2.2. A symbol of size 0 does not occur.
    fn new(sizes: &[usize]) -> Self {
        let mut counts = [0; 16];
        let mut symbols: Vec<usize> = (0..sizes.len()).filter(|&it| sizes[it] > 0).collect();
        symbols.sort_by_key(|&symbol| sizes[symbol]);
        for &symbol in &symbols {
            counts[sizes[symbol]] += 1;
        }
        Self { counts, symbols }
    }

    fn take(&self, bits: &mut Bits) -> usize {
        let (mut code, mut first, mut index) = (0, 0, 0);
        for count in &self.counts[1..] {
            code |= bits.take(1);
            if code - first < *count {
                return self.symbols[index + code - first];
            }
            index += count;
            first = (first + count) << 1;
            code <<= 1;
        }
        panic!("no symbol has this code")
    }
}
