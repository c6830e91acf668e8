//! The two clocks, read once a turn.

use clarion_engine::Now;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Monotonic time counts from the start of the process, the same for all workers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// The monotonic clock alone.
    pub(crate) fn mono_us(self) -> u64 {
        self.start.elapsed().as_micros() as u64
    }

    pub(crate) fn now(self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { mono_us: self.mono_us(), wall_ms: wall.as_millis() as u64 }
    }
}
