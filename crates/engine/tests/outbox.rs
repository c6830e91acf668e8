//! A connection that reads slowly: when it counts as full, drained, behind, and when it ends.

mod rig;

use rig::{Client, Rig, config};
use serde_json::{Value, json};

fn fill(rig: &mut Rig, publisher: Client, room: &str, count: u64) {
    for n in 0..count {
        rig.say(publisher, &json!({"type": "m", "payload": n, "metadata": {"room": room}}));
        rig.hear(publisher);
    }
}

// [5.6.full] [5.6.read]
#[test]
fn an_outbox_is_full_at_its_limit_and_drained_at_half() {
    let mut config = config();
    config.limits.outbox_bytes = 10_000;
    config.limits.publish_per_s = 0;
    let mut rig = Rig::new(config);
    let slow = rig.guest_in("a", &json!({}));
    let publisher = rig.guest_in("a", &json!({}));
    rig.effects.deaf.push(slow);
    while !rig.is_paused(slow) {
        fill(&mut rig, publisher, "a", 1);
        assert!(rig.queued(slow) <= 10_000);
    }
    let one = 400;
    assert!(rig.queued(slow) > 10_000 - one, "{}", rig.queued(slow));
    // Not read, and so not answered.
    let full = rig.queued(slow);
    rig.sip(slow, full - 5_001);
    assert!(rig.is_paused(slow), "more than half is left");
    assert_eq!(rig.queued(slow), 5_001);
    rig.sip(slow, 1);
    assert!(!rig.is_paused(slow), "half of it is drained");
}

// [5.6.behind] [5.6.drains] [5.6.closed]
#[test]
fn a_reader_that_drains_is_served_for_ever_and_one_that_does_not_is_closed() {
    let mut config = config();
    config.limits.outbox_bytes = 10_000;
    config.limits.publish_per_s = 0;
    let mut rig = Rig::new(config);
    let slow = rig.guest_in("a", &json!({}));
    let publisher = rig.guest_in("a", &json!({}));
    rig.effects.deaf.push(slow);
    fill(&mut rig, publisher, "a", 900);
    // Drained once within each grace time, and never altogether.
    for _ in 0..6 {
        for _ in 0..4 {
            rig.pass(5_000);
            rig.hear(publisher);
        }
        let full = rig.queued(slow);
        rig.sip(slow, full - 4_000);
        let row = rig.rows().into_iter().find(|row| row.lag > 0).expect("it is still behind");
        assert!(row.outbox_bytes <= 10_400, "{row:?}");
        assert!(rig.effects.closed.is_empty());
        rig.hear(slow);
    }
    // Half is not reached any more.
    for _ in 0..3 {
        rig.pass(9_000);
        rig.hear(publisher);
        rig.sip(slow, 100);
    }
    assert!(rig.effects.closed.is_empty());
    rig.pass(4_000);
    rig.listen(slow);
    assert_eq!(rig.hear(slow).last(), Some(&json!({"closed": 4108})));
}

/// Many commands in one read, as a client sends them that does not wait for answers.
fn pipeline(rig: &mut Rig, client: Client, commands: impl Iterator<Item = Value>) {
    let mut bytes = Vec::new();
    for command in commands {
        let text = command.to_string();
        bytes.extend([0x81, 0xfe]);
        bytes.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(text.into_bytes());
    }
    rig.bytes(client, &mut bytes);
}

/// Pads a command to the length that [`pipeline`] writes.
fn command(kind: &str, room: &str, n: u64) -> Value {
    json!({
        "type": kind, "payload": {"limit": 100, "members": true},
        "metadata": {"room": room, "id": n, "pad": "-".repeat(60)},
    })
}

// [5.6.page]
#[test]
fn pages_that_were_asked_for_in_one_read_do_not_pile_up() {
    let mut config = config();
    config.limits.outbox_bytes = 20_000;
    config.limits.publish_per_s = 0;
    let mut rig = Rig::new(config);
    let publisher = rig.guest_in("a", &json!({}));
    fill(&mut rig, publisher, "a", 50);
    for kind in ["$history", "$members"] {
        let crowd: Vec<_> = (0..20).map(|_| rig.guest_in("a", &json!({}))).collect();
        let (slow, _) = rig.hello(&json!({}));
        let one = rig.ask(slow, kind, &json!({"limit": 100}), &json!({"room": "a"}));
        let one = one.to_string().len();
        rig.effects.deaf.push(slow);
        rig.pass(1_000);
        pipeline(&mut rig, slow, (0..90).map(|n| command(kind, "a", n)));
        let errors = 90 * 300;
        assert!(rig.queued(slow) <= 20_000 + one + errors, "{kind}: {}", rig.queued(slow));
        rig.listen(slow);
        let heard = rig.hear(slow);
        assert_eq!(heard.len(), 90, "each is answered");
        let (good, bad): (Vec<_>, Vec<_>) = heard.iter().partition(|it| it["type"] == "$reply");
        assert!(good.len() >= 2 && good.len() < 20, "{kind}: {}", good.len());
        for it in bad {
            let payload = &it["payload"];
            assert_eq!(
                (&payload["name"], &payload["temporary"]),
                (&json!("rate_limited"), &json!(true))
            );
            assert_eq!(
                (&payload["limit"], &payload["retry_after_ms"]),
                (&json!(20_000), &json!(1_000))
            );
        }
        rig.pass(1_000);
        let again = rig.ask(slow, kind, &json!({"limit": 100}), &json!({"room": "a"}));
        assert_eq!(again["type"], "$reply");
        for client in crowd {
            rig.hang_up(client, 1000);
        }
    }
}

// [5.6.snapshot]
#[test]
fn snapshots_of_many_rooms_wait_for_a_full_outbox() {
    let mut config = config();
    config.limits.outbox_bytes = 20_000;
    let mut rig = Rig::new(config);
    let rooms: Vec<String> = (0..12).map(|n| format!("r{n}")).collect();
    let wanted = |join: Value| rooms.iter().map(|room| (room.clone(), join.clone())).collect();
    let wanted = |join| Value::Object(wanted(join));
    for _ in 0..40 {
        rig.hello(&json!({"rooms": wanted(json!({}))}));
    }
    let (slow, _) = rig.hello(&json!({}));
    rig.effects.deaf.push(slow);
    pipeline(&mut rig, slow, rooms.iter().zip(0..).map(|(room, n)| command("$join", room, n)));
    // A snapshot of 41 is somewhat over 4,000 bytes.
    assert!(rig.queued(slow) <= 20_000 + 6_000 + 12 * 300, "{}", rig.queued(slow));
    // It drains, is paid what there is room for, and so on until it has heard of every room.
    let mut whole = std::collections::BTreeSet::new();
    for _ in 0..12 {
        let queued = rig.queued(slow);
        assert!(queued <= 20_000 + 6_000 + 12 * 300, "{queued}");
        rig.sip(slow, queued);
        for heard in rig.hear(slow) {
            assert_ne!(heard["type"], "$gap", "nothing was lost");
            let payload = &heard["payload"];
            let members = if heard["type"] == "$members" { payload } else { &payload["members"] };
            assert_eq!(members["count"], 41);
            if let Some(all) = members["all"].as_array() {
                assert_eq!(all.len(), 41);
                whole.insert(heard["metadata"]["room"].as_str().unwrap().to_owned());
            }
        }
    }
    assert_eq!(whole, rooms.into_iter().collect());
    assert!(!rig.is_paused(slow));
}

// [3.join.trimmed] [5.1.gap] [4.gap] [4.gap.lost]
#[test]
fn a_replay_that_the_log_outruns_says_what_is_lost() {
    let mut config = config();
    config.limits.outbox_bytes = 2_000;
    config.limits.publish_per_s = 0;
    config.rooms[1].settings.log.as_mut().unwrap().size = 40;
    let mut rig = Rig::new(config);
    let publisher = rig.guest_in("short", &json!({}));
    fill(&mut rig, publisher, "short", 40);
    let (late, _) = rig.hello(&json!({}));
    rig.effects.deaf.push(late);
    rig.say(
        late,
        &json!({"type": "$join", "payload": {"last": 40}, "metadata": {"room": "short", "id": 1}}),
    );
    fill(&mut rig, publisher, "short", 60);
    rig.listen(late);
    let heard = rig.hear(late);
    assert_eq!(
        (&heard[0]["payload"]["from"], &heard[0]["payload"]["offset"]),
        (&json!(1), &json!(40))
    );
    let mut next = 1;
    let mut gaps = 0;
    for message in &heard[1..] {
        let payload = &message["payload"];
        if message["type"] == "$gap" {
            gaps += 1;
            assert_eq!(payload["reason"], "trimmed");
            assert_eq!(payload["from"], next, "the first that is lost");
            assert_eq!(payload["to"], payload["offset"], "and the last");
            next = payload["offset"].as_u64().unwrap() + 1;
        } else {
            assert_eq!(message["metadata"]["offset"], next);
            next += 1;
        }
    }
    assert_eq!((next, gaps), (101, 1));
}

// [4.heartbeat.any] [4.heartbeat]
#[test]
fn any_frame_is_a_sign_of_life() {
    let mut rig = Rig::new(config());
    let client = rig.guest_in("a", &json!({}));
    // A Pong that nobody asked for, a Ping, a text: as good as each other. The mask is zero.
    let text = br#"{"type":"$ping"}"#;
    let frames: [&[u8]; 3] = [
        &[0x8a, 0x80, 0, 0, 0, 0],
        &[0x89, 0x80, 0, 0, 0, 0],
        &[&[0x81, 0x90, 0, 0, 0, 0], &text[..]].concat(),
    ];
    for frame in frames {
        rig.pass(24_999);
        rig.bytes(client, &mut frame.to_vec());
        rig.pass(24_999);
        assert!(rig.hear(client).iter().all(|heard| *heard != "ping"));
        rig.bytes(client, &mut frame.to_vec());
    }
    rig.hear(client);
    rig.pass(25_000);
    assert_eq!(rig.hear(client), [json!("ping")]);
}
