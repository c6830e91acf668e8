//! Connecting, coming back, moving, closing.

use std::time::Duration;

use clarion_client::core::codec::Limits;
use clarion_client::core::{ClientError, ClientState, Options, RoomState};
use serde_json::json;

use crate::world::{World, retry_in};

#[test]
fn says_hello_first_and_becomes_connected_by_the_welcome() {
    let mut world = World::new();
    assert_eq!(world.state(), ClientState::Idle);
    world.connect();
    assert_eq!(world.state(), ClientState::Connecting);
    let hello = world.open();
    assert_eq!(hello["payload"]["rooms"], json!({}));
    assert!(hello["payload"]["sdk"].as_str().unwrap().starts_with("clarion-rust/"));
    world.say_welcome(&hello, json!({"limits": {"page": 7}}));
    assert_eq!(world.state(), ClientState::Connected);
    let session = world.core.session().unwrap();
    assert_eq!((&*session.client, &*session.user, session.resumed), ("c1", "u1", false));
    let mut limits = Limits::default();
    limits.page = 7;
    assert_eq!(session.limits, limits);
    let states: Vec<_> = world.states.iter().map(|it| (it.previous, it.status.state)).collect();
    assert_eq!(states[0], (ClientState::Idle, ClientState::Connecting));
    assert_eq!(states[1], (ClientState::Connecting, ClientState::Connected));
}

#[test]
fn connecting_twice_opens_one_socket() {
    let mut world = World::new();
    world.connect();
    world.connect();
    world.welcome(json!({}));
    world.connect();
    assert_eq!(world.sockets, 1);
}

#[test]
fn server_that_never_welcomes_is_given_up() {
    for opens in [false, true] {
        let mut world = World::new();
        world.connect();
        if opens {
            world.open();
        }
        world.advance(10_000);
        assert_eq!(world.core.status().reason, "connect_timeout");
        assert_eq!(world.core.status().code, 1006);
        assert!(world.core.status().will_retry);
        assert_eq!(world.closed.as_ref().unwrap().0, 4201);
        world.reconnect();
        assert_eq!(world.sockets, 2);
    }
}

#[test]
fn tries_less_and_less_often_and_never_gives_up() {
    let mut world = World::new();
    world.connect();
    for tries in 0..50 {
        world.lose(1006);
        let bound_ms = 20_000.min(500 << tries.min(10));
        assert!(retry_in(&world) <= Duration::from_millis(bound_ms));
        world.reconnect();
    }
    assert_eq!(world.sockets, 51);
}

#[test]
fn backoff_starts_again_only_after_five_seconds_connected() {
    let mut longest_ms = 0;
    for lasted_ms in [4_999, 5_000] {
        let mut world = World::new();
        world.connect();
        for _ in 0..20 {
            world.welcome(json!({}));
            world.advance(lasted_ms);
            world.lose(1006);
            longest_ms = retry_in(&world).as_millis().max(longest_ms);
            world.reconnect();
        }
        if lasted_ms == 4_999 {
            assert!(longest_ms > 5_000, "{longest_ms}");
            longest_ms = 0;
        }
    }
    assert!(longest_ms <= 500, "{longest_ms}");
}

#[test]
fn late_messages_of_an_old_socket_are_dropped() {
    let mut world = World::new();
    world.connected();
    let old = world.conn.unwrap();
    world.dropped(1006);
    let now = world.now;
    world.core.on_text(old, r#"{"type":"$reconnect","payload":{"after_ms":0}}"#, now);
    world.core.on_text(old, "garbage", now);
    world.core.on_open(old, now);
    world.core.on_close(old, 4001, "", None, now);
    world.settle();
    world.advance(1);
    assert_eq!(world.state(), ClientState::Connected);
    assert_eq!((world.sockets, world.errors.len(), world.sent.len()), (2, 0, 0));
}

#[test]
fn connect_and_waking_up_try_at_once_unless_the_server_said_when() {
    let mut world = World::new();
    world.connect();
    for _ in 0..10 {
        world.lose(1006);
    }
    world.connect();
    assert_eq!(world.sockets, 2);
    world.lose(1006);
    world.core.wake(world.now);
    world.settle();
    assert_eq!(world.sockets, 3);
    world.lose(4200);
    world.core.wake(world.now);
    world.settle();
    assert_eq!(world.sockets, 3);
    world.connect();
    assert_eq!(world.sockets, 4);
}

#[test]
fn close_codes_that_mean_stop_stop() {
    for code in [1000, 1002, 1003, 1007, 1008, 1009, 1010, 4001, 4003, 4004, 4005, 4006, 4099] {
        let mut world = World::new();
        world.connected();
        world.lose(code);
        let status = world.core.status();
        assert_eq!((status.state, status.code), (ClientState::Closed, code));
        assert!(!status.will_retry && status.retry_in.is_none() && !status.reason.is_empty());
        assert_eq!(world.core.next_deadline_ms(), None);
    }
}

#[test]
fn close_codes_that_mean_come_back_come_back() {
    for code in [1001, 1005, 1006, 1011, 1015, 3000, 4100, 4102, 4108, 4129, 4200, 4201, 4300] {
        let mut world = World::new();
        world.connected();
        world.lose(code);
        assert_eq!(world.state(), ClientState::Connecting, "{code}");
        world.reconnect();
        assert_eq!(world.sockets, 2);
    }
}

#[test]
fn error_before_the_close_frame_names_the_reason_and_the_floor() {
    let mut world = World::new();
    world.connected();
    let error = json!({"code": 503, "name": "unavailable", "message": "", "temporary": true,
        "close": 4100, "retry_after_ms": 7_000});
    world.say("$error", error, json!({}));
    // The close frame itself was lost.
    world.lose(1006);
    let status = world.core.status();
    assert_eq!((status.code, &*status.reason), (4100, "unavailable"));
    assert!((7_000..7_501).contains(&retry_in(&world).as_millis()));
}

#[test]
fn answer_over_http_is_a_floor_too() {
    let mut world = World::new();
    world.connect();
    let now = world.now;
    world.core.on_connect_error(world.conn.unwrap(), "the server answered 503", now);
    world.core.on_close(world.conn.unwrap(), 1006, "http_503", Some(3_000), now);
    world.settle();
    assert!((3_000..3_501).contains(&retry_in(&world).as_millis()));
    assert_eq!(world.errors, [ClientError::Connect("the server answered 503".to_owned())]);
}

#[test]
fn moves_in_its_slot_to_the_given_url() {
    let mut world = World::new();
    world.connected();
    let payload = json!({"after_ms": 1_500, "url": "ws://other/ws", "reason": "drain"});
    world.say("$reconnect", payload, json!({}));
    world.advance(1_499);
    assert_eq!((world.sockets, world.state()), (1, ClientState::Connected));
    world.advance(1);
    world.advance(0);
    assert_eq!(world.sockets, 2);
    assert_eq!(world.url.as_deref(), Some("ws://other/ws"));
    world.dropped(1006);
    assert_eq!(world.url, None);
}

#[test]
fn keeps_its_slot_when_the_server_closes_first() {
    let mut world = World::new();
    world.connected();
    world.say("$reconnect", json!({"after_ms": 1_500, "reason": "drain"}), json!({}));
    world.advance(500);
    world.lose(4200);
    assert_eq!(retry_in(&world), Duration::from_secs(1));
}

#[test]
fn moved_without_a_slot_comes_back_within_five_seconds() {
    let waits: Vec<_> = (0..50)
        .map(|seed| {
            let mut world = World::seeded(Options::default(), [seed; 32]);
            world.connected();
            world.lose(4200);
            retry_in(&world).as_millis()
        })
        .collect();
    assert!(waits.iter().all(|wait_ms| *wait_ms < 5_000));
    assert!(waits.iter().any(|wait_ms| *wait_ms > 3_000), "{waits:?}");
}

#[test]
fn half_open_socket_is_asked_and_then_dropped() {
    let mut world = World::new();
    world.connected();
    world.advance(34_999);
    assert!(world.sent.is_empty());
    world.advance(1);
    assert!(world.next("$ping")["metadata"]["id"].is_null());
    world.advance(9_999);
    assert_eq!(world.state(), ClientState::Connected);
    world.advance(1);
    assert_eq!(world.core.status().reason, "heartbeat_missed");
    assert_eq!(world.closed.as_ref().unwrap().0, 4201);
    world.reconnect();
    assert_eq!(world.sockets, 2);
}

#[test]
fn anything_heard_is_a_sign_of_life() {
    let mut world = World::new();
    world.connected();
    for _ in 0..5 {
        world.advance(34_000);
        world.core.on_heard(world.conn.unwrap(), world.now);
    }
    world.advance(34_000);
    assert_eq!((world.sockets, world.sent.len()), (1, 0));
    world.core.wake(world.now);
    world.settle();
    world.next("$ping");
    world.say("$pong", json!(null), json!({}));
    world.advance(34_999);
    assert_eq!(world.state(), ClientState::Connected);
}

#[test]
fn ping_measures_the_round_trip() {
    let mut world = World::new();
    world.connected();
    let call = world.core.ping(None, world.now);
    world.settle();
    let ping = world.next("$ping");
    world.advance(42);
    world.say("$pong", json!(null), json!({"id": ping["metadata"]["id"]}));
    let outcome = format!("{:?}", world.outcome(call).unwrap());
    assert_eq!(outcome, "Well(Pong(42ms))");
}

#[test]
fn closing_ends_the_session_and_settles_everything() {
    let mut world = World::new();
    world.join("a");
    world.connected();
    let calls = [
        world.publish("a", 1),
        world.core.ping(None, world.now),
        world.core.history("a", Default::default(), None, world.now),
        world.join("b"),
    ];
    world.close();
    for call in calls {
        assert_eq!(world.error_name(call), "closed");
    }
    assert_eq!(world.closed, Some((1000, String::new())));
    assert_eq!((world.state(), world.room_state("a")), (ClientState::Closed, RoomState::Left));
    assert_eq!(world.core.next_deadline_ms(), None);
    let late = world.publish("a", 2);
    assert_eq!(world.error_name(late), "closed");
    // What was wanted is wanted still, in a new session.
    world.connect();
    let hello = world.open();
    assert_eq!(hello["payload"]["ticket"], json!(null));
    assert_eq!(hello["payload"]["rooms"], json!({"a": {}, "b": {}}));
}

#[test]
fn closing_while_waiting_or_connecting_opens_nothing_more() {
    for lost in [false, true] {
        let mut world = World::new();
        world.connect();
        if lost {
            world.lose(1006);
        }
        world.close();
        world.advance(60_000);
        assert_eq!((world.sockets, world.state()), (1, ClientState::Closed));
    }
}

#[test]
fn garbage_is_reported_and_skipped() {
    let mut world = World::new();
    world.connected();
    for text in ["{", "7", r#"{"type":"$gap","payload":{},"metadata":{"room":"a"}}"#] {
        world.say_text(text);
    }
    world.say("$later", json!({"x": 1}), json!({"room": "a"}));
    assert_eq!(world.errors.len(), 3);
    assert!(world.errors.iter().all(|it| matches!(it, ClientError::Malformed(_))));
    assert_eq!(world.state(), ClientState::Connected);
}

#[test]
fn reply_that_comes_too_late_is_dropped() {
    let mut world = World::new();
    world.connected();
    let call = world.core.ping(Some(100), world.now);
    world.settle();
    let ping = world.next("$ping");
    world.advance(100);
    assert_eq!(world.error_name(call), "timeout");
    world.say("$pong", json!(null), json!({"id": ping["metadata"]["id"]}));
    world.fail(&ping, 400, "bad_request");
    assert!(world.errors.is_empty());
}

#[test]
fn failure_without_a_command_is_reported() {
    let mut world = World::new();
    world.connected();
    let payload = json!({"code": 429, "name": "rate_limited", "message": "", "temporary": true,
        "command": "x"});
    world.say("$error", payload, json!({"room": "a"}));
    assert!(matches!(&world.errors[..], [ClientError::Refused(it)] if it.name == "rate_limited"));
}

#[test]
fn commands_have_a_bound() {
    let mut world = World::new();
    let calls: Vec<_> = (0..1_100).map(|_| world.core.ping(None, world.now)).collect();
    world.settle();
    let refused = calls.iter().filter(|call| world.error_name(**call) == "queue_full").count();
    assert_eq!(refused, 76);
    world.advance(5_000);
    assert!(calls.iter().all(|call| world.outcome(*call).is_some()));
}

#[test]
fn command_that_would_close_the_connection_is_not_sent() {
    use clarion_client::core::MembersOptions;
    let mut world = World::new();
    world.connected();
    let options = MembersOptions { after: Some("x".repeat(70_000)), limit: None };
    let call = world.core.list_members("a", &options, None, world.now);
    world.settle();
    assert_eq!((world.error_name(call), world.sent.len()), ("too_large", 0));
}
