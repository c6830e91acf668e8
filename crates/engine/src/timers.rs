//! What a shard wants to be woken for, by time.

use crate::id::ConnId;
use crate::mail::RoomCommand;
use clarion_protocol::ClientId;
use clarion_store::Shrink;
use std::cmp::{Ordering, Reverse};
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
    /// When the store is to be asked again where a log stands.
    Check(HomeId),
    /// When a join of the server's that failed is to be tried again.
    Rejoin(Box<Rejoin>),
}

/// A join of the server's. Timers are in order, and this one stands where it may: what is set first
/// is due first, so no two are compared by what they hold.
#[derive(Clone, Debug)]
pub(crate) struct Rejoin(pub(crate) RoomCommand);

impl PartialEq for Rejoin {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Rejoin {}

impl PartialOrd for Rejoin {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Rejoin {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.room.cmp(&other.0.room)
    }
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
/// longer one), three for each home, one for each absent member,
/// one for each join of the server's whose log cannot be read.
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

    /// Gives back what timers left that were due.
    pub(crate) fn shrink(&mut self) {
        self.heap.shrink();
    }

    /// Takes the next timer that is due.
    pub(crate) fn pop(&mut self, now_us: u64) -> Option<(u64, Timer)> {
        if self.next_us()? > now_us {
            return None;
        }
        self.heap.pop().map(|Reverse((due_us, _, timer))| (due_us, timer))
    }
}
