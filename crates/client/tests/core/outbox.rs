//! Publications on their way.

use clarion_client::core::codec::Json;
use clarion_client::core::{MembersOptions, Options, OutboxLimits, PublishOptions};
use serde_json::json;

use crate::world::{Ended, World};

fn ok() -> serde_json::Value {
    json!({"epoch": "e", "offset": 1, "time": "2026-01-01T00:00:00.000Z"})
}

fn ephemeral() -> PublishOptions {
    PublishOptions { ephemeral: true, echo: false, ..PublishOptions::default() }
}

fn key_of(ended: Option<&Ended>) -> Option<String> {
    match ended {
        Some(Ended::Unpublished(error)) => error.key.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn carries_a_key_and_settles_by_the_reply() {
    let mut world = World::new();
    world.connected();
    let call = world.publish("a", json!({"text": "hi"}));
    let message = world.next("x");
    assert_eq!(message["payload"], json!({"text": "hi"}));
    assert!(message["metadata"]["key"].as_str().unwrap().len() > 20);
    world.reply(&message, ok());
    assert_eq!(world.error_name(call), "");
    let other = world.publish("a", 1);
    assert_ne!(world.next("x")["metadata"]["key"], message["metadata"]["key"]);
    world.advance(5_000);
    assert_eq!(world.error_name(other), "timeout");
    assert!(key_of(world.outcome(other)).is_some());
}

#[test]
fn refusals_say_why_and_carry_the_key() {
    let mut world = World::new();
    world.connect();
    world.welcome(json!({"limits": {"message_bytes": 500}}));
    let key = PublishOptions { key: Some("mine".to_owned()), ..PublishOptions::default() };
    let call = world.publish_with("a", 1, key);
    let message = world.next("x");
    world.fail(&message, 403, "forbidden");
    assert_eq!(world.error_name(call), "forbidden");
    assert_eq!(key_of(world.outcome(call)).as_deref(), Some("mine"));
    // These would only be refused there, one of them by closing the connection for good.
    let large = world.publish("a", "é".repeat(250));
    assert_eq!(world.error_name(large), "too_large");
    for kind in ["", "$join", &"x".repeat(65)] {
        let now = world.now;
        let call = world.core.publish("a", kind, Json::default(), PublishOptions::default(), now);
        world.settle();
        assert_eq!(world.error_name(call), "bad_request", "{kind}");
    }
    let nowhere = world.publish("a//b", 1);
    assert_eq!(world.error_name(nowhere), "bad_room");
    assert!(world.sent.is_empty());
}

#[test]
fn without_a_connection_publications_wait_in_order() {
    let mut world = World::new();
    let calls: Vec<_> = (1..=3).map(|n| world.publish("a", n)).collect();
    assert_eq!(world.core.queued(), 3);
    world.connected();
    for n in 1..=3 {
        let message = world.next("x");
        assert_eq!(message["payload"], n);
        world.reply(&message, ok());
    }
    assert!(calls.iter().all(|call| world.error_name(*call).is_empty()));
}

#[test]
fn what_waits_is_bounded_by_number_and_size_and_age() {
    let limits = OutboxLimits { messages: 2, ..OutboxLimits::default() };
    let mut world = World::with(Options { outbox: limits, ..Options::default() });
    let calls: Vec<_> = (0..3).map(|n| world.publish("a", n)).collect();
    assert_eq!(world.error_name(calls[2]), "queue_full");
    assert!(key_of(world.outcome(calls[2])).is_some());
    assert_eq!(world.core.queued(), 2);

    let mut world = World::new();
    let calls: Vec<_> = (0..3).map(|_| world.publish("a", "y".repeat(100_000))).collect();
    let names: Vec<_> = calls.iter().map(|call| world.error_name(*call)).collect();
    assert_eq!(names, ["(waits)", "(waits)", "queue_full"]);
    world.advance(30_000);
    let later = world.publish("a", 1);
    world.advance(30_000);
    assert_eq!((world.error_name(later), world.core.queued()), ("(waits)", 1));
    world.advance(30_000);
    assert_eq!(world.error_name(later), "timeout");
    assert_eq!(world.core.next_deadline_ms(), None);
}

#[test]
fn callers_timeout_counts_the_waiting() {
    let mut world = World::new();
    let options = PublishOptions { timeout_ms: Some(1_000), ..PublishOptions::default() };
    let call = world.publish_with("a", 1, options);
    world.advance(600);
    world.connected();
    world.next("x");
    world.advance(399);
    assert_eq!(world.error_name(call), "(waits)");
    world.advance(1);
    assert_eq!(world.error_name(call), "timeout");
}

#[test]
fn call_that_nobody_waits_for_is_not_sent() {
    let mut world = World::new();
    let call = world.publish("a", 1);
    world.core.cancel(call, world.now);
    let ping = world.core.ping(None, world.now);
    world.core.cancel(ping, world.now);
    world.connected();
    assert_eq!((world.core.queued(), world.sent.len()), (0, 0));
}

#[test]
fn ephemeral_is_neither_queued_nor_repeated() {
    let mut world = World::new();
    let early = world.publish_with("a", 1, ephemeral());
    assert_eq!((world.error_name(early), world.core.queued()), ("not_connected", 0));
    world.connected();
    let call = world.publish_with("a", 1, ephemeral());
    let message = world.next("x");
    let id = &message["metadata"]["id"];
    assert_eq!(
        message["metadata"],
        json!({"room": "a", "ephemeral": true, "echo": false, "id": id})
    );
    world.dropped(1006);
    assert_eq!(world.error_name(call), "connection_lost");
    assert!(world.sent.is_empty());
}

#[test]
fn unanswered_publication_is_repeated_with_its_key_before_newer_ones() {
    let mut world = World::new();
    world.connected();
    let calls = [world.publish("a", 1), world.publish("a", 2)];
    let key = world.next("x")["metadata"]["key"].clone();
    world.lose(1006);
    let third = world.publish("a", 3);
    world.reconnect();
    world.welcome(json!({"resumed": true}));
    let repeated = world.next("x");
    assert_eq!((&repeated["payload"], &repeated["metadata"]["key"]), (&json!(1), &key));
    let mut reply = ok();
    reply["duplicate"] = json!(true);
    world.reply(&repeated, reply);
    for n in 2..=3 {
        let message = world.next("x");
        assert_eq!(message["payload"], n);
        world.reply(&message, ok());
    }
    for call in calls.into_iter().chain([third]) {
        assert_eq!(world.error_name(call), "");
    }
}

#[test]
fn room_without_log_is_learned_and_spared_keys() {
    let mut world = World::new();
    world.connected();
    let call = world.publish("a", 1);
    let message = world.next("x");
    world.fail(&message, 400, "key_needs_log");
    let again = world.next("x");
    assert_eq!(again["metadata"]["key"], json!(null));
    world.reply(&again, json!({"time": "2026-01-01T00:00:00.000Z"}));
    assert_eq!(world.error_name(call), "");
    world.publish("a", 2);
    assert_eq!(world.next("x")["metadata"]["key"], json!(null));
    // A key of the application's is its own affair.
    let key = PublishOptions { key: Some("mine".to_owned()), ..PublishOptions::default() };
    let call = world.publish_with("a", 3, key);
    let message = world.next("x");
    world.fail(&message, 400, "key_needs_log");
    assert_eq!(world.error_name(call), "key_needs_log");
}

#[test]
fn keeps_under_the_servers_rate() {
    let mut world = World::new();
    world.connect();
    world.welcome(json!({"limits": {"publish_per_s": 10}}));
    let calls: Vec<_> = (0..20).map(|n| world.publish("a", n)).collect();
    assert_eq!((world.sent.len(), world.core.queued()), (9, 11));
    let hurried = world.publish_with("a", 1, ephemeral());
    assert_eq!(world.error_name(hurried), "rate_limited");
    world.advance(1_000);
    assert_eq!(world.sent.len(), 18);
    for _ in 0..18 {
        let message = world.next("x");
        world.reply(&message, ok());
    }
    world.advance(1_000);
    assert_eq!((world.sent.len(), world.core.queued()), (2, 0));
    assert_eq!(calls.iter().filter(|call| world.error_name(**call).is_empty()).count(), 18);
}

#[test]
fn socket_that_takes_no_more_makes_publications_wait() {
    let mut world = World::new();
    world.connected();
    world.core.on_congested(true, world.now);
    let call = world.publish("a", 1);
    assert_eq!((world.sent.len(), world.core.queued()), (0, 1));
    let hurried = world.publish_with("a", 1, ephemeral());
    assert_eq!(world.error_name(hurried), "queue_full");
    world.core.on_congested(false, world.now);
    world.settle();
    let message = world.next("x");
    world.reply(&message, ok());
    assert_eq!(world.error_name(call), "");
}

#[test]
fn unanswered_publications_have_a_bound() {
    let mut world = World::new();
    world.connected();
    let calls: Vec<_> = (0..2_000).map(|n| world.publish("a", n)).collect();
    assert_eq!((world.sent.len(), world.core.queued()), (1_024, 100));
    assert_eq!(calls.iter().filter(|call| world.error_name(**call) == "queue_full").count(), 876);
    let message = world.next("x");
    world.reply(&message, ok());
    assert_eq!((world.sent.len(), world.core.queued()), (1_024, 99));
}

#[test]
fn what_is_too_large_for_the_server_that_welcomes_is_not_sent() {
    let mut world = World::new();
    let large = world.publish("a", "x".repeat(100_000));
    let small = world.publish("a", 1);
    // Over the server's limit it would close with 1009, and that stops for good.
    world.connected();
    assert_eq!(world.error_name(large), "too_large");
    assert!(key_of(world.outcome(large)).is_some());
    let message = world.next("x");
    world.reply(&message, ok());
    assert_eq!(world.error_name(small), "");
    assert!(world.sent.is_empty());
}

#[test]
fn publications_in_flight_are_bounded_and_leave_room_for_commands() {
    let mut world = World::new();
    world.connected();
    // Whatever becomes of the calls: the server has still to answer.
    let calls: Vec<_> = (0..1024)
        .map(|n| {
            let options = if n % 2 == 0 { ephemeral() } else { PublishOptions::default() };
            let call = world.publish_with("a", n, options);
            if n % 3 == 0 {
                world.core.cancel(call, world.now);
            }
            call
        })
        .collect();
    assert_eq!(world.sent.len(), 1024);
    let over = world.publish_with("a", 0, ephemeral());
    assert_eq!(world.error_name(over), "queue_full");
    let waits = world.publish("a", "waits");
    assert_eq!((world.core.queued(), world.sent.len()), (1, 1024));
    let ping = world.core.ping(None, world.now);
    world.settle();
    assert_eq!((world.error_name(ping), world.sent.len()), ("(waits)", 1025));
    // Any answer makes room for the next: here one to a call that was cancelled.
    let first = world.next("x");
    world.reply(&first, json!({}));
    assert_eq!((world.core.queued(), world.error_name(waits)), (0, "(waits)"));
    world.advance(5_000);
    assert!(
        calls
            .iter()
            .enumerate()
            .all(|(n, call)| n % 3 == 0 || world.error_name(*call) == "timeout")
    );
}

#[test]
fn command_over_a_limit_that_was_not_known_yet_is_refused_before_it_is_sent() {
    let mut world = World::new();
    let options = MembersOptions { after: Some("y".repeat(1_000)), limit: None };
    let large = world.core.list_members("a", &options, None, world.now);
    let small = world.core.ping(None, world.now);
    let publication = world.publish("a", "y".repeat(1_000));
    world.connect();
    world.welcome(json!({"limits": {"message_bytes": 500}}));
    world.next("$ping");
    assert!(world.sent.is_empty());
    assert_eq!(world.error_name(large), "too_large");
    assert_eq!(world.error_name(publication), "too_large");
    assert_eq!(world.error_name(small), "(waits)");
}
