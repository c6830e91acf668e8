//! One message of the server, by its type.

use std::borrow::Cow;

use serde::Deserialize;

use super::publication::Publication;
use super::push::{Gap, MembersChange, Welcome};
use super::reply::Joined;
use crate::core::errors::Refused;

/// One message of the server.
#[non_exhaustive]
pub enum Incoming<'a> {
    /// `$welcome`.
    Welcome(Box<Welcome>),
    /// `$reply`, by the id of the command; what is in it depends on that.
    Reply {
        /// The id; `None` if it is none of ours.
        id: Option<u64>,
        /// The payload as raw JSON text.
        payload: &'a str,
    },
    /// `$pong`.
    Pong {
        /// As in a reply.
        id: Option<u64>,
        /// As in a reply.
        payload: &'a str,
    },
    /// `$error`.
    Error {
        /// Of which command, if that had an id.
        id: Option<Id<'a>>,
        /// Of which room, if not.
        room: Option<Cow<'a, str>>,
        /// Of which publication, if not.
        key: Option<Cow<'a, str>>,
        /// What it says.
        refused: Box<Refused>,
    },
    /// `$refresh`: the token expires.
    Refresh {
        /// When, in milliseconds since 1970.
        expires_at_ms: Option<u64>,
    },
    /// `$reconnect`: come back in this slot.
    Reconnect {
        /// From now, in milliseconds.
        after_ms: u64,
        /// Where; the same place if absent.
        url: Option<String>,
    },
    /// `$joined`.
    Joined(Cow<'a, str>, Joined),
    /// `$left`, and why.
    Left(Cow<'a, str>, String),
    /// `$gap`.
    Gap(Cow<'a, str>, Gap),
    /// `$members`.
    Members(Cow<'a, str>, MembersChange),
    /// A publication.
    Publication(Box<Publication>),
    /// A type that this version does not know.
    Ignored,
}

/// `metadata.id` as the server repeats it. Ours are integers.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Id<'a> {
    /// One of ours, perhaps.
    Number(u64),
    /// Nobody here sends such a one.
    Text(#[serde(borrow)] Cow<'a, str>),
}

impl Id<'_> {
    pub(super) fn number(&self) -> Option<u64> {
        match self {
            Self::Number(id) => Some(*id),
            Self::Text(_) => None,
        }
    }
}
