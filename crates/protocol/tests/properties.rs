//! What has to hold for every input: no text makes the decoder panic, payloads come back byte for
//! byte, and names and patterns agree with models that are too simple to be wrong.

use std::sync::Arc;

use bytes::Bytes;
use clarion_protocol::codec::json;
use clarion_protocol::{
    ClientId, Command, Epoch, OFFSET_MAX, Pattern, Publication, RoomName, RoomRef, Sender,
};
use proptest::prelude::*;
use serde_json::value::RawValue;

/// JSON texts with what a codec could be tempted to tidy: spaces, long numbers, escapes.
fn json_text() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("1e400".to_owned()),
        Just("-0.0".to_owned()),
        Just("123456789012345678901234567890".to_owned()),
        Just(r#""\ud83d""#.to_owned()),
        Just(r#""A\/\u0041\"}]""#.to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<String>().prop_map(|text| serde_json::to_string(&text).expect("a string")),
    ];
    leaf.prop_recursive(6, 48, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6)
                .prop_map(|items| format!("[ {}\t]", items.join(" ,\r\n"))),
            // Names repeat on purpose: in a payload that is the application's own affair.
            prop::collection::vec(("[ab]?", inner), 0..6).prop_map(|members| {
                let members: Vec<_> =
                    members.iter().map(|(name, value)| format!("\"{name}\" : {value}")).collect();
                format!("{{{}\n}}", members.join(","))
            }),
        ]
    })
}

/// Envelopes that are nearly right: each member may be missing, twice, or of the wrong type.
fn envelope_text() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        Just("type"),
        Just("payload"),
        Just("metadata"),
        Just("room"),
        Just("id"),
        Just("key"),
        Just("ephemeral"),
        Just("echo"),
        Just("after"),
        Just("rooms"),
        Just("limit"),
        Just("epoch"),
        Just("offset"),
        Just("token"),
        Just("x"),
    ];
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("1".to_owned()),
        Just("1.0".to_owned()),
        Just("-1".to_owned()),
        Just("9007199254740992".to_owned()),
        Just("\"general\"".to_owned()),
        Just("\"$user/ada\"".to_owned()),
        Just(r#""\ud800""#.to_owned()),
        Just(r#""chat\/a""#.to_owned()),
        "\"\\$(hello|join|leave|history|members|state|ack|refresh|ping|x)\"",
    ];
    let object = move |value: BoxedStrategy<String>| {
        prop::collection::vec((name.clone(), value), 0..8).prop_map(|members| {
            let members: Vec<_> =
                members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
            format!("{{{}}}", members.join(","))
        })
    };
    let values = leaf.prop_recursive(3, 32, 8, {
        let object = object.clone();
        move |inner| object(inner.boxed())
    });
    object(values.boxed())
}

fn segment() -> impl Strategy<Value = String> {
    prop_oneof!["[a-c]", "[a-c]{2}", Just(".".to_owned()), Just(String::new()), "[ *$\u{e9}]"]
}

fn segments(text: &str) -> Vec<&str> {
    text.split('/').collect()
}

/// Section 1, as a regular expression would say it.
fn model_name_is_valid(name: &str) -> bool {
    let segment_is_valid = |segment: &&str| {
        !["", ".", ".."].contains(segment)
            && segment.chars().all(|c| c.is_ascii_alphanumeric() || "_.:@|+=~-".contains(c))
    };
    match segments(name).as_slice() {
        ["$all"] => true,
        ["$client" | "$user" | "$group", id] => id.len() <= 96 && segment_is_valid(id),
        all => name.len() <= 128 && all.iter().all(segment_is_valid),
    }
}

/// Matching by trying everything.
fn model_matches(pattern: &[&str], name: &[&str]) -> bool {
    match (pattern, name) {
        ([], []) => true,
        (["**", rest @ ..], _) => (0..=name.len()).any(|taken| model_matches(rest, &name[taken..])),
        ([want, pattern @ ..], [segment, name @ ..]) => {
            (*want == "*" || want == segment) && model_matches(pattern, name)
        }
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 512,
        // A failure that was found becomes a test with a name, not a seed in a file.
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    // [2.json]
    #[test]
    fn any_text_is_a_command_or_rejected(text in any::<String>()) {
        let _ = json::decode(&text);
    }

    #[test]
    fn any_envelope_is_a_command_or_rejected_by_a_known_name(text in envelope_text()) {
        match json::decode(&text) {
            Ok(incoming) => prop_assert!(!incoming.command.kind().is_empty()),
            Err(rejected) => prop_assert!((400..=422).contains(&rejected.refusal.name.code())),
        }
    }

    #[test]
    fn envelope_cut_short_is_no_json(text in envelope_text(), cut in any::<prop::sample::Index>()) {
        let cut = cut.index(text.len());
        if let Some(start) = text.get(..cut) {
            let rejected = json::decode(start).expect_err("an object without its end");
            prop_assert_eq!(&rejected.refusal.message, "the message is not JSON");
            prop_assert_eq!(rejected.id, None);
        }
    }

    // [2.payload.unchanged]
    #[test]
    fn published_payload_is_delivered_byte_for_byte(
        payload in json_text(),
        kind in "[^$]{1,16}",
        key in prop::option::of("[ -~]{1,64}"),
        place in prop::option::of(("[ -~]{1,32}", 1..=OFFSET_MAX)),
        from in prop::option::of((any::<Option<[u8; 16]>>(), prop::option::of("[a-z]{1,9}"))),
        time_ms in 0..253_402_300_800_000_u64,
    ) {
        let quoted = serde_json::to_string(&kind).expect("a string");
        let key_member = key.as_ref().map_or(String::new(), |key| {
            format!(r#","key":{}"#, serde_json::to_string(key).expect("a string"))
        });
        let text = format!(
            r#"{{"metadata" : {{"room":"chat\/a"{key_member}}} , "payload" : {payload} ,"type":{quoted}}}"#
        );
        let incoming = json::decode(&text).expect("a publication");
        let Command::Publish { room, kind: read_kind, payload: read, key: read_key, .. } =
            incoming.command
        else {
            panic!("another command")
        };
        prop_assert_eq!(room.as_str(), "chat/a");
        prop_assert_eq!(read, &payload);
        prop_assert_eq!(&read_kind, &kind);
        prop_assert_eq!(read_key.as_deref(), key.as_deref());

        let publication = Publication {
            kind: read_kind.into(),
            payload: Bytes::copy_from_slice(read.as_bytes()),
            time_ms,
            from: from.map(|(client, user)| {
                Arc::new(Sender {
                    client: client.map(ClientId),
                    user: user.map(Into::into),
                    info: Some(r#"{ "a":1.0}"#.into()),
                })
            }),
            key: key.clone().map(Into::into),
        };
        let place = place.map(|(epoch, offset)| (Epoch::new(&epoch).expect("short"), offset));
        let mut out = b"before".to_vec();
        let position = place.as_ref().map(|(epoch, offset)| (epoch, *offset));
        json::publication(&mut out, room.as_str(), position, &publication);

        #[derive(serde::Deserialize)]
        struct Delivered<'a> {
            r#type: String,
            #[serde(borrow)]
            payload: &'a RawValue,
            metadata: serde_json::Value,
        }
        let sent = std::str::from_utf8(&out).expect("UTF-8").strip_prefix("before").expect("kept");
        let sent: Delivered<'_> = serde_json::from_str(sent).expect("JSON");
        prop_assert_eq!(sent.payload.get(), payload);
        prop_assert_eq!(sent.r#type, kind);
        prop_assert_eq!(&sent.metadata["room"], "chat/a");
        prop_assert_eq!(sent.metadata["key"].as_str(), key.as_deref());
        prop_assert_eq!(
            sent.metadata["epoch"].as_str(),
            place.as_ref().map(|(epoch, _)| epoch.as_str())
        );
        prop_assert_eq!(sent.metadata["offset"].as_u64(), place.map(|(_, offset)| offset));
        prop_assert_eq!(sent.metadata.get("from").is_some(), publication.from.is_some());
    }

    // [1.name.segments] [1.name.dots] [1.name.length] [1.name.dollar]
    #[test]
    fn room_names_agree_with_the_model(
        special in prop_oneof![
            Just(""), Just("$"), Just("$all"), Just("$all/"), Just("$user/"), Just("$group/"),
            Just("$client/"), Just("$foo/"),
        ],
        parts in prop::collection::vec(segment(), 0..5),
        filler in prop_oneof![Just(0_usize), 90..130_usize],
    ) {
        let name = format!("{special}{}{}", "z".repeat(filler), parts.join("/"));
        prop_assert_eq!(RoomName::parse(&name).is_ok(), model_name_is_valid(&name), "{}", name);
        prop_assert_eq!(RoomRef::parse(&*name).is_ok(), model_name_is_valid(&name), "{}", name);
    }

    // [1.pattern.wildcards] [1.pattern.none]
    #[test]
    fn patterns_agree_with_the_model(
        pattern in prop::collection::vec("[ab]|\\*|\\*\\*", 1..8),
        name in prop::collection::vec("[ab]", 1..9),
    ) {
        let (pattern, name) = (pattern.join("/"), name.join("/"));
        let expected = model_matches(&segments(&pattern), &segments(&name));
        let parsed = Pattern::parse(&pattern).expect("valid");
        prop_assert_eq!(parsed.matches(&name), expected, "{} {}", pattern, name);
    }
}

// [2.depth]
#[test]
fn deep_nesting_is_refused_without_using_the_stack() {
    let refused = |payload: &str| {
        let text =
            format!(r#"{{"type":"a","payload":{payload},"metadata":{{"room":"r","id":7}}}}"#);
        json::decode(&text).err().map(|rejected| (rejected.refusal.field, rejected.refusal.limit))
    };
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(refused(&nested(100)), None);
    assert_eq!(refused(&nested(101)), Some((Some("payload"), Some(100))));
    assert_eq!(refused(&nested(1_000_000)), Some((Some("payload"), Some(100))));
    // Many brackets are not deep, neither side by side nor in a string.
    assert_eq!(refused(&format!("[{}0]", "[[]],".repeat(1000))), None);
    assert_eq!(refused(&format!(r#"["\"{}"]"#, "[{".repeat(1000))), None);
    // Nor does what is ignored.
    let deep = "[".repeat(1_000_000);
    assert!(json::decode(&deep).is_err());
    assert!(json::decode(&format!(r#"{{"type":"a","x":{}}}"#, nested(1_000_000))).is_err());
    assert!(json::decode(&format!(r#"{{"type":"a","metadata":{}}}"#, nested(1_000_000))).is_err());
}

#[test]
fn many_unknown_names_cost_no_square() {
    use std::fmt::Write as _;
    let mut text = String::from("{\"type\":\"$ping\"");
    for index in 0..200_000 {
        write!(text, ",\"{index}\":0").expect("a String");
    }
    text.push('}');
    assert!(json::decode(&text).is_ok());
}
