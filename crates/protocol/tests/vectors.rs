//! Runs the golden frames of `spec/vectors/frames.json`: decodes what clients send to its meaning or
//! error, and encodes the server's messages from theirs. The format is in `spec/vectors/README.md`.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use clarion_protocol::codec::json;
use clarion_protocol::{
    ClientId, Command, CommandId, Epoch, ErrorName, Gap, GapReason, Incoming, Join, Joined,
    LeftReason, Member, MembersChange, Offset, Position, Publication, Refusal, Rejected, Reply,
    Sender, Welcome, WelcomeLimits,
};
use serde_json::{Map, Value, json};

fn frames() -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../spec/vectors/frames.json");
    let text = std::fs::read_to_string(path).expect("the vectors");
    let file: Value = serde_json::from_str(&text).expect("JSON");
    file["frames"].as_array().expect("frames").clone()
}

#[test]
fn every_frame_to_the_server_has_its_meaning_or_error() {
    let mut failures = Vec::new();
    for frame in frames().iter().filter(|frame| frame["direction"] == "to_server") {
        let expected = json!([frame["meaning"], frame["error"], frame["salvaged"]]);
        let found = match json::decode(text(&frame["text"])) {
            Ok(incoming) => json!([meaning(&incoming), null, null]),
            Err(rejected) => json!([null, error(&rejected.refusal), salvaged(&rejected)]),
        };
        if found != expected {
            failures.push(format!("{}:\n  {expected}\n  {found}", frame["name"]));
        }
    }
    assert!(failures.is_empty(), "expected, found:\n{}", failures.join("\n"));
}

// [4.absent]
#[test]
fn every_frame_to_the_client_is_encoded_from_its_meaning() {
    for frame in frames().iter().filter(|frame| frame["direction"] == "to_client") {
        let expected = text(&frame["text"]);
        if frame["decode_only"] == true {
            assert!(serde_json::from_str::<Value>(expected).is_ok(), "{}", frame["name"]);
            continue;
        }
        let mut out = Vec::new();
        encode(&frame["meaning"], &mut out);
        let found = String::from_utf8(out).expect("UTF-8");
        // The text itself, so that the bytes of payloads count and a change of form is seen. Other
        // implementations compare as JSON.
        assert_eq!(found, expected, "{}", frame["name"]);
    }
}

#[test]
fn vectors_cover_every_command_error_and_push() {
    let frames = frames();
    let seen_in = |direction: &str, pointer: &str| -> BTreeSet<&str> {
        let frames = frames.iter().filter(|frame| frame["direction"] == direction);
        frames.filter_map(|frame| frame.pointer(pointer)?.as_str()).collect()
    };
    let commands = [
        "$hello", "$join", "$leave", "$history", "$members", "$state", "$ack", "$refresh", "$ping",
        "publish",
    ];
    assert_eq!(seen_in("to_server", "/meaning/command"), commands.into());
    let pushes = [
        "$welcome",
        "$reply",
        "$error",
        "publication",
        "$members",
        "$joined",
        "$left",
        "$gap",
        "$refresh",
        "$reconnect",
        "$pong",
        "ignored",
    ];
    assert_eq!(seen_in("to_client", "/meaning/push"), pushes.into());
    let decoder = [
        ErrorName::BadRequest,
        ErrorName::BadRoom,
        ErrorName::BadEnvelope,
        ErrorName::KeyNeedsLog,
        ErrorName::UnknownType,
        ErrorName::TooLarge,
    ];
    assert_eq!(
        seen_in("to_server", "/error/name"),
        decoder.iter().map(|name| name.as_str()).collect()
    );
    let names: BTreeSet<_> = frames.iter().map(|frame| text(&frame["name"])).collect();
    assert_eq!(names.len(), frames.len(), "frame names are unique");
}

/// What a client's message means, in the words of the vectors; absent members are left out.
fn meaning(incoming: &Incoming<'_>) -> Value {
    let mut out = Map::new();
    let mut put = |name: &str, value: Value| {
        if !value.is_null() {
            out.insert(name.to_owned(), value);
        }
    };
    put("id", id_value(incoming.id.as_ref()));
    put("command", json!(incoming.command.kind()));
    match &incoming.command {
        Command::Hello(hello) => {
            put("token", json!(hello.token.as_deref()));
            put("ticket", json!(hello.ticket.as_deref()));
            put("sdk", json!(hello.sdk));
            let rooms = hello.rooms.iter().map(|(room, join)| {
                let mut entry = join_value(join);
                entry.insert("room".to_owned(), json!(room.as_str()));
                Value::Object(entry)
            });
            put("rooms", rooms.collect());
        }
        Command::Join { room, join } => {
            put("room", json!(room.as_str()));
            join_value(join).into_iter().for_each(|(name, value)| put(&name, value));
        }
        Command::Leave { room } => put("room", json!(room.as_str())),
        Command::History { room, after, before, limit } => {
            put("room", json!(room.as_str()));
            put("after", position_value(after.as_ref()));
            put("before", position_value(before.as_ref()));
            put("limit", json!(limit));
        }
        Command::Members { room, limit, after } => {
            put("room", json!(room.as_str()));
            put("limit", json!(limit));
            put("after", json!(after.map(|client| client.to_string())));
        }
        Command::State { room, value } => {
            put("room", json!(room.as_str()));
            put("value_text", json!(value));
        }
        Command::Ack { room, position } => {
            put("room", json!(room.as_str()));
            put("position", position_value(Some(position)));
        }
        Command::Refresh { token } => put("token", json!(&**token)),
        Command::Ping { payload } => put("payload_text", json!(payload)),
        Command::Publish { room, kind, payload, key, ephemeral, echo } => {
            put("command", json!("publish"));
            put("room", json!(room.as_str()));
            put("type", json!(kind));
            put("payload_text", json!(payload));
            put("key", json!(key));
            put("ephemeral", json!(ephemeral));
            put("echo", json!(echo));
        }
    }
    Value::Object(out)
}

fn join_value(join: &Join) -> Map<String, Value> {
    let mut out = Map::new();
    if let Some(after) = &join.after {
        out.insert("after".to_owned(), position_value(Some(after)));
    }
    if let Some(last) = join.last {
        out.insert("last".to_owned(), json!(last));
    }
    out.insert("members".to_owned(), json!(join.members));
    out
}

fn position_value(position: Option<&Position>) -> Value {
    position.map_or(Value::Null, |at| json!({"epoch": at.epoch.as_str(), "offset": at.offset}))
}

fn id_value(id: Option<&CommandId>) -> Value {
    match id {
        None => Value::Null,
        Some(CommandId::Number(number)) => json!(number),
        Some(CommandId::Text(text)) => json!(text),
    }
}

fn error(refusal: &Refusal) -> Value {
    assert!(!refusal.message.is_empty());
    without_nulls(json!({
        "name": refusal.name.as_str(), "field": refusal.field, "limit": refusal.limit,
    }))
}

fn salvaged(rejected: &Rejected) -> Value {
    without_nulls(json!({
        "id": id_value(rejected.id.as_ref()), "room": rejected.room, "key": rejected.key,
        "type": rejected.kind,
    }))
}

fn without_nulls(mut value: Value) -> Value {
    value.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
    value
}

/// Encodes the message that the vectors describe by `m`.
fn encode(m: &Value, out: &mut Vec<u8>) {
    let id = id(&m["id"]);
    let room = m["room"].as_str();
    let here = room.unwrap_or_default();
    match text(&m["push"]) {
        "$welcome" => json::welcome(out, id.as_ref(), &welcome(m)),
        "$reply" => reply(m, &id.expect("an id"), out),
        "$error" => json::error(
            out,
            id.as_ref(),
            room,
            m["key"].as_str(),
            m["command"].as_str(),
            &refusal(m),
            m["close"].as_u64().map(|code| u16::try_from(code).expect("a close code")),
            m["suppressed"].as_u64().map(|count| u32::try_from(count).expect("a count")),
        ),
        "publication" => {
            let at = position(&m["position"]);
            let at = at.as_ref().map(|at| (&at.epoch, at.offset));
            json::publication(out, here, at, &publication(m));
        }
        "$members" => with_change(m, |change| json::members(out, here, &change)),
        "$joined" => with_joined(m, |joined| json::joined(out, here, joined)),
        "$left" => {
            let all =
                [LeftReason::Kicked, LeftReason::Forbidden, LeftReason::Group, LeftReason::Deleted];
            let reason = all.into_iter().find(|reason| m["reason"] == reason.as_str());
            json::left(out, here, reason.expect("a reason"));
        }
        "$gap" => {
            let all = [GapReason::Trimmed, GapReason::Slow, GapReason::Epoch, GapReason::Unknown];
            let reason = all.into_iter().find(|reason| m["reason"] == reason.as_str());
            let gap = Gap {
                reason: reason.expect("a reason"),
                position: position(&m["position"]),
                from: m["from"].as_u64(),
                to: m["to"].as_u64(),
            };
            json::gap(out, here, &gap);
        }
        "$refresh" => json::refresh(out, integer(&m["expires_at_ms"])),
        "$reconnect" => {
            json::reconnect(out, integer(&m["after_ms"]), m["url"].as_str(), text(&m["reason"]));
        }
        "$pong" => json::pong(out, id.as_ref(), text(&m["payload_text"])),
        other => panic!("no such push: {other}"),
    }
}

fn reply(m: &Value, id: &CommandId, out: &mut Vec<u8>) {
    let room = m["room"].as_str();
    let place = position(&m["position"]);
    let mut send = |reply: Reply<'_>| json::reply(out, id, room, &reply);
    match text(&m["answers"]) {
        "$leave" | "$state" | "$ack" => send(Reply::Empty),
        "$join" => with_joined(m, |joined| send(Reply::Joined(joined))),
        "$history" => {
            let items: Vec<(Offset, Publication)> = list(&m["publications"])
                .iter()
                .map(|item| (integer(&item["offset"]), publication(item)))
                .collect();
            let items: Vec<_> = items.iter().map(|(offset, item)| (*offset, item)).collect();
            send(Reply::History {
                position: place.as_ref().expect("a position"),
                first: integer(&m["first"]),
                publications: &items,
                more: boolean(&m["more"]),
            });
        }
        "$members" => send(Reply::Members {
            members: &members(&m["members"]),
            count: integer(&m["count"]),
            users: integer(&m["users"]),
            more: boolean(&m["more"]),
        }),
        "publish" => send(Reply::Published {
            position: place.as_ref(),
            time_ms: integer(&m["time_ms"]),
            duplicate: boolean(&m["duplicate"]),
        }),
        "$refresh" => send(Reply::Refreshed { expires_at_ms: m["expires_at_ms"].as_u64() }),
        other => panic!("no such command: {other}"),
    }
}

fn with_joined(m: &Value, then: impl FnOnce(&Joined<'_>)) {
    let (position, from) = (position(&m["position"]), m["from"].as_u64());
    let recovered = m["recovered"].as_bool();
    if m["members"].is_null() {
        then(&Joined { position, from, recovered, members: None });
    } else {
        with_change(&m["members"], |change| {
            then(&Joined { position, from, recovered, members: Some(change) });
        });
    }
}

fn with_change(m: &Value, then: impl FnOnce(MembersChange<'_>)) {
    let (count, users) = (integer(&m["count"]), integer(&m["users"]));
    if m["all"].is_array() {
        then(MembersChange::All { all: &members(&m["all"]), count, users });
    } else if m["joined"].is_array() {
        then(MembersChange::Changed {
            joined: &members(&m["joined"]),
            left: &members(&m["left"]),
            changed: &members(&m["changed"]),
            count,
            users,
        });
    } else {
        then(MembersChange::Counts { count, users });
    }
}

fn members(entries: &Value) -> Vec<Member<'_>> {
    list(entries)
        .iter()
        .map(|entry| Member {
            client: client(&entry["client"]),
            user: text(&entry["user"]),
            info: entry["info_text"].as_str(),
            state: entry["state_text"].as_str(),
        })
        .collect()
}

fn welcome(m: &Value) -> Welcome<'_> {
    let limits = &m["limits"];
    Welcome {
        client: client(&m["client"]),
        user: text(&m["user"]),
        ticket: text(&m["ticket"]),
        ticket_ttl_ms: integer(&m["ticket_ttl_ms"]),
        resumed: boolean(&m["resumed"]),
        limits: WelcomeLimits {
            message_bytes: integer(&limits["message_bytes"]),
            delivery_bytes: integer(&limits["delivery_bytes"]),
            rooms: integer(&limits["rooms"]),
            page: integer(&limits["page"]),
            publish_per_s: integer(&limits["publish_per_s"]),
        },
        heartbeat_ms: integer(&m["heartbeat_ms"]),
        expires_at_ms: m["expires_at_ms"].as_u64(),
    }
}

fn refusal(m: &Value) -> Refusal {
    const FIELDS: [&str; 1] = ["metadata.room"];
    let name = ErrorName::ALL.iter().find(|name| m["name"] == name.as_str()).expect("a name");
    assert_eq!(m["code"], name.code());
    Refusal {
        field: FIELDS.into_iter().find(|field| m["field"] == *field),
        limit: m["limit"].as_u64(),
        temporary: boolean(&m["temporary"]),
        retry_after_ms: m["retry_after_ms"].as_u64(),
        position: position(&m["position"]),
        ..Refusal::new(*name, text(&m["message"]).to_owned())
    }
}

fn publication(m: &Value) -> Publication {
    Publication {
        kind: text(&m["type"]).into(),
        payload: Bytes::copy_from_slice(text(&m["payload_text"]).as_bytes()),
        time_ms: integer(&m["time_ms"]),
        from: m.get("from").map(|from| {
            Arc::new(Sender {
                client: from.get("client").map(client),
                user: from["user"].as_str().map(Into::into),
                info: from["info_text"].as_str().map(Into::into),
            })
        }),
        key: m["key"].as_str().map(Into::into),
    }
}

fn position(value: &Value) -> Option<Position> {
    let epoch = Epoch::new(value["epoch"].as_str()?).expect("an epoch");
    Some(Position::new(epoch, integer(&value["offset"])))
}

fn id(value: &Value) -> Option<CommandId> {
    match value {
        Value::Null => None,
        Value::Number(_) => Some(CommandId::Number(integer(value))),
        other => Some(CommandId::Text(text(other).into())),
    }
}

fn client(value: &Value) -> ClientId {
    ClientId::parse(text(value)).expect("a client id")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a string")
}

fn integer(value: &Value) -> u64 {
    value.as_u64().expect("an integer")
}

fn boolean(value: &Value) -> bool {
    value.as_bool().expect("true or false")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}
