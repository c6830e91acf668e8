//! An input as a sequence of choices.

/// The unread rest of an input. What is not there is zero or empty.
pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let Some((&byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        byte
    }

    pub(crate) fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    pub(crate) fn number(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// Takes up to `size` bytes.
    pub(crate) fn take(&mut self, size: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(size.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Takes a payload behind its size: up to 65,535 bytes. Half of the sizes are short.
    pub(crate) fn payload(&mut self) -> &'a [u8] {
        let size = match self.byte() {
            size @ 0..=127 => usize::from(size),
            high => usize::from(high & 0x7f) << 8 | usize::from(self.byte()),
        };
        self.take(size)
    }

    /// Takes a payload and mostly repeats it, now and then beyond a window of 32 KiB: a short input
    /// means much, and few inputs take long.
    pub(crate) fn long_payload(&mut self) -> Vec<u8> {
        let times = match self.byte() {
            times @ 0..=239 => usize::from(times % 4),
            times => usize::from(times - 239) * 32,
        };
        let mut payload = self.payload().repeat(times + 1);
        payload.truncate(40_000);
        payload
    }
}

/// Cuts bytes into reads of a socket: sizes that follow from `seed`, mostly small.
pub(crate) fn reads(bytes: &[u8], seed: u8) -> impl Iterator<Item = &[u8]> {
    let mut state = u32::from(seed) | 0x100;
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        // Xorshift: any order of sizes will do, as long as it is the same each time.
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        let size = match state % 8 {
            0..=3 => 1 + (state >> 8) % 4,
            4..=6 => 1 + (state >> 8) % 64,
            _ => 1 + (state >> 8) % 4096,
        };
        let (read, others) = rest.split_at(rest.len().min(size as usize));
        rest = others;
        Some(read)
    })
}
