//! What was handled in the user's own room.

use clarion_client::core::{Options, RoomEvent};
use clarion_protocol::{Epoch, Position};
use serde_json::{Value, json};

use crate::world::World;

const INBOX: &str = "$user/u1";

fn at(offset: u64) -> Position {
    Position::new(Epoch::new("e").unwrap(), offset)
}

fn joined(world: &mut World, offset: u64, recovered: bool) {
    let reply = json!({"epoch": "e", "offset": offset, "from": offset + 1, "recovered": recovered});
    world.say("$joined", reply, json!({"room": INBOX}));
}

/// A client in its inbox, which is empty.
fn inbox() -> World {
    let mut world = World::new();
    world.connected();
    joined(&mut world, 0, false);
    world
}

fn handled(world: &mut World, offset: u64) {
    world.core.handled(INBOX, &at(offset), world.now);
    world.settle();
}

/// Answers the next `$ack`; returns its offset.
fn acked(world: &mut World) -> Value {
    let ack = world.next("$ack");
    assert_eq!(ack["metadata"]["room"], INBOX);
    world.reply(&ack, json!({}));
    ack["payload"]["offset"].clone()
}

#[test]
fn what_was_handled_is_said_by_one_ack_at_a_time_and_the_newest_wins() {
    let mut world = inbox();
    handled(&mut world, 1);
    let first = world.next("$ack");
    assert_eq!(first["payload"], json!({"epoch": "e", "offset": 1}));
    for offset in 2..=4 {
        handled(&mut world, offset);
    }
    assert!(world.sent.is_empty());
    world.reply(&first, json!({}));
    assert_eq!(acked(&mut world), 4);
    assert!(world.sent.is_empty());
}

#[test]
fn newest_that_was_not_answered_is_said_after_the_next_join() {
    let mut world = inbox();
    handled(&mut world, 1);
    world.next("$ack");
    handled(&mut world, 2);
    world.lose(1006);
    handled(&mut world, 3);
    world.reconnect();
    world.welcome(json!({"resumed": true}));
    assert!(world.sent.is_empty());
    joined(&mut world, 3, true);
    assert_eq!(acked(&mut world), 3);
    world.dropped(1006);
    joined(&mut world, 3, true);
    assert!(world.sent.is_empty());
}

#[test]
fn temporary_refusal_is_tried_again_with_backoff_and_another_is_not() {
    let mut world = inbox();
    handled(&mut world, 1);
    let ack = world.next("$ack");
    world.fail_with(&ack, 429, "rate_limited", json!({"retry_after_ms": 1_000}));
    handled(&mut world, 2);
    world.advance(999);
    assert!(world.sent.is_empty());
    world.advance(501);
    let ack = world.next("$ack");
    assert_eq!(ack["payload"]["offset"], 2);
    world.fail(&ack, 404, "unknown_type");
    world.advance(20_000);
    assert!(world.sent.is_empty());
    handled(&mut world, 3);
    assert_eq!(acked(&mut world), 3);
}

#[test]
fn silence_is_a_temporary_refusal() {
    let mut world = inbox();
    handled(&mut world, 1);
    let late = world.next("$ack");
    world.advance(5_500);
    let ack = world.next("$ack");
    assert_eq!(ack["payload"]["offset"], 1);
    // An answer to the first one is none to the second.
    world.reply(&late, json!({}));
    handled(&mut world, 2);
    assert!(world.sent.is_empty());
    world.reply(&ack, json!({}));
    assert_eq!(acked(&mut world), 2);
}

#[test]
fn nothing_is_acknowledged_elsewhere_or_against_the_applications_wish() {
    let mut world = inbox();
    for room in ["$user/u2", "$group/u1", "a"] {
        world.say(
            "$joined",
            json!({"epoch": "e", "offset": 0, "from": 1}),
            json!({ "room": room }),
        );
        world.core.handled(room, &at(1), world.now);
        world.settle();
    }
    assert!(world.sent.is_empty());
    let mut world = World::with(Options { auto_ack: false, ..Options::default() });
    world.connected();
    joined(&mut world, 0, false);
    handled(&mut world, 1);
    assert!(world.sent.is_empty());
}

#[test]
fn closed_client_keeps_it_for_its_next_connection() {
    let mut world = inbox();
    handled(&mut world, 1);
    world.next("$ack");
    world.close();
    assert_eq!(world.core.next_deadline_ms(), None);
    world.connected();
    joined(&mut world, 1, false);
    assert_eq!(acked(&mut world), 1);
}

#[test]
fn device_without_a_position_is_told_what_waited_for_it_or_is_gone() {
    let told = |from: u64, recovered: bool| {
        let mut world = World::new();
        world.connected();
        world.take_events();
        let reply = json!({"epoch": "e", "offset": 9, "from": from, "recovered": recovered});
        world.say("$joined", reply, json!({"room": INBOX}));
        let gap = world.gaps().first().map(|gap| (gap.reason.clone(), gap.from, gap.to));
        let events = world.take_events();
        let recovered = events.into_iter().find_map(|event| match event {
            RoomEvent::Recovered { from, to } => Some((from, to)),
            _ => None,
        });
        (recovered, gap)
    };
    assert_eq!(told(7, true), (Some((7, 9)), None));
    assert_eq!(told(10, true), (Some((10, 9)), None));
    assert_eq!(told(7, false), (None, Some(("trimmed".into(), None, Some(6)))));
    assert_eq!(told(1, false), (None, None));
}
