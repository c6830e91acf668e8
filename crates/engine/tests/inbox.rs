//! A user's room: what waits in it for a device, and what the user acknowledged.

mod rig;

use clarion_engine::mail::{ApiAnswer, ApiRequest};
use clarion_protocol::{Publication, RoomName};
use clarion_store::StoreError;
use rig::{Client, Rig, config};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::Arc;

/// Sends the user something while it may be away.
fn send(rig: &mut Rig, user: &str, n: u64) {
    let publication = Arc::new(Publication {
        kind: "m".into(),
        payload: n.to_string().into(),
        time_ms: rig.effects.now.wall_ms,
        from: None,
        key: None,
    });
    let answer = rig.api(ApiRequest::Publish {
        room: RoomName::parse(&format!("$user/{user}")).unwrap(),
        publication,
        ephemeral: false,
        principal: "k:test".into(),
    });
    assert!(matches!(answer, ApiAnswer::Published { position: Some(_), .. }), "{answer:?}");
}

fn device(rig: &mut Rig, hello: &Value) -> (Client, Vec<Value>) {
    let mut hello = hello.clone();
    hello["token"] = json!("user:ada");
    rig.hello(&hello)
}

fn payloads(heard: &[Value]) -> Vec<u64> {
    let sent = heard.iter().filter(|message| message["type"] == "m");
    sent.map(|message| message["payload"].as_u64().unwrap()).collect()
}

fn joined(heard: &[Value]) -> &Value {
    &heard.iter().find(|message| message["type"] == "$joined").unwrap()["payload"]
}

fn ack(rig: &mut Rig, client: Client, epoch: &Value, offset: u64) -> Value {
    let payload = json!({"epoch": epoch, "offset": offset});
    rig.ask(client, "$ack", &payload, &json!({"room": "$user/ada"}))
}

// [5.7.keeps]
#[test]
fn what_was_sent_while_nobody_was_there_waits_for_the_first_device() {
    let mut rig = Rig::new(config());
    (1..=3).for_each(|n| send(&mut rig, "ada", n));
    let (_, heard) = device(&mut rig, &json!({}));
    assert_eq!(payloads(&heard), [1, 2, 3]);
    assert_eq!(joined(&heard)["from"], 1);
    assert_eq!(joined(&heard)["recovered"], true);
}

// [3.ack] [3.join.inbox] [5.7.ack] [5.7.start] [5.7.resume]
#[test]
fn a_device_without_a_position_begins_behind_what_the_user_acknowledged() {
    let mut rig = Rig::new(config());
    (1..=4).for_each(|n| send(&mut rig, "ada", n));
    let (one, heard) = device(&mut rig, &json!({}));
    let epoch = joined(&heard)["epoch"].clone();
    assert_eq!(ack(&mut rig, one, &epoch, 3)["payload"], json!({}));
    assert_eq!(ack(&mut rig, one, &epoch, 1)["payload"], json!({}), "only ever forward");
    let (_, heard) = device(&mut rig, &json!({}));
    assert_eq!(payloads(&heard), [4]);
    assert_eq!((&joined(&heard)["from"], &joined(&heard)["recovered"]), (&json!(4), &json!(true)));
    // One with a position resumes there, whatever others acknowledged.
    let position = json!({"$user/ada": {"after": {"epoch": epoch, "offset": 1}}});
    let (_, heard) = device(&mut rig, &json!({"rooms": position}));
    assert_eq!(payloads(&heard), [2, 3, 4]);
    assert_eq!(joined(&heard)["recovered"], true);
    ack(&mut rig, one, &epoch, 4);
    let (_, heard) = device(&mut rig, &json!({}));
    assert!(payloads(&heard).is_empty());
    assert_eq!((&joined(&heard)["from"], &joined(&heard)["recovered"]), (&json!(5), &json!(true)));
}

// [3.join.inbox]
#[test]
fn an_inbox_that_was_trimmed_gives_what_it_has_and_says_so() {
    let mut config = config();
    config.rooms[1].pattern = clarion_protocol::Pattern::parse("$user/*").unwrap();
    let mut rig = Rig::new(config);
    (1..=5).for_each(|n| send(&mut rig, "ada", n));
    let (_, heard) = device(&mut rig, &json!({}));
    assert_eq!(payloads(&heard), [3, 4, 5]);
    assert_eq!(joined(&heard)["from"], 3);
    assert_eq!(joined(&heard)["recovered"], false);
}

// [3.join.inbox]
#[test]
fn nothing_is_missed_where_only_what_was_acknowledged_is_trimmed() {
    let mut config = config();
    config.rooms[1].pattern = clarion_protocol::Pattern::parse("$user/*").unwrap();
    let mut rig = Rig::new(config);
    (1..=3).for_each(|n| send(&mut rig, "ada", n));
    let (one, heard) = device(&mut rig, &json!({}));
    let epoch = joined(&heard)["epoch"].clone();
    ack(&mut rig, one, &epoch, 2);
    (4..=5).for_each(|n| send(&mut rig, "ada", n));
    let (_, heard) = device(&mut rig, &json!({}));
    assert_eq!(payloads(&heard), [3, 4, 5]);
    assert_eq!(joined(&heard)["recovered"], true);
}

// [3.join.inbox] [5.7.start]
#[test]
fn what_was_acknowledged_of_a_log_that_is_gone_says_nothing_of_the_next_one() {
    let mut rig = Rig::new(config());
    (1..=3).for_each(|n| send(&mut rig, "ada", n));
    let (one, heard) = device(&mut rig, &json!({}));
    let epoch = joined(&heard)["epoch"].clone();
    ack(&mut rig, one, &epoch, 3);
    // All of it was too old, say; the room is in use, and its next publication begins another log.
    rig.effects.store.lose(&RoomName::parse("$user/ada").unwrap());
    (4..=9).for_each(|n| send(&mut rig, "ada", n));
    let (_, heard) = device(&mut rig, &json!({}));
    assert_eq!(payloads(&heard), [4, 5, 6, 7, 8, 9]);
    assert_eq!(joined(&heard)["from"], 1);
    let epoch = joined(&heard)["epoch"].clone();
    ack(&mut rig, one, &epoch, 2);
    let (_, heard) = device(&mut rig, &json!({}));
    assert_eq!(payloads(&heard), [6, 7, 8, 9]);
}

// [3.join.inbox-lost]
#[test]
fn a_device_whose_position_is_lost_is_given_what_is_kept() {
    let mut config = config();
    config.rooms[1].pattern = clarion_protocol::Pattern::parse("$user/*").unwrap();
    let mut rig = Rig::new(config);
    (1..=6).for_each(|n| send(&mut rig, "ada", n));
    let (one, heard) = device(&mut rig, &json!({}));
    let epoch = joined(&heard)["epoch"].clone();
    ack(&mut rig, one, &epoch, 4);
    // Behind what was trimmed, beyond the head, and of another log, as after a restart.
    for (epoch, offset, from, wanted) in [
        (&epoch, 1, 4, vec![4, 5, 6]),
        (&epoch, 3, 4, vec![4, 5, 6]),
        (&epoch, 9, 5, vec![5, 6]),
        (&json!("before"), 2, 5, vec![5, 6]),
    ] {
        let position = json!({"$user/ada": {"after": {"epoch": epoch, "offset": offset}}});
        let (_, heard) = device(&mut rig, &json!({"rooms": position}));
        assert_eq!(payloads(&heard), wanted, "{position}");
        assert_eq!(joined(&heard)["from"], from, "{position}");
        assert_eq!(joined(&heard)["recovered"], offset == 3, "{position}");
    }
}

#[test]
fn only_ones_own_room_is_acknowledged_and_a_guests_has_nothing_to() {
    let mut rig = Rig::new(config());
    let (client, _) = device(&mut rig, &json!({}));
    let payload = json!({"epoch": "e", "offset": 1});
    let answer = rig.ask(client, "$ack", &payload, &json!({"room": "$user/bob"}));
    assert_eq!(answer["payload"]["name"], "forbidden");
    assert_eq!(ack(&mut rig, client, &json!("another"), 1)["payload"], json!({}), "no effect");
    let (guest, heard) = rig.hello(&json!({}));
    let room = format!("$user/{}", heard[0]["payload"]["user"].as_str().unwrap());
    let answer = rig.ask(guest, "$ack", &payload, &json!({"room": room}));
    assert_eq!(answer["payload"]["name"], "no_history");
}

#[test]
fn an_inbox_that_cannot_be_read_is_joined_when_it_can_be_if_somebody_is_there() {
    let mut rig = Rig::new(config());
    send(&mut rig, "ada", 1);
    let fail = |rig: &mut Rig| {
        rig.effects.held = Some(VecDeque::new());
        let (client, heard) = device(rig, &json!({}));
        assert!(!heard.iter().any(|message| message["type"] == "$joined"));
        rig.stored(Some(StoreError::Unavailable));
        client
    };
    rig.pass(60_000);
    let client = fail(&mut rig);
    rig.pass(1_000);
    assert_eq!(payloads(&rig.hear(client)), [1]);
    rig.break_off(client);
    rig.pass(120_000);
    let gone = fail(&mut rig);
    rig.break_off(gone);
    rig.effects.held = Some(VecDeque::new());
    rig.pass(5_000);
    assert!(rig.effects.held.take().unwrap().is_empty(), "nothing is asked for nobody");
}
