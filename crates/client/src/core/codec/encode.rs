//! Commands of the client as text.

use std::fmt::Write as _;

use clarion_protocol::Position;
use clarion_protocol::command::TYPE_SIZE_MAX;
use serde::Serialize;

use crate::core::options::{HistoryOptions, JoinOptions, MembersOptions};

/// What of the metadata a client sends.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Metadata<'a> {
    /// About which room.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room: Option<&'a str>,
    /// Asks for a reply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// Makes it safe to repeat.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<&'a str>,
    /// Past the log.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ephemeral: bool,
    /// With `ephemeral`: not to me.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub echo: Option<bool>,
}

#[derive(Serialize)]
struct PositionPayload<'a> {
    epoch: &'a str,
    offset: u64,
}

impl<'a> From<&'a Position> for PositionPayload<'a> {
    fn from(position: &'a Position) -> Self {
        Self { epoch: position.epoch.as_str(), offset: position.offset }
    }
}

#[derive(Serialize)]
struct JoinPayload<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<PositionPayload<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<u64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    members: bool,
}

#[derive(Serialize)]
struct HistoryPayload<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<PositionPayload<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<PositionPayload<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u64>,
}

#[derive(Serialize)]
struct MembersPayload<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<&'a str>,
}

/// Writes one message. `payload` is JSON text and goes out as it is.
pub fn encode(kind: &str, payload: &str, metadata: Metadata<'_>) -> String {
    let (kind, metadata) = (json(&kind), json(&metadata));
    let size = kind.len() + payload.len() + metadata.len() + 40;
    let mut text = String::with_capacity(size);
    // Writing to a string does not fail.
    let _ = write!(text, r#"{{"type":{kind},"payload":{payload},"metadata":{metadata}}}"#);
    text
}

/// The payload of `$hello`. `rooms` are names with their [`join_payload`].
pub fn hello_payload(
    token: Option<&str>,
    ticket: Option<&str>,
    rooms: &[(&str, String)],
    sdk: &str,
) -> String {
    let mut text = "{".to_owned();
    for (name, value) in [("token", token), ("ticket", ticket)] {
        if let Some(value) = value {
            let _ = write!(text, r#""{name}":{},"#, json(&value));
        }
    }
    text.push_str(r#""rooms":{"#);
    for (index, (name, join)) in rooms.iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        let _ = write!(text, "{comma}{}:{join}", json(name));
    }
    let _ = write!(text, r#"}},"sdk":{}}}"#, json(&sdk));
    text
}

/// The payload of `$join`. A position replaces the `after` of the options.
pub fn join_payload(options: &JoinOptions, position: Option<&Position>) -> String {
    let after = position.or(options.after.as_ref()).map(Into::into);
    json(&JoinPayload { after, last: options.last, members: options.members })
}

/// The payload of `$history`.
pub fn history_payload(options: &HistoryOptions) -> String {
    let after = options.after.as_ref().map(Into::into);
    let before = options.before.as_ref().map(Into::into);
    json(&HistoryPayload { after, before, limit: options.limit })
}

/// The payload of `$members`.
pub fn members_payload(options: &MembersOptions) -> String {
    json(&MembersPayload { limit: options.limit, after: options.after.as_deref() })
}

/// The payload of `$ack`.
pub fn ack_payload(position: &Position) -> String {
    json(&PositionPayload::from(position))
}

/// The payload of `$refresh`.
pub fn refresh_payload(token: &str) -> String {
    format!(r#"{{"token":{}}}"#, json(&token))
}

/// Tells whether `kind` can be a publication's type: those with `$` are the protocol's.
pub(in crate::core) fn is_publication_type(kind: &str) -> bool {
    (1..=TYPE_SIZE_MAX).contains(&kind.len()) && !kind.starts_with('$')
}

/// Values of this file only: strings, integers, and structs of them, which always can be written.
fn json(value: &(impl Serialize + ?Sized)) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}
