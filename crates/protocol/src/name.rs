//! Names of rooms: section 1.
//!
//! A value of these types is valid by construction, so nothing behind the codec checks a name again.
//! Users and clients are in [`crate::id`]; what the settings match names with is in
//! [`crate::pattern`].

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::sync::Arc;

use crate::id::{ClientId, UserId};

/// Longest room name and pattern, in bytes.
pub const ROOM_NAME_SIZE_MAX: usize = 128;

/// The name of a room, valid and owned; cloning it copies a pointer.
///
/// At most 128 bytes; segments of `[A-Za-z0-9_.:@|+=~-]+` separated by single `/`; no empty, `.` or
/// `..` segment. A leading `$` only in `$all`, `$client/<id>`, `$user/<id>` and `$group/<name>`.
/// Nothing in a valid name ever needs escaping in JSON.
///
/// Section 1.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomName(Arc<str>);

impl RoomName {
    /// Checks `name` and takes a copy.
    ///
    /// # Errors
    /// The first rule that `name` breaks.
    pub fn parse(name: &str) -> Result<Self, NameError> {
        check_room(name)?;
        Ok(Self(name.into()))
    }

    /// The room that reaches every device of one user: `$user/<id>`.
    pub fn user(user: &UserId) -> Self {
        Self(format!("$user/{user}").into())
    }

    /// The room that reaches one session: `$client/<id>`.
    pub fn client(client: ClientId) -> Self {
        Self(format!("$client/{client}").into())
    }

    /// The room of a group: `$group/<name>`.
    ///
    /// # Errors
    /// If `group` is not one segment of at most 96 bytes.
    pub fn group(group: &str) -> Result<Self, NameError> {
        UserId::validate_segment(group)?;
        Ok(Self(format!("$group/{group}").into()))
    }

    /// The room that reaches every session: `$all`.
    pub fn all() -> Self {
        Self("$all".into())
    }

    /// What the name addresses.
    pub fn kind(&self) -> RoomKind<'_> {
        RoomKind::of(&self.0)
    }

    /// The name as it goes over the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RoomName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RoomName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

// `Hash`, `Eq` and `Ord` are those of the text, as `Borrow` demands: a map with `RoomName` keys is
// looked up by `&str` without an allocation.
impl Borrow<str> for RoomName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for RoomName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for RoomName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        Self::parse(name)
    }
}

/// The name of a room, valid and where possible borrowed from the message that carried it.
///
/// For publishing, which should find its room in a map without allocating a name first; see
/// `Borrow<str>` on [`RoomName`].
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RoomRef<'a>(Cow<'a, str>);

impl<'a> RoomRef<'a> {
    /// Checks `name` and keeps it.
    ///
    /// # Errors
    /// The first rule that `name` breaks.
    pub fn parse(name: impl Into<Cow<'a, str>>) -> Result<Self, NameError> {
        let name = name.into();
        check_room(&name)?;
        Ok(Self(name))
    }

    /// What the name addresses.
    pub fn kind(&self) -> RoomKind<'_> {
        RoomKind::of(&self.0)
    }

    /// The name as it goes over the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The owned form; allocates.
    pub fn to_name(&self) -> RoomName {
        RoomName(self.0.as_ref().into())
    }
}

impl fmt::Display for RoomRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RoomRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl From<RoomRef<'_>> for RoomName {
    fn from(name: RoomRef<'_>) -> Self {
        name.to_name()
    }
}

/// What a room's name addresses: section 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoomKind<'a> {
    /// A room that clients join and leave: no leading `$`.
    Plain,
    /// `$client/<id>`: one session. The text is any segment; it names nobody if it is no [`ClientId`].
    Client(&'a str),
    /// `$user/<id>`: all sessions of one user.
    User(&'a str),
    /// `$group/<name>`: the sessions whose token or operator put them there.
    Group(&'a str),
    /// `$all`: every session.
    All,
}

impl<'a> RoomKind<'a> {
    /// Sorts a name that was checked before.
    fn of(name: &'a str) -> Self {
        match name.strip_prefix('$').and_then(split_special) {
            Some(kind) => kind,
            None => Self::Plain,
        }
    }

    /// Whether the server joins and leaves this room on a session's behalf: every `$` name.
    pub fn is_special(&self) -> bool {
        !matches!(self, Self::Plain)
    }
}

/// The rule that a name breaks; always the fault of whoever chose the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    /// There is no name.
    Empty,
    /// It has more than `limit` bytes.
    TooLong {
        /// The most that are allowed, in bytes.
        limit: usize,
    },
    /// A character outside `[A-Za-z0-9_.:@|+=~-]` and `/`.
    BadCharacter,
    /// A leading, trailing or doubled `/`.
    EmptySegment,
    /// A segment that is `.` or `..`.
    DotSegment,
    /// A leading `$` that is none of `$all`, `$client/<id>`, `$user/<id>`, `$group/<name>`.
    UnknownSpecial,
    /// Not 22 characters of canonical base64url.
    BadClientId,
}

impl NameError {
    /// The rule, as a sentence for the peer.
    pub fn message(self) -> &'static str {
        match self {
            Self::Empty => "a name has at least one character",
            Self::TooLong { .. } => "the name is too long",
            Self::BadCharacter => "names consist of A-Z a-z 0-9 _ . : @ | + = ~ - and /",
            Self::EmptySegment => "a name has no empty segment",
            Self::DotSegment => "no segment of a name is . or ..",
            Self::UnknownSpecial => {
                "names with $ are $all, $client/<id>, $user/<id> and $group/<name>"
            }
            Self::BadClientId => "a client id is 22 characters of base64url",
        }
    }

    /// The limit that was passed, in bytes, if it was one.
    pub fn limit(self) -> Option<u64> {
        match self {
            Self::TooLong { limit } => Some(limit as u64),
            _ => None,
        }
    }
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for NameError {}

fn check_room(name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > ROOM_NAME_SIZE_MAX {
        return Err(NameError::TooLong { limit: ROOM_NAME_SIZE_MAX });
    }
    if let Some(special) = name.strip_prefix('$') {
        return match split_special(special).ok_or(NameError::UnknownSpecial)? {
            RoomKind::All | RoomKind::Plain => Ok(()),
            RoomKind::Client(id) | RoomKind::User(id) | RoomKind::Group(id) => {
                UserId::validate_segment(id)
            }
        };
    }
    name.split('/').try_for_each(check_segment)
}

/// Sorts what follows the `$`; `None` if it is none of the four.
fn split_special(name: &str) -> Option<RoomKind<'_>> {
    match name.split_once('/') {
        None if name == "all" => Some(RoomKind::All),
        Some(("client", id)) => Some(RoomKind::Client(id)),
        Some(("user", id)) => Some(RoomKind::User(id)),
        Some(("group", id)) => Some(RoomKind::Group(id)),
        _ => None,
    }
}

pub(crate) fn check_segment(segment: &str) -> Result<(), NameError> {
    match segment {
        "" => Err(NameError::EmptySegment),
        "." | ".." => Err(NameError::DotSegment),
        _ if segment.bytes().all(is_name_byte) => Ok(()),
        _ => Err(NameError::BadCharacter),
    }
}

fn is_name_byte(byte: u8) -> bool {
    const TABLE: [bool; 256] = {
        let mut table = [false; 256];
        let allowed = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:@|+=~-";
        let mut index = 0;
        while index < allowed.len() {
            table[allowed[index] as usize] = true;
            index += 1;
        }
        table
    };
    TABLE[byte as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    // [1.name.segments] [1.name.dots] [1.name.dollar]
    #[test]
    fn room_names_keep_the_rules_of_section_1() {
        let valid = [
            "a",
            "general",
            "chat/berlin",
            "doc/42",
            "A-Z_0.9:@|+=~",
            "...",
            "a/..b/.c",
            "$all",
            "$client/x",
            "$user/ada@example.org",
            "$group/team:7",
        ];
        for name in valid {
            assert_eq!(RoomName::parse(name).map(|room| room.to_string()), Ok(name.to_owned()));
        }
        let invalid = [
            ("", NameError::Empty),
            ("/", NameError::EmptySegment),
            ("/a", NameError::EmptySegment),
            ("a/", NameError::EmptySegment),
            ("a//b", NameError::EmptySegment),
            (".", NameError::DotSegment),
            ("a/../b", NameError::DotSegment),
            ("a b", NameError::BadCharacter),
            ("*", NameError::BadCharacter),
            ("a$", NameError::BadCharacter),
            ("a/$all", NameError::BadCharacter),
            ("k\u{f6}ln", NameError::BadCharacter),
            ("$", NameError::UnknownSpecial),
            ("$foo", NameError::UnknownSpecial),
            ("$foo/x", NameError::UnknownSpecial),
            ("$all/x", NameError::UnknownSpecial),
            ("$user", NameError::UnknownSpecial),
            ("$$all", NameError::UnknownSpecial),
            ("$user/", NameError::Empty),
            ("$user/..", NameError::DotSegment),
            ("$user/a/b", NameError::BadCharacter),
        ];
        for (name, rule) in invalid {
            assert_eq!(RoomName::parse(name), Err(rule), "{name:?}");
            assert_eq!(RoomRef::parse(name), Err(rule), "{name:?}");
        }
    }

    // [1.name.length] [1.name.ids]
    #[test]
    fn names_have_at_most_128_bytes_and_ids_96() {
        assert!(RoomName::parse(&"a".repeat(128)).is_ok());
        assert_eq!(RoomName::parse(&"a".repeat(129)), Err(NameError::TooLong { limit: 128 }));
        let special = |size| RoomName::parse(&format!("$client/{}", "a".repeat(size)));
        assert!(special(96).is_ok());
        assert_eq!(special(97), Err(NameError::TooLong { limit: 96 }));
    }

    #[test]
    fn kind_says_what_is_addressed() {
        let client = ClientId([7; 16]);
        let user = UserId::parse("ada").expect("valid");
        assert_eq!(RoomName::user(&user).kind(), RoomKind::User("ada"));
        assert_eq!(RoomName::client(client).kind(), RoomKind::Client(&client.to_string()));
        assert_eq!(RoomName::group("team").expect("valid").kind(), RoomKind::Group("team"));
        assert_eq!(RoomName::all().kind(), RoomKind::All);
        assert_eq!(RoomName::parse("user/ada").expect("valid").kind(), RoomKind::Plain);
        assert_eq!(RoomName::group("a/b"), Err(NameError::BadCharacter));
    }
}
