//! The few things the generator must read and write of Clarion's envelopes.
//!
//! Parsing a thousand JSON objects per publication would cost the generator more than the server
//! spends to send them. The server writes an envelope without spaces and with its members in the
//! order type, payload, metadata, so three numbers can be found by the text before them. A server that
//! writes otherwise makes a run fail; it cannot make one succeed.

use std::sync::LazyLock;

use memchr::memmem::{self, Finder};

/// A search that is prepared once: preparing costs as much as searching a short message.
type Key = LazyLock<Finder<'static>>;
static NUMBER: Key = LazyLock::new(|| Finder::new(br#""n":"#));
static OFFSET: Key = LazyLock::new(|| Finder::new(br#""offset":"#));
static ID: Key = LazyLock::new(|| Finder::new(br#""id":"#));

/// The subprotocol of Clarion's JSON format.
pub(crate) const SUBPROTOCOL: &str = "clarion.v1.json";
/// The type of every publication of the generator.
pub(crate) const PUBLICATION: &str = "bench";

/// What a text message from the server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A publication of the generator.
    Publication,
    /// `$reply` or `$welcome`: the answer to a command.
    Answer,
    /// `$error`.
    Error,
    /// Anything else of the protocol, such as `$members`, or `$joined` for a room of the user's own.
    Push,
    /// No envelope of this protocol.
    Unknown,
}

/// Tells what a message is by its first bytes.
pub(crate) fn kind(text: &[u8]) -> Kind {
    let Some(name) = text.strip_prefix(br#"{"type":""#) else { return Kind::Unknown };
    if name.starts_with(b"bench\"") {
        return Kind::Publication;
    }
    if !name.starts_with(b"$") {
        return Kind::Unknown;
    }
    let is = |wanted: &[u8]| name[1..].starts_with(wanted);
    if is(b"reply\"") || is(b"welcome\"") {
        Kind::Answer
    } else if is(b"error\"") {
        Kind::Error
    } else {
        Kind::Push
    }
}

/// The sequence number that the generator wrote into a publication's payload.
pub(crate) fn sequence_number(text: &[u8]) -> Option<u64> {
    number_behind(text, &NUMBER)
}

/// The offset in the metadata of a publication, or in the payload of a reply.
pub(crate) fn offset(text: &[u8]) -> Option<u64> {
    number_behind(text, &OFFSET)
}

/// The numeric `metadata.id` of a reply; the generator uses it for publications only.
pub(crate) fn reply_id(text: &[u8]) -> Option<u64> {
    number_behind(text, &ID)
}

/// Whether a message answers the command with this `metadata.id`.
pub(crate) fn answers(text: &[u8], id: &str) -> bool {
    has(text, &format!(r#""id":"{id}""#))
}

/// Whether a message is about this room.
pub(crate) fn is_of(text: &[u8], room: &str) -> bool {
    has(text, &format!(r#""room":"{room}""#))
}

/// Whether this is somewhere in a message.
pub(crate) fn has(text: &[u8], part: &str) -> bool {
    memmem::find(text, part.as_bytes()).is_some()
}

/// The first member of this name whose value is a text without escapes, such as a ticket.
pub(crate) fn text_of(text: &[u8], name: &str) -> Option<String> {
    let name = format!(r#""{name}":""#);
    let value = &text[memmem::find(text, name.as_bytes())? + name.len()..];
    let value = &value[..memchr::memchr(b'"', value)?];
    Some(String::from_utf8_lossy(value).into_owned())
}

/// The first message of a session.
pub(crate) fn hello() -> String {
    r#"{"type":"$hello","payload":{"sdk":"clarion-bench/1"},"metadata":{"id":"hello"}}"#.to_owned()
}

/// Joins a room.
pub(crate) fn join(room: &str, members: bool, id: &str) -> String {
    let payload = if members { r#"{"members":true}"# } else { "{}" };
    format!(r#"{{"type":"$join","payload":{payload},"metadata":{{"room":"{room}","id":"{id}"}}}}"#)
}

/// Publishes number `n` with `padding` bytes of text, and asks for a reply.
pub(crate) fn publish(room: &str, n: u64, padding: usize) -> String {
    let padding = "x".repeat(padding);
    format!(
        r#"{{"type":"{PUBLICATION}","payload":{{"n":{n},"pad":"{padding}"}},"metadata":{{"room":"{room}","id":{n}}}}}"#
    )
}

/// What a member would receive for number `n`, filled up to `size` bytes.
///
/// The bare fan-out sends these bytes as they are, so the generator writes them.
pub(crate) fn delivery(room: &str, n: u64, size: usize) -> String {
    let head = format!(
        r#"{{"type":"{PUBLICATION}","payload":{{"n":{n}}},"metadata":{{"room":"{room}","offset":{},"pad":""#,
        n + 1
    );
    let tail = r#""}}"#;
    let padding = "x".repeat(size.saturating_sub(head.len() + tail.len()));
    format!("{head}{padding}{tail}")
}

fn number_behind(text: &[u8], key: &Finder<'_>) -> Option<u64> {
    let digits = &text[key.find(text)? + key.needle().len()..];
    let length = digits.iter().position(|byte| !byte.is_ascii_digit())?;
    if length == 0 || length > 19 {
        return None;
    }
    Some(digits[..length].iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::{
        Kind, answers, delivery, is_of, join, kind, offset, publish, reply_id, sequence_number,
        text_of,
    };

    const DELIVERED: &[u8] = br#"{"type":"bench","payload":{"n":41,"pad":"xx"},"metadata":{"room":"bench","offset":17,"epoch":"e1","time":"2026-01-01T12:00:00.000Z","from":{"client":"c","user":"g:1","info":null}}}"#;
    const REPLY: &[u8] = br#"{"type":"$reply","payload":{"offset":18,"epoch":"e1","time":"2026-01-01T12:00:00.000Z"},"metadata":{"id":42}}"#;

    #[test]
    fn kinds_are_told_by_the_type() {
        assert_eq!(kind(DELIVERED), Kind::Publication);
        assert_eq!(kind(REPLY), Kind::Answer);
        assert_eq!(kind(br#"{"type":"$welcome","payload":{}}"#), Kind::Answer);
        assert_eq!(kind(br#"{"type":"$error","payload":{}}"#), Kind::Error);
        assert_eq!(kind(br#"{"type":"$members","payload":{}}"#), Kind::Push);
        assert_eq!(kind(br#"{"type":"$joined","payload":{"offset":0}}"#), Kind::Push);
        assert_eq!(kind(br#"{"type":"benchmark","payload":{}}"#), Kind::Unknown);
        assert_eq!(kind(b"hello"), Kind::Unknown);
    }

    #[test]
    fn numbers_are_found_in_the_text() {
        assert_eq!(sequence_number(DELIVERED), Some(41));
        assert_eq!(offset(DELIVERED), Some(17));
        assert_eq!(reply_id(REPLY), Some(42));
        assert_eq!(offset(REPLY), Some(18));
    }

    #[test]
    fn what_is_no_number_is_not_found() {
        assert_eq!(offset(br#"{"offset":"17"}"#), None);
        assert_eq!(offset(br#"{"offset":17"#), None, "cut at the end");
        assert_eq!(offset(br#"{"offset":99999999999999999999}"#), None);
        assert_eq!(reply_id(br#"{"id":"join"}"#), None);
    }

    #[test]
    fn answer_is_recognised_by_id() {
        let text = br#"{"type":"$reply","payload":{},"metadata":{"id":"join"}}"#;
        assert!(answers(text, "join"));
        assert!(!answers(text, "hello"));
    }

    #[test]
    fn texts_and_rooms_are_found() {
        let joined = br#"{"type":"$joined","payload":{"epoch":"e1"},"metadata":{"room":"a/1"}}"#;
        assert_eq!(text_of(joined, "epoch").as_deref(), Some("e1"));
        assert_eq!(text_of(joined, "ticket"), None);
        assert_eq!(text_of(br#"{"ticket":"cut"#, "ticket"), None);
        assert!(is_of(joined, "a/1") && !is_of(joined, "a"));
    }

    #[test]
    fn written_messages_can_be_read() {
        assert_eq!(sequence_number(publish("bench", 7, 3).as_bytes()), Some(7));
        assert!(join("bench/1", true, "join").contains(r#"{"members":true}"#));
        for size in [100, 200, 1000] {
            let text = delivery("bench", 7, size);
            assert_eq!(text.len(), size);
            assert_eq!(kind(text.as_bytes()), Kind::Publication);
            assert_eq!(sequence_number(text.as_bytes()), Some(7));
            assert_eq!(offset(text.as_bytes()), Some(8));
        }
    }
}
