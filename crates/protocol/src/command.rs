//! What a client asks, decoded and checked as far as that needs no state: section 3.
//!
//! These types are the same for every wire format. Sizes and shapes are checked by the codec;
//! permissions, membership and the room's settings are the engine's to check.

use std::borrow::Cow;
use std::fmt;

use crate::code::Refusal;
use crate::id::ClientId;
use crate::name::{RoomName, RoomRef};
use crate::position::Position;

/// Longest `type`, in bytes.
pub const TYPE_SIZE_MAX: usize = 64;
/// Longest `metadata.key`, in bytes.
pub const KEY_SIZE_MAX: usize = 64;
/// Longest `metadata.id` that is a string, in bytes.
pub const ID_SIZE_MAX: usize = 64;
/// Longest `$hello.sdk`, in bytes.
pub const SDK_SIZE_MAX: usize = 64;
/// Largest presence state, in bytes of its JSON text.
pub const STATE_SIZE_MAX: usize = 1024;
/// How deep arrays and objects may be nested in a payload.
///
/// The depth at which every parser that our SDKs stand on still works, with the envelope around it:
/// serde_json stops at 128, PHP at 512, Python at about 1000. Without it one publisher could make
/// every other member's parser fail.
pub const PAYLOAD_DEPTH_MAX: usize = 100;

/// One message of a client: a command and what its answer will be addressed by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incoming<'a> {
    /// Asks for a reply, and is repeated in it.
    pub id: Option<CommandId>,
    /// `metadata.room` as it was sent, also where the command has no use for it.
    pub room: Option<Cow<'a, str>>,
    /// `metadata.key` as it was sent, also where the command has no use for it.
    pub key: Option<Cow<'a, str>>,
    /// What is asked.
    pub command: Command<'a>,
}

/// What a client asks: one variant per type of section 3, and all application types as one.
///
/// Raw JSON text is without the whitespace around it and otherwise as it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// `$hello`: who this is, and in which rooms it wants to be.
    Hello(Hello),
    /// `$join`: become a member. Never a `$` room.
    Join {
        /// Which.
        room: RoomName,
        /// From where, and with what.
        join: Join,
    },
    /// `$leave`: be a member no more. Never a `$` room.
    Leave {
        /// Which.
        room: RoomName,
    },
    /// `$history`: read the log, ascending, bounds exclusive.
    ///
    /// At most one of the bounds is set. With neither it is the newest `limit`.
    History {
        /// Of which room.
        room: RoomName,
        /// The first `limit` above this.
        after: Option<Position>,
        /// The last `limit` below this.
        before: Option<Position>,
        /// How many at most, in publications; the server's page limit holds, too. 0 asks for the
        /// position alone.
        limit: u32,
    },
    /// `$members`: who is there, a page at a time by client id.
    Members {
        /// In which room.
        room: RoomName,
        /// How many at most, in entries; the server's page limit holds, too.
        limit: Option<u32>,
        /// The last entry of the page before.
        after: Option<ClientId>,
    },
    /// `$state`: my presence state in the room.
    State {
        /// In which room.
        room: RoomName,
        /// Raw JSON text of at most 1 KiB.
        value: &'a str,
    },
    /// `$ack`: this user has read so far. Always a `$user` room; that it is one's own is unchecked.
    Ack {
        /// Whose.
        room: RoomName,
        /// How far.
        position: Position,
    },
    /// `$refresh`: a new token of the same user.
    Refresh {
        /// The token.
        token: Credential,
    },
    /// `$ping`: answered by `$pong`.
    Ping {
        /// Raw JSON text, to be sent back.
        payload: &'a str,
    },
    /// Any type without `$`: a publication.
    Publish {
        /// To which room.
        room: RoomRef<'a>,
        /// The type: 1 to 64 bytes.
        kind: Cow<'a, str>,
        /// Raw JSON text.
        payload: &'a str,
        /// Idempotency key, 1 to 64 bytes. Never with `ephemeral`.
        key: Option<Cow<'a, str>>,
        /// To nobody but those who are there now, past the log.
        ephemeral: bool,
        /// Whether the publisher gets it, too. Never `false` without `ephemeral`.
        echo: bool,
    },
}

impl Command<'_> {
    /// The envelope's `type`: what `payload.command` of an `$error` says.
    pub fn kind(&self) -> &str {
        match self {
            Self::Hello(_) => "$hello",
            Self::Join { .. } => "$join",
            Self::Leave { .. } => "$leave",
            Self::History { .. } => "$history",
            Self::Members { .. } => "$members",
            Self::State { .. } => "$state",
            Self::Ack { .. } => "$ack",
            Self::Refresh { .. } => "$refresh",
            Self::Ping { .. } => "$ping",
            Self::Publish { kind, .. } => kind,
        }
    }
}

/// `$hello`: section 3, "Who is this".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// A token.
    pub token: Option<Credential>,
    /// The ticket of the session to resume.
    pub ticket: Option<Credential>,
    /// The complete wanted set, in the order in which it was sent; no room twice.
    ///
    /// May contain `$` rooms: for those an entry gives the position only.
    pub rooms: Vec<(RoomName, Join)>,
    /// Name and version of the client's library, at most 64 bytes.
    pub sdk: Option<String>,
}

/// A token or ticket as the client sent it, unchecked.
///
/// It never reaches a log (section 7), so `{:?}` does not show it either.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential(Box<str>);

impl std::ops::Deref for Credential {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<T: Into<Box<str>>> From<T> for Credential {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(..)")
    }
}

/// How to join a room: the payload of `$join`. The default is live only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Join {
    /// Replay everything after this.
    pub after: Option<Position>,
    /// Replay the newest so many, if there is no `after` or it is no longer in the log.
    pub last: Option<u32>,
    /// Whether to get a snapshot of the members and their changes.
    pub members: bool,
}

/// What a client calls its command by, so as to know the reply: `metadata.id`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CommandId {
    /// 0 to 2^53 - 1.
    Number(u64),
    /// At most 64 bytes.
    Text(Box<str>),
}

/// A message that is no command, and as much of it as an `$error` needs to be understood.
///
/// The parts are salvaged where they could be read: a member that is missing, malformed, given twice
/// or over its limit is `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Why.
    pub refusal: Refusal,
    /// `metadata.id`.
    pub id: Option<CommandId>,
    /// `metadata.room`: at most 128 bytes, not necessarily a valid name.
    pub room: Option<Box<str>>,
    /// `metadata.key`.
    pub key: Option<Box<str>>,
    /// The envelope's `type`.
    pub kind: Option<Box<str>>,
}
