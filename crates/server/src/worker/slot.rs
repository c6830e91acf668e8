//! One connection as a worker's driver sees it, and the table of all of them.

use super::outbox::Queue;
use super::transport::Transport;
use clarion_engine::ConnId;
use mio::Token;

/// No mark: see [`Slot::sent_mark`].
const NO_MARK: u32 = u32::MAX;

/// What the driver keeps for a connection: 72 bytes (with TLS the session as well), and nothing on the heap while it is idle.
#[derive(Debug)]
pub(crate) struct Slot {
    generation: u32,
    pub(crate) stage: Stage,
    /// There may be bytes to read: since the last edge no read came up short.
    pub(crate) readable: bool,
    /// The socket took everything that was written since the last edge.
    pub(crate) writable: bool,
    /// The peer will send nothing more, or the socket is broken; a read says which.
    pub(crate) hung_up: bool,
    /// The shard wants no bytes.
    pub(crate) paused: bool,
    /// In the list of those to be read.
    pub(crate) listed: bool,
    /// In the list of those to be written.
    pub(crate) dirty: bool,
    /// Whether a client without a token is a guest here.
    pub(crate) guests: bool,
    /// Until `on_close` was called.
    pub(crate) known: bool,
    sent_mark: u32,
    /// Bytes that may still be read and thrown away.
    pub(crate) linger_bytes: u32,
    /// The socket; `None` once it is closed.
    pub(crate) transport: Option<Transport>,
    pub(crate) queue: Queue,
}

/// Where a connection is in its life, for the driver.
///
/// ```text
/// Open ── close(after_flush), or the peer's end ──► Flushing ── written, FIN sent ──► Lingering
///   │                                                  │                                  │
///   └── error, or close(at once) ──► Closed ◄── error, deadline ── end of file, bound ────┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Bytes go to the shard and come from it.
    Open,
    /// What is queued is written; nothing is read. `ended`: the peer is gone, do not wait for it.
    Flushing {
        /// The peer will send nothing more, so there is nothing to linger for.
        ended: bool,
    },
    /// We have sent our end, and read the peer's rest to throw it away: closing a socket with
    /// unread bytes makes the kernel reset it, and the peer may never see our last words.
    Lingering,
    /// The socket is gone.
    Closed,
}

impl Slot {
    /// Bytes that the kernel has not yet taken: the queue, and what TLS holds.
    pub(crate) fn queued(&self) -> usize {
        self.queue.bytes() + self.transport.as_ref().map_or(0, Transport::held)
    }

    /// Whether there is anything to write.
    pub(crate) fn wants_write(&self) -> bool {
        !self.queue.is_empty() || self.transport.as_ref().is_some_and(Transport::wants_write)
    }

    /// The mark below which the shard wants to know that its bytes were sent.
    pub(crate) fn sent_mark(&self) -> Option<usize> {
        (self.sent_mark != NO_MARK).then_some(self.sent_mark as usize)
    }

    pub(crate) fn set_sent_mark(&mut self, below: Option<usize>) {
        self.sent_mark =
            below.map_or(NO_MARK, |below| u32::try_from(below).unwrap_or(NO_MARK).min(NO_MARK - 1));
    }
}

/// The connections of one worker, by index; a generation tells those apart that shared one.
#[derive(Debug)]
pub(crate) struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
    open: usize,
}

impl Slots {
    pub(crate) fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), open: 0 }
    }

    /// Connections that are not yet released.
    pub(crate) fn count(&self) -> usize {
        self.open
    }

    /// Takes a slot for a new connection, whose socket follows: it is registered by the name that
    /// this returns.
    pub(crate) fn insert(&mut self, guests: bool) -> ConnId {
        self.open += 1;
        let slot = |generation| Slot {
            generation,
            stage: Stage::Open,
            readable: false,
            writable: true,
            hung_up: false,
            paused: false,
            listed: false,
            dirty: false,
            guests,
            known: true,
            sent_mark: NO_MARK,
            linger_bytes: 0,
            transport: None,
            queue: Queue::EMPTY,
        };
        if let Some(index) = self.free.pop() {
            let old = &mut self.slots[index as usize];
            *old = slot(old.generation);
            return ConnId { index, generation: old.generation };
        }
        let index = u32::try_from(self.slots.len()).expect("descriptors run out before indices");
        self.slots.push(slot(0));
        ConnId { index, generation: 0 }
    }

    /// The connection, unless it was released.
    pub(crate) fn get(&mut self, conn: ConnId) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(conn.index as usize)?;
        (slot.generation == conn.generation).then_some(slot)
    }

    /// The same without the right to change it.
    pub(crate) fn peek(&self, conn: ConnId) -> Option<&Slot> {
        let slot = self.slots.get(conn.index as usize)?;
        (slot.generation == conn.generation).then_some(slot)
    }

    /// Gives the slot back. From now on nobody finds the connection.
    pub(crate) fn release(&mut self, conn: ConnId) {
        let slot = &mut self.slots[conn.index as usize];
        debug_assert!(slot.generation == conn.generation && slot.transport.is_none());
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(conn.index);
        self.open -= 1;
    }
}

/// The connection's name for the poll, generation included: an event that was under way when the
/// socket was closed must not reach the next one in the slot.
pub(crate) fn token(conn: ConnId) -> Token {
    Token((conn.generation as usize) << 32 | conn.index as usize)
}

/// The connection that [`token`] was made for.
pub(crate) fn conn(token: Token) -> ConnId {
    ConnId { index: token.0 as u32, generation: (token.0 >> 32) as u32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_small() {
        assert!(size_of::<Slot>() <= 72, "{}", size_of::<Slot>());
    }

    #[test]
    fn a_released_connection_is_not_found_and_its_slot_is_used_again() {
        let mut slots = Slots::new();
        let first = slots.insert(false);
        slots.release(first);
        assert!(slots.get(first).is_none() && slots.count() == 0);
        let second = slots.insert(true);
        assert_eq!((second.index, second.generation), (first.index, first.generation + 1));
        assert!(slots.get(first).is_none());
        assert!(slots.peek(second).unwrap().guests);
    }

    #[test]
    fn tokens_carry_the_generation() {
        let id = ConnId { index: u32::MAX, generation: 0x8000_0001 };
        assert_eq!(conn(token(id)), id);
    }

    #[test]
    fn a_mark_of_nothing_left_is_a_mark() {
        let mut slots = Slots::new();
        let id = slots.insert(false);
        let slot = slots.get(id).unwrap();
        assert_eq!(slot.sent_mark(), None);
        slot.set_sent_mark(Some(0));
        assert_eq!(slot.sent_mark(), Some(0));
        slot.set_sent_mark(Some(usize::MAX));
        assert!(slot.sent_mark().is_some());
        slot.set_sent_mark(None);
        assert_eq!(slot.sent_mark(), None);
    }
}
