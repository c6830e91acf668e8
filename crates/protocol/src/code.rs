//! Error names and refusals: what the payload of an `$error` says. Section 6.

use std::borrow::Cow;
use std::fmt;

use crate::name::NameError;
use crate::position::Position;

/// The stable name of an error; its number follows HTTP's sense. Section 6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ErrorName {
    /// 400: the payload of a command is not what section 3 says.
    BadRequest,
    /// 400: the command needs a room, and this is none, or none that the command can be about.
    BadRoom,
    /// 400: the text is not JSON, or one of its three members or of the metadata is malformed.
    BadEnvelope,
    /// 400: an idempotency key on a publication that goes to no log.
    KeyNeedsLog,
    /// 401: nobody, or credentials that are not valid.
    Unauthenticated,
    /// 403: known, and not allowed.
    Forbidden,
    /// 404: the command is for members of the room.
    NotJoined,
    /// 404: the room has no log.
    NoHistory,
    /// 404: a type with `$` that this server does not take from a client.
    UnknownType,
    /// 409: a second `$join` of the same room.
    AlreadyJoined,
    /// 409: a second `$hello`.
    AlreadyWelcomed,
    /// 409: the position belongs to another log; the refusal carries the room's own.
    EpochChanged,
    /// 413: larger than the limit that is named beside it.
    TooLarge,
    /// 422: the publication is not what the room's settings demand of its type or payload.
    Schema,
    /// 429: more than the limit allows in this time.
    RateLimited,
    /// 503: a service behind the server is missing; nothing is wrong with the command.
    Unavailable,
}

impl ErrorName {
    /// Every name, by number.
    pub const ALL: &[Self] = &[
        Self::BadRequest,
        Self::BadRoom,
        Self::BadEnvelope,
        Self::KeyNeedsLog,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::NotJoined,
        Self::NoHistory,
        Self::UnknownType,
        Self::AlreadyJoined,
        Self::AlreadyWelcomed,
        Self::EpochChanged,
        Self::TooLarge,
        Self::Schema,
        Self::RateLimited,
        Self::Unavailable,
    ];

    /// The number, in HTTP's sense: also the status of the same failure over HTTP.
    pub fn code(self) -> u16 {
        match self {
            Self::BadRequest | Self::BadRoom | Self::BadEnvelope | Self::KeyNeedsLog => 400,
            Self::Unauthenticated => 401,
            Self::Forbidden => 403,
            Self::NotJoined | Self::NoHistory | Self::UnknownType => 404,
            Self::AlreadyJoined | Self::AlreadyWelcomed | Self::EpochChanged => 409,
            Self::TooLarge => 413,
            Self::Schema => 422,
            Self::RateLimited => 429,
            Self::Unavailable => 503,
        }
    }

    /// The name as it goes over the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::BadRoom => "bad_room",
            Self::BadEnvelope => "bad_envelope",
            Self::KeyNeedsLog => "key_needs_log",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::NotJoined => "not_joined",
            Self::NoHistory => "no_history",
            Self::UnknownType => "unknown_type",
            Self::AlreadyJoined => "already_joined",
            Self::AlreadyWelcomed => "already_welcomed",
            Self::EpochChanged => "epoch_changed",
            Self::TooLarge => "too_large",
            Self::Schema => "schema",
            Self::RateLimited => "rate_limited",
            Self::Unavailable => "unavailable",
        }
    }
}

impl fmt::Display for ErrorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a command was not carried out: everything that an `$error` tells about it.
///
/// The message is for a developer's eyes, states the rule, and contains nothing internal and nothing
/// that the peer sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What a program decides by.
    pub name: ErrorName,
    /// The rule, as a sentence.
    pub message: Cow<'static, str>,
    /// Which part of the message it is about, as a path from the envelope: `metadata.room`.
    pub field: Option<&'static str>,
    /// The limit that was passed, in the unit of what it limits: bytes, entries, per second.
    pub limit: Option<u64>,
    /// Whether the same command may be sent again and can succeed.
    pub temporary: bool,
    /// When to try again at the earliest, in milliseconds from now.
    pub retry_after_ms: Option<u64>,
    /// The room's own position, for [`ErrorName::EpochChanged`].
    pub position: Option<Position>,
}

impl Refusal {
    /// A refusal that is for good, of nothing in particular.
    pub fn new(name: ErrorName, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            name,
            message: message.into(),
            field: None,
            limit: None,
            temporary: false,
            retry_after_ms: None,
            position: None,
        }
    }

    /// Names the part of the message that this is about, as a path from the envelope.
    #[must_use]
    pub fn with_field(mut self, field: &'static str) -> Self {
        self.field = Some(field);
        self
    }

    /// Names the limit that was passed.
    #[must_use]
    pub fn with_limit(mut self, limit: u64) -> Self {
        self.limit = Some(limit);
        self
    }

    /// 400: `field` of the payload is not what section 3 says.
    pub fn bad_request(field: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorName::BadRequest, message).with_field(field)
    }

    /// 400: `field` of the envelope is malformed.
    pub fn bad_envelope(field: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorName::BadEnvelope, message).with_field(field)
    }

    /// 400: `field` holds a name that breaks `rule`.
    pub fn bad_room(field: &'static str, rule: NameError) -> Self {
        Self { limit: rule.limit(), ..Self::new(ErrorName::BadRoom, rule.message()) }
            .with_field(field)
    }

    /// 400: a key on a publication that goes to no log.
    pub fn key_needs_log() -> Self {
        Self::new(ErrorName::KeyNeedsLog, "only a publication that goes to a log can have a key")
            .with_field("metadata.key")
    }

    /// 401: nobody, or credentials that are not valid.
    pub fn unauthenticated(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorName::Unauthenticated, message)
    }

    /// 403: known, and not allowed.
    pub fn forbidden(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorName::Forbidden, message)
    }

    /// 404: the command is for members of the room.
    pub fn not_joined() -> Self {
        Self::new(ErrorName::NotJoined, "not a member of this room").with_field("metadata.room")
    }

    /// 404: the room has no log, so `field` asks for what cannot be.
    pub fn no_history(field: &'static str) -> Self {
        Self::new(ErrorName::NoHistory, "this room has no log").with_field(field)
    }

    /// 404: a type with `$` that the server does not take from a client.
    pub fn unknown_type() -> Self {
        Self::new(ErrorName::UnknownType, "the protocol has no such command").with_field("type")
    }

    /// 409: a second `$join` of the same room.
    pub fn already_joined() -> Self {
        Self::new(ErrorName::AlreadyJoined, "already a member of this room")
            .with_field("metadata.room")
    }

    /// 409: a second `$hello`.
    pub fn already_welcomed() -> Self {
        Self::new(ErrorName::AlreadyWelcomed, "this connection had its $welcome").with_field("type")
    }

    /// 409: the position is of another log than the room's, whose own is `position`.
    pub fn epoch_changed(position: Position) -> Self {
        Self {
            position: Some(position),
            ..Self::new(ErrorName::EpochChanged, "the room has a new log")
        }
    }

    /// 413: `field` is larger than `limit`.
    pub fn too_large(field: &'static str, limit: u64) -> Self {
        Self::new(ErrorName::TooLarge, "larger than the limit").with_field(field).with_limit(limit)
    }

    /// 422: the payload does not satisfy the room's JSON Schema.
    pub fn schema(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorName::Schema, message).with_field("payload")
    }

    /// 429: more than `limit` in its time; temporary.
    pub fn rate_limited(limit: u64, retry_after_ms: u64) -> Self {
        Self {
            temporary: true,
            retry_after_ms: Some(retry_after_ms),
            ..Self::new(ErrorName::RateLimited, "more than the limit allows in this time")
        }
        .with_limit(limit)
    }

    /// 503: a service behind the server is missing, or the outcome is unknown; temporary.
    pub fn unavailable(message: impl Into<Cow<'static, str>>) -> Self {
        Self { temporary: true, ..Self::new(ErrorName::Unavailable, message) }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.message)?;
        match self.field {
            Some(field) => write!(f, " ({field})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    // [6.names] [6.names.more]
    #[test]
    fn names_and_numbers_are_those_of_section_6() {
        let found = ErrorName::ALL.iter().map(|name| format!("{} {}", name.code(), name.as_str()));
        let written = [
            "400 bad_request",
            "400 bad_room",
            "400 bad_envelope",
            "400 key_needs_log",
            "401 unauthenticated",
            "403 forbidden",
            "404 not_joined",
            "404 no_history",
            "404 unknown_type",
            "409 already_joined",
            "409 already_welcomed",
            "409 epoch_changed",
            "413 too_large",
            "422 schema",
            "429 rate_limited",
            "503 unavailable",
        ];
        assert_eq!(found.collect::<Vec<_>>(), written);
    }

    #[test]
    fn names_are_distinct_and_sorted_by_code() {
        let mut names: Vec<_> = ErrorName::ALL.iter().map(|name| name.as_str()).collect();
        assert!(ErrorName::ALL.is_sorted_by_key(|name| name.code()));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ErrorName::ALL.len());
    }
}
