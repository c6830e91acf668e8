//! The payloads of `$` commands: section 3.
//!
//! Absent members are left out by the client; `null` in their place is refused with the others that
//! have the wrong type. A member that is given twice is refused as everywhere.

use std::collections::BTreeSet;

use crate::code::Refusal;
use crate::command::{Command, Credential, Hello, Join, SDK_SIZE_MAX, STATE_SIZE_MAX};
use crate::id::ClientId;
use crate::name::RoomName;
use crate::position::{Epoch, Position};

use super::object::{Object, boolean, entries, integer, string};

/// Where a position stands in a payload, for the refusal to name.
struct PositionFields {
    position: &'static str,
    epoch: &'static str,
    offset: &'static str,
}

const AFTER: PositionFields = PositionFields {
    position: "payload.after",
    epoch: "payload.after.epoch",
    offset: "payload.after.offset",
};
const BEFORE: PositionFields = PositionFields {
    position: "payload.before",
    epoch: "payload.before.epoch",
    offset: "payload.before.offset",
};
const ACK: PositionFields =
    PositionFields { position: "payload", epoch: "payload.epoch", offset: "payload.offset" };

/// The members of a command's payload; `null`, which also stands for an absent one, has none.
fn payload<'a, const N: usize>(
    raw: &'a str,
    names: [&str; N],
) -> Result<[Option<&'a str>; N], Refusal> {
    if raw == "null" { Ok([None; N]) } else { object(raw, names, "payload") }
}

/// The members of the object `raw`, which is called `field`.
fn object<'a, const N: usize>(
    raw: &'a str,
    names: [&str; N],
    field: &'static str,
) -> Result<[Option<&'a str>; N], Refusal> {
    match Object::read(raw, names) {
        Ok(object) if object.duplicate().is_none() => Ok(object.members),
        Ok(_) => Err(Refusal::bad_request(field, "a member is given twice")),
        Err(_) => Err(Refusal::bad_request(field, "this is an object")),
    }
}

pub(super) fn hello(raw: &str) -> Result<Hello, Refusal> {
    let [token, ticket, rooms, sdk] = payload(raw, ["token", "ticket", "rooms", "sdk"])?;
    let sdk = sdk.map(|raw| text(raw, "payload.sdk")).transpose()?;
    if sdk.as_ref().is_some_and(|sdk| sdk.len() > SDK_SIZE_MAX) {
        return Err(Refusal::bad_request("payload.sdk", "the sdk has at most 64 bytes")
            .with_limit(SDK_SIZE_MAX as u64));
    }
    Ok(Hello {
        token: token.map(|raw| credential(raw, "payload.token")).transpose()?,
        ticket: ticket.map(|raw| credential(raw, "payload.ticket")).transpose()?,
        rooms: rooms.map_or(Ok(Vec::new()), wanted_rooms)?,
        sdk,
    })
}

fn wanted_rooms(raw: &str) -> Result<Vec<(RoomName, Join)>, Refusal> {
    const FIELD: &str = "payload.rooms";
    let entries = entries(raw).map_err(|_| Refusal::bad_request(FIELD, "this is an object"))?;
    let mut seen = BTreeSet::new();
    let mut rooms = Vec::with_capacity(entries.len());
    for (name, raw) in entries {
        let room = RoomName::parse(&name).map_err(|rule| Refusal::bad_room(FIELD, rule))?;
        if !seen.insert(room.clone()) {
            return Err(Refusal::bad_request(FIELD, "a room is given twice"));
        }
        // A position is three levels down and the rooms have names, so the field is the whole.
        rooms.push((room, join(raw).map_err(|refusal| refusal.with_field(FIELD))?));
    }
    Ok(rooms)
}

pub(super) fn join(raw: &str) -> Result<Join, Refusal> {
    let [after, last, members] = payload(raw, ["after", "last", "members"])?;
    Ok(Join {
        after: after.map(|raw| position(raw, &AFTER)).transpose()?,
        last: last.map(|raw| number(raw, "payload.last")).transpose()?,
        members: match members {
            None => false,
            Some(raw) => boolean(raw)
                .ok_or_else(|| Refusal::bad_request("payload.members", "this is true or false"))?,
        },
    })
}

pub(super) fn history(room: RoomName, raw: &str) -> Result<Command<'_>, Refusal> {
    let [after, before, limit] = payload(raw, ["after", "before", "limit"])?;
    let after = after.map(|raw| position(raw, &AFTER)).transpose()?;
    let before = before.map(|raw| position(raw, &BEFORE)).transpose()?;
    if after.is_some() && before.is_some() {
        return Err(Refusal::bad_request("payload.before", "either after or before"));
    }
    let limit = limit.ok_or_else(|| Refusal::bad_request("payload.limit", "a limit is needed"))?;
    Ok(Command::History { room, after, before, limit: number(limit, "payload.limit")? })
}

pub(super) fn members(room: RoomName, raw: &str) -> Result<Command<'_>, Refusal> {
    let [limit, after] = payload(raw, ["limit", "after"])?;
    let limit = limit.map(|raw| number(raw, "payload.limit")).transpose()?;
    let after = after
        .map(|raw| {
            string(raw)
                .and_then(|text| ClientId::parse(&text).ok())
                .ok_or_else(|| Refusal::bad_request("payload.after", "this is a client id"))
        })
        .transpose()?;
    Ok(Command::Members { room, limit, after })
}

pub(super) fn state(room: RoomName, raw: &str) -> Result<Command<'_>, Refusal> {
    if raw.len() > STATE_SIZE_MAX {
        return Err(Refusal::too_large("payload", STATE_SIZE_MAX as u64));
    }
    Ok(Command::State { room, value: raw })
}

pub(super) fn ack(raw: &str) -> Result<Position, Refusal> {
    position(raw, &ACK)
}

pub(super) fn refresh(raw: &str) -> Result<Command<'_>, Refusal> {
    let [token] = payload(raw, ["token"])?;
    let token = token.ok_or_else(|| Refusal::bad_request("payload.token", "a token is needed"))?;
    Ok(Command::Refresh { token: credential(token, "payload.token")? })
}

fn position(raw: &str, fields: &PositionFields) -> Result<Position, Refusal> {
    let [epoch, offset] = object(raw, ["epoch", "offset"], fields.position)?;
    let epoch = epoch.and_then(string).and_then(|text| Epoch::new(&text)).ok_or_else(|| {
        Refusal::bad_request(fields.epoch, "an epoch is a string of 1 to 32 bytes")
    })?;
    let offset = offset.and_then(integer).ok_or_else(|| {
        Refusal::bad_request(fields.offset, "an offset is an integer from 0 to 2^53-1")
    })?;
    Ok(Position { epoch, offset })
}

fn credential(raw: &str, field: &'static str) -> Result<Credential, Refusal> {
    text(raw, field).map(Credential::from)
}

fn text(raw: &str, field: &'static str) -> Result<String, Refusal> {
    string(raw).map(Into::into).ok_or_else(|| Refusal::bad_request(field, "this is a string"))
}

/// A number of entries. What no page could hold is as good as the largest: the server's own limit
/// is below either.
fn number(raw: &str, field: &'static str) -> Result<u32, Refusal> {
    integer(raw)
        .map(|value| u32::try_from(value).unwrap_or(u32::MAX))
        .ok_or_else(|| Refusal::bad_request(field, "this is an integer from 0 to 2^53-1"))
}
