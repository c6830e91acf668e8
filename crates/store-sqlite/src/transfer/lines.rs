//! The lines of an export: one JSON object each, with one member that says what it is.
//!
//! In this order: `export`; of each room `room`, its `publication`s from the oldest one kept, and the
//! `key`s that are remembered for it; `revocation`s; `group`s; `end`, which counts them, so
//! that a file that was cut short, or lost a line, is known as such.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// What the lines are of this version of the format.
pub(super) const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Line {
    Export(Head),
    Room(RoomLine),
    Publication(PublicationLine),
    Key(KeyLine),
    Revocation(RevocationLine),
    Group(GroupLine),
    End(Transferred),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Head {
    pub(super) version: u32,
    /// When the lines were written, Unix milliseconds.
    pub(super) time_ms: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RoomLine {
    pub(super) name: String,
    pub(super) epoch: String,
    pub(super) head: u64,
    pub(super) first: u64,
    pub(super) acked: u64,
    pub(super) age_ms: u64,
    pub(super) touched_ms: u64,
}

/// Of the room before it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PublicationLine {
    pub(super) offset: u64,
    pub(super) time_ms: u64,
    pub(super) r#type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) payload: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) payload_text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) from: Option<FromLine>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FromLine {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) client: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) info: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) info_text: Option<String>,
}

/// Of the room before it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyLine {
    pub(super) principal: String,
    pub(super) key: String,
    pub(super) offset: u64,
    pub(super) time_ms: u64,
    pub(super) expires_ms: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RevocationLine {
    pub(super) subject: String,
    pub(super) at_ms: u64,
    pub(super) until_ms: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GroupLine {
    pub(super) name: String,
    pub(super) user: String,
}

/// How much it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transferred {
    /// Logs.
    pub rooms: u64,
    /// Publications in them.
    pub publications: u64,
    /// Idempotency keys that are remembered.
    pub keys: u64,
    /// Revocations.
    pub revocations: u64,
    /// Users in groups, each once for every group.
    pub groups: u64,
}

/// JSON as it was sent: as itself, and as a string where that would not come back byte by byte, or
/// not be one line.
pub(super) fn json(text: &str) -> (Option<Box<RawValue>>, Option<String>) {
    // Null would come back as nothing at all.
    let plain = text != "null" && !text.contains(['\n', '\r']);
    let raw = plain.then(|| RawValue::from_string(text.to_owned()).ok()).flatten();
    match raw.filter(|raw| raw.get() == text) {
        Some(raw) => (Some(raw), None),
        None => (None, Some(text.to_owned())),
    }
}

/// The other way; `None` if there is nothing, or twice.
pub(super) fn text(raw: Option<Box<RawValue>>, text: Option<String>) -> Option<String> {
    match (raw, text) {
        (Some(raw), None) => Some(Box::<str>::from(raw).into_string()),
        (None, text) => text,
        (Some(_), Some(_)) => None,
    }
}
