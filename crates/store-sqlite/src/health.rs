//! What an operator can see of a store: whether it works, and what it has done.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Upper bounds of the buckets of [`Counters::commits`], nanoseconds; one more is for what is longer.
pub const COMMIT_BOUNDS_NS: [u64; 12] = [
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    500_000_000,
    2_000_000_000,
];

/// Whether a store works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// The last attempt worked.
    Ok,
    /// The last attempt failed; a sentence says how. It is tried again until it works.
    Failing(String),
}

/// What a store has done since it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Transactions committed for requests.
    pub batches: u64,
    /// Requests in them; divided by `batches`, the size of a batch.
    pub batched: u64,
    /// Reads answered.
    pub reads: u64,
    /// Requests that completed with an error, those refused included.
    pub failed: u64,
    /// Requests refused unseen, since as many bytes waited as may.
    pub refused: u64,
    /// How often a connection was opened anew after an error.
    pub reopened: u64,
    /// Bytes of requests that wait now.
    pub waiting_bytes: u64,
    /// Requests in the largest batch.
    pub batch_max: u64,
    /// Transactions by the time from their begin to the end of their commit: as many as there are
    /// bounds in [`COMMIT_BOUNDS_NS`], and one for what took longer. Not cumulative.
    pub commits: [u64; COMMIT_BOUNDS_NS.len() + 1],
    /// The sum of those times, nanoseconds.
    pub commit_ns: u64,
}

/// What the threads note.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    pub(crate) batches: AtomicU64,
    pub(crate) batched: AtomicU64,
    pub(crate) batch_max: AtomicU64,
    pub(crate) reads: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) reopened: AtomicU64,
    commits: [AtomicU64; COMMIT_BOUNDS_NS.len() + 1],
    commit_ns: AtomicU64,
    /// Why writing fails now, and reading.
    failing: Mutex<[Option<String>; 2]>,
}

/// Which of the two threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Write,
    Read,
}

impl Meter {
    pub(crate) fn committed(&self, requests: usize, took_ns: u64) {
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.batched.fetch_add(requests as u64, Ordering::Relaxed);
        self.batch_max.fetch_max(requests as u64, Ordering::Relaxed);
        let bucket = COMMIT_BOUNDS_NS.partition_point(|bound| *bound < took_ns);
        self.commits[bucket].fetch_add(1, Ordering::Relaxed);
        self.commit_ns.fetch_add(took_ns, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, side: Side, failing: Option<String>) {
        let mut both = self.failing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        both[side as usize] = failing;
    }

    pub(crate) fn health(&self) -> Health {
        let both = self.failing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match both.iter().flatten().next() {
            Some(sentence) => Health::Failing(sentence.clone()),
            None => Health::Ok,
        }
    }

    pub(crate) fn counters(&self, waiting_bytes: u64) -> Counters {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            batches: load(&self.batches),
            batched: load(&self.batched),
            reads: load(&self.reads),
            failed: load(&self.failed),
            refused: load(&self.refused),
            reopened: load(&self.reopened),
            waiting_bytes,
            batch_max: load(&self.batch_max),
            commits: std::array::from_fn(|bucket| load(&self.commits[bucket])),
            commit_ns: load(&self.commit_ns),
        }
    }
}
