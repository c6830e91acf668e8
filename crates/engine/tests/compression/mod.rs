//! What connections that agreed to compression are sent, and what of it is done once for many.

use crate::rig::{Client, Rig, config};
use bytes::Bytes;
use clarion_engine::Endpoint;
use clarion_engine::config::Unshared;
use clarion_engine::mail::ApiRequest;
use clarion_protocol::{Publication, RoomName};
use clarion_websocket::deflate::{Agreed, Config, accept};
use clarion_websocket::handshake::Extension;
use serde_json::{Value, json};
use std::sync::Arc;

fn agree(config: Config) -> Agreed {
    let bits = ("client_max_window_bits", None);
    let offer = Extension { name: "permessage-deflate", parameters: vec![bits] };
    accept(&config, &[offer]).unwrap().agreed
}

/// Every kind of agreement that makes a difference to who sends.
fn kinds() -> [Config; 3] {
    let default = Config::default();
    [
        default,
        Config { server_window_bits: 9, ..default },
        Config { server_takeover: true, client_takeover: true, ..default },
    ]
}

fn guest(rig: &mut Rig, deflate: Option<Agreed>) -> Client {
    let client = rig.open_at(Endpoint::Session, true, deflate);
    rig.say(client, &json!({"type": "$hello"}));
    rig.hear(client);
    client
}

/// What shrinks to a tenth.
fn long() -> Value {
    json!("all work and no play makes Jack a dull boy; ".repeat(40))
}

#[test]
fn an_echo_is_compressed_from_the_threshold_on() {
    for kind in kinds() {
        let mut rig = Rig::new(config());
        let client = rig.open_at(Endpoint::Echo, false, Some(agree(kind)));
        for _ in 0..3 {
            rig.say(client, &long());
            assert!(rig.wire_size(client) < 200, "{kind:?}");
            assert_eq!(rig.hear(client), [long()]);
        }
        let short = json!("s".repeat(250));
        rig.say(client, &short);
        assert_eq!(rig.wire_size(client), 2 + 2 + 252);
        assert_eq!(rig.hear(client), [short]);
        let counters = rig.shard.counters();
        assert_eq!((counters.inflated_messages, counters.deflated_messages), (3, 3));
        assert_eq!(counters.deflated_plain_bytes, 3 * long().to_string().len() as u64);
    }
}

#[test]
fn a_large_echo_is_compressed_too() {
    let mut rig = Rig::new(config());
    let client = rig.open_at(Endpoint::Echo, false, Some(agree(Config::default())));
    let large = json!("x".repeat(1 << 20));
    rig.say(client, &large);
    assert!(rig.wire_size(client) < 10_000);
    assert_eq!(rig.hear(client), [large]);
}

#[test]
fn a_reply_is_compressed_and_may_answer_what_is_still_being_read() {
    for kind in kinds() {
        let mut rig = Rig::new(config());
        let client = guest(&mut rig, Some(agree(kind)));
        for _ in 0..3 {
            rig.say(client, &json!({"type": "$ping", "payload": long()}));
            assert!(rig.wire_size(client) < 250, "{kind:?}: {}", rig.wire_size(client));
            assert_eq!(rig.hear(client)[0]["payload"], long());
        }
    }
}

#[test]
fn a_connection_that_did_not_agree_is_sent_everything_as_it_is() {
    let mut rig = Rig::new(config());
    let client = guest(&mut rig, None);
    rig.say(client, &json!({"type": "$ping", "payload": long()}));
    assert!(rig.wire_size(client) > 1_700);
    assert_eq!(rig.hear(client)[0]["payload"], long());
    assert_eq!(rig.shard.counters().deflated_messages, 0);
}

#[test]
fn a_bomb_closes_with_1009() {
    let mut rig = Rig::new(config());
    let client = guest(&mut rig, Some(agree(Config::default())));
    rig.say(client, &json!({"type": "m", "payload": "0".repeat(10 << 20)}));
    assert_eq!(rig.hear(client), [json!({"closed": 1009})]);
    assert_eq!(rig.shard.counters().inflated_messages, 0);
}

/// A member of each kind and one that did not agree, and how many bytes of a publication each got.
fn sizes(rig: &mut Rig, room: &str) -> Vec<usize> {
    let mut members = vec![guest(rig, None)];
    for kind in kinds() {
        members.extend([guest(rig, Some(agree(kind))), guest(rig, Some(agree(kind)))]);
    }
    for &member in &members {
        rig.ask(member, "$join", &json!({}), &json!({"room": room}));
    }
    for _ in 0..2 {
        let sender = members[0];
        rig.say(sender, &json!({"type": "m", "payload": long(), "metadata": {"room": room}}));
    }
    let size = |rig: &mut Rig, member| {
        let size = rig.wire_size(member);
        let heard = rig.hear(member);
        assert_eq!(heard.len(), 2);
        assert!(heard.iter().all(|message| message["payload"] == long()), "{heard:?}");
        size
    };
    members.into_iter().map(|member| size(rig, member)).collect()
}

#[test]
fn a_publication_is_compressed_once_for_all_who_take_it_so() {
    for room in ["logged", "live/unlogged"] {
        let mut rig = Rig::new(config());
        let [plain, first, second, others @ ..] = &sizes(&mut rig, room)[..] else { panic!() };
        assert!(*plain > 3_500 && *first < 700 && first == second, "{room}: {plain} {first}");
        assert_eq!(others, [*plain; 4]);
        assert_eq!(rig.shard.counters().deflated_messages, 2);
    }
}

#[test]
fn members_that_cannot_take_it_so_get_their_own_if_the_operator_says() {
    for room in ["logged", "live/unlogged"] {
        let mut config = config();
        config.deflate.unshared = Unshared::Own;
        let mut rig = Rig::new(config);
        let [plain, shared, _, small, _, takeover, _] = sizes(&mut rig, room)[..] else { panic!() };
        assert!(plain > 3_500 && shared < 700 && small < 700, "{room}: {plain} {shared} {small}");
        assert!(takeover < shared * 2 / 3, "the second refers to the first: {takeover}");
        assert_eq!(rig.shard.counters().deflated_messages, 2 * (1 + 4));
    }
}

#[test]
fn nothing_is_compressed_where_nobody_takes_it() {
    let mut rig = Rig::new(config());
    let elsewhere = guest(&mut rig, Some(agree(Config::default())));
    let member = rig.guest_in("a", &json!({"members": true}));
    rig.ask(member, "m", &long(), &json!({"room": "a"}));
    rig.ask(member, "m", &long(), &json!({"room": "a", "ephemeral": true}));
    assert_eq!(rig.shard.counters().deflated_messages, 0);
    // One that comes takes it, and one that went does not.
    rig.ask(elsewhere, "$join", &json!({}), &json!({"room": "a"}));
    rig.ask(member, "m", &long(), &json!({"room": "a"}));
    assert_eq!(rig.shard.counters().deflated_messages, 1);
    rig.ask(elsewhere, "$leave", &json!({}), &json!({"room": "a"}));
    rig.ask(member, "m", &long(), &json!({"room": "a"}));
    assert_eq!(rig.shard.counters().deflated_messages, 1);
}

#[test]
fn what_is_short_or_does_not_shrink_goes_as_it_is() {
    let mut rig = Rig::new(config());
    let member = guest(&mut rig, Some(agree(Config::default())));
    rig.ask(member, "$join", &json!({}), &json!({"room": "a"}));
    rig.say(member, &json!({"type": "m", "payload": "short", "metadata": {"room": "a"}}));
    assert_eq!(rig.hear(member).len(), 1);
    let mut noise = 1_u64;
    let text: String = std::iter::repeat_with(|| {
        noise =
            noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'0' + (noise >> 33) as u8 % 75)
    })
    .filter(|c| *c != '\\')
    .take(300)
    .collect();
    rig.say(member, &json!({"type": "m", "payload": text, "metadata": {"room": "a"}}));
    assert_eq!(rig.hear(member)[0]["payload"], text);
}

#[test]
fn whoever_reads_the_log_gets_it_compressed() {
    for (unshared, most) in [(Unshared::Plain, 1), (Unshared::Own, 3)] {
        let mut config = config();
        config.deflate.unshared = unshared;
        let mut rig = Rig::new(config);
        let publisher = guest(&mut rig, None);
        for _ in 0..5 {
            rig.ask(publisher, "m", &long(), &json!({"room": "a"}));
        }
        let mut small = 0;
        for kind in kinds() {
            let member = guest(&mut rig, Some(agree(kind)));
            let join = json!({"type": "$join", "payload": {"last": 5}, "metadata": {"room": "a"}});
            rig.say(member, &join);
            small += usize::from(rig.wire_size(member) < 2_500);
            let heard = rig.hear(member);
            assert_eq!(heard.len(), 5);
            assert!(heard.iter().all(|message| message["payload"] == long()));
        }
        assert_eq!(small, most, "{unshared:?}");
    }
}

#[test]
fn a_slow_reader_catches_up_with_compressed_pages() {
    let mut config = config();
    config.limits.outbox_bytes = 4_096;
    config.limits.publish_per_s = 0;
    let mut rig = Rig::new(config);
    let publisher = guest(&mut rig, None);
    let slow: Vec<Client> = kinds().map(|kind| guest(&mut rig, Some(agree(kind)))).into();
    for &member in &slow {
        rig.ask(member, "$join", &json!({}), &json!({"room": "a"}));
        rig.effects.deaf.push(member);
    }
    for n in 0..40 {
        rig.ask(publisher, "m", &json!([n, long()]), &json!({"room": "a"}));
    }
    assert_eq!(rig.shard.counters().fell_behind, 3);
    for &member in &slow {
        rig.listen(member);
        let heard = rig.hear(member);
        let numbers: Vec<u64> =
            heard.iter().map(|message| message["payload"][0].as_u64().unwrap()).collect();
        assert_eq!(numbers, (0..40).collect::<Vec<_>>());
    }
}

#[test]
fn what_one_connection_is_sent_has_a_level_of_its_own() {
    let words: Vec<String> = (0..200).map(|n: u32| format!("word {}", n.pow(3) % 997)).collect();
    let echo = |kind, level, unicast_level| {
        let mut config = config();
        (config.deflate.level, config.deflate.unicast_level) = (level, unicast_level);
        let mut rig = Rig::new(config);
        let client = rig.open_at(Endpoint::Echo, false, Some(agree(kind)));
        rig.say(client, &json!(words));
        let size = rig.wire_size(client);
        assert_eq!(rig.hear(client), [json!(words)]);
        size
    };
    let room = |level, unicast_level| {
        let mut config = config();
        (config.deflate.level, config.deflate.unicast_level) = (level, unicast_level);
        let mut rig = Rig::new(config);
        let members = [Config::default(); 2].map(|kind| guest(&mut rig, Some(agree(kind))));
        for member in members {
            rig.ask(member, "$join", &json!(null), &json!({"room": "a"}));
            rig.hear(member);
        }
        rig.ask(members[0], "m", &json!(words), &json!({"room": "a"}));
        let size = rig.wire_size(members[1]);
        assert_eq!(rig.hear(members[1])[0]["payload"], json!(words));
        size
    };
    let alone = Config::default();
    assert!(echo(alone, 6, 1) > echo(alone, 6, 6));
    assert_eq!(echo(alone, 1, 6), echo(alone, 6, 6));
    assert!(room(1, 6) > room(6, 1));
    assert_eq!(room(6, 1), room(6, 6));
    // Context takeover is for small messages, and keeps to the other level.
    let takeover = Config { server_takeover: true, ..alone };
    assert_eq!(echo(takeover, 6, 1), echo(takeover, 6, 6));
}

#[test]
fn presence_is_compressed_once() {
    let mut rig = Rig::new(config());
    let mut watch = |agreed| {
        let member = guest(&mut rig, agreed);
        rig.ask(member, "$join", &json!({"members": true}), &json!({"room": "a"}));
        member
    };
    let plain = watch(None);
    let taker = Some(agree(Config::default()));
    let members = [watch(taker), watch(taker)];
    rig.pass(1_000);
    let before = rig.shard.counters().deflated_messages;
    for member in [plain, members[0], members[1]] {
        rig.hear(member);
    }
    rig.ask(plain, "$state", &json!("s".repeat(900)), &json!({"room": "a"}));
    rig.pass(1_000);
    assert_eq!(rig.shard.counters().deflated_messages, before + 1);
    assert!(rig.wire_size(plain) > 900);
    for member in members {
        assert!(rig.wire_size(member) < 300);
        assert_eq!(rig.hear(member)[0]["type"], "$members");
    }
}

#[test]
fn a_broadcast_is_compressed_once() {
    let mut rig = Rig::new(config());
    let plain = guest(&mut rig, None);
    let publication = Arc::new(Publication {
        kind: "m".into(),
        payload: Bytes::from(long().to_string()),
        time_ms: 1,
        from: None,
        key: None,
    });
    let room = RoomName::all();
    let request =
        ApiRequest::Publish { room, publication, ephemeral: false, principal: "k".into() };
    rig.api(request.clone());
    assert_eq!(rig.shard.counters().deflated_messages, 0);
    assert!(rig.wire_size(plain) > 1_700);
    let members = [Config::default(); 2].map(|kind| guest(&mut rig, Some(agree(kind))));
    rig.api(request);
    assert_eq!(rig.shard.counters().deflated_messages, 1);
    for member in members {
        assert!(rig.wire_size(member) < 300);
        assert_eq!(rig.hear(member)[0]["payload"], long());
    }
}
