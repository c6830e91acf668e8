//! What the server says of its own accord: section 4.

use clarion_protocol::Position;
use serde::Deserialize;

use super::json::{Json, present};

/// The payload of `$welcome`. Not `Debug`, since the ticket is a credential.
#[non_exhaustive]
pub struct Welcome {
    /// The session's public id.
    pub client: String,
    /// Whom it speaks for.
    pub user: String,
    /// What to come back with.
    pub ticket: Option<String>,
    /// How long the ticket is valid, in milliseconds.
    pub ticket_ttl_ms: Option<u64>,
    /// The session is that of the ticket.
    pub resumed: bool,
    /// What the server takes.
    pub limits: Limits,
    /// After how long without input the server sends a Ping, in milliseconds.
    pub heartbeat_ms: Option<u64>,
    /// When the token expires, in milliseconds since 1970.
    pub expires_at_ms: Option<u64>,
}

/// What the server allows a connection; a limit that is absent or 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
#[serde(default)]
pub struct Limits {
    /// Largest message to the server, in bytes.
    pub message_bytes: u64,
    /// Largest publication as it is delivered, in bytes.
    pub delivery_bytes: u64,
    /// Most rooms of one session.
    pub rooms: u64,
    /// Most entries of a page of history or members.
    pub page: u64,
    /// Most publications per second.
    pub publish_per_s: u64,
}

/// The payload of `$gap`: something in this room will never arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gap {
    /// Why: `trimmed`, `slow`, `epoch`, `unknown`, or what a later server calls it.
    pub reason: String,
    /// In a logged room the position from now on: the next publication is the one after it.
    pub position: Option<Position>,
    /// The first offset that is lost, if that is known.
    pub from: Option<u64>,
    /// The last offset that is lost, if that is known.
    pub to: Option<u64>,
}

/// The payload of `$members`, and the snapshot in a join's reply: only counts in a large room.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct MembersChange {
    /// Who came.
    pub joined: Option<Vec<Member>>,
    /// Who went.
    pub left: Option<Vec<Member>>,
    /// Who has another state or info.
    pub changed: Option<Vec<Member>>,
    /// Everybody.
    pub all: Option<Vec<Member>>,
    /// Sessions in the room.
    pub count: Option<u64>,
    /// Different users in the room.
    pub users: Option<u64>,
}

/// One session in a room.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Member {
    /// Which session.
    pub client: String,
    /// Whom it speaks for.
    pub user: Option<String>,
    /// What the token says about the user.
    #[serde(default, deserialize_with = "present")]
    pub info: Option<Json>,
    /// What the session set by `$state`.
    #[serde(default, deserialize_with = "present")]
    pub state: Option<Json>,
}
