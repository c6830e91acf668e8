//! What a log of publications must be able to do, and the in-memory log that is the reference.
//!
//! The engine speaks to a store in [`Request`]s and gets [`Completion`]s; it never waits for one.
//! A store answers the requests of one room in the order they came, and may answer different
//! rooms in any order. Whoever carries the requests (the worker, a writer thread, the simulator)
//! is the driver's business; nothing here does I/O.
//!
//! The contract that every adapter must keep:
//!
//! - Offsets of a log are consecutive from 1, are assigned when an append is applied, and an
//!   (epoch, offset) pair never names two publications.
//! - A log that may have lost its tail gets a new epoch. Trimming never changes the epoch.
//! - An append whose key was used by the same principal in the same room and epoch within the
//!   window is not applied; it completes with the first one's place and `duplicate: true`.
//!   The engine never submits a second append of a key while one is in flight.
//! - A failed append was not applied, or ([`StoreError::Unknown`]) may have been.

mod memory;

pub use memory::MemoryStore;

use clarion_protocol::{Epoch, Offset, Publication, RoomName};
use std::sync::Arc;

/// How much of a log is kept. Whatever is reached first trims the oldest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLimits {
    /// Publications kept. Default 1,000.
    pub size: u32,
    /// Age at which a publication goes, milliseconds. Default 30 days.
    pub age_ms: u64,
    /// Bytes of type, payload and sender kept. Default 16 MiB.
    pub bytes: usize,
    /// How long an idempotency key is remembered, milliseconds. Default 5 minutes.
    pub key_window_ms: u64,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self {
            size: 1_000,
            age_ms: 30 * 24 * 3_600_000,
            bytes: 16 << 20,
            key_window_ms: 5 * 60_000,
        }
    }
}

/// Who used an idempotency key: keys of different principals never meet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// `u:<user>` or `k:<API key's name>`.
    pub principal: Box<str>,
    /// The key, up to 64 bytes.
    pub key: Box<str>,
}

/// What the engine asks. `token` is the engine's and comes back unchanged.
#[derive(Clone, Debug)]
pub enum Request {
    /// Where does this log stand? Comes first for a room, and makes the log if there is none.
    Open {
        /// The engine's mark.
        token: u64,
        /// The log's name.
        room: RoomName,
        /// The epoch of the log if it has to be made.
        fresh: Epoch,
    },
    /// Appends one publication.
    Append {
        /// The engine's mark.
        token: u64,
        /// The log's name.
        room: RoomName,
        /// What to keep.
        publication: Arc<Publication>,
        /// The idempotency key, if there is one.
        key: Option<Key>,
        /// The log's bounds, applied with the append.
        limits: LogLimits,
        /// The epoch of the log if it has to be made again.
        fresh: Epoch,
    },
    /// Reads a range.
    Read {
        /// The engine's mark.
        token: u64,
        /// The log's name.
        room: RoomName,
        /// Which range.
        range: Range,
        /// At most so many publications.
        limit: u32,
        /// Stops before a publication that would exceed so many bytes, but never before the first.
        bytes: usize,
        /// Publications older than this are gone, whether or not they were trimmed yet.
        age_ms: u64,
    },
}

/// Which publications to read; bounds are exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// The oldest ones above this offset.
    After(Offset),
    /// The newest ones below this offset.
    Before(Offset),
}

/// What came of a [`Request`].
#[derive(Clone, Debug)]
pub enum Completion {
    /// Answer to [`Request::Open`].
    Opened {
        /// The request's.
        token: u64,
        /// The log's state, or why it is not known.
        result: Result<Standing, StoreError>,
    },
    /// Answer to [`Request::Append`].
    Appended {
        /// The request's.
        token: u64,
        /// Where it went, or why it did not.
        result: Result<Appended, StoreError>,
    },
    /// Answer to [`Request::Read`].
    Read {
        /// The request's.
        token: u64,
        /// The range, or why it could not be read.
        result: Result<Page, StoreError>,
    },
}

/// Where a log stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Which log this is.
    pub epoch: Epoch,
    /// The newest offset; 0 when nothing was ever appended.
    pub head: Offset,
    /// The oldest offset kept; `head + 1` when nothing is kept.
    pub first: Offset,
}

/// Where an append went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Of which log.
    pub epoch: Epoch,
    /// The place.
    pub offset: Offset,
    /// The publication's time, Unix milliseconds; the first one's for a duplicate.
    pub time_ms: u64,
    /// The key had been used; nothing was appended.
    pub duplicate: bool,
}

/// Part of a log.
#[derive(Clone, Debug)]
pub struct Page {
    /// The log's state when it was read.
    pub standing: Standing,
    /// Ascending, consecutive.
    pub publications: Vec<(Offset, Arc<Publication>)>,
    /// The range holds more that the limits kept out.
    pub more: bool,
}

/// Why a request failed. All of them are temporary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// Nothing was done; the same request may be made again.
    Unavailable,
    /// It may or may not have been done; safe to repeat with the same key.
    Unknown,
}
