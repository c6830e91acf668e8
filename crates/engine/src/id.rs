//! Names of things that move between workers, and the two clocks, as plain numbers.
//!
//! Nothing here allocates. Time is an argument everywhere in this crate; see [`Now`].

/// One worker of this process: one thread, one [`Shard`](crate::Shard). Numbered from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId(pub u16);

/// One connection on one worker.
///
/// The driver hands it out. `index` is a slot that is used again after the connection ended,
/// `generation` differs for every use of a slot, so that mail which was under way when the
/// connection ended can never reach its successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId {
    /// The slot, from 0, dense.
    pub index: u32,
    /// How often the slot was used before.
    pub generation: u32,
}

/// A connection, seen from another worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnRef {
    /// Where the connection lives.
    pub worker: WorkerId,
    /// Which one it is there.
    pub conn: ConnId,
}

/// One request of the HTTP API, as the front numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ApiId(pub u64);

/// The two clocks, read once a turn by the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Now {
    /// Monotonic time in microseconds since some fixed start: for every timer and interval.
    pub mono_us: u64,
    /// Wall time in milliseconds since the Unix epoch: for what is shown and for expiry dates.
    pub wall_ms: u64,
}
