//! Messages of the server from text.

use std::borrow::Cow;

use clarion_protocol::time::parse_rfc3339_ms;
use clarion_protocol::{Epoch, Position};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::incoming::{Id, Incoming};
use super::json::{Json, present};
use super::publication::{Publication, Sender};
use super::push::{Gap, Limits, MembersChange, Welcome};
use super::reply::{Ack, HistoryPage, Joined, MembersPage};
use crate::core::errors::Refused;

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
