//! The messages of the server as JSON: section 4. Each function appends one whole message.

use crate::code::Refusal;
use crate::command::CommandId;
use crate::position::{Epoch, Offset, Position};
use crate::publication::{Publication, Sender};
use crate::push::{Gap, LeftReason, Member, MembersChange, Welcome};
use crate::reply::{Joined, Reply};

use super::write::{self, ObjectWriter};

/// Appends a publication as its members get it.
///
/// `position` is where it is in the room's log, or `None` if it is in none. The payload's bytes go out
/// as they came in. This is the hot one: it is encoded once for all members of a room.
pub fn publication(
    out: &mut Vec<u8>,
    room: &str,
    position: Option<(&Epoch, Offset)>,
    publication: &Publication,
) {
    // Names, time, position and sender, roughly; too much costs nothing and too little one copy.
    const REST_SIZE: usize = 256;
    out.reserve(publication.payload.len() + room.len() + REST_SIZE);
    out.extend_from_slice(b"{\"type\":");
    write::string(&publication.kind, out);
    out.extend_from_slice(b",\"payload\":");
    out.extend_from_slice(&publication.payload);
    out.extend_from_slice(b",\"metadata\":{\"room\":");
    write::string(room, out);
    if let Some((epoch, offset)) = position {
        out.extend_from_slice(b",\"offset\":");
        write::integer(offset, out);
        out.extend_from_slice(b",\"epoch\":");
        write::string(epoch.as_str(), out);
    }
    out.extend_from_slice(b",\"time\":");
    write::instant(publication.time_ms, out);
    if let Some(from) = &publication.from {
        out.extend_from_slice(b",\"from\":");
        sender(from, out);
    }
    if let Some(key) = &publication.key {
        out.extend_from_slice(b",\"key\":");
        write::string(key, out);
    }
    out.extend_from_slice(b"}}");
}

/// Appends `$welcome`; `id` is that of the `$hello`, if there was one.
pub fn welcome(out: &mut Vec<u8>, id: Option<&CommandId>, welcome: &Welcome<'_>) {
    let mut payload = open(out, "$welcome");
    write::client(welcome.client, payload.member("client"));
    payload.string("user", welcome.user);
    payload.string("ticket", welcome.ticket);
    payload.integer("ticket_ttl_ms", welcome.ticket_ttl_ms);
    payload.boolean("resumed", welcome.resumed);
    let mut limits = ObjectWriter::open(payload.member("limits"));
    limits.integer("message_bytes", welcome.limits.message_bytes);
    limits.integer("delivery_bytes", welcome.limits.delivery_bytes);
    limits.integer("rooms", welcome.limits.rooms);
    limits.integer("page", welcome.limits.page);
    limits.integer("publish_per_s", welcome.limits.publish_per_s);
    limits.close();
    payload.integer("heartbeat_ms", welcome.heartbeat_ms);
    payload.optional_instant("expires_at", welcome.expires_at_ms);
    payload.close();
    close(out, &Address { id, ..Address::default() });
}

/// Appends `$reply` to the command `id`; `room` is the command's, which a `$history` always has.
pub fn reply(out: &mut Vec<u8>, id: &CommandId, room: Option<&str>, reply: &Reply<'_>) {
    let mut payload = open(out, "$reply");
    match *reply {
        Reply::Empty => {}
        Reply::Joined(joined) => joined_members(&mut payload, joined),
        Reply::History { position, first, publications, more } => {
            place(&mut payload, position);
            payload.integer("first", first);
            list(payload.member("publications"), publications, |out, (offset, item)| {
                publication(out, room.unwrap_or_default(), Some((&position.epoch, *offset)), item);
            });
            payload.boolean("more", more);
        }
        Reply::Members { members, count, users, more } => {
            list(payload.member("members"), members, member);
            payload.integer("count", count);
            payload.integer("users", users);
            payload.boolean("more", more);
        }
        Reply::Published { position, time_ms, duplicate } => {
            if let Some(position) = position {
                place(&mut payload, position);
            }
            payload.optional_instant("time", Some(time_ms));
            if duplicate {
                payload.boolean("duplicate", true);
            }
        }
        Reply::Refreshed { expires_at_ms } => {
            payload.optional_instant("expires_at", expires_at_ms);
        }
    }
    payload.close();
    close(out, &Address { id: Some(id), room, key: None });
}

/// Appends `$error`, of a command or with `close` of the connection.
///
/// A command that had an `id` is named by it; one that had none by `room`, `key` and `command` (its
/// type), as far as they are known. `suppressed` is how many like it were not sent since the last.
#[expect(clippy::too_many_arguments, reason = "each is one optional member of one message")]
pub fn error(
    out: &mut Vec<u8>,
    id: Option<&CommandId>,
    room: Option<&str>,
    key: Option<&str>,
    command: Option<&str>,
    refusal: &Refusal,
    close_code: Option<u16>,
    suppressed: Option<u32>,
) {
    let mut payload = open(out, "$error");
    payload.integer("code", refusal.name.code());
    payload.string("name", refusal.name.as_str());
    payload.string("message", &refusal.message);
    payload.optional_string("field", refusal.field);
    payload.optional_integer("limit", refusal.limit);
    payload.boolean("temporary", refusal.temporary);
    payload.optional_integer("retry_after_ms", refusal.retry_after_ms);
    if let Some(position) = &refusal.position {
        place(&mut payload, position);
    }
    payload.optional_string("command", command);
    payload.optional_integer("suppressed", suppressed.map(u64::from));
    payload.optional_integer("close", close_code.map(u64::from));
    payload.close();
    close(out, &Address { id, room, key });
}

/// Appends `$members`: who came, went or changed in `room`.
pub fn members(out: &mut Vec<u8>, room: &str, change: &MembersChange<'_>) {
    let payload = open(out, "$members");
    members_change(payload, change);
    close(out, &Address::of_room(room));
}

/// Appends `$joined`: the session is in `room` now, by its `$hello` or by the server.
pub fn joined(out: &mut Vec<u8>, room: &str, joined: &Joined<'_>) {
    let mut payload = open(out, "$joined");
    joined_members(&mut payload, joined);
    payload.close();
    close(out, &Address::of_room(room));
}

/// Appends `$left`: the server made the session leave `room`.
pub fn left(out: &mut Vec<u8>, room: &str, reason: LeftReason) {
    let mut payload = open(out, "$left");
    payload.string("reason", reason.as_str());
    payload.close();
    close(out, &Address::of_room(room));
}

/// Appends `$gap`: something in `room` will not come.
pub fn gap(out: &mut Vec<u8>, room: &str, gap: &Gap) {
    let mut payload = open(out, "$gap");
    payload.string("reason", gap.reason.as_str());
    if let Some(position) = &gap.position {
        place(&mut payload, position);
    }
    payload.optional_integer("from", gap.from);
    payload.optional_integer("to", gap.to);
    payload.close();
    close(out, &Address::of_room(room));
}

/// Appends `$refresh`: the token expires at `expires_at_ms`, in milliseconds since 1970.
pub fn refresh(out: &mut Vec<u8>, expires_at_ms: u64) {
    let mut payload = open(out, "$refresh");
    payload.optional_instant("expires_at", Some(expires_at_ms));
    payload.close();
    close(out, &Address::default());
}

/// Appends `$reconnect`: come back in `after_ms` milliseconds, to `url` if there is a better place.
pub fn reconnect(out: &mut Vec<u8>, after_ms: u64, url: Option<&str>, reason: &str) {
    let mut payload = open(out, "$reconnect");
    payload.integer("after_ms", after_ms);
    payload.optional_string("url", url);
    payload.string("reason", reason);
    payload.close();
    close(out, &Address::default());
}

/// Appends `$pong` with the `$ping`'s id and its payload, which is raw JSON text.
pub fn pong(out: &mut Vec<u8>, id: Option<&CommandId>, payload: &str) {
    out.extend_from_slice(b"{\"type\":\"$pong\",\"payload\":");
    out.extend_from_slice(payload.as_bytes());
    close(out, &Address { id, ..Address::default() });
}

/// What the metadata of a protocol message says: which command or room it is about.
#[derive(Default)]
struct Address<'a> {
    id: Option<&'a CommandId>,
    room: Option<&'a str>,
    key: Option<&'a str>,
}

impl<'a> Address<'a> {
    fn of_room(room: &'a str) -> Self {
        Self { room: Some(room), ..Self::default() }
    }
}

/// Begins a message of the protocol's; its payload is an object and comes next.
///
/// `kind` is one of ours and has nothing to escape.
fn open<'o>(out: &'o mut Vec<u8>, kind: &'static str) -> ObjectWriter<'o> {
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\",\"payload\":");
    ObjectWriter::open(out)
}

/// Ends a message of which type and payload are written.
fn close(out: &mut Vec<u8>, address: &Address<'_>) {
    out.extend_from_slice(b",\"metadata\":");
    let mut metadata = ObjectWriter::open(out);
    match address.id {
        None => {}
        Some(CommandId::Number(id)) => metadata.integer("id", *id),
        Some(CommandId::Text(id)) => metadata.string("id", id),
    }
    metadata.optional_string("room", address.room);
    metadata.optional_string("key", address.key);
    metadata.close();
    out.push(b'}');
}

fn sender(from: &Sender, out: &mut Vec<u8>) {
    let mut object = ObjectWriter::open(out);
    if let Some(client) = from.client {
        write::client(client, object.member("client"));
    }
    object.optional_string("user", from.user.as_deref());
    object.optional_raw("info", from.info.as_deref());
    object.close();
}

fn place(payload: &mut ObjectWriter<'_>, position: &Position) {
    payload.string("epoch", position.epoch.as_str());
    payload.integer("offset", position.offset);
}

fn joined_members(payload: &mut ObjectWriter<'_>, joined: &Joined<'_>) {
    if let Some(position) = &joined.position {
        place(payload, position);
    }
    payload.optional_integer("from", joined.from);
    if let Some(recovered) = joined.recovered {
        payload.boolean("recovered", recovered);
    }
    if let Some(change) = &joined.members {
        members_change(ObjectWriter::open(payload.member("members")), change);
    }
}

fn members_change(mut payload: ObjectWriter<'_>, change: &MembersChange<'_>) {
    let (count, users) = match *change {
        MembersChange::Changed { joined, left, changed, count, users } => {
            list(payload.member("joined"), joined, member);
            list(payload.member("left"), left, |out, gone| {
                member(out, &Member { info: None, state: None, ..*gone });
            });
            list(payload.member("changed"), changed, member);
            (count, users)
        }
        MembersChange::Counts { count, users } => (count, users),
        MembersChange::All { all, count, users } => {
            list(payload.member("all"), all, member);
            (count, users)
        }
    };
    payload.integer("count", count);
    payload.integer("users", users);
    payload.close();
}

fn member(out: &mut Vec<u8>, member: &Member<'_>) {
    let mut object = ObjectWriter::open(out);
    write::client(member.client, object.member("client"));
    object.string("user", member.user);
    object.optional_raw("info", member.info);
    object.optional_raw("state", member.state);
    object.close();
}

fn list<T>(out: &mut Vec<u8>, items: &[T], mut item: impl FnMut(&mut Vec<u8>, &T)) {
    out.push(b'[');
    for (index, entry) in items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        item(out, entry);
    }
    out.push(b']');
}
