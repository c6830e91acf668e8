//! Joining, following a room over reconnects, leaving.

use clarion_client::core::codec::Json;
use clarion_client::core::{JoinOptions, RoomEvent, RoomState};
use clarion_protocol::{Epoch, Position};
use serde_json::{Value, json};

use crate::world::World;

fn at(epoch: &str, offset: u64) -> Position {
    Position::new(Epoch::new(epoch).unwrap(), offset)
}

/// Joined to `a` at offset 5 of `e`.
fn joined() -> World {
    let mut world = World::new();
    world.connected();
    world.join("a");
    let join = world.next("$join");
    world.reply(&join, reply("e", 5, 6, false));
    world.take_events();
    world
}

fn reply(epoch: &str, offset: u64, from: u64, recovered: bool) -> Value {
    json!({"epoch": epoch, "offset": offset, "from": from, "recovered": recovered})
}

fn offsets(world: &mut World) -> Vec<u64> {
    world.take_publications().iter().map(|it| it.position.as_ref().unwrap().offset).collect()
}

#[test]
fn reply_resolves_and_what_follows_is_delivered() {
    let mut world = World::new();
    world.connected();
    let call = world.join_with("a", JoinOptions { last: Some(2), ..JoinOptions::default() });
    assert_eq!(world.room_state("a"), RoomState::Joining);
    let join = world.next("$join");
    assert_eq!(join["payload"], json!({"last": 2}));
    world.reply(&join, reply("e", 5, 4, false));
    assert_eq!(world.error_name(call), "");
    assert_eq!(world.core.position("a"), Some(&at("e", 3)));
    assert_eq!(world.core.is_logged("a"), Some(true));
    (4..=6).for_each(|offset| world.publication("a", "e", offset));
    assert_eq!(offsets(&mut world), [4, 5, 6]);
    let again = world.join("a");
    assert_eq!((world.error_name(again), world.sent.len()), ("", 0));
}

#[test]
fn wish_before_connecting_goes_into_the_hello() {
    let mut world = World::new();
    let a = world.join("a");
    let b = world.join("b");
    world.connect();
    let hello = world.welcome(json!({}));
    assert_eq!(hello["payload"]["rooms"], json!({"a": {}, "b": {}}));
    world.say("$joined", reply("e", 0, 1, false), json!({"room": "a"}));
    let refused = json!({"code": 403, "name": "forbidden", "message": "", "temporary": false});
    world.say("$error", refused, json!({"room": "b"}));
    assert_eq!((world.error_name(a), world.error_name(b)), ("", "forbidden"));
    assert_eq!(
        (world.room_state("a"), world.room_state("b")),
        (RoomState::Joined, RoomState::Left)
    );
    assert!(world.sent.is_empty() && world.errors.is_empty());
    // It is not asked again.
    assert_eq!(world.dropped(1006)["payload"]["rooms"].as_object().unwrap().len(), 1);
}

#[test]
fn temporary_refusal_is_tried_again_after_the_time_that_the_server_names() {
    let mut world = World::new();
    world.connected();
    let call = world.join("a");
    let join = world.next("$join");
    world.fail_with(&join, 503, "unavailable", json!({"retry_after_ms": 2_000}));
    let status = world.core.room_status("a").unwrap();
    assert_eq!(
        (status.state, status.code, &*status.reason),
        (RoomState::Joining, 503, "unavailable")
    );
    assert!(status.will_retry && status.retry_in.is_some());
    world.advance(1_999);
    assert!(world.sent.is_empty());
    world.advance(501);
    let join = world.next("$join");
    world.reply(&join, json!({}));
    assert_eq!(world.error_name(call), "");
    assert_eq!(world.core.is_logged("a"), Some(false));
}

#[test]
fn timeout_fails_the_call_but_not_the_wish() {
    let mut world = World::new();
    let call = world.join("a");
    world.advance(5_000);
    assert_eq!(world.error_name(call), "timeout");
    world.connect();
    let hello = world.welcome(json!({}));
    assert_eq!(hello["payload"]["rooms"], json!({"a": {}}));
}

#[test]
fn rooms_of_the_protocol_and_bad_names_are_not_joined() {
    let mut world = World::new();
    for name in ["$all", "$user/ada", "", "a//b", "a b", "$other/x"] {
        let call = world.join(name);
        assert_eq!(world.error_name(call), "bad_room", "{name}");
    }
}

#[test]
fn late_reply_of_an_old_join_is_dropped() {
    let mut world = World::new();
    world.connected();
    let first = world.join("a");
    let old = world.next("$join");
    world.leave("a");
    assert_eq!(world.error_name(first), "aborted");
    world.next("$leave");
    world.join("a");
    let new = world.next("$join");
    world.reply(&old, reply("e", 5, 6, false));
    assert_eq!(world.room_state("a"), RoomState::Joining);
    world.reply(&new, reply("e", 7, 8, false));
    assert_eq!(world.core.position("a"), Some(&at("e", 7)));
}

#[test]
fn nothing_arrives_after_leaving() {
    let mut world = joined();
    let call = world.leave("a");
    world.publication("a", "e", 6);
    let leave = world.next("$leave");
    world.reply(&leave, json!({}));
    world.publication("a", "e", 7);
    assert_eq!(world.error_name(call), "");
    assert!(offsets(&mut world).is_empty());
    assert_eq!(world.core.position("a"), None);
    let again = world.leave("a");
    assert_eq!((world.error_name(again), world.sent.len()), ("", 0));
    assert_eq!(world.dropped(1006)["payload"]["rooms"], json!({}));
}

#[test]
fn leaving_on_a_connection_that_breaks_is_having_left() {
    let mut world = joined();
    let call = world.leave("a");
    world.lose(1006);
    assert_eq!(world.error_name(call), "");
}

#[test]
fn leaving_between_hello_and_welcome_wins_over_the_hello() {
    let mut world = World::new();
    world.join("a");
    world.connect();
    let hello = world.open();
    let call = world.leave("a");
    world.say_welcome(&hello, json!({}));
    world.say("$joined", reply("e", 0, 1, false), json!({"room": "a"}));
    assert_eq!(world.room_state("a"), RoomState::Left);
    let leave = world.next("$leave");
    world.reply(&leave, json!({}));
    assert_eq!(world.error_name(call), "");
}

#[test]
fn being_made_to_leave_says_why() {
    let mut world = joined();
    world.say("$left", json!({"reason": "kicked"}), json!({"room": "a"}));
    let status = world.core.room_status("a").unwrap();
    assert_eq!((status.state, &*status.reason), (RoomState::Left, "kicked"));
    assert_eq!(world.dropped(1006)["payload"]["rooms"], json!({}));
}

#[test]
fn one_message_resumes_everything_without_gap_or_duplicate() {
    let mut world = joined();
    world.join("b");
    let join = world.next("$join");
    world.reply(&join, json!({}));
    world.publication("a", "e", 6);
    let hello = world.dropped(1006);
    assert_eq!(world.room_state("a"), RoomState::Joining);
    let payload = &hello["payload"];
    assert_eq!(payload["ticket"], "ticket-1");
    assert_eq!(payload["rooms"], json!({"a": {"after": {"epoch": "e", "offset": 6}}, "b": {}}));
    world.take_events();
    world.say("$joined", reply("e", 8, 7, true), json!({"room": "a"}));
    world.say("$joined", json!({}), json!({"room": "b"}));
    (6..=9).for_each(|offset| world.publication("a", "e", offset));
    assert_eq!(offsets(&mut world), [7, 8, 9]);
    let events = world.take_events();
    assert!(events.contains(&RoomEvent::Recovered { from: 7, to: 8 }));
    // Nobody can tell what was said in the room without log.
    let gaps = events.iter().filter(|event| matches!(event, RoomEvent::Gap(_))).count();
    assert_eq!((gaps, world.sent.len()), (1, 0));
}

#[test]
fn drop_in_the_middle_of_a_replay_resumes_in_the_middle() {
    let mut world = joined();
    world.dropped(1006);
    world.say("$joined", reply("e", 9, 6, true), json!({"room": "a"}));
    world.publication("a", "e", 6);
    world.publication("a", "e", 7);
    let hello = world.dropped(1006);
    assert_eq!(hello["payload"]["rooms"]["a"]["after"]["offset"], 7);
}

#[test]
fn what_cannot_be_recovered_is_a_gap_before_the_next_publication() {
    for (epoch, offset, from, reason) in
        [("e", 20, 15, "trimmed"), ("f", 3, 4, "epoch"), ("e", 2, 3, "unknown")]
    {
        let mut world = joined();
        world.dropped(1006);
        world.take_events();
        world.say("$joined", reply(epoch, offset, from, false), json!({"room": "a"}));
        let gaps = world.gaps();
        assert_eq!(gaps.len(), 1, "{reason}");
        assert_eq!(gaps[0].reason, reason);
        assert_eq!(gaps[0].position, Some(at(epoch, from - 1)));
    }
}

#[test]
fn announced_gap_moves_the_position_and_a_hole_is_not_hidden() {
    let mut world = joined();
    let gap = json!({"reason": "trimmed", "epoch": "e", "offset": 9, "from": 6, "to": 9});
    world.say("$gap", gap, json!({"room": "a"}));
    world.publication("a", "e", 10);
    assert_eq!((world.gaps().len(), offsets(&mut world)), (1, vec![10]));
    world.publication("a", "e", 13);
    let gaps = world.gaps();
    assert_eq!((gaps[1].from, gaps[1].to), (Some(11), Some(12)));
    assert_eq!(offsets(&mut world), [13]);
}

#[test]
fn room_that_stopped_keeping_a_log_is_joined_live() {
    let mut world = joined();
    world.dropped(1006);
    let refused = json!({"code": 404, "name": "no_history", "message": "", "temporary": false});
    world.say("$error", refused, json!({"room": "a"}));
    let join = world.next("$join");
    assert_eq!(join["payload"], json!({}));
    world.reply(&join, json!({}));
    assert_eq!(world.room_state("a"), RoomState::Joined);
}

#[test]
fn lost_reply_of_a_join_starts_clean() {
    let mut world = World::new();
    world.connected();
    world.join("a");
    let join = world.next("$join");
    world.fail(&join, 409, "already_joined");
    world.next("$leave");
    world.advance(500);
    let join = world.next("$join");
    world.reply(&join, reply("e", 5, 6, false));
    assert_eq!(world.room_state("a"), RoomState::Joined);
}

#[test]
fn wanted_rooms_that_do_not_fit_into_the_hello_are_joined_after_it() {
    let mut world = World::new();
    let names: Vec<_> = (0..400).map(|n| format!("{}/{n:03}", "x".repeat(120))).collect();
    for name in &names {
        world.join(name);
    }
    world.connect();
    let hello = world.welcome(json!({}));
    assert!(hello.to_string().len() < 65_536);
    let in_hello = hello["payload"]["rooms"].as_object().unwrap().len();
    assert!(in_hello > 300);
    let later: Vec<_> = std::iter::from_fn(|| world.sent.pop_front()).collect();
    assert_eq!(in_hello + later.len(), names.len());
    assert!(later.iter().all(|message| message["type"] == "$join"));
}

#[test]
fn members_follow_snapshot_and_changes() {
    let mut world = World::new();
    world.connected();
    world.join_with("a", JoinOptions { members: true, ..JoinOptions::default() });
    let join = world.next("$join");
    assert_eq!(join["payload"], json!({"members": true}));
    let members = json!({"all": [{"client": "c1", "user": "u1"}], "count": 1, "users": 1});
    world.reply(&join, json!({ "members": members }));
    let change = json!({"joined": [{"client": "c2", "user": "u2"}], "left": [], "changed": [],
        "count": 2, "users": 2});
    world.say("$members", change, json!({"room": "a"}));
    assert_eq!(world.core.members("a").members.len(), 2);
    world.leave("a");
    assert_eq!(world.core.members("a").count, 0);
    let told = world.take_events();
    assert_eq!(told.iter().filter(|event| matches!(event, RoomEvent::Members(_))).count(), 3);
}

#[test]
fn state_is_set_again_after_a_reconnect() {
    let mut world = joined();
    let state = Json::from_text(r#"{"typing": true}"#).unwrap();
    let call = world.core.set_state("a", state, None, world.now);
    world.settle();
    let message = world.next("$state");
    assert_eq!(message["payload"], json!({"typing": true}));
    world.reply(&message, json!({}));
    assert_eq!(world.error_name(call), "");
    world.dropped(1006);
    world.say("$joined", reply("e", 5, 6, true), json!({"room": "a"}));
    assert_eq!(world.next("$state")["payload"], json!({"typing": true}));
}

#[test]
fn inbox_appears_by_itself_and_keeps_its_place() {
    let mut world = World::new();
    world.connected();
    world.say("$joined", reply("e", 3, 4, false), json!({"room": "$user/u1"}));
    assert_eq!(world.new_rooms, ["$user/u1"]);
    world.publication("$user/u1", "e", 4);
    assert_eq!(offsets(&mut world), [4]);
    let call = world.core.ack("$user/u1", &at("e", 4), None, world.now);
    world.settle();
    let ack = world.next("$ack");
    assert_eq!(ack["payload"], json!({"epoch": "e", "offset": 4}));
    world.reply(&ack, json!({}));
    assert_eq!(world.error_name(call), "");
    let hello = world.dropped(1006);
    let rooms = json!({"$user/u1": {"after": {"epoch": "e", "offset": 4}}});
    assert_eq!(hello["payload"]["rooms"], rooms);
}

#[test]
fn room_joined_through_the_api_is_kept_over_a_reconnect() {
    let mut world = World::new();
    world.connected();
    world.say("$joined", reply("e", 3, 4, false), json!({"room": "a"}));
    assert_eq!(
        (world.room_state("a"), &*world.new_rooms),
        (RoomState::Joined, &["a".to_owned()][..])
    );
    let hello = world.dropped(1006);
    assert_eq!(hello["payload"]["rooms"]["a"]["after"]["offset"], 3);
}

#[test]
fn question_without_a_connection_waits_for_one_and_fails_with_it() {
    let mut world = World::new();
    let waits = world.core.history("a", Default::default(), None, world.now);
    world.settle();
    world.connected();
    let history = world.next("$history");
    assert_eq!(history["payload"], json!({"limit": 50}));
    let page = json!({"epoch": "e", "offset": 2, "first": 1, "more": false, "publications": [
        {"type": "x", "payload": 1, "metadata": {"room": "a", "offset": 2, "epoch": "e"}}]});
    world.reply(&history, page);
    assert_eq!(world.error_name(waits), "");
    let breaks = world.core.history("a", Default::default(), None, world.now);
    world.settle();
    world.lose(1006);
    assert_eq!(world.error_name(breaks), "connection_lost");
    world.reconnect();
    world.welcome(json!({}));
    let odd = world.core.list_members("a", &Default::default(), None, world.now);
    world.settle();
    let members = world.next("$members");
    world.reply(&members, json!({"members": 7}));
    assert_eq!(world.error_name(odd), "malformed");
}

#[test]
fn what_comes_to_an_address_is_heard_without_joining() {
    let mut world = World::new();
    world.connected();
    for room in ["$all", "$client/c1", "$user/u1", "a"] {
        world.say("x", json!(1), json!({ "room": room }));
    }
    let heard: Vec<_> = world.take_publications().iter().map(|it| it.room.clone()).collect();
    assert_eq!(heard, ["$all", "$client/c1"]);
    assert_eq!(world.room_state("$all"), RoomState::Left);
    assert_eq!(world.dropped(1006)["payload"]["rooms"], json!({}));
}

#[test]
fn group_keeps_its_place_over_a_reconnect() {
    let mut world = World::new();
    world.connected();
    world.say("$joined", reply("e", 3, 4, false), json!({"room": "$group/team"}));
    let hello = world.dropped(1006);
    assert_eq!(hello["payload"]["rooms"]["$group/team"]["after"]["offset"], 3);
}

#[test]
fn largest_numbers_that_json_has_are_survived() {
    let mut world = World::new();
    world.connected();
    world.join("a");
    let join = world.next("$join");
    world.fail_with(&join, 503, "unavailable", json!({"retry_after_ms": u64::MAX}));
    assert_eq!(world.room_state("a"), RoomState::Joining);
    let mut world = joined();
    world.publication("a", "e", u64::MAX);
    world.dropped(1006);
    world.say("$joined", reply("e", u64::MAX, u64::MAX, true), json!({"room": "a"}));
    assert_eq!(world.room_state("a"), RoomState::Joined);
}

#[test]
fn state_that_no_server_takes_is_refused_here_and_not_kept() {
    let mut world = World::new();
    let state = Json::new(&"x".repeat(1_023)).unwrap();
    let early = world.core.set_state("a", state.clone(), None, world.now);
    world.settle();
    assert_eq!(world.error_name(early), "too_large");
    world.connected();
    world.join("a");
    let join = world.next("$join");
    world.reply(&join, reply("e", 5, 6, false));
    let late = world.core.set_state("a", state, None, world.now);
    world.settle();
    assert_eq!(world.error_name(late), "too_large");
    assert!(world.sent.is_empty());
}
