//! What a shard wants to be woken for, by time.

use crate::id::ConnId;
use clarion_protocol::ClientId;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// One reason to wake.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// When the earliest deadline of a connection is due: handshake, heartbeat, close, slow, expiry.
    Connection(ConnId),
    /// When a room's merged presence changes are to be told.
    Presence(HomeId),
    /// When a room's home may have been idle for long enough to be forgotten.
    Idle(HomeId),
    /// When an absent member's grace ends.
    Grace(Box<(HomeId, ClientId, u64)>),
    /// When a failed read of the log is to be tried again for one member.
    Refetch(ConnId, u32),
}

/// A room's slot at its home, with the slot's generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HomeId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

/// Timers by due time, and in the order they were set where that is equal.
///
/// Bounded by its users: one entry for each connection (a few while a shorter deadline replaced a
/// longer one), two for each home, one for each absent member.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(u64, u32, Timer)>>,
    set: u32,
}

impl Timers {
    /// Sets a timer for `due_us` of the monotonic clock.
    pub(crate) fn set(&mut self, due_us: u64, timer: Timer) {
        self.set = self.set.wrapping_add(1);
        self.heap.push(Reverse((due_us, self.set, timer)));
    }

    pub(crate) fn next_us(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse((due_us, _, _))| *due_us)
    }

    /// Takes the next timer that is due.
    pub(crate) fn pop(&mut self, now_us: u64) -> Option<(u64, Timer)> {
        if self.next_us()? > now_us {
            return None;
        }
        self.heap.pop().map(|Reverse((due_us, _, timer))| (due_us, timer))
    }
}
