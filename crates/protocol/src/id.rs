//! Who is addressed inside a name: users and clients. Section 1.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::name::{NameError, check_segment};

/// Longest user id, group name and client id inside a room name, in bytes.
///
/// Smaller than a room name by enough that `$client/`, `$group/` and `$user/` always fit in front.
pub const SEGMENT_SIZE_MAX: usize = 96;

/// Length of a [`ClientId`] as text, in bytes.
pub const CLIENT_ID_SIZE: usize = 22;

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

#[cfg(test)]
mod tests {
    use super::*;

    // [3.session.client]
    #[test]
    fn client_id_comes_back_from_its_text() {
        let id = ClientId(std::array::from_fn(|index| index as u8 * 17));
        assert_eq!(id.to_string(), "ABEiM0RVZneImaq7zN3u_w");
        assert_eq!(ClientId::parse(&id.to_string()), Ok(id));
        assert!(UserId::validate_segment(&id.to_string()).is_ok());
    }

    #[test]
    fn client_id_has_one_text_only() {
        let texts = [
            "",
            "ABEiM0RVZneImaq7zN3u",
            "ABEiM0RVZneImaq7zN3u_w==",
            "ABEiM0RVZneImaq7zN3u/w",
            "ABEiM0RVZneImaq7zN3u_x",
            "ABEiM0RVZneImaq7zN3u_wAA",
        ];
        for text in texts {
            assert_eq!(ClientId::parse(text), Err(NameError::BadClientId), "{text}");
        }
    }
}
