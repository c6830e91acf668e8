//! From the text of one message to a command: envelope and metadata. Section 2.
//!
//! What the payload of each `$` command must be is in `payload.rs`.

use std::borrow::Cow;

use crate::code::{ErrorName, Refusal};
use crate::command::{
    Command, CommandId, ID_SIZE_MAX, Incoming, KEY_SIZE_MAX, PAYLOAD_DEPTH_MAX, Rejected,
    TYPE_SIZE_MAX,
};
use crate::name::{ROOM_NAME_SIZE_MAX, RoomKind, RoomName, RoomRef};
use crate::position::OFFSET_MAX;

use super::object::{Duplicate, Object, boolean, depth_within, integer, string};
use super::payload;

/// Reads one message of a client.
///
/// The text is borrowed wherever it has no escapes; the room of a `$` command, an id that is a string
/// and what `$hello` carries are copied. Takes time in proportion to the length of `text` and no
/// stack however deep it is nested.
///
/// Members of envelope, metadata and payloads that the protocol does not know are ignored. A member
/// that it knows is absent or of its type: `null` is no way to leave one out.
///
/// # Errors
/// [`Rejected`], with as much as could be read to address the `$error` by. If several rules are
/// broken, it is the first of: JSON, duplicates, metadata, type, payload.
#[expect(clippy::result_large_err, reason = "an Incoming is as large, and both are read at once")]
pub fn decode(text: &str) -> Result<Incoming<'_>, Rejected> {
    let mut parts = Parts::default();
    match parts.read(text) {
        Ok(command) => Ok(Incoming { id: parts.id, room: parts.room, key: parts.key, command }),
        Err(refusal) => Err(Rejected {
            refusal,
            id: parts.id,
            room: parts.room.filter(|room| room.len() <= ROOM_NAME_SIZE_MAX).map(Into::into),
            key: parts.key.map(Into::into),
            kind: parts.kind.map(Into::into),
        }),
    }
}

/// What has been read of a message so far, and is good.
#[derive(Default)]
struct Parts<'a> {
    kind: Option<Cow<'a, str>>,
    id: Option<CommandId>,
    room: Option<Cow<'a, str>>,
    key: Option<Cow<'a, str>>,
    ephemeral: Option<bool>,
    echo: Option<bool>,
}

impl<'a> Parts<'a> {
    fn read(&mut self, text: &'a str) -> Result<Command<'a>, Refusal> {
        let envelope = Object::read(text, ["type", "payload", "metadata"]).map_err(|error| {
            let message = match error.classify() {
                serde_json::error::Category::Data => "a message is a JSON object",
                _ => "the message is not JSON",
            };
            Refusal::new(ErrorName::BadEnvelope, message)
        })?;
        // Everything is read before anything is refused, so that a refusal can be addressed.
        let kind = envelope.unique(0).map_or_else(
            || Err(Refusal::bad_envelope("type", "a message has a type")),
            |raw| bounded(raw, 1, TYPE_SIZE_MAX, "type", "the type is a string of 1 to 64 bytes"),
        );
        let kind = kind.inspect(|kind| self.kind = Some(kind.clone()));
        let metadata = envelope.unique(2).map_or(Ok(()), |raw| self.read_metadata(raw));
        refuse_duplicate(envelope.duplicate(), ["type", "payload", "metadata"], None)?;
        metadata?;
        let kind = kind?;
        let payload = envelope.members[1].unwrap_or("null");
        if !depth_within(payload, PAYLOAD_DEPTH_MAX) {
            return Err(Refusal::bad_envelope("payload", "the payload is nested too deep")
                .with_limit(PAYLOAD_DEPTH_MAX as u64));
        }
        if kind.starts_with('$') {
            self.command(&kind, payload)
        } else {
            self.publish(kind, payload)
        }
    }

    fn read_metadata(&mut self, raw: &'a str) -> Result<(), Refusal> {
        const NAMES: [&str; 5] = ["id", "room", "key", "ephemeral", "echo"];
        const FIELDS: [&str; 5] =
            ["metadata.id", "metadata.room", "metadata.key", "metadata.ephemeral", "metadata.echo"];
        let metadata = Object::read(raw, NAMES)
            .map_err(|_| Refusal::bad_envelope("metadata", "metadata is an object"))?;
        let [id, room, key, ephemeral, echo] = std::array::from_fn(|index| metadata.unique(index));
        let id = id.map(command_id).transpose().inspect(|id| self.id.clone_from(id));
        let room = room
            .map(|raw| {
                string(raw).ok_or_else(|| Refusal::bad_envelope(FIELDS[1], "a room is a string"))
            })
            .transpose()
            .inspect(|room| self.room.clone_from(room));
        let key = key
            .map(|raw| {
                bounded(raw, 1, KEY_SIZE_MAX, FIELDS[2], "a key is a string of 1 to 64 bytes")
            })
            .transpose()
            .inspect(|key| self.key.clone_from(key));
        refuse_duplicate(metadata.duplicate(), FIELDS, Some("metadata"))?;
        id?;
        room?;
        key?;
        let flag = |raw: Option<&str>, field| {
            raw.map(|raw| {
                boolean(raw).ok_or_else(|| Refusal::bad_envelope(field, "this is true or false"))
            })
            .transpose()
        };
        self.ephemeral = flag(ephemeral, FIELDS[3])?;
        self.echo = flag(echo, FIELDS[4])?;
        Ok(())
    }

    fn command(&self, kind: &str, payload: &'a str) -> Result<Command<'a>, Refusal> {
        match kind {
            "$hello" => payload::hello(payload).map(Command::Hello),
            "$join" => {
                let room = self.plain_room()?;
                Ok(Command::Join { room, join: payload::join(payload)? })
            }
            "$leave" => Ok(Command::Leave { room: self.plain_room()? }),
            "$history" => payload::history(self.any_room()?.to_name(), payload),
            "$members" => payload::members(self.any_room()?.to_name(), payload),
            "$state" => payload::state(self.any_room()?.to_name(), payload),
            "$ack" => {
                let room = self.any_room()?;
                if !matches!(room.kind(), RoomKind::User(_)) {
                    return Err(bad_room("only $user rooms are acknowledged"));
                }
                Ok(Command::Ack { room: room.to_name(), position: payload::ack(payload)? })
            }
            "$refresh" => payload::refresh(payload),
            "$ping" => Ok(Command::Ping { payload }),
            _ => Err(Refusal::unknown_type()),
        }
    }

    fn publish(&self, kind: Cow<'a, str>, payload: &'a str) -> Result<Command<'a>, Refusal> {
        let room = self.any_room()?;
        let ephemeral = self.ephemeral.unwrap_or(false);
        let echo = self.echo.unwrap_or(true);
        if ephemeral && self.key.is_some() {
            return Err(Refusal::key_needs_log());
        }
        if !echo && !ephemeral {
            return Err(Refusal::bad_envelope(
                "metadata.echo",
                "only an ephemeral publication can spare its publisher",
            ));
        }
        Ok(Command::Publish { room, kind, payload, key: self.key.clone(), ephemeral, echo })
    }

    fn any_room(&self) -> Result<RoomRef<'a>, Refusal> {
        let room = self.room.clone().ok_or_else(|| bad_room("this needs a room"))?;
        RoomRef::parse(room).map_err(|rule| Refusal::bad_room("metadata.room", rule))
    }

    /// A room that clients join and leave: the `$` rooms are the server's to join (section 1).
    fn plain_room(&self) -> Result<RoomName, Refusal> {
        let room = self.any_room()?;
        if room.kind().is_special() {
            return Err(bad_room("the server joins and leaves $ rooms"));
        }
        Ok(room.to_name())
    }
}

fn command_id(raw: &str) -> Result<CommandId, Refusal> {
    const RULE: &str = "an id is a string of at most 64 bytes or an integer from 0 to 2^53-1";
    if raw.starts_with('"') {
        return bounded(raw, 0, ID_SIZE_MAX, "metadata.id", RULE)
            .map(|text| CommandId::Text(text.into()));
    }
    integer(raw).map(CommandId::Number).ok_or_else(|| {
        let too_large = raw.bytes().all(|byte| byte.is_ascii_digit());
        let refusal = Refusal::bad_envelope("metadata.id", RULE);
        Refusal { limit: too_large.then_some(OFFSET_MAX), ..refusal }
    })
}

/// Reads a string of `min` to `max` bytes.
fn bounded<'a>(
    raw: &'a str,
    min: usize,
    max: usize,
    field: &'static str,
    rule: &'static str,
) -> Result<Cow<'a, str>, Refusal> {
    let text = string(raw);
    let size = text.as_ref().map(|text| text.len());
    text.filter(|text| (min..=max).contains(&text.len())).ok_or_else(|| {
        let limit = size.filter(|size| *size > max).map(|_| max as u64);
        Refusal { limit, ..Refusal::bad_envelope(field, rule) }
    })
}

fn bad_room(message: &'static str) -> Refusal {
    Refusal::new(ErrorName::BadRoom, message).with_field("metadata.room")
}

fn refuse_duplicate<const N: usize>(
    duplicate: Option<Duplicate>,
    fields: [&'static str; N],
    object: Option<&'static str>,
) -> Result<(), Refusal> {
    let field = match duplicate {
        None => return Ok(()),
        Some(Duplicate::Known(index)) => Some(fields[index]),
        Some(Duplicate::Unknown) => object,
    };
    let refusal = Refusal::new(ErrorName::BadEnvelope, "a member is given twice");
    Err(Refusal { field, ..refusal })
}
