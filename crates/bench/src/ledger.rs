//! What was published and is not done: who waits for it, since when, and under which offset.
//!
//! One entry for each publication on its way, in the order of its number; those at the front leave
//! when they are done. So the ledger is as long as the window of publications in flight (plus
//! those that overtook), and finding an entry is a subtraction.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// When a publisher may send its next publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FreeOn {
    /// When the server has answered. Deliveries may still be on their way.
    Reply,
    /// When every member has it (a bare server answers nothing).
    Delivery,
    /// When both are true: one publication at a time, from end to end.
    Both,
}

struct Entry {
    sent_at: Instant,
    publisher: usize,
    members_left: usize,
    replied: bool,
    /// From the first delivery or the reply; 0 before.
    offset: u64,
    freed: bool,
}

/// A number that does not belong there, or has two offsets.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mismatch;

/// Publications on their way.
pub(crate) struct Ledger {
    free_on: FreeOn,
    members: usize,
    /// The number of the first entry.
    first: u64,
    entries: VecDeque<Entry>,
}

impl Ledger {
    /// A ledger for a room with this many members.
    pub(crate) fn new(free_on: FreeOn, members: usize) -> Self {
        Self { free_on, members, first: 0, entries: VecDeque::new() }
    }

    /// Enters a publication and returns its number, from 0 on.
    pub(crate) fn publish(&mut self, publisher: usize, now: Instant) -> u64 {
        self.entries.push_back(Entry {
            sent_at: now,
            publisher,
            members_left: self.members,
            // A bare server does not reply, so its entries must not wait for that.
            replied: self.free_on == FreeOn::Delivery,
            offset: 0,
            freed: false,
        });
        self.published() - 1
    }

    /// One member has received number `n` under `offset`: how long that took, and the publisher that
    /// may go on because of it.
    pub(crate) fn delivered(
        &mut self,
        n: u64,
        offset: u64,
        now: Instant,
    ) -> Result<(Duration, Option<usize>), Mismatch> {
        let entry = self.entry(n)?;
        entry.claim(offset)?;
        entry.members_left = entry.members_left.checked_sub(1).ok_or(Mismatch)?;
        let latency = now.saturating_duration_since(entry.sent_at);
        Ok((latency, self.settle(n)))
    }

    /// The server has answered number `n`: the publisher that may go on because of it.
    pub(crate) fn replied(&mut self, n: u64, offset: u64) -> Result<Option<usize>, Mismatch> {
        let entry = self.entry(n)?;
        entry.claim(offset)?;
        if std::mem::replace(&mut entry.replied, true) {
            return Err(Mismatch);
        }
        Ok(self.settle(n))
    }

    /// How many publications were entered.
    pub(crate) fn published(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// How many are not done.
    pub(crate) fn on_their_way(&self) -> usize {
        self.entries.len()
    }

    fn entry(&mut self, n: u64) -> Result<&mut Entry, Mismatch> {
        let index = n.checked_sub(self.first).ok_or(Mismatch)?;
        self.entries.get_mut(usize::try_from(index).map_err(|_| Mismatch)?).ok_or(Mismatch)
    }

    /// Frees the publisher of `n` if it is time, and drops what is done.
    fn settle(&mut self, n: u64) -> Option<usize> {
        let free_on = self.free_on;
        let entry = self.entry(n).ok()?;
        let is_free = match free_on {
            FreeOn::Reply => entry.replied,
            FreeOn::Delivery => entry.members_left == 0,
            FreeOn::Both => entry.replied && entry.members_left == 0,
        };
        let freed = (is_free && !entry.freed).then_some(entry.publisher);
        entry.freed |= is_free;
        while self.entries.front().is_some_and(|entry| entry.replied && entry.members_left == 0) {
            self.entries.pop_front();
            self.first += 1;
        }
        freed
    }
}

impl Entry {
    /// An offset never names two publications, and a publication never has two offsets.
    fn claim(&mut self, offset: u64) -> Result<(), Mismatch> {
        if self.offset == 0 {
            self.offset = offset;
        }
        if self.offset == offset { Ok(()) } else { Err(Mismatch) }
    }
}

#[cfg(test)]
mod tests {
    use super::{FreeOn, Ledger, Mismatch};
    use std::time::{Duration, Instant};

    #[test]
    fn one_at_a_time_waits_for_reply_and_all_members() {
        let now = Instant::now();
        let mut ledger = Ledger::new(FreeOn::Both, 2);
        let n = ledger.publish(7, now);
        let later = now + Duration::from_millis(3);
        assert_eq!(ledger.delivered(n, 1, later), Ok((Duration::from_millis(3), None)));
        assert_eq!(ledger.replied(n, 1), Ok(None));
        assert_eq!(ledger.delivered(n, 1, later), Ok((Duration::from_millis(3), Some(7))));
        assert_eq!(ledger.on_their_way(), 0);
        assert_eq!(ledger.published(), 1);
    }

    #[test]
    fn a_window_is_freed_by_the_reply_and_remembers_what_is_not_delivered() {
        let now = Instant::now();
        let mut ledger = Ledger::new(FreeOn::Reply, 1);
        let (first, second) = (ledger.publish(0, now), ledger.publish(1, now));
        assert_eq!(ledger.replied(second, 2), Ok(Some(1)));
        assert_eq!(ledger.delivered(second, 2, now).unwrap().1, None, "freed only once");
        assert_eq!(ledger.on_their_way(), 2, "the first holds the second");
        assert_eq!(ledger.replied(first, 1), Ok(Some(0)));
        assert_eq!(ledger.delivered(first, 1, now).unwrap().1, None);
        assert_eq!(ledger.on_their_way(), 0);
    }

    #[test]
    fn bare_server_frees_by_delivery() {
        let now = Instant::now();
        let mut ledger = Ledger::new(FreeOn::Delivery, 1);
        let n = ledger.publish(0, now);
        assert_eq!(ledger.delivered(n, 1, now).unwrap().1, Some(0));
        assert_eq!(ledger.on_their_way(), 0);
    }

    #[test]
    fn what_does_not_fit_is_a_mismatch() {
        let now = Instant::now();
        let mut ledger = Ledger::new(FreeOn::Both, 2);
        let n = ledger.publish(0, now);
        assert_eq!(ledger.delivered(n + 1, 1, now), Err(Mismatch), "never published");
        ledger.delivered(n, 1, now).unwrap();
        assert_eq!(ledger.delivered(n, 2, now), Err(Mismatch), "two offsets");
        assert_eq!(ledger.replied(n, 3), Err(Mismatch), "two offsets");
        ledger.replied(n, 1).unwrap();
        assert_eq!(ledger.replied(n, 1), Err(Mismatch), "answered twice");
        ledger.delivered(n, 1, now).unwrap();
        assert_eq!(ledger.delivered(n, 1, now), Err(Mismatch), "done already");
    }
}
