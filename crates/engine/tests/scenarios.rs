//! What one client or two can see, by hand: time, limits, presence, order of parked commands.

mod compression;
mod rig;

use clarion_engine::config::{Access, Heartbeat, Permissions};
use clarion_engine::effects::Verdict;
use rig::{Rig, config};
use serde_json::{Value, json};
use std::collections::VecDeque;

fn publish(rig: &mut Rig, client: rig::Client, room: &str, n: u64) -> Value {
    rig.ask(client, "m", &json!(n), &json!({"room": room}))
}

/// Somebody who does not read and was sent more than fits in a room without log, and who publishes there.
fn with_a_full_outbox() -> (Rig, rig::Client, rig::Client) {
    let mut config = config();
    config.limits.outbox_bytes = 1_000;
    let mut rig = Rig::new(config);
    let slow = rig.guest_in("live/1", &json!({}));
    let publisher = rig.guest_in("live/1", &json!({}));
    rig.effects.deaf.push(slow);
    for n in 1..=9 {
        publish(&mut rig, publisher, "live/1", n);
    }
    (rig, slow, publisher)
}

fn kinds(heard: &[Value]) -> Vec<&str> {
    heard.iter().map(|message| message["type"].as_str().unwrap_or("?")).collect()
}

// [3.hello.none]
#[test]
fn a_client_without_subprotocol_is_welcomed_as_a_guest_at_once() {
    let mut rig = Rig::new(config());
    let client = rig.open(false);
    assert_eq!(kinds(&rig.hear(client)), ["$welcome", "$joined"]);
}

// [3.hello.early] [3.hello.again]
#[test]
fn commands_behind_hello_wait_for_the_welcome() {
    let mut rig = Rig::new(config());
    let client = rig.open(true);
    let early = rig.ask(client, "$join", &json!({}), &json!({"room": "a"}));
    assert_eq!(early["payload"]["name"], "unauthenticated");
    rig.say(client, &json!({"type": "$hello"}));
    assert_eq!(kinds(&rig.hear(client)), ["$welcome", "$joined"]);
    let again = rig.ask(client, "$hello", &json!({}), &json!({}));
    assert_eq!(again["payload"]["name"], "already_welcomed");
}

// [3.credentials.invalid] [6.upgrade]
#[test]
fn a_bad_token_is_an_error_and_4001_and_never_a_guest() {
    let mut rig = Rig::new(config());
    let (_, heard) = rig.hello(&json!({"token": "stolen"}));
    assert_eq!(heard[0]["payload"]["name"], "unauthenticated");
    assert_eq!(heard[0]["payload"]["close"], 4001);
    assert_eq!(heard[1]["closed"], 4001);
}

// [3.hello.time]
#[test]
fn nothing_follows_the_close_frame() {
    let mut rig = Rig::new(config());
    let (old, heard) = rig.hello(&json!({"token": "user:ada"}));
    rig.ask(old, "$join", &json!({}), &json!({"room": "a"}));
    rig.effects.deaf.push(old);
    let ticket = heard[0]["payload"]["ticket"].clone();
    let (new, _) = rig.hello(&json!({ "ticket": ticket }));
    // It has not answered the close frame, and its room goes on.
    publish(&mut rig, new, "a", 1);
    rig.ask(new, "m", &json!(2), &json!({"room": "a", "ephemeral": true}));
    rig.listen(old);
    assert!(rig.wire_size(old) < 60, "a close frame and its reason: {}", rig.wire_size(old));
    assert_eq!(rig.hear(old), [json!({"closed": 4005})]);
    assert_eq!(rig.shard.counters().deliveries, 0);
}

#[test]
fn nobody_within_the_handshake_time_is_4001() {
    let mut rig = Rig::new(config());
    let client = rig.open(true);
    rig.pass(9_999);
    assert!(rig.hear(client).is_empty());
    rig.pass(1);
    let heard = rig.hear(client);
    assert_eq!(heard[0]["payload"]["close"], 4001);
    assert_eq!(heard[1], json!({"closed": 4001}));
}

// [3.resume] [3.resume.newer]
#[test]
fn a_ticket_resumes_the_client_id_and_the_older_connection_is_replaced() {
    let mut rig = Rig::new(config());
    let (old, heard) = rig.hello(&json!({"token": "user:ada"}));
    let ticket = heard[0]["payload"]["ticket"].clone();
    let (_, resumed) = rig.hello(&json!({"ticket": ticket}));
    assert_eq!(resumed[0]["payload"]["resumed"], true);
    assert_eq!(resumed[0]["payload"]["client"], heard[0]["payload"]["client"]);
    assert_eq!(resumed[0]["payload"]["user"], "ada");
    assert_eq!(rig.hear(old), [json!({"closed": 4005})]);
}

// [3.resume.newer] [5.3]
#[test]
fn a_second_join_of_one_that_its_home_forgot_gives_it_no_second_seat() {
    let mut rig = Rig::new(config());
    for room in ["live/r", "r"] {
        let publisher = rig.guest_in(room, &json!({}));
        let (twice, heard) = rig.hello(&json!({"rooms": {room: {}}}));
        publish(&mut rig, publisher, room, 1);
        rig.forget(twice, &heard[0]["payload"]["client"], room);
        publish(&mut rig, publisher, room, 2);
        rig.hear(twice);
        let reply = rig.ask(twice, "$join", &json!({}), &json!({"room": room}));
        assert_eq!(reply["payload"]["name"], "already_joined");
        publish(&mut rig, publisher, room, 3);
        let heard = rig.hear(twice);
        assert_eq!(heard.iter().filter(|message| message["payload"] == 3).count(), 1, "{heard:?}");
        rig.hang_up(twice, 1000);
        let reply = rig.ask(publisher, "$members", &json!({}), &json!({"room": room}));
        assert_eq!(reply["payload"]["count"], 1);
    }
}

// [3.ticket] [3.resume.forged]
#[test]
fn a_ticket_is_good_for_its_time_and_then_the_guest_decides() {
    let mut rig = Rig::new(config());
    let (client, heard) = rig.hello(&json!({}));
    let ticket = &heard[0]["payload"]["ticket"];
    rig.break_off(client);
    rig.pass(59_999);
    let (client, again) = rig.hello(&json!({"ticket": ticket}));
    assert_eq!(again[0]["payload"]["resumed"], true);
    assert_ne!(again[0]["payload"]["ticket"], *ticket, "rotated");
    rig.break_off(client);
    rig.pass(1);
    let (_, late) = rig.hello(&json!({"ticket": ticket}));
    assert_eq!(late[0]["payload"]["resumed"], false);
    assert_ne!(late[0]["payload"]["client"], heard[0]["payload"]["client"]);
}

// [3.resume.token]
#[test]
fn a_token_beside_a_ticket_must_name_the_same_user() {
    let mut rig = Rig::new(config());
    let (_, heard) = rig.hello(&json!({"token": "user:ada"}));
    let ticket = &heard[0]["payload"]["ticket"];
    let (_, other) = rig.hello(&json!({"token": "user:bob", "ticket": ticket}));
    assert_eq!(other[0]["payload"]["resumed"], false);
    assert_eq!(other[0]["payload"]["user"], "bob");
    let (_, same) = rig.hello(&json!({"token": "user:ada", "ticket": ticket}));
    assert_eq!(same[0]["payload"]["resumed"], true);
}

// [4.heartbeat] [4.heartbeat.ping]
#[test]
fn silence_is_pinged_then_closed_and_an_answer_is_a_round_trip_time() {
    let mut rig = Rig::new(config());
    let client = rig.guest_in("a", &json!({}));
    rig.pass(24_999);
    assert!(rig.hear(client).is_empty());
    rig.pass(1);
    rig.effects.now.mono_us += 40_000;
    // Hearing it answers it.
    assert_eq!(rig.hear(client), [json!("ping")]);
    assert_eq!(rig.rows()[0].rtt_us, Some(40_000));
    rig.pass(25_000);
    rig.pass(10_000);
    assert_eq!(rig.hear(client), [json!("ping"), json!({"closed": 4201})]);
}

// [4.heartbeat]
#[test]
fn an_answered_ping_is_followed_by_the_next_though_the_timeout_is_longer_than_the_interval() {
    let mut config = config();
    config.heartbeat = Heartbeat { interval_ms: 1_000, timeout_ms: 10_000 };
    let mut rig = Rig::new(config);
    let client = rig.guest_in("a", &json!({}));
    for _ in 0..3 {
        rig.pass(1_000);
        assert_eq!(rig.hear(client), [json!("ping")]);
    }
    rig.pass(1_000);
    rig.pass(9_999);
    assert!(rig.effects.closed.is_empty());
    rig.pass(1);
    assert_eq!(rig.hear(client), [json!("ping"), json!({"closed": 4201})]);
}

#[test]
fn a_peer_that_never_answers_a_close_is_cut_off() {
    let mut rig = Rig::new(config());
    let client = rig.open(true);
    rig.pass(10_000);
    assert!(rig.effects.closed.is_empty());
    rig.pass(5_000);
    assert_eq!(rig.effects.closed.len(), 1);
    rig.break_off(client);
    assert_eq!(rig.shard.open_count(), 0);
}

// [6.temporary]
#[test]
fn publishing_over_the_rate_is_429_with_a_time_and_works_after_it() {
    let mut config = config();
    config.limits.publish_per_s = 2;
    let mut rig = Rig::new(config);
    let client = rig.guest_in("a", &json!({}));
    assert_eq!(publish(&mut rig, client, "a", 1)["type"], "$reply");
    assert_eq!(publish(&mut rig, client, "a", 2)["type"], "$reply");
    let refused = publish(&mut rig, client, "a", 3);
    assert_eq!(refused["payload"]["name"], "rate_limited");
    assert_eq!(refused["payload"]["temporary"], true);
    assert_eq!(refused["payload"]["limit"], 2);
    assert_eq!(refused["payload"]["retry_after_ms"], 500);
    rig.pass(500);
    assert_eq!(publish(&mut rig, client, "a", 3)["type"], "$reply");
}

// [3.rooms.limit] [3.rooms.temporary]
#[test]
fn one_room_more_than_allowed_is_refused_and_a_left_one_makes_place() {
    let mut config = config();
    config.limits.rooms = 2;
    let mut rig = Rig::new(config);
    let (client, _) = rig.hello(&json!({"token": "user:ada"}));
    for room in ["a", "b"] {
        assert_eq!(rig.ask(client, "$join", &json!({}), &json!({"room": room}))["type"], "$reply");
    }
    let refused = rig.ask(client, "$join", &json!({}), &json!({"room": "c"}));
    assert_eq!(refused["payload"]["name"], "rate_limited");
    assert_eq!(refused["payload"]["limit"], 2);
    assert_eq!(refused["payload"]["temporary"], false, "waiting does not help");
    rig.ask(client, "$leave", &json!(null), &json!({"room": "a"}));
    assert_eq!(rig.ask(client, "$join", &json!({}), &json!({"room": "c"}))["type"], "$reply");
}

// [6.delivery]
#[test]
fn a_delivery_too_large_for_members_is_413_for_its_publisher() {
    let mut config = config();
    config.limits.delivery_bytes = 2_000;
    let mut rig = Rig::new(config);
    let client = rig.guest_in("a", &json!({}));
    let refused = rig.ask(client, "m", &json!("x".repeat(2_000)), &json!({"room": "a"}));
    assert_eq!(refused["payload"]["name"], "too_large");
    assert_eq!(refused["payload"]["limit"], 2_000);
    assert_eq!(publish(&mut rig, client, "a", 1)["payload"]["offset"], 1);
}

// [3.history] [3.history.newest] [3.history.epoch] [3.history.reply]
#[test]
fn history_pages_both_ways_and_a_wrong_epoch_is_409_with_the_position() {
    let mut rig = Rig::new(config());
    let client = rig.guest_in("a", &json!({}));
    let epoch = publish(&mut rig, client, "a", 1)["payload"]["epoch"].clone();
    (2..=5).for_each(|n| drop(publish(&mut rig, client, "a", n)));
    let mut page = |payload: Value| {
        let reply = rig.ask(client, "$history", &payload, &json!({"room": "a"}));
        let publications = reply["payload"]["publications"].as_array().cloned().unwrap_or_default();
        let offsets = publications.iter().map(|p| p["metadata"]["offset"].as_u64().unwrap());
        (offsets.collect::<Vec<_>>(), reply["payload"].clone())
    };
    let (offsets, reply) = page(json!({"limit": 2}));
    assert_eq!((offsets, &reply["more"], &reply["first"]), (vec![4, 5], &json!(true), &json!(1)));
    let (offsets, _) = page(json!({"after": {"epoch": epoch, "offset": 1}, "limit": 2}));
    assert_eq!(offsets, [2, 3]);
    let (offsets, reply) = page(json!({"before": {"epoch": epoch, "offset": 3}, "limit": 9}));
    assert_eq!((offsets, &reply["more"]), (vec![1, 2], &json!(false)));
    let (_, refused) = page(json!({"after": {"epoch": "other", "offset": 1}, "limit": 2}));
    assert_eq!((&refused["name"], &refused["offset"]), (&json!("epoch_changed"), &json!(5)));
}

#[test]
fn the_first_publication_is_of_the_epoch_that_members_were_told() {
    let mut rig = Rig::new(config());
    let (client, _) = rig.hello(&json!({}));
    let joined = rig.ask(client, "$join", &json!({}), &json!({"room": "a"}));
    let epoch = &joined["payload"]["epoch"];
    let empty = rig.ask(client, "$history", &json!({"limit": 9}), &json!({"room": "a"}));
    assert_eq!((&empty["payload"]["epoch"], &empty["payload"]["offset"]), (epoch, &json!(0)));
    assert_eq!(empty["payload"]["publications"], json!([]));
    for offset in 1..=2 {
        let told = publish(&mut rig, client, "a", offset);
        assert_eq!(
            (&told["payload"]["epoch"], &told["payload"]["offset"]),
            (epoch, &json!(offset))
        );
    }
    assert!(!kinds(&rig.hear(client)).contains(&"$gap"));
}

#[test]
fn commands_to_rooms_without_log_leave_nothing_where_nobody_is() {
    let mut config = config();
    config.limits.publish_per_s = 0;
    config.limits.commands_per_s = 0;
    config.limits.delivery_bytes = 2_000;
    let mut rig = Rig::new(config);
    let (client, _) = rig.hello(&json!({}));
    let rooms = rig.shard.counters().rooms;
    let long = "x".repeat(3_000);
    for (kind, payload, key) in [
        ("m", json!(1), None),
        ("m", json!(1), Some("k")),
        ("m", json!(long), None),
        ("$join", json!({"last": 1}), None),
        ("$history", json!({"limit": 1}), None),
        ("$members", json!({}), None),
        ("$state", json!(1), None),
        ("$leave", json!({}), None),
    ] {
        let mut metadata = json!({"room": "live/1"});
        if let Some(key) = key {
            metadata["key"] = json!(key);
        }
        rig.say(client, &json!({"type": kind, "payload": payload, "metadata": metadata}));
        assert_eq!(rig.shard.counters().rooms, rooms, "{kind} {metadata}");
    }
    rig.broadcast("live/2", 1);
    rig.broadcast("$client/nobody", 1);
    assert_eq!(rig.shard.counters().rooms, rooms);
    rig.ask(client, "$join", &json!({}), &json!({"room": "live/1"}));
    assert_eq!(rig.shard.counters().rooms, rooms + 1);
    rig.ask(client, "$leave", &json!({}), &json!({"room": "live/1"}));
    assert_eq!(rig.shard.counters().rooms, rooms);
}

// [3.join.unlogged] [2.error.key] [3.publish]
#[test]
fn a_room_without_log_has_no_history_no_positions_and_takes_no_keys() {
    let mut rig = Rig::new(config());
    let (client, _) = rig.hello(&json!({}));
    let room = json!({"room": "live/1"});
    let refused = rig.ask(client, "$join", &json!({"last": 1}), &room);
    assert_eq!(refused["payload"]["name"], "no_history");
    let joined = rig.ask(client, "$join", &json!({}), &room);
    assert_eq!(joined["payload"], json!({}));
    let refused = rig.ask(client, "$history", &json!({"limit": 1}), &room);
    assert_eq!(refused["payload"]["name"], "no_history");
    let refused = rig.ask(client, "m", &json!(1), &json!({"room": "live/1", "key": "k"}));
    assert_eq!(refused["payload"]["name"], "key_needs_log");
    let reply = publish(&mut rig, client, "live/1", 1);
    assert!(reply["payload"].get("offset").is_none() && reply["payload"]["time"].is_string());
}

// [4.members.merged] [4.entry.changed]
#[test]
fn presence_is_merged_and_a_visit_within_one_interval_is_not_told() {
    let mut rig = Rig::new(config());
    let watcher = rig.guest_in("a", &json!({"members": true}));
    rig.pass(250);
    rig.hear(watcher);
    let visitor = rig.guest_in("a", &json!({}));
    rig.ask(visitor, "$leave", &json!(null), &json!({"room": "a"}));
    rig.pass(250);
    assert!(rig.hear(watcher).is_empty());
    let _first = rig.guest_in("a", &json!({}));
    let second = rig.guest_in("a", &json!({}));
    rig.ask(second, "$state", &json!("typing"), &json!({"room": "a"}));
    rig.pass(250);
    let heard = rig.hear(watcher);
    assert_eq!(kinds(&heard), ["$members"]);
    assert_eq!(heard[0]["payload"]["joined"].as_array().unwrap().len(), 2);
    assert_eq!(heard[0]["payload"]["count"], 3);
    rig.ask(second, "$state", &json!("idle"), &json!({"room": "a"}));
    rig.pass(250);
    let heard = rig.hear(watcher);
    assert_eq!(heard[0]["payload"]["changed"][0]["state"], "idle");
}

// [3.session.ended] [3.session.grace]
#[test]
fn presence_outlives_the_connection_by_the_grace_unless_the_client_ended_it() {
    let mut rig = Rig::new(config());
    let watcher = rig.guest_in("a", &json!({"members": true}));
    let broken = rig.guest_in("a", &json!({}));
    let ended = rig.guest_in("a", &json!({}));
    rig.pass(250);
    rig.hear(watcher);
    rig.break_off(broken);
    rig.bytes(ended, &mut [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8]);
    rig.break_off(ended);
    rig.pass(250);
    let heard = rig.hear(watcher);
    assert_eq!(heard[0]["payload"]["left"].as_array().unwrap().len(), 1);
    assert_eq!(heard[0]["payload"]["count"], 2);
    for _ in 0..6 {
        rig.pass(10_000);
        rig.ask(watcher, "$ping", &json!(null), &json!({}));
    }
    let members = rig.ask(watcher, "$members", &json!({}), &json!({"room": "a"}));
    assert_eq!(members["payload"]["count"], 1);
}

// [3.session.ended] [3.session.grace]
#[test]
fn a_join_that_is_answered_behind_the_end_of_its_session_leaves_nobody_there() {
    let mut rig = Rig::new(config());
    let watcher = rig.guest_in("other", &json!({}));
    for (room, code, gone, wanted) in [
        ("a", Some(1000), true, 0),
        ("b", Some(1000), false, 0),
        ("c", Some(1001), true, 1),
        ("d", None, true, 1),
    ] {
        let (client, _) = rig.hello(&json!({}));
        rig.effects.held = Some(VecDeque::new());
        rig.say(client, &json!({"type": "$join", "metadata": {"room": room}}));
        rig.say(
            client,
            &json!({"type": "$history", "payload": {"limit": 1}, "metadata": {"room": room}}),
        );
        if let Some(code) = code {
            rig.say_close(client, code);
        }
        if gone {
            rig.break_off(client);
        }
        rig.stored(None);
        if !gone {
            rig.break_off(client);
        }
        let members = rig.ask(watcher, "$members", &json!({}), &json!({"room": room}));
        assert_eq!(members["payload"]["count"], wanted, "{room}");
    }
}

// [4.members.large]
#[test]
fn a_large_room_tells_numbers_only_and_everybody_when_it_is_small_again() {
    let mut config = config();
    config.presence.detail_max = 2;
    let mut rig = Rig::new(config);
    let watcher = rig.guest_in("a", &json!({"members": true}));
    let _second = rig.guest_in("a", &json!({}));
    let third = rig.guest_in("a", &json!({}));
    rig.pass(250);
    let heard = rig.hear(watcher);
    assert_eq!(heard.last().unwrap()["payload"], json!({"count": 3, "users": 3}));
    rig.ask(third, "$leave", &json!(null), &json!({"room": "a"}));
    rig.pass(250);
    let heard = rig.hear(watcher);
    assert_eq!(heard[0]["payload"]["all"].as_array().unwrap().len(), 2);
}

// [5.6.bound] [5.6.log] [5.6.read]
#[test]
fn a_slow_reader_is_bounded_not_read_and_catches_up_from_the_log() {
    let mut config = config();
    config.limits.outbox_bytes = 10_000;
    config.limits.publish_per_s = 0;
    let mut rig = Rig::new(config);
    let slow = rig.guest_in("a", &json!({}));
    let publisher = rig.guest_in("a", &json!({}));
    rig.effects.deaf.push(slow);
    for n in 1..=200 {
        publish(&mut rig, publisher, "a", n);
    }
    let row = rig.rows().into_iter().find(|row| row.lag > 0).expect("it lags");
    assert!(row.outbox_bytes <= 10_000 && row.lag > 100, "{row:?}");
    assert!(rig.effects.paused.values().any(|paused| *paused));
    rig.listen(slow);
    let heard = rig.hear(slow);
    let offsets: Vec<_> =
        heard.iter().map(|m| m["metadata"]["offset"].as_u64().unwrap_or_default()).collect();
    assert_eq!(offsets, (1..=200).collect::<Vec<_>>());
    assert!(rig.effects.paused.values().all(|paused| !*paused));
    assert!(rig.rows().iter().all(|row| row.lag == 0));
}

// [5.6.drains] [4.gap] [5.1.gap]
#[test]
fn a_slow_reader_whose_log_was_trimmed_hears_of_the_gap() {
    let mut config = config();
    config.limits.outbox_bytes = 2_000;
    config.limits.publish_per_s = 0;
    let mut rig = Rig::new(config);
    let slow = rig.guest_in("short", &json!({}));
    let publisher = rig.guest_in("short", &json!({}));
    rig.effects.deaf.push(slow);
    for n in 1..=50 {
        publish(&mut rig, publisher, "short", n);
    }
    rig.listen(slow);
    let heard = rig.hear(slow);
    let gap = heard.iter().position(|message| message["type"] == "$gap").expect("a gap");
    assert_eq!(heard[gap]["payload"]["reason"], "trimmed");
    assert_eq!(heard[gap]["payload"]["offset"], 47);
    assert_eq!(heard[gap]["payload"]["to"], 47);
    assert_eq!(heard[gap + 1]["metadata"]["offset"], 48);
}

// [5.6.closed] [6.back]
#[test]
fn a_slow_reader_that_stays_slow_is_closed_with_4108() {
    let (mut rig, slow, publisher) = with_a_full_outbox();
    rig.pass(15_000);
    rig.ask(publisher, "$ping", &json!(null), &json!({}));
    rig.pass(15_000);
    rig.listen(slow);
    assert_eq!(*rig.hear(slow).last().unwrap(), json!({"closed": 4108}));
}

// [5.6.gap] [4.gap.unlogged]
#[test]
fn a_reader_of_a_room_without_log_hears_that_it_missed_something() {
    let (mut rig, slow, publisher) = with_a_full_outbox();
    rig.listen(slow);
    let heard = rig.hear(slow);
    assert!(heard.len() < 9);
    assert_eq!(heard.last().unwrap()["payload"], json!({"reason": "slow"}));
    publish(&mut rig, publisher, "live/1", 10);
    assert_eq!(rig.hear(slow)[0]["payload"], 10);
}

// [5.6.gap]
#[test]
fn what_was_lost_in_a_room_without_log_is_said_before_anything_that_follows_it() {
    let (mut rig, slow, publisher) = with_a_full_outbox();
    // Enough for one more, and not for the outbox to count as drained.
    rig.sip(slow, 300);
    assert!(rig.queued(slow) > 500 && rig.is_paused(slow));
    publish(&mut rig, publisher, "live/1", 10);
    rig.listen(slow);
    let heard = rig.hear(slow);
    let gap = heard.iter().position(|message| message["type"] == "$gap").expect("a gap");
    let numbers = |messages: &[Value]| -> Vec<_> {
        messages.iter().map(|message| message["payload"].as_u64()).collect()
    };
    assert_eq!(numbers(&heard[..gap]), (1..=gap as u64).map(Some).collect::<Vec<_>>());
    assert_eq!(numbers(&heard[gap + 1..]), [Some(10)]);
}

// [3.order]
#[test]
fn commands_of_one_room_keep_their_order_behind_a_late_verdict() {
    let mut rig = Rig::new(config());
    let (client, _) = rig.hello(&json!({}));
    rig.effects.late = Some(Vec::new());
    for (id, room, kind) in
        [(1, "a", "$join"), (2, "a", "m"), (3, "b", "$join"), (4, "a", "$leave")]
    {
        let payload = if kind == "m" { json!(1) } else { json!({}) };
        let metadata = json!({"room": room, "id": id});
        rig.say(client, &json!({"type": kind, "payload": payload, "metadata": metadata}));
    }
    let tokens = rig.effects.late.take().unwrap();
    assert_eq!(tokens.len(), 3, "leaving needs no permission");
    let ids = |heard: Vec<Value>| -> Vec<u64> {
        heard.iter().filter_map(|message| message["metadata"]["id"].as_u64()).collect()
    };
    rig.decide(client, tokens[1], Verdict::Allow);
    assert!(ids(rig.hear(client)).is_empty());
    rig.decide(client, tokens[2], Verdict::Deny);
    assert_eq!(ids(rig.hear(client)), [3]);
    rig.decide(client, tokens[0], Verdict::Allow);
    assert_eq!(ids(rig.hear(client)), [1, 2, 4]);
}

#[test]
fn a_client_with_too_much_under_way_is_not_read_until_it_is_answered() {
    let mut config = config();
    config.limits.commands = 3;
    let mut rig = Rig::new(config);
    let (client, _) = rig.hello(&json!({}));
    rig.effects.late = Some(Vec::new());
    for _ in 0..3 {
        rig.say(client, &json!({"type": "m", "metadata": {"room": "a"}}));
    }
    assert!(rig.effects.paused.values().any(|paused| *paused));
    for token in rig.effects.late.take().unwrap() {
        rig.decide(client, token, Verdict::Allow);
    }
    assert!(rig.effects.paused.values().all(|paused| !*paused));
}

// [2.error.envelope] [2.error.room]
#[test]
fn errors_leave_the_connection_usable_and_name_what_is_wrong() {
    let mut rig = Rig::new(config());
    let client = rig.guest_in("a", &json!({}));
    for (text, name, field) in [
        (r#"{"type":"$nope","metadata":{"id":1}}"#, "unknown_type", "type"),
        (r#"{"type":"m","metadata":{"room":"a//b","id":1}}"#, "bad_room", "metadata.room"),
        (r#"{"type":"m","metadata":{"room":"a"},"metadata":{}}"#, "bad_envelope", "metadata"),
    ] {
        rig.say_text(client, text);
        let heard = rig.hear(client);
        assert_eq!(heard[0]["payload"]["name"], name, "{text}");
        assert_eq!(heard[0]["payload"]["field"], field, "{text}");
    }
    let denied = rig.ask(client, "m", &json!(1), &json!({"room": "no"}));
    assert_eq!(denied["payload"]["name"], "forbidden");
    assert_eq!(publish(&mut rig, client, "a", 1)["type"], "$reply");
}

// [4.error] [4.error.command] [4.error.suppressed]
#[test]
fn failures_without_id_are_told_once_a_second_and_name() {
    let mut rig = Rig::new(config());
    let client = rig.guest_in("a", &json!({}));
    let bad = json!({"type": "m", "payload": 1, "metadata": {"room": "no", "key": "k"}});
    (0..5).for_each(|_| rig.say(client, &bad));
    let heard = rig.hear(client);
    assert_eq!(heard.len(), 1);
    assert_eq!(heard[0]["metadata"], json!({"room": "no", "key": "k"}));
    assert_eq!(heard[0]["payload"]["command"], "m");
    rig.say(client, &json!({"type": "$nope"}));
    assert_eq!(rig.hear(client).len(), 1, "another name");
    rig.pass(1_000);
    rig.say(client, &bad);
    assert_eq!(rig.hear(client)[0]["payload"]["suppressed"], 4);
}

#[test]
fn shutting_down_says_what_is_queued_and_then_1001() {
    let mut rig = Rig::new(config());
    let client = rig.guest_in("a", &json!({}));
    rig.effects.deaf.push(client);
    rig.say(client, &json!({"type": "m", "payload": 1, "metadata": {"room": "a"}}));
    let now = rig.effects.now;
    rig.shard.on_shutdown(now, &mut rig.effects);
    rig.listen(client);
    let heard = rig.hear(client);
    assert_eq!(heard[0]["payload"], 1);
    assert_eq!(heard[1], json!({"closed": 1001}));
}

// What is counted.

#[test]
fn a_connection_is_counted_in_its_state_from_first_to_last() {
    let mut rig = Rig::new(config());
    let states = |rig: &Rig| {
        let counters = rig.shard.counters();
        let sum = counters.greeting + counters.sessions + counters.echoes + counters.closing;
        assert_eq!(sum, counters.connections);
        (counters.greeting, counters.sessions, counters.closing)
    };
    let client = rig.open(true);
    assert_eq!(states(&rig), (1, 0, 0));
    rig.say(client, &json!({"type": "$hello"}));
    assert_eq!(states(&rig), (0, 1, 0));
    rig.say_text(client, "a message over the limit".repeat(10_000).as_str());
    assert_eq!(states(&rig), (0, 0, 1));
    rig.break_off(client);
    assert_eq!(states(&rig), (0, 0, 0));
    assert_eq!(rig.shard.counters().limits["message_bytes"], 1);
    let client = rig.open(true);
    rig.pass(10_000);
    assert_eq!(rig.shard.counters().limits["handshake"], 1);
    rig.break_off(client);
    assert_eq!(states(&rig), (0, 0, 0));
}

#[test]
fn a_delivery_knows_when_its_publication_was_read() {
    let mut rig = Rig::new(config());
    let ada = rig.guest_in("a", &json!({}));
    rig.guest_in("a", &json!({}));
    rig.pass(20);
    publish(&mut rig, ada, "a", 1);
    // One for the batch, whoever is in the room.
    assert_eq!(rig.effects.delivered, [20_001]);
    rig.effects.delivered.clear();
    let cleo = rig.guest_in("live/a", &json!({}));
    rig.pass(5);
    publish(&mut rig, cleo, "live/a", 1);
    assert_eq!(rig.effects.delivered, [25_001], "in a room without log, too");
}

// Rates.

// [4.rates] [6.temporary]
#[test]
fn commands_have_a_rate_of_their_own_and_malformed_ones_count() {
    let mut config = config();
    config.limits.commands_per_s = 2;
    let mut rig = Rig::new(config);
    let (client, _) = rig.hello(&json!({}));
    rig.say_text(client, "nonsense");
    assert_eq!(rig.hear(client)[0]["payload"]["name"], "bad_envelope");
    assert_eq!(rig.ask(client, "$ping", &json!(1), &json!({}))["type"], "$pong");
    let over = rig.ask(client, "$ping", &json!(2), &json!({}));
    assert_eq!(over["payload"]["name"], "rate_limited");
    assert_eq!(over["payload"]["limit"], 2);
    assert_eq!(over["payload"]["retry_after_ms"], 500);
    assert_eq!(over["payload"]["temporary"], true);
    assert_eq!(publish(&mut rig, client, "a", 1)["type"], "$reply", "publications have another");
    rig.say_text(client, "nonsense");
    assert_eq!(rig.hear(client)[0]["payload"]["name"], "rate_limited");
    rig.pass(500);
    assert_eq!(rig.ask(client, "$ping", &json!(3), &json!({}))["type"], "$pong");
}

// [4.rates.bytes]
#[test]
fn a_connection_that_sends_too_much_is_not_read_for_a_while_and_loses_nothing() {
    let mut config = config();
    config.limits.bytes_per_s = 1_000;
    let mut rig = Rig::new(config);
    let (client, _) = rig.hello(&json!({}));
    let paused = |rig: &Rig| rig.effects.paused.values().any(|paused| *paused);
    let large = json!("x".repeat(1_500));
    let reply = rig.ask(client, "m", &large, &json!({"room": "a"}));
    assert_eq!(reply["type"], "$reply");
    assert!(paused(&rig));
    rig.pass(400);
    assert!(paused(&rig), "more than 500 bytes of debt");
    rig.pass(600);
    assert!(!paused(&rig));
    assert_eq!(rig.shard.counters().limits["bytes_per_s"], 1);
    rig.pass(60_000);
    assert!(rig.hear(client).contains(&json!("ping")), "its heartbeat goes on");
}

#[test]
fn a_room_that_somebody_only_asked_about_is_forgotten_at_once() {
    let mut config = config();
    config.limits.commands_per_s = 0;
    config.limits.delivery_bytes = 2_000;
    let mut rig = Rig::new(config);
    let (client, _) = rig.hello(&json!({}));
    for n in 0..50 {
        let room = json!({"room": format!("nothing/{n}")});
        let page = rig.ask(client, "$history", &json!({"limit": 1}), &room);
        assert_eq!(page["payload"]["offset"], 0);
    }
    assert_eq!(rig.shard.counters().rooms, 0);
}

#[test]
fn an_empty_room_keeps_the_epoch_that_a_member_was_told_for_a_while() {
    let mut rig = Rig::new(config());
    let (client, _) = rig.hello(&json!({}));
    let mut join = || {
        let joined = rig.ask(client, "$join", &json!({}), &json!({"room": "a"}));
        rig.ask(client, "$leave", &json!(null), &json!({"room": "a"}));
        let rooms = rig.shard.counters().rooms;
        rig.pass(20_000);
        (joined["payload"]["epoch"].clone(), rooms)
    };
    let first = join();
    assert_eq!(first.1, 1);
    assert_eq!(join(), first, "it may come back with it");
    rig.pass(20_000);
    assert_eq!(rig.shard.counters().rooms, 0);
}

// Joining.

#[test]
fn where_the_log_no_longer_reaches_back_last_decides() {
    let mut rig = Rig::new(config());
    let ada = rig.guest_in("short", &json!({}));
    let mut epoch = Value::Null;
    for n in 0..10 {
        epoch = publish(&mut rig, ada, "short", n)["payload"]["epoch"].clone();
    }
    let (bob, _) = rig.hello(&json!({}));
    let after = json!({"epoch": epoch, "offset": 2});
    let join = json!({"after": after, "last": 2});
    let reply = rig.ask(bob, "$join", &join, &json!({"room": "short"}));
    assert_eq!(reply["payload"]["recovered"], false);
    assert_eq!(reply["payload"]["from"], 9);
    rig.ask(bob, "$leave", &json!(null), &json!({"room": "short"}));
    let reply = rig.ask(bob, "$join", &json!({"after": after}), &json!({"room": "short"}));
    assert_eq!(reply["payload"]["recovered"], false);
    assert_eq!(reply["payload"]["from"], 11, "without last: live only");
    rig.ask(bob, "$leave", &json!(null), &json!({"room": "short"}));
    let join = json!({"after": {"epoch": "another", "offset": 2}, "last": 2});
    let reply = rig.ask(bob, "$join", &join, &json!({"room": "short"}));
    assert_eq!(reply["payload"]["recovered"], false);
    assert_eq!(reply["payload"]["from"], 9);
}

// [4.error.id] [4.metadata]
#[test]
fn an_error_with_an_id_is_addressed_by_it_alone() {
    let mut rig = Rig::new(config());
    let client = rig.guest_in("a", &json!({}));
    for (kind, room) in [("m", "no"), ("$join", "a"), ("$leave", "b"), ("$history", "live/1")] {
        let metadata = json!({"room": room, "key": "k", "id": 1});
        let payload = json!({"limit": 1});
        rig.say(client, &json!({"type": kind, "payload": payload, "metadata": metadata}));
        let heard = rig.hear(client);
        assert_eq!(heard[0]["type"], "$error", "{kind}");
        assert_eq!(heard[0]["metadata"], json!({"id": 1}), "{kind}");
        assert_eq!(heard[0]["payload"].get("command"), None, "{kind}");
    }
}

// [4.error] [4.error.suppressed] [4.error.room]
#[test]
fn a_join_without_id_fails_no_more_loudly_than_other_commands() {
    let mut rig = Rig::new(config());
    let client = rig.guest_in("a", &json!({}));
    let join = json!({"type": "$join", "metadata": {"room": "a"}});
    (0..5).for_each(|_| rig.say(client, &join));
    let heard = rig.hear(client);
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert_eq!(heard[0]["payload"]["command"], "$join");
    // The rooms of a `$hello` are each answered, whatever happens to others.
    let mut closed = config();
    closed.rooms[1].settings.permissions = Permissions::new(Access::Nobody, Access::Everyone);
    closed.rooms[1].pattern = clarion_protocol::Pattern::parse("no/**").unwrap();
    rig.effects.permissions = Some(closed);
    let rooms = json!({"no/1": {}, "no/2": {}, "no/3": {}});
    let (_, heard) = rig.hello(&json!({"rooms": rooms}));
    let errors: Vec<_> = heard.iter().filter(|m| m["type"] == "$error").collect();
    assert_eq!(errors.len(), 3);
    for (error, room) in errors.iter().zip(["no/1", "no/2", "no/3"]) {
        assert_eq!(error["metadata"], json!({"room": room}));
        assert_eq!(error["payload"].get("command"), None);
    }
}
