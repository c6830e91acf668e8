//! What one worker measures of its own work: how long turns, deliveries and the store take.
//!
//! Its thread is the only writer, so an update is a plain load and store; whoever scrapes reads
//! without asking the worker, and so learns something even of one that is stuck.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Upper bounds of the buckets of a [`Histogram`], microseconds: 10 us to 10 s. What is longer is in
/// one more.
pub(crate) const BOUNDS_US: [u64; 19] = [
    10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000,
    500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000,
];

/// Lengths of time, by bucket. One thread writes.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; BOUNDS_US.len() + 1],
    sum_ns: AtomicU64,
}

/// What a [`Histogram`] held at one moment, or several did together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Distribution {
    /// Of each bucket alone, the last one without bound.
    pub(crate) buckets: [u64; BOUNDS_US.len() + 1],
    pub(crate) sum_ns: u64,
}

/// What one worker measures.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    /// From waking up to having written everything.
    pub(crate) turns: Histogram,
    /// From the turn in which the first publication of a batch was read, to the write of the batch.
    pub(crate) deliveries: Histogram,
    /// From asking the store to keep a publication to its answer.
    pub(crate) appends: Histogram,
    /// From asking the store for anything else to its answer.
    pub(crate) reads: Histogram,
    /// When the turn began that is under way, microseconds; 0 while it sleeps.
    turn_us: AtomicU64,
    /// Bytes queued for all its connections, when the last turn ended.
    outbox_bytes: AtomicU64,
    /// Bytes of its logs in memory, about.
    log_bytes: AtomicU64,
    /// How many appends met `limits.log_bytes`.
    squeezed: AtomicU64,
    /// Most bytes that one connection's socket did not take, since somebody looked.
    outbox_bytes_max: AtomicU64,
    /// Most bytes of mail to one other worker, since somebody looked.
    mailbox_bytes_max: AtomicU64,
}

impl Histogram {
    pub(crate) fn observe_ns(&self, ns: u64) {
        let bucket = BOUNDS_US.partition_point(|bound| bound * 1_000 < ns);
        add(&self.buckets[bucket], 1);
        add(&self.sum_ns, ns);
    }

    pub(crate) fn observe_us(&self, us: u64) {
        self.observe_ns(us.saturating_mul(1_000));
    }
}

/// For the only writer: what others read is never half of it, and no bus is locked.
fn add(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(more), Relaxed);
}

fn raise(mark: &AtomicU64, value: usize) {
    if value as u64 > mark.load(Relaxed) {
        mark.store(value as u64, Relaxed);
    }
}

impl Distribution {
    pub(crate) fn add(&mut self, histogram: &Histogram) {
        for (sum, bucket) in self.buckets.iter_mut().zip(&histogram.buckets) {
            *sum = sum.wrapping_add(bucket.load(Relaxed));
        }
        self.sum_ns = self.sum_ns.wrapping_add(histogram.sum_ns.load(Relaxed));
    }
}

impl Meter {
    pub(crate) fn turn_began(&self, now_us: u64) {
        self.turn_us.store(now_us.max(1), Relaxed);
    }

    pub(crate) fn turn_ended(&self, length_us: u64, outbox_bytes: usize) {
        self.turns.observe_us(length_us);
        self.outbox_bytes.store(outbox_bytes as u64, Relaxed);
        self.turn_us.store(0, Relaxed);
    }

    /// How long the turn under way has taken so far; 0 if there is none.
    pub(crate) fn turn_age_us(&self, now_us: u64) -> u64 {
        match self.turn_us.load(Relaxed) {
            0 => 0,
            began => now_us.saturating_sub(began),
        }
    }

    pub(crate) fn outbox_bytes(&self) -> u64 {
        self.outbox_bytes.load(Relaxed)
    }

    pub(crate) fn logs_hold(&self, bytes: usize, squeezed: u64) {
        self.log_bytes.store(bytes as u64, Relaxed);
        self.squeezed.store(squeezed, Relaxed);
    }

    pub(crate) fn log_bytes(&self) -> u64 {
        self.log_bytes.load(Relaxed)
    }

    pub(crate) fn squeezed(&self) -> u64 {
        self.squeezed.load(Relaxed)
    }

    pub(crate) fn outbox_holds(&self, bytes: usize) {
        raise(&self.outbox_bytes_max, bytes);
    }

    /// The most that one connection's outbox held since the last call.
    pub(crate) fn take_outbox_bytes_max(&self) -> u64 {
        self.outbox_bytes_max.swap(0, Relaxed)
    }

    pub(crate) fn mailbox_holds(&self, bytes: usize) {
        raise(&self.mailbox_bytes_max, bytes);
    }

    /// The most that a mailbox of this sender held since the last call.
    pub(crate) fn take_mailbox_bytes_max(&self) -> u64 {
        self.mailbox_bytes_max.swap(0, Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_time_is_in_the_bucket_whose_bound_it_does_not_pass() {
        let histogram = Histogram::default();
        histogram.observe_us(0);
        histogram.observe_us(10);
        histogram.observe_ns(10_001);
        histogram.observe_us(25);
        histogram.observe_us(10_000_000);
        histogram.observe_us(u64::MAX);
        let mut distribution = Distribution::default();
        distribution.add(&histogram);
        assert_eq!(distribution.buckets[..3], [2, 2, 0]);
        assert_eq!(distribution.buckets[18..], [1, 1]);
        assert_eq!(distribution.buckets.iter().sum::<u64>(), 6);
        let other = Histogram::default();
        other.observe_us(1_000);
        let sum = distribution.sum_ns;
        distribution.add(&other);
        assert_eq!(distribution.buckets[6], 1);
        assert_eq!(distribution.sum_ns, sum.wrapping_add(1_000_000));
    }

    #[test]
    fn a_turn_has_an_age_while_it_lasts() {
        let meter = Meter::default();
        assert_eq!(meter.turn_age_us(50), 0);
        meter.turn_began(20);
        assert_eq!(meter.turn_age_us(50), 30);
        meter.turn_ended(40, 7);
        assert_eq!((meter.turn_age_us(70), meter.outbox_bytes()), (0, 7));
    }

    #[test]
    fn a_high_water_mark_is_forgotten_when_it_was_read() {
        let meter = Meter::default();
        [3, 9, 4].into_iter().for_each(|bytes| meter.mailbox_holds(bytes));
        assert_eq!((meter.take_mailbox_bytes_max(), meter.take_mailbox_bytes_max()), (9, 0));
    }
}
