//! The golden frames of `spec/vectors/frames.json`, both ways; its README says what the members are.

use clarion_client::core::codec::{
    self, Gap, Id, Incoming, Joined, Json, Member, MembersChange, Metadata, Publication, Sender,
};
use clarion_client::core::{HistoryOptions, JoinOptions, MembersOptions};
use clarion_protocol::{Epoch, Position};
use serde_json::{Map, Value, json};

fn frames(direction: &str) -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../spec/vectors/frames.json");
    let text = std::fs::read_to_string(path).expect("the vectors");
    let file: Value = serde_json::from_str(&text).expect("JSON");
    let frames = file["frames"].as_array().expect("frames").clone();
    frames.into_iter().filter(|frame| frame["direction"] == direction).collect()
}

#[test]
fn canonical_frames_to_the_server_are_encoded_from_their_meaning() {
    let mut kinds = Vec::new();
    for frame in frames("to_server").iter().filter(|frame| frame["canonical"] == true) {
        // A client's ids are integers.
        let meaning = &frame["meaning"];
        if meaning["id"].is_string() {
            continue;
        }
        let found: Value = serde_json::from_str(&encode(meaning)).expect("JSON");
        let mut expected: Value = serde_json::from_str(frame["text"].as_str().unwrap()).unwrap();
        if meaning["command"] == "$hello" {
            // This client always says which SDK it is, and its rooms.
            let payload = expected["payload"].as_object_mut().unwrap();
            payload.entry("sdk").or_insert(json!("clarion-rust"));
            payload.entry("rooms").or_insert(json!({}));
        }
        assert_eq!(found, expected, "{}", frame["name"]);
        kinds.push(meaning["command"].clone());
    }
    for kind in ["publish", "$hello", "$join", "$leave", "$history", "$members", "$state", "$ack"] {
        assert!(kinds.contains(&json!(kind)), "no frame of {kind}");
    }
}

fn encode(meaning: &Value) -> String {
    let text = |name: &str| meaning[name].as_str();
    let metadata = Metadata {
        room: text("room"),
        id: meaning["id"].as_u64(),
        key: text("key"),
        ephemeral: meaning["ephemeral"] == true,
        echo: (meaning["echo"] == false).then_some(false),
    };
    let command = text("command").unwrap();
    let payload = match command {
        "publish" => {
            return codec::encode(text("type").unwrap(), text("payload_text").unwrap(), metadata);
        }
        "$hello" => {
            let rooms = meaning["rooms"].as_array().cloned().unwrap_or_default();
            let rooms: Vec<_> = rooms
                .iter()
                .map(|it| (it["room"].as_str().unwrap(), codec::join_payload(&join(it), None)))
                .collect();
            let sdk = text("sdk").unwrap_or("clarion-rust");
            codec::hello_payload(text("token"), text("ticket"), &rooms, sdk)
        }
        "$join" => codec::join_payload(&join(meaning), None),
        "$history" => codec::history_payload(&HistoryOptions {
            after: position(&meaning["after"]),
            before: position(&meaning["before"]),
            limit: meaning["limit"].as_u64(),
        }),
        "$members" => codec::members_payload(&MembersOptions {
            after: text("after").map(str::to_owned),
            limit: meaning["limit"].as_u64(),
        }),
        "$ack" => codec::ack_payload(&position(&meaning["position"]).unwrap()),
        "$refresh" => codec::refresh_payload(text("token").unwrap()),
        "$leave" => "{}".to_owned(),
        "$state" => text("value_text").unwrap().to_owned(),
        "$ping" => text("payload_text").unwrap().to_owned(),
        other => panic!("{other}"),
    };
    codec::encode(command, &payload, metadata)
}

fn join(value: &Value) -> JoinOptions {
    JoinOptions {
        after: position(&value["after"]),
        last: value["last"].as_u64(),
        members: value["members"] == true,
    }
}

fn position(value: &Value) -> Option<Position> {
    Some(Position::new(Epoch::new(value["epoch"].as_str()?)?, value["offset"].as_u64()?))
}

#[test]
fn frames_to_the_client_are_decoded_to_their_meaning() {
    for frame in frames("to_client") {
        let text = frame["text"].as_str().unwrap();
        let found = meaning(codec::decode(text).expect("an envelope"), &frame["meaning"]);
        assert_eq!(found, frame["meaning"], "{}", frame["name"]);
    }
}

/// A JSON object of what is there.
#[derive(Default)]
struct Meaning(Map<String, Value>);

impl Meaning {
    fn put(&mut self, name: &str, value: impl Into<Value>) {
        let value = value.into();
        if !value.is_null() {
            self.0.insert(name.to_owned(), value);
        }
    }

    fn position(&mut self, position: Option<&Position>) {
        self.put("position", position.map(at));
    }

    fn members(&mut self, change: &MembersChange) {
        let list = |list: &Option<Vec<Member>>| list.as_ref().map(|list| members(list));
        self.put("joined", list(&change.joined));
        self.put("left", list(&change.left));
        self.put("changed", list(&change.changed));
        self.put("all", list(&change.all));
        self.put("count", change.count);
        self.put("users", change.users);
    }

    fn joined(&mut self, joined: &Joined) {
        self.position(joined.position.as_ref());
        self.put("from", joined.from);
        if joined.position.is_some() {
            self.put("recovered", joined.recovered);
        }
        if let Some(change) = &joined.members {
            let mut inner = Self::default();
            inner.members(change);
            self.put("members", inner.0);
        }
    }

    fn publication(&mut self, publication: &Publication) {
        self.put("type", &*publication.kind);
        self.put("payload_text", publication.payload.text());
        self.put("time_ms", publication.time_ms);
        if publication.from != Sender::default() {
            let mut from = Self::default();
            from.put("client", publication.from.client.clone());
            from.put("user", publication.from.user.clone());
            from.put("info_text", publication.from.info.as_ref().map(Json::text));
            self.put("from", from.0);
        }
        self.put("key", publication.key.clone());
    }
}

fn at(position: &Position) -> Value {
    json!({"epoch": position.epoch.as_str(), "offset": position.offset})
}

fn members(list: &[Member]) -> Value {
    let entries = list.iter().map(|member| {
        let mut entry = Meaning::default();
        entry.put("client", &*member.client);
        entry.put("user", member.user.clone());
        entry.put("info_text", member.info.as_ref().map(Json::text));
        entry.put("state_text", member.state.as_ref().map(Json::text));
        Value::Object(entry.0)
    });
    entries.collect()
}

/// What a message means, in the words of the vectors. Of a reply, `expected` tells what it answers
/// and how the text spelled its id.
fn meaning(incoming: Incoming<'_>, expected: &Value) -> Value {
    let mut out = Meaning::default();
    match incoming {
        Incoming::Welcome(welcome) => {
            out.put("push", "$welcome");
            out.put("id", expected["id"].clone());
            out.put("client", welcome.client);
            out.put("user", welcome.user);
            out.put("ticket", welcome.ticket);
            out.put("ticket_ttl_ms", welcome.ticket_ttl_ms);
            out.put("resumed", welcome.resumed);
            let limits = welcome.limits;
            out.put("limits", json!({
                "message_bytes": limits.message_bytes, "delivery_bytes": limits.delivery_bytes,
                "rooms": limits.rooms, "page": limits.page, "publish_per_s": limits.publish_per_s,
            }));
            out.put("heartbeat_ms", welcome.heartbeat_ms);
            out.put("expires_at_ms", welcome.expires_at_ms);
        }
        Incoming::Reply { id, payload } => {
            out.put("push", "$reply");
            assert_eq!(id, expected["id"].as_u64());
            out.put("id", expected["id"].clone());
            out.put("room", expected["room"].clone());
            out.put("answers", expected["answers"].clone());
            reply(&mut out, payload, expected["answers"].as_str().unwrap());
        }
        Incoming::Pong { id, payload } => {
            out.put("push", "$pong");
            assert_eq!(id, expected["id"].as_u64());
            out.put("id", expected["id"].clone());
            out.put("payload_text", payload);
        }
        Incoming::Error { id, room, key, refused } => {
            out.put("push", "$error");
            match id {
                Some(Id::Number(id)) => out.put("id", id),
                Some(Id::Text(id)) => out.put("id", &*id),
                None => {}
            }
            out.put("room", room.as_deref());
            out.put("key", key.as_deref());
            out.put("code", refused.code);
            out.put("name", refused.name);
            out.put("message", refused.message);
            out.put("field", refused.field);
            out.put("limit", refused.limit);
            out.put("temporary", refused.temporary);
            out.put("retry_after_ms", refused.retry_after_ms);
            out.put("close", refused.close);
            out.put("command", refused.command);
            out.put("suppressed", refused.suppressed);
            out.position(refused.position.as_ref());
        }
        Incoming::Refresh { expires_at_ms } => {
            out.put("push", "$refresh");
            out.put("expires_at_ms", expires_at_ms);
        }
        Incoming::Reconnect { after_ms, url } => {
            out.put("push", "$reconnect");
            out.put("after_ms", after_ms);
            out.put("url", url);
            out.put("reason", expected["reason"].clone());
        }
        Incoming::Joined(room, joined) => {
            out.put("push", "$joined");
            out.put("room", &*room);
            out.joined(&joined);
        }
        Incoming::Left(room, reason) => {
            out.put("push", "$left");
            out.put("room", &*room);
            out.put("reason", reason);
        }
        Incoming::Gap(room, Gap { reason, position, from, to, .. }) => {
            out.put("push", "$gap");
            out.put("room", &*room);
            out.put("reason", reason);
            out.position(position.as_ref());
            out.put("from", from);
            out.put("to", to);
        }
        Incoming::Members(room, change) => {
            out.put("push", "$members");
            out.put("room", &*room);
            out.members(&change);
        }
        Incoming::Publication(publication) => {
            out.put("push", "publication");
            out.put("room", &*publication.room);
            out.position(publication.position.as_ref());
            out.publication(&publication);
        }
        Incoming::Ignored => out.put("push", "ignored"),
        _ => panic!("a message that no test knows"),
    }
    Value::Object(out.0)
}

fn reply(out: &mut Meaning, payload: &str, answers: &str) {
    match answers {
        "$join" => out.joined(&codec::joined(payload).expect("a reply")),
        "$history" => {
            let page = codec::history(payload).expect("a reply");
            out.position(Some(&page.position));
            out.put("first", page.first);
            out.put("more", page.more);
            let publications = page.publications.iter().map(|publication| {
                let mut entry = Meaning::default();
                entry.put("offset", publication.position.as_ref().map(|it| it.offset));
                entry.publication(publication);
                Value::Object(entry.0)
            });
            out.put("publications", publications.collect::<Value>());
        }
        "$members" => {
            let page = codec::members(payload).expect("a reply");
            out.put("members", members(&page.members));
            out.put("count", page.count);
            out.put("users", page.users);
            out.put("more", page.more);
        }
        "publish" => {
            let ack = codec::ack(payload, None).expect("a reply");
            out.position(ack.position.as_ref());
            out.put("time_ms", ack.time_ms);
            out.put("duplicate", ack.duplicate);
        }
        "$refresh" => out.put("expires_at_ms", codec::expires_at_ms(payload).expect("a reply")),
        "$leave" => assert_eq!(payload, "{}"),
        other => panic!("{other}"),
    }
}

#[test]
fn what_is_no_envelope_is_an_error() {
    let texts = [
        "",
        "null",
        "[]",
        "{}",
        "\"x\"",
        "{\"type\":1}",
        "{\"type\":\"$reply\"",
        "{\"type\":\"x\"}",
        "{\"type\":\"x\",\"metadata\":{\"room\":7}}",
        "{\"type\":\"$gap\",\"metadata\":{\"room\":\"r\"}}",
        "{\"type\":\"$left\",\"payload\":{\"reason\":\"kicked\"}}",
        "{\"type\":\"x\",\"metadata\":null}",
        "{\"type\":\"$welcome\",\"payload\":{\"client\":\"c\"}}",
        "\u{feff}{\"type\":\"$later\"}",
        "{\"type\":\"x\",\"metadata\":{\"room\":\"r\",\"offset\":-1}}",
        "{\"type\":\"x\",\"metadata\":{\"room\":\"r\",\"offset\":1,\"epoch\":\"\"}}",
    ];
    for text in texts {
        assert!(codec::decode(text).is_err(), "{text}");
    }
}
