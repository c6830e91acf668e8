//! A connection that reads slowly: when it counts as full, drained, behind, and when it ends.

mod rig;

use rig::{Client, Rig, config};
use serde_json::json;

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
