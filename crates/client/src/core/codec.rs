//! The wire: one JSON object per WebSocket text message (sections 2 to 4).
//!
//! Only this file turns text into values and back; a binary form would take its place. It reads
//! leniently, as section 2 asks of clients: what it does not know it ignores.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clarion_protocol::command::TYPE_SIZE_MAX;
use clarion_protocol::time::parse_rfc3339_ms;
use clarion_protocol::{Epoch, Position};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use super::errors::Refused;
use super::options::{HistoryOptions, JoinOptions, MembersOptions};

/// Raw JSON text that is delivered as it was sent.
#[derive(Clone, Debug)]
pub struct Json(Box<RawValue>);

impl Json {
    /// Writes `value` as JSON.
    ///
    /// # Errors
    /// What the value's `Serialize` returns, or that a key of a map is no string.
    pub fn new(value: &(impl Serialize + ?Sized)) -> Result<Self, serde_json::Error> {
        serde_json::value::to_raw_value(value).map(Self)
    }

    /// Takes text that is JSON already.
    ///
    /// # Errors
    /// The text is not one JSON value.
    pub fn from_text(text: impl Into<String>) -> Result<Self, serde_json::Error> {
        RawValue::from_string(text.into()).map(Self)
    }

    /// The text, byte for byte, without white space around it.
    pub fn text(&self) -> &str {
        self.0.get()
    }

    /// Reads the value.
    ///
    /// # Errors
    /// It is not what `T` wants, or nothing that `serde_json` can represent.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.text())
    }
}

impl Default for Json {
    /// `null`.
    fn default() -> Self {
        Self(RawValue::NULL.to_owned())
    }
}

/// Equal if the text is: `1` and `1.0` are not.
impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Eq for Json {}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(Self)
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// One item in a room.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Publication {
    /// The envelope's `type`.
    pub kind: String,
    /// What was published.
    pub payload: Json,
    /// Where.
    pub room: String,
    /// Its place in the room's log; `None` if it was not logged.
    pub position: Option<Position>,
    /// When the server took it, in milliseconds since 1970; neither unique nor monotonic: order by
    /// offset. 0 if the server did not say.
    pub time_ms: u64,
    /// Who published.
    pub from: Sender,
    /// Its idempotency key, if it had one.
    pub key: Option<String>,
}

impl Publication {
    /// When the server took it.
    pub fn time(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.time_ms)
    }
}

/// Who published. What is absent was not set by the HTTP API.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct Sender {
    /// The session; one's own publications are recognised by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// The user whom the session speaks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// What the token says about the user.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub info: Option<Json>,
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

/// The reply to a `$join`, and the payload of `$joined`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Joined {
    /// The room's head; `None` in a room without log.
    pub position: Option<Position>,
    /// The first publication that follows.
    pub from: Option<u64>,
    /// Whether everything after the asked position follows.
    pub recovered: bool,
    /// Who is there, if that was asked for.
    pub members: Option<MembersChange>,
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

/// The server accepted a publication, to the durability of its room.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ack {
    /// Its place; `None` when it was not logged.
    pub position: Option<Position>,
    /// When the server took it, in milliseconds since 1970; 0 if it did not say.
    pub time_ms: u64,
    /// The same key had been accepted before, and this is that publication.
    pub duplicate: bool,
    /// The key it was sent with.
    pub key: Option<String>,
}

/// A part of a room's log, ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HistoryPage {
    /// The newest place of the log.
    pub position: Position,
    /// The oldest offset that the log still has.
    pub first: u64,
    /// What there is.
    pub publications: Vec<Publication>,
    /// There is more in the direction that was asked for.
    pub more: bool,
}

/// A part of who is in a room, by client id.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct MembersPage {
    /// The entries.
    pub members: Vec<Member>,
    /// Sessions in the room.
    pub count: u64,
    /// Different users in the room.
    pub users: u64,
    /// There are entries after the last of this page.
    pub more: bool,
}

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
    fn number(&self) -> Option<u64> {
        match self {
            Self::Number(id) => Some(*id),
            Self::Text(_) => None,
        }
    }
}

#[derive(Deserialize)]
struct RawEnvelope<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "present")]
    payload: Option<&'a RawValue>,
    #[serde(borrow, default)]
    metadata: RawMetadata<'a>,
}

#[derive(Default, Deserialize)]
struct RawMetadata<'a> {
    #[serde(borrow)]
    room: Option<Cow<'a, str>>,
    #[serde(borrow)]
    id: Option<Id<'a>>,
    #[serde(borrow)]
    key: Option<Cow<'a, str>>,
    #[serde(borrow)]
    epoch: Option<Cow<'a, str>>,
    offset: Option<u64>,
    #[serde(borrow)]
    time: Option<Cow<'a, str>>,
    from: Option<Sender>,
}

#[derive(Deserialize)]
struct RawWelcome {
    client: String,
    user: String,
    ticket: Option<String>,
    ticket_ttl_ms: Option<u64>,
    #[serde(default)]
    resumed: bool,
    #[serde(default)]
    limits: Limits,
    heartbeat_ms: Option<u64>,
    expires_at: Option<String>,
}

#[derive(Deserialize)]
struct RawRefused {
    code: u16,
    name: String,
    #[serde(default)]
    message: String,
    field: Option<String>,
    limit: Option<u64>,
    #[serde(default)]
    temporary: bool,
    retry_after_ms: Option<u64>,
    close: Option<u16>,
    command: Option<String>,
    suppressed: Option<u64>,
    epoch: Option<String>,
    offset: Option<u64>,
}

#[derive(Deserialize)]
struct RawJoined {
    epoch: Option<String>,
    offset: Option<u64>,
    from: Option<u64>,
    #[serde(default)]
    recovered: bool,
    members: Option<MembersChange>,
}

#[derive(Deserialize)]
struct RawGap {
    reason: String,
    epoch: Option<String>,
    offset: Option<u64>,
    from: Option<u64>,
    to: Option<u64>,
}

#[derive(Deserialize)]
struct RawLeft {
    reason: String,
}

#[derive(Deserialize)]
struct RawReconnect {
    #[serde(default)]
    after_ms: u64,
    url: Option<String>,
}

#[derive(Deserialize)]
struct RawExpiry {
    expires_at: Option<String>,
}

#[derive(Deserialize)]
struct RawAck {
    epoch: Option<String>,
    offset: Option<u64>,
    time: Option<String>,
    #[serde(default)]
    duplicate: bool,
}

#[derive(Deserialize)]
struct RawHistory<'a> {
    epoch: String,
    offset: u64,
    #[serde(default)]
    first: u64,
    #[serde(borrow)]
    publications: Vec<&'a RawValue>,
    #[serde(default)]
    more: bool,
}

/// Reads one message of the server.
///
/// # Errors
/// It is no envelope, or its payload is not what its type promises.
pub fn decode(text: &str) -> Result<Incoming<'_>, serde_json::Error> {
    let RawEnvelope { kind, payload, metadata } = serde_json::from_str(text)?;
    let payload = payload.map_or("null", RawValue::get);
    if !kind.starts_with('$') {
        return publication(kind, payload, metadata).map(Incoming::Publication);
    }
    let RawMetadata { room, id, key, .. } = metadata;
    let of_room = || room.clone().ok_or_else(|| broken("metadata.room is missing"));
    Ok(match &*kind {
        "$welcome" => Incoming::Welcome(Box::new(welcome(payload)?)),
        "$reply" => Incoming::Reply { id: id.as_ref().and_then(Id::number), payload },
        "$pong" => Incoming::Pong { id: id.as_ref().and_then(Id::number), payload },
        "$error" => Incoming::Error { id, room, key, refused: Box::new(refused(payload)?) },
        "$refresh" => Incoming::Refresh { expires_at_ms: expires_at_ms(payload)? },
        "$reconnect" => {
            let RawReconnect { after_ms, url } = serde_json::from_str(payload)?;
            Incoming::Reconnect { after_ms, url }
        }
        "$joined" => Incoming::Joined(of_room()?, joined(payload)?),
        "$left" => Incoming::Left(of_room()?, serde_json::from_str::<RawLeft>(payload)?.reason),
        "$gap" => Incoming::Gap(of_room()?, gap(payload)?),
        "$members" => Incoming::Members(of_room()?, serde_json::from_str(payload)?),
        _ => Incoming::Ignored,
    })
}

fn publication(
    kind: Cow<'_, str>,
    payload: &str,
    metadata: RawMetadata<'_>,
) -> Result<Box<Publication>, serde_json::Error> {
    let RawMetadata { room, epoch, offset, time, from, key, id: _ } = metadata;
    Ok(Box::new(Publication {
        kind: kind.into_owned(),
        payload: Json::from_text(payload)?,
        room: room.ok_or_else(|| broken("metadata.room is missing"))?.into_owned(),
        position: position(epoch.as_deref(), offset)?,
        time_ms: time.as_deref().and_then(parse_rfc3339_ms).unwrap_or(0),
        from: from.unwrap_or_default(),
        key: key.map(Cow::into_owned),
    }))
}

fn welcome(payload: &str) -> Result<Welcome, serde_json::Error> {
    let raw: RawWelcome = serde_json::from_str(payload)?;
    Ok(Welcome {
        client: raw.client,
        user: raw.user,
        ticket: raw.ticket,
        ticket_ttl_ms: raw.ticket_ttl_ms,
        resumed: raw.resumed,
        limits: raw.limits,
        heartbeat_ms: raw.heartbeat_ms,
        expires_at_ms: raw.expires_at.as_deref().and_then(parse_rfc3339_ms),
    })
}

fn refused(payload: &str) -> Result<Refused, serde_json::Error> {
    let raw: RawRefused = serde_json::from_str(payload)?;
    Ok(Refused {
        code: raw.code,
        name: raw.name,
        message: raw.message,
        field: raw.field,
        limit: raw.limit,
        temporary: raw.temporary,
        retry_after_ms: raw.retry_after_ms,
        close: raw.close,
        command: raw.command,
        suppressed: raw.suppressed,
        position: position(raw.epoch.as_deref(), raw.offset)?,
    })
}

/// Reads the reply to `$join`.
///
/// # Errors
/// It is not such a reply.
pub fn joined(payload: &str) -> Result<Joined, serde_json::Error> {
    let RawJoined { epoch, offset, from, recovered, members } = serde_json::from_str(payload)?;
    let position = position(epoch.as_deref(), Some(offset.unwrap_or(0)))?;
    Ok(Joined { position, from, recovered, members })
}

/// Reads the reply to a publication that was sent with `key`.
///
/// # Errors
/// It is not such a reply.
pub fn ack(payload: &str, key: Option<String>) -> Result<Ack, serde_json::Error> {
    let RawAck { epoch, offset, time, duplicate } = serde_json::from_str(payload)?;
    let time_ms = time.as_deref().and_then(parse_rfc3339_ms).unwrap_or(0);
    Ok(Ack { position: position(epoch.as_deref(), offset)?, time_ms, duplicate, key })
}

/// Reads the reply to `$history`. A publication in it that cannot be read fails all of it.
///
/// # Errors
/// It is not such a reply.
pub fn history(payload: &str) -> Result<HistoryPage, serde_json::Error> {
    let RawHistory { epoch, offset, first, publications, more } = serde_json::from_str(payload)?;
    let position = position(Some(&epoch), Some(offset))?.ok_or_else(|| broken("no position"))?;
    let publications = publications
        .into_iter()
        .map(|raw| {
            let RawEnvelope { kind, payload, metadata } = serde_json::from_str(raw.get())?;
            publication(kind, payload.map_or("null", RawValue::get), metadata).map(|it| *it)
        })
        .collect::<Result<_, _>>()?;
    Ok(HistoryPage { position, first, publications, more })
}

/// Reads the reply to `$members`.
///
/// # Errors
/// It is not such a reply.
pub fn members(payload: &str) -> Result<MembersPage, serde_json::Error> {
    serde_json::from_str(payload)
}

/// Reads `expires_at` from a `$refresh` or the reply to one: milliseconds since 1970.
///
/// # Errors
/// The payload is no object, or the member no text.
pub fn expires_at_ms(payload: &str) -> Result<Option<u64>, serde_json::Error> {
    let RawExpiry { expires_at } = serde_json::from_str(payload)?;
    Ok(expires_at.as_deref().and_then(parse_rfc3339_ms))
}

fn gap(payload: &str) -> Result<Gap, serde_json::Error> {
    let RawGap { reason, epoch, offset, from, to } = serde_json::from_str(payload)?;
    Ok(Gap { reason, position: position(epoch.as_deref(), offset)?, from, to })
}

/// A position if both are there.
fn position(
    epoch: Option<&str>,
    offset: Option<u64>,
) -> Result<Option<Position>, serde_json::Error> {
    let (Some(epoch), Some(offset)) = (epoch, offset) else { return Ok(None) };
    let epoch = Epoch::new(epoch).ok_or_else(|| broken("an epoch has 1 to 32 bytes"))?;
    Ok(Some(Position::new(epoch, offset)))
}

fn broken(rule: &str) -> serde_json::Error {
    serde::de::Error::custom(rule)
}

/// A member that is there, also if it is null: serde would take that for absent.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

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
pub(super) fn is_publication_type(kind: &str) -> bool {
    (1..=TYPE_SIZE_MAX).contains(&kind.len()) && !kind.starts_with('$')
}

/// Values of this file only: strings, integers, and structs of them, which always can be written.
fn json(value: &(impl Serialize + ?Sized)) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}
