//! Names of rooms, users and clients: section 1.
//!
//! A value of these types is valid by construction, so nothing behind the codec checks a name again.
//! Matching of rooms by the settings is in [`crate::pattern`].

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Longest room name and pattern, in bytes.
pub const ROOM_NAME_SIZE_MAX: usize = 128;

/// Longest user id, group name and client id inside a room name, in bytes.
///
/// Smaller than a room name by enough that `$client/`, `$group/` and `$user/` always fit in front.
pub const SEGMENT_SIZE_MAX: usize = 96;

/// Length of a [`ClientId`] as text, in bytes.
pub const CLIENT_ID_SIZE: usize = 22;

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

/// The id of a user: one segment of a room name, at most 96 bytes. Cloning it copies a pointer.
///
/// Tokens with any other subject are refused (section 1), so `$user/<id>` always exists.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(Arc<str>);

impl UserId {
    /// Checks `id` and takes a copy.
    ///
    /// # Errors
    /// The first rule that `id` breaks.
    pub fn parse(id: &str) -> Result<Self, NameError> {
        Self::validate_segment(id)?;
        Ok(Self(id.into()))
    }

    /// Checks that `id` can be a user id or a group name.
    ///
    /// # Errors
    /// The first rule that `id` breaks.
    pub fn validate_segment(id: &str) -> Result<(), NameError> {
        if id.is_empty() {
            return Err(NameError::Empty);
        }
        if id.len() > SEGMENT_SIZE_MAX {
            return Err(NameError::TooLong { limit: SEGMENT_SIZE_MAX });
        }
        check_segment(id)
    }

    /// The id as it goes over the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl Borrow<str> for UserId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for UserId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for UserId {
    type Err = NameError;

    fn from_str(id: &str) -> Result<Self, NameError> {
        Self::parse(id)
    }
}

/// The public id of a session: 128 random bits, stable over reconnects, never a credential.
///
/// Its text is 22 characters of base64url without padding, which is one valid segment.
///
/// Section 3, "A session is what its ticket says".
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(pub [u8; 16]);

impl ClientId {
    /// Reads the text form; only the one that [`Self::text`] writes.
    ///
    /// # Errors
    /// [`NameError::BadClientId`] if it is not 22 characters of canonical base64url.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let mut id = [0; 16];
        match URL_SAFE_NO_PAD.decode_slice(text, &mut id) {
            Ok(16) if text.len() == CLIENT_ID_SIZE => Ok(Self(id)),
            _ => Err(NameError::BadClientId),
        }
    }

    /// The text form, without an allocation; all of it is ASCII.
    pub fn text(&self) -> [u8; CLIENT_ID_SIZE] {
        let mut text = [0; CLIENT_ID_SIZE];
        let written = URL_SAFE_NO_PAD.encode_slice(self.0, &mut text);
        debug_assert_eq!(written, Ok(CLIENT_ID_SIZE), "16 bytes are 22 digits of base64");
        text
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.text()).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for ClientId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse(text)
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
