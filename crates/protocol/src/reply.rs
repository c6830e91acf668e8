//! What the server answers to a command that succeeded: the payloads of `$reply`. Section 3.

use crate::position::{Offset, Position};
use crate::publication::Publication;
use crate::push::{Member, MembersChange};

/// The payload of a `$reply`, by the command that it answers.
#[derive(Clone, Copy, Debug)]
pub enum Reply<'a> {
    /// To `$leave`, `$state` and `$ack`: `{}`.
    Empty,
    /// To `$join`.
    Joined(&'a Joined<'a>),
    /// To `$history`.
    History {
        /// The room's head.
        position: &'a Position,
        /// The oldest publication that the log still has; head + 1 if it has none.
        first: Offset,
        /// The page, ascending; encoded as the envelopes that were once delivered.
        publications: &'a [(Offset, &'a Publication)],
        /// Whether there is more in the direction of the request.
        more: bool,
    },
    /// To `$members`.
    Members {
        /// The page, by client id.
        members: &'a [Member<'a>],
        /// How many sessions are in the room.
        count: u64,
        /// How many different users they are.
        users: u64,
        /// Whether there are entries after the last of this page.
        more: bool,
    },
    /// To a publication.
    Published {
        /// Its place; `None` if it was not logged.
        position: Option<&'a Position>,
        /// When the server took it, in milliseconds since 1970.
        time_ms: u64,
        /// Whether the key was known, and this is the result of the first.
        duplicate: bool,
    },
    /// To `$refresh`.
    Refreshed {
        /// When the new token expires, in milliseconds since 1970; `None` if never.
        expires_at_ms: Option<u64>,
    },
}

/// Where a member starts: the reply to `$join` and the payload of `$joined`.
///
/// Section 3, "Joining".
#[derive(Clone, Debug, Default)]
pub struct Joined<'a> {
    /// The room's head at this moment; `None` in a room without log.
    pub position: Option<Position>,
    /// The first publication that follows; head + 1 if nothing is replayed. Set with `position`.
    pub from: Option<Offset>,
    /// Whether everything after the asked position follows. Set with `position`.
    pub recovered: Option<bool>,
    /// Who is there, if that was asked for: [`MembersChange::All`] or, in a large room,
    /// [`MembersChange::Counts`].
    pub members: Option<MembersChange<'a>>,
}
