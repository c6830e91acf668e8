//! What comes of a request.

use clarion_protocol::{Epoch, Offset, Publication};
use std::sync::Arc;

/// What came of a [`Request`](crate::Request).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Completion {
    /// Answer to [`Request::Open`](crate::Request::Open).
    Opened {
        /// The request's.
        token: u64,
        /// The log's state, or why it is not known.
        result: Result<Standing, StoreError>,
    },
    /// Answer to [`Request::Append`](crate::Request::Append).
    Appended {
        /// The request's.
        token: u64,
        /// Where it went, or why it did not.
        result: Result<Appended, StoreError>,
    },
    /// Answer to [`Request::Read`](crate::Request::Read).
    Read {
        /// The request's.
        token: u64,
        /// The range, or why it could not be read.
        result: Result<Page, StoreError>,
    },
    /// Answer to [`Request::Ack`](crate::Request::Ack).
    Acked {
        /// The request's.
        token: u64,
        /// The offset that is acknowledged now, or why that is not known; 0 without a log.
        result: Result<Offset, StoreError>,
    },
    /// Answer to [`Request::Revoke`](crate::Request::Revoke).
    Revoked {
        /// The request's.
        token: u64,
        /// Whether it will be listed, or why it may not.
        result: Result<(), StoreError>,
    },
    /// Answer to [`Request::Group`](crate::Request::Group).
    Grouped {
        /// The request's.
        token: u64,
        /// Whether it was otherwise before, or why it may not be so now.
        result: Result<bool, StoreError>,
    },
    /// Answer to [`Request::Groups`](crate::Request::Groups).
    Groups {
        /// The request's.
        token: u64,
        /// Part of the list, or why it could not be read.
        result: Result<Groups, StoreError>,
    },
    /// Answer to [`Request::Revocations`](crate::Request::Revocations).
    Revocations {
        /// The request's.
        token: u64,
        /// Part of the list, or why it could not be read.
        result: Result<Revocations, StoreError>,
    },
}

/// Where a log stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Which log this is.
    pub epoch: Epoch,
    /// The newest offset; 0 when nothing was ever appended.
    pub head: Offset,
    /// The oldest offset kept; `head + 1` when nothing is kept. An [`Opened`](Completion::Opened)
    /// counts what is too old and not yet trimmed as kept, a [`Page`] does not.
    pub first: Offset,
    /// Everything up to this has arrived, says [`Request::Ack`](crate::Request::Ack); 0 if nothing.
    pub acked: Offset,
}

impl Standing {
    /// That of a log that is not there.
    #[must_use]
    pub fn absent(epoch: Epoch) -> Self {
        Self { epoch, head: 0, first: 1, acked: 0 }
    }
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The log's state when it was read.
    pub standing: Standing,
    /// Ascending, consecutive.
    pub publications: Vec<(Offset, Arc<Publication>)>,
    /// The range holds more that the limits kept out.
    pub more: bool,
}

/// Part of the list of who is in which group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Groups {
    /// Groups and users, ascending by the bytes of both.
    pub members: Vec<(Box<str>, Box<str>)>,
    /// There are more that the limit kept out.
    pub more: bool,
}

/// Part of the list of revocations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocations {
    /// Ascending by subject's bytes.
    pub revocations: Vec<Revocation>,
    /// There are more that the limit kept out.
    pub more: bool,
}

/// That a subject's grants are void.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Whose.
    pub subject: Box<str>,
    /// When it was revoked, Unix milliseconds.
    pub at_ms: u64,
    /// When it may be forgotten, Unix milliseconds.
    pub until_ms: u64,
}

/// Why a request failed. All of them are temporary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// Nothing was done; the same request may be made again.
    Unavailable,
    /// It may or may not have been done; safe to repeat with the same key.
    Unknown,
}

impl Completion {
    /// The request's mark.
    #[must_use]
    pub fn token(&self) -> u64 {
        match self {
            Self::Opened { token, .. }
            | Self::Appended { token, .. }
            | Self::Read { token, .. }
            | Self::Acked { token, .. }
            | Self::Revoked { token, .. }
            | Self::Grouped { token, .. }
            | Self::Groups { token, .. }
            | Self::Revocations { token, .. } => *token,
        }
    }

    /// Why it failed, if it did.
    #[must_use]
    pub fn error(&self) -> Option<StoreError> {
        match self {
            Self::Opened { result, .. } => result.as_ref().err().copied(),
            Self::Appended { result, .. } => result.as_ref().err().copied(),
            Self::Read { result, .. } => result.as_ref().err().copied(),
            Self::Acked { result, .. } => result.as_ref().err().copied(),
            Self::Revoked { result, .. } => result.as_ref().err().copied(),
            Self::Grouped { result, .. } => result.as_ref().err().copied(),
            Self::Groups { result, .. } => result.as_ref().err().copied(),
            Self::Revocations { result, .. } => result.as_ref().err().copied(),
        }
    }
}
