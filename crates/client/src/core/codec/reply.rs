//! What the server answers: section 3.

use clarion_protocol::Position;
use serde::Deserialize;

use super::publication::Publication;
use super::push::{Member, MembersChange};

/// The reply to a `$join`, and the payload of `$joined`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Joined {
    /// The room's head; `None` in a room without log.
    pub position: Option<Position>,
    /// The first publication that follows.
    pub from: Option<u64>,
    /// Whether everything after the asked position follows.
    pub recovered: bool,
    /// Who is there, if that was asked for.
    pub members: Option<MembersChange>,
}

/// The server accepted a publication, to the durability of its room.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ack {
    /// Its place; `None` when it was not logged.
    pub position: Option<Position>,
    /// When the server took it, in milliseconds since 1970; 0 if it did not say.
    pub time_ms: u64,
    /// The same key had been accepted before, and this is that publication.
    pub duplicate: bool,
    /// The key it was sent with.
    pub key: Option<String>,
}

/// A part of a room's log, ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HistoryPage {
    /// The newest place of the log.
    pub position: Position,
    /// The oldest offset that the log still has.
    pub first: u64,
    /// What there is.
    pub publications: Vec<Publication>,
    /// There is more in the direction that was asked for.
    pub more: bool,
}

/// A part of who is in a room, by client id.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct MembersPage {
    /// The entries.
    pub members: Vec<Member>,
    /// Sessions in the room.
    pub count: u64,
    /// Different users in the room.
    pub users: u64,
    /// There are entries after the last of this page.
    pub more: bool,
}
