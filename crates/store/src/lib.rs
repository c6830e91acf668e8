//! What a log of publications must be able to do, and the in-memory log that is the reference.
//!
//! Whoever wants something of a store makes [`Request`]s and gets one [`Completion`] for each; it
//! never waits for one. Nothing here does I/O: a [`Store`] is what an adapter implements, and who
//! carries requests to it (a worker, a writer thread, the simulator) is the driver's business. The
//! [`MemoryStore`] is the reference, and [`conformance`] is what holds every adapter to it.
//!
//! The contract that every adapter must keep:
//!
//! - Offsets of a log are consecutive from 1, are assigned when an append is applied, and an
//!   (epoch, offset) pair never names two publications.
//! - A log that may have lost its tail gets a new epoch. Trimming never changes the epoch.
//! - A log begins with its first append, under the epoch that this brought as `fresh`. Asking after a
//!   log that is not there leaves nothing behind, or whoever asks for many fills the disk.
//! - An append whose key was used by the same principal in the same room and epoch within the
//!   window is not applied; it completes with the first one's place and `duplicate: true`.
//!   Whether the key is free and the append itself are one step.
//! - What completed without an error has reached the log's durability, and nobody can read it before.
//!   A failed request was not done, or ([`StoreError::Unknown`]) may have been.
//! - Who is in which group is kept apart from logs. What is asked about one group is done and
//!   answered in the order it was asked.
//! - Appends and acknowledgements of one room are done and answered in the order they were
//!   asked; so are its reads and opens. Between the two no order is promised, but a read that
//!   is asked for after an append was answered sees it. Different rooms are answered in any order.

mod completion;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod memory;
mod request;
mod shrink;
mod sizes;

pub use completion::{
    Appended, Completion, Groups, Page, Revocation, Revocations, Standing, StoreError,
};
pub use memory::MemoryStore;
pub use request::{Key, LogLimits, Range, Request, weight};
pub use shrink::Shrink;

/// An adapter, as whoever has a thread for it drives it.
///
/// One call is one group: what is in it becomes durable together, with one `fsync` or one round
/// trip, so its price is shared. It blocks until that is so.
pub trait Store {
    /// Does what is asked, in this order, and says what came of each, in the same order.
    ///
    /// `now_ms` is wall time, Unix milliseconds; by it ages and windows are counted.
    /// If the group as a whole fails, everything in it that would have changed something
    /// completes with the same error.
    fn apply(&mut self, batch: Vec<Request>, now_ms: u64) -> Vec<Completion>;
}
