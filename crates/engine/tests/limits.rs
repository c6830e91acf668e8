//! Bounds on what a client, a user and a room can make the server hold or do.

mod rig;

use clarion_engine::Endpoint;
use clarion_websocket::deflate::{Config, accept};
use clarion_websocket::handshake::Extension;
use rig::{Client, Rig, config};
use serde_json::{Value, json};

fn codes(heard: &[Value]) -> Vec<(&str, &Value)> {
    let name = |message: &'_ Value| message["payload"]["name"].as_str().map(str::to_owned);
    let errors = heard.iter().filter(|message| name(message).is_some());
    errors
        .map(|message| (message["payload"]["name"].as_str().unwrap(), &message["payload"]["close"]))
        .collect()
}

fn closed(heard: &[Value]) -> Option<&Value> {
    heard.iter().find_map(|message| message.get("closed"))
}

/// Says something that is refused, with an id, and returns what was heard.
fn offend(rig: &mut Rig, client: Client) -> Vec<Value> {
    rig.say(client, &json!({"type": "$what", "metadata": {"id": 1}}));
    rig.hear(client)
}

// [6.violations] [6.stop]
#[test]
fn whoever_is_refused_again_and_again_is_closed_as_abuse() {
    let mut config = config();
    config.limits.violations_per_min = 3;
    let mut rig = Rig::new(config);
    let (client, _) = rig.hello(&json!({}));
    for _ in 0..3 {
        assert_eq!(codes(&offend(&mut rig, client)), [("unknown_type", &Value::Null)]);
    }
    // One more is to be had after a third of the minute, not before.
    rig.pass(19_900);
    let honest = rig.guest_in("a", &json!({}));
    rig.pass(200);
    assert_eq!(closed(&offend(&mut rig, client)), None);
    let heard = offend(&mut rig, client);
    assert_eq!(codes(&heard), [("unknown_type", &json!(4004))]);
    assert_eq!(closed(&heard), Some(&json!(4004)));
    let reply = rig.ask(honest, "$ping", &json!({}), &json!({}));
    assert_eq!(reply["type"], "$pong");
}

// [6.violations] [6.back]
#[test]
fn whoever_is_too_fast_for_long_is_closed_as_that() {
    let mut config = config();
    config.limits.violations_per_min = 3;
    config.limits.publish_per_s = 1;
    let mut rig = Rig::new(config);
    let (client, _) = rig.hello(&json!({}));
    let publish = json!({"type": "m", "metadata": {"room": "a", "id": 1}});
    let mut last = Vec::new();
    for _ in 0..5 {
        assert_eq!(closed(&last), None);
        rig.say(client, &publish);
        last = rig.hear(client);
    }
    assert_eq!(closed(&last), Some(&json!(4129)));
}

// [6.violations]
#[test]
fn what_is_nobodys_fault_is_no_violation() {
    let mut config = config();
    config.limits.violations_per_min = 1;
    let mut rig = Rig::new(config);
    let (client, _) = rig.hello(&json!({}));
    for _ in 0..10 {
        let reply = rig.ask(client, "$leave", &json!({}), &json!({"room": "a"}));
        assert_eq!(reply["payload"]["name"], "not_joined");
    }
}

// [6.crowd]
#[test]
fn a_user_has_so_many_connections_and_the_newest_is_closed() {
    let mut config = config();
    config.limits.connections_per_user = 2;
    let mut rig = Rig::new(config);
    let token = json!({"token": "user:ada"});
    let (first, heard) = rig.hello(&token);
    let ticket = heard[0]["payload"]["ticket"].clone();
    let (second, _) = rig.hello(&token);
    let (_, heard) = rig.hello(&token);
    assert_eq!(closed(&heard), Some(&json!(4129)));
    let told = codes(&heard);
    assert_eq!(told, [("rate_limited", &json!(4129))]);
    // Others are not concerned, nor is a session that comes back.
    let (_, heard) = rig.hello(&json!({"token": "user:bob"}));
    assert_eq!(closed(&heard), None);
    rig.break_off(first);
    let (_, heard) = rig.hello(&json!({"ticket": ticket}));
    assert_eq!(heard[0]["payload"]["resumed"], true);
    assert_eq!(closed(&heard), None);
    // Whoever leaves makes room.
    rig.break_off(second);
    let (_, heard) = rig.hello(&token);
    assert_eq!(closed(&heard), None);
}

#[test]
fn guests_are_users_of_their_own() {
    let mut config = config();
    config.limits.connections_per_user = 1;
    let mut rig = Rig::new(config);
    for _ in 0..3 {
        let (_, heard) = rig.hello(&json!({}));
        assert_eq!(closed(&heard), None);
    }
}

#[test]
fn a_room_has_so_many_members() {
    let mut config = config();
    config.limits.members = 2;
    let mut rig = Rig::new(config);
    let first = rig.guest_in("a", &json!({}));
    rig.guest_in("a", &json!({}));
    let (third, _) = rig.hello(&json!({}));
    let reply = rig.ask(third, "$join", &json!({}), &json!({"room": "a"}));
    assert_eq!(reply["payload"]["name"], "rate_limited");
    assert_eq!(reply["payload"]["limit"], 2);
    assert_eq!(reply["payload"]["temporary"], false);
    let reply = rig.ask(third, "$join", &json!({}), &json!({"room": "b"}));
    assert_eq!(reply["type"], "$reply");
    rig.ask(first, "$leave", &json!({}), &json!({"room": "a"}));
    let reply = rig.ask(third, "$join", &json!({}), &json!({"room": "a"}));
    assert_eq!(reply["type"], "$reply");
}

#[test]
fn only_so_many_absent_members_are_kept() {
    let mut config = config();
    config.limits.graces = 1;
    config.session.ttl_ms = 5_000;
    let mut rig = Rig::new(config);
    let (watcher, _) = rig.hello(&json!({}));
    rig.ask(watcher, "$join", &json!({"members": true}), &json!({"room": "a"}));
    let one = rig.guest_in("a", &json!({}));
    let two = rig.guest_in("a", &json!({}));
    let count = |rig: &mut Rig| {
        let reply = rig.ask(watcher, "$members", &json!({}), &json!({"room": "a"}));
        reply["payload"]["count"].as_u64().unwrap()
    };
    rig.break_off(one);
    assert_eq!(count(&mut rig), 3, "it may come back");
    rig.break_off(two);
    assert_eq!(count(&mut rig), 2, "there is no room for its grace");
    rig.pass(5_100);
    assert_eq!(count(&mut rig), 1);
    // What was in its grace is not counted any more.
    let three = rig.guest_in("a", &json!({}));
    rig.break_off(three);
    assert_eq!(count(&mut rig), 2);
}

// [4.rates.inflated]
#[test]
fn what_was_inflated_counts_in_the_rate() {
    let mut config = config();
    config.limits.bytes_per_s = 100_000;
    config.limits.message_bytes = 1 << 20;
    let mut rig = Rig::new(config);
    let offer = Extension { name: "permessage-deflate", parameters: Vec::new() };
    let agreed = accept(&Config::default(), &[offer]).unwrap().agreed;
    let client = rig.open_at(Endpoint::Session, true, Some(agreed));
    rig.say(client, &json!({"type": "$hello"}));
    rig.hear(client);
    let text = json!({"type": "m", "payload": "x".repeat(300_000), "metadata": {"room": "a"}});
    rig.say(client, &text);
    assert!(rig.is_paused(client));
    rig.pass(1_900);
    assert!(rig.is_paused(client));
    rig.pass(200);
    assert!(!rig.is_paused(client));
}
