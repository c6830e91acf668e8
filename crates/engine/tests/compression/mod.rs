//! What connections that agreed to compression are sent, and what of it is done once for many.

use crate::rig::{Client, Rig, config};
use clarion_engine::Endpoint;
use clarion_websocket::deflate::{Agreed, Config, accept};
use clarion_websocket::handshake::Extension;
use serde_json::{Value, json};

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
