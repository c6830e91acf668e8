//! What can be asked of a store.

use crate::completion::{Completion, StoreError};
use clarion_protocol::{Epoch, Offset, Publication, RoomName};
use std::sync::Arc;

/// How much of a log is kept. Whatever is reached first trims the oldest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLimits {
    /// Publications kept. Default 1,000.
    pub size: u32,
    /// Age at which a publication goes, milliseconds. Default 30 days.
    pub age_ms: u64,
    /// Bytes of type, payload and sender kept, as [`weight`] counts them. Default 16 MiB.
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
    /// Where does this log stand? Comes first for a room.
    Open {
        /// The engine's mark.
        token: u64,
        /// The log's name.
        room: RoomName,
        /// What the answer names as the epoch if there is no log, unless the store has one for that
        /// itself, which is the same after a restart; no log of this name ever had it. It is not made by
        /// that; the first append does, with the same epoch if its own `fresh` says so.
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
        /// The epoch of the log if this makes it. A caller gives one epoch to at most one append
        /// that may make a log: the log could have come and gone in between.
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
        /// The epoch of the empty page that is the answer if there is no log; `None` says that there
        /// should be one, so that its absence is an error.
        fresh: Option<Epoch>,
    },
    /// Says that everything up to `offset` has arrived. Cumulative: it only ever moves forward, not
    /// beyond the head, and is of no effect for another epoch than the log's or without a log.
    Ack {
        /// The engine's mark.
        token: u64,
        /// The log's name.
        room: RoomName,
        /// Of which log.
        epoch: Epoch,
        /// The last publication that arrived.
        offset: Offset,
    },
    /// Revokes what a subject was granted. A second one for the same subject can only extend it: the
    /// later of both times counts, each by itself.
    Revoke {
        /// The engine's mark.
        token: u64,
        /// Whose; any text.
        subject: Box<str>,
        /// When it was revoked, Unix milliseconds.
        at_ms: u64,
        /// When it may be forgotten, since nothing older is valid by then: Unix milliseconds.
        until_ms: u64,
    },
    /// Puts a user into a group, or takes it out. Groups are no logs: what is in `$group/<group>` is
    /// another matter.
    Group {
        /// The engine's mark.
        token: u64,
        /// The group.
        group: Box<str>,
        /// The user.
        user: Box<str>,
        /// Whether the user is in it from now on.
        member: bool,
    },
    /// Lists who is in which group, ascending by the bytes of the group, then of the user.
    Groups {
        /// The engine's mark.
        token: u64,
        /// Only what comes after this group and user.
        after: Option<(Box<str>, Box<str>)>,
        /// At most so many.
        limit: u32,
    },
    /// Lists the revocations that are not over, ascending by subject's bytes.
    Revocations {
        /// The engine's mark.
        token: u64,
        /// Only subjects after this one.
        after: Option<Box<str>>,
        /// At most so many.
        limit: u32,
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

impl Request {
    /// The engine's mark.
    #[must_use]
    pub fn token(&self) -> u64 {
        match self {
            Self::Open { token, .. }
            | Self::Append { token, .. }
            | Self::Read { token, .. }
            | Self::Ack { token, .. }
            | Self::Revoke { token, .. }
            | Self::Group { token, .. }
            | Self::Groups { token, .. }
            | Self::Revocations { token, .. } => *token,
        }
    }

    /// The log it is about, if it is about one.
    #[must_use]
    pub fn room(&self) -> Option<&RoomName> {
        match self {
            Self::Open { room, .. }
            | Self::Append { room, .. }
            | Self::Read { room, .. }
            | Self::Ack { room, .. } => Some(room),
            Self::Revoke { .. }
            | Self::Revocations { .. }
            | Self::Group { .. }
            | Self::Groups { .. } => None,
        }
    }

    /// Whether it changes something, and so has to become durable.
    #[must_use]
    pub fn writes(&self) -> bool {
        matches!(
            self,
            Self::Append { .. } | Self::Ack { .. } | Self::Revoke { .. } | Self::Group { .. }
        )
    }

    /// The completion that says why it was not done.
    #[must_use]
    pub fn refuse(&self, error: StoreError) -> Completion {
        let (token, result) = (self.token(), error);
        match self {
            Self::Open { .. } => Completion::Opened { token, result: Err(result) },
            Self::Append { .. } => Completion::Appended { token, result: Err(result) },
            Self::Read { .. } => Completion::Read { token, result: Err(result) },
            Self::Ack { .. } => Completion::Acked { token, result: Err(result) },
            Self::Revoke { .. } => Completion::Revoked { token, result: Err(result) },
            Self::Group { .. } => Completion::Grouped { token, result: Err(result) },
            Self::Groups { .. } => Completion::Groups { token, result: Err(result) },
            Self::Revocations { .. } => Completion::Revocations { token, result: Err(result) },
        }
    }
}

/// What a publication counts for in a log's bytes and in a page's: type, payload, and what the token
/// says about the sender.
#[must_use]
pub fn weight(publication: &Publication) -> usize {
    let sender = publication.from.as_ref().and_then(|from| from.info.as_ref());
    publication.kind.len() + publication.payload.len() + sender.map_or(0, |info| info.len())
}
