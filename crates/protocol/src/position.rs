//! Where something is in a room's log: epoch, offset and both together. Sections 1 and 5.

use std::fmt;
use std::sync::Arc;

/// The number of a publication in its room's log, from 1; 0 is the place before the first.
///
/// At most [`OFFSET_MAX`].
pub type Offset = u64;

/// The largest offset: 2^53 - 1, the largest integer that every JSON library keeps exact.
pub const OFFSET_MAX: Offset = (1 << 53) - 1;

/// Longest epoch, in bytes.
pub const EPOCH_SIZE_MAX: usize = 32;

/// Which log a room has: an opaque string of 1 to 32 bytes, compared and never read.
///
/// A log that may have lost its tail gets a new epoch; trimming never changes it (section 5,
/// promise 1). It is a pointer to shared text, 16 bytes also inside an `Option`: a room has one epoch
/// at a time, and every position, delivery and cursor in it holds the same one.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(Arc<str>);

impl Epoch {
    /// Takes a copy of `text`; `None` if that is empty or longer than 32 bytes.
    pub fn new(text: &str) -> Option<Self> {
        (1..=EPOCH_SIZE_MAX).contains(&text.len()).then(|| Self(text.into()))
    }

    /// The epoch as it goes over the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// A place in a room's log: after the publication `offset` of `epoch`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Position {
    /// Which log.
    pub epoch: Epoch,
    /// The last publication at or before this place; 0 before the first.
    pub offset: Offset,
}

impl Position {
    /// Puts the two together.
    pub fn new(epoch: Epoch, offset: Offset) -> Self {
        Self { epoch, offset }
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.offset, self.epoch)
    }
}
