//! What the server says by itself: the payloads of its pushes. Section 4.

use crate::id::ClientId;
use crate::position::{Offset, Position};

/// The payload of `$welcome`: who you are here.
///
/// Not `Debug`, since the ticket is a credential.
#[derive(Clone, Copy)]
pub struct Welcome<'a> {
    /// The session's public id.
    pub client: ClientId,
    /// Whom the session speaks for; a guest has an id, too.
    pub user: &'a str,
    /// What to come back with; opaque.
    pub ticket: &'a str,
    /// How long the ticket is valid, in milliseconds.
    pub ticket_ttl_ms: u64,
    /// Whether this is the session of the ticket that came in `$hello`.
    pub resumed: bool,
    /// What the server takes from this connection.
    pub limits: WelcomeLimits,
    /// After how long without input the server sends a Ping, in milliseconds.
    pub heartbeat_ms: u64,
    /// When the token expires, in milliseconds since 1970; `None` if never.
    pub expires_at_ms: Option<u64>,
}

/// The limits that a client can keep to if it knows them: `$welcome.limits`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WelcomeLimits {
    /// Largest message to the server, in bytes.
    pub message_bytes: u64,
    /// Largest publication as it is delivered, in bytes.
    pub delivery_bytes: u64,
    /// Most rooms of one session.
    pub rooms: u64,
    /// Most entries of a page of history or members.
    pub page: u64,
    /// Most publications per second; 0 is no limit.
    pub publish_per_s: u64,
}

/// One session in a room, as presence shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// Which session.
    pub client: ClientId,
    /// Whom it speaks for.
    pub user: &'a str,
    /// What the token says about the user, as raw JSON text.
    pub info: Option<&'a str>,
    /// What the session set by `$state`, as raw JSON text.
    pub state: Option<&'a str>,
}

/// The payload of `$members`, and the snapshot in a join's reply.
///
/// `count` is sessions and `users` different users, after the change.
#[derive(Clone, Copy, Debug)]
pub enum MembersChange<'a> {
    /// Who came, went or set another state since the last of these.
    Changed {
        /// Who came.
        joined: &'a [Member<'a>],
        /// Who went; only `client` and `user` are sent.
        left: &'a [Member<'a>],
        /// Who has another state or info.
        changed: &'a [Member<'a>],
        /// Sessions in the room.
        count: u64,
        /// Different users in the room.
        users: u64,
    },
    /// The room is too large for more than this.
    Counts {
        /// Sessions in the room.
        count: u64,
        /// Different users in the room.
        users: u64,
    },
    /// Everybody: the snapshot, and when the room is small enough again.
    All {
        /// Who is there.
        all: &'a [Member<'a>],
        /// Sessions in the room.
        count: u64,
        /// Different users in the room.
        users: u64,
    },
}

/// The payload of `$gap`: something in this room will never reach you.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Why.
    pub reason: GapReason,
    /// In a logged room the member's position from now on: the next publication is the one after it.
    pub position: Option<Position>,
    /// The first that was lost, if that is known.
    pub from: Option<Offset>,
    /// The last that was lost, if that is known.
    pub to: Option<Offset>,
}

/// Why there is a gap: `$gap.reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GapReason {
    /// The log no longer had what should have come next.
    Trimmed,
    /// The room has no log and this connection read too slowly.
    Slow,
    /// The room has a new log.
    Epoch,
    /// Something was lost between nodes, and nobody can tell what.
    Unknown,
}

impl GapReason {
    /// The reason as it goes over the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trimmed => "trimmed",
            Self::Slow => "slow",
            Self::Epoch => "epoch",
            Self::Unknown => "unknown",
        }
    }
}

/// Why the server made a session leave a room: `$left.reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LeftReason {
    /// An operator or the application removed it.
    Kicked,
    /// It is no longer allowed there.
    Forbidden,
    /// It is no longer in the group.
    Group,
    /// The room was deleted.
    Deleted,
}

impl LeftReason {
    /// The reason as it goes over the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kicked => "kicked",
            Self::Forbidden => "forbidden",
            Self::Group => "group",
            Self::Deleted => "deleted",
        }
    }
}
