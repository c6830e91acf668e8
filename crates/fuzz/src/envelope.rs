//! Any text as a message of a client, and what the server makes of it.

use bytes::Bytes;
use clarion_protocol::codec::json;
use clarion_protocol::{Command, Epoch, Publication};
use serde_json::Value;
use serde_json::value::RawValue;
use std::sync::Arc;

#[derive(serde::Deserialize)]
struct Envelope<'a> {
    r#type: String,
    #[serde(borrow)]
    payload: &'a RawValue,
    metadata: Value,
}

pub(crate) fn run(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    let incoming = match json::decode(text) {
        Ok(incoming) => incoming,
        Err(rejected) => {
            assert!((400..=422).contains(&rejected.refusal.name.code()));
            let mut out = Vec::new();
            json::error(
                &mut out,
                rejected.id.as_ref(),
                rejected.room.as_deref(),
                rejected.key.as_deref(),
                rejected.kind.as_deref(),
                &rejected.refusal,
                Some(4001),
                Some(3),
            );
            let sent = parse(&out);
            assert_eq!(sent.r#type, "$error");
            assert_eq!(sent.metadata["room"].as_str(), rejected.room.as_deref());
            assert_eq!(sent.metadata["key"].as_str(), rejected.key.as_deref());
            return;
        }
    };
    // Another reader takes for JSON what ours does. It refuses what is nested deep, which ours
    // only passes over where nobody looks.
    let other = serde_json::from_str::<Value>(text);
    if let Err(error) = &other {
        let text = error.to_string();
        let may = [
            "recursion limit",
            "lone leading surrogate",
            "unexpected end of hex",
            "number out of range",
        ];
        assert!(may.iter().any(|it| text.contains(it)), "{text}");
    }

    let mut out = Vec::new();
    match incoming.command {
        Command::Publish { room, kind, payload, key, .. } => {
            let publication = Publication {
                kind: kind.as_ref().into(),
                payload: Bytes::copy_from_slice(payload.as_bytes()),
                time_ms: 1_700_000_000_000,
                from: None,
                key: key.as_deref().map(Into::into),
            };
            let epoch = Epoch::new("e").expect("short");
            json::publication(&mut out, room.as_str(), Some((&epoch, 7)), &Arc::new(publication));
            let sent = parse(&out);
            assert_eq!(sent.r#type, kind);
            assert_eq!(sent.payload.get(), payload, "byte for byte");
            assert_eq!(sent.metadata["room"], room.as_str());
            assert_eq!(sent.metadata["key"].as_str(), key.as_deref());
            assert_eq!(sent.metadata["offset"], 7);

            // What was delivered can be published again, and is the same.
            let again = String::from_utf8(out).expect("UTF-8");
            match json::decode(&again).expect("an envelope").command {
                Command::Publish { room: to, kind: as_kind, payload: same, .. } => {
                    assert_eq!((to.as_str(), &*as_kind), (room.as_str(), &*kind));
                    assert_eq!(same, payload);
                }
                other => panic!("published as {}", other.kind()),
            }
        }
        Command::Ping { payload } => {
            json::pong(&mut out, incoming.id.as_ref(), payload);
            assert_eq!(parse(&out).payload.get(), payload);
        }
        command => assert!(command.kind().starts_with('$')),
    }
}

fn parse(out: &[u8]) -> Envelope<'_> {
    serde_json::from_slice(out).expect("the server sends all three members")
}
