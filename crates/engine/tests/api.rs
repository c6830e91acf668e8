//! What the HTTP API asks of a shard, and what clients see of it.

mod rig;

use clarion_engine::mail::{ApiAnswer, ApiRequest, RoomRow, Target};
use clarion_protocol::{ClientId, Pattern, RoomName};
use clarion_store::{Completion, Request, StoreError};
use rig::{Client, Rig, config};
use serde_json::{Value, json};
use std::collections::VecDeque;

fn room(name: &str) -> RoomName {
    RoomName::parse(name).unwrap()
}

fn count(answer: &ApiAnswer) -> u64 {
    match answer {
        ApiAnswer::Count(count) => *count,
        other => panic!("{other:?}"),
    }
}

/// A connection of a user, its client id, and what it was told.
fn session(rig: &mut Rig, token: &str) -> (Client, ClientId, Vec<Value>) {
    let (client, heard) = rig.hello(&json!({"token": token}));
    let id = ClientId::parse(heard[0]["payload"]["client"].as_str().unwrap()).unwrap();
    (client, id, heard)
}

fn group(rig: &mut Rig, group: &str, user: &str, member: bool) -> u64 {
    let (group, user) = (group.into(), user.into());
    count(&rig.api(ApiRequest::Group { group, user, member }))
}

fn rooms_of(heard: &[Value], kind: &str) -> Vec<String> {
    let of_kind = heard.iter().filter(|message| message["type"] == kind);
    of_kind.map(|message| message["metadata"]["room"].as_str().unwrap().to_owned()).collect()
}

fn say_in(rig: &mut Rig, client: Client, name: &str) {
    rig.say(client, &json!({"type": "m", "payload": 1, "metadata": {"room": name}}));
}

// [4.left] [3.leave.after]
#[test]
fn a_kicked_session_is_told_and_hears_no_more() {
    let mut rig = Rig::new(config());
    let (ada, ada_id, _) = session(&mut rig, "user:ada");
    rig.ask(ada, "$join", &json!({}), &json!({"room": "a"}));
    let watcher = rig.guest_in("a", &json!({"members": true}));
    let target = Target::Client(ada_id);
    assert_eq!(count(&rig.api(ApiRequest::Kick { room: room("a"), target: target.clone() })), 1);
    let heard = rig.hear(ada);
    assert_eq!(heard[0]["type"], "$left");
    assert_eq!(heard[0]["payload"], json!({"reason": "kicked"}));
    assert_eq!(heard[0]["metadata"], json!({"room": "a"}));
    rig.pass(250);
    let told = rig.hear(watcher);
    assert_eq!(told[0]["payload"]["left"][0]["user"], "ada");
    say_in(&mut rig, watcher, "a");
    assert!(rig.hear(ada).is_empty());
    let answer = rig.ask(ada, "$leave", &json!(null), &json!({"room": "a"}));
    assert_eq!(answer["payload"]["name"], "not_joined");
    assert_eq!(count(&rig.api(ApiRequest::Kick { room: room("a"), target })), 0);
    let again = rig.ask(ada, "$join", &json!({}), &json!({"room": "a"}));
    assert_eq!(again["type"], "$reply", "being kicked is no ban");
}

#[test]
fn a_user_is_kicked_on_all_devices_and_in_its_grace() {
    let mut rig = Rig::new(config());
    let (one, _, _) = session(&mut rig, "user:ada");
    let (two, _, _) = session(&mut rig, "user:ada");
    for device in [one, two] {
        rig.ask(device, "$join", &json!({}), &json!({"room": "a"}));
    }
    rig.break_off(two);
    let other = rig.guest_in("a", &json!({}));
    let target = Target::User("ada".into());
    assert_eq!(count(&rig.api(ApiRequest::Kick { room: room("a"), target })), 2);
    assert_eq!(rooms_of(&rig.hear(one), "$left"), ["a"]);
    assert!(rig.hear(other).is_empty());
    let members = rig.ask(other, "$members", &json!({}), &json!({"room": "a"}));
    assert_eq!(members["payload"]["count"], 1);
    assert_eq!(members["payload"]["users"], 1);
}

// [4.joined] [4.rates.joined]
#[test]
fn the_api_makes_sessions_join_and_that_counts_in_no_limit() {
    let mut config = config();
    config.limits.rooms = 1;
    let mut rig = Rig::new(config);
    let (ada, id, _) = session(&mut rig, "user:ada");
    rig.ask(ada, "$join", &json!({}), &json!({"room": "own"}));
    for name in ["a", "b", "own"] {
        let target = Target::Client(id);
        assert_eq!(count(&rig.api(ApiRequest::Join { room: room(name), target })), 1);
    }
    assert_eq!(rooms_of(&rig.hear(ada), "$joined"), ["a", "b"], "own is joined already");
    let full = rig.ask(ada, "$join", &json!({}), &json!({"room": "c"}));
    assert_eq!(full["payload"]["limit"], 1);
    say_in(&mut rig, ada, "b");
    assert_eq!(rooms_of(&rig.hear(ada), "m"), ["b"]);
    let nobody = Target::User("bob".into());
    assert_eq!(count(&rig.api(ApiRequest::Join { room: room("a"), target: nobody })), 0);
}

#[test]
fn special_rooms_are_not_the_apis_to_join_or_kick() {
    let mut rig = Rig::new(config());
    for name in ["$user/ada", "$group/staff", "$all"] {
        let target = Target::User("ada".into());
        let kick = rig.api(ApiRequest::Kick { room: room(name), target: target.clone() });
        assert!(matches!(kick, ApiAnswer::Refused(_)), "{name}");
        let join = rig.api(ApiRequest::Join { room: room(name), target });
        assert!(matches!(join, ApiAnswer::Refused(_)), "{name}");
    }
}

// [6.stop]
#[test]
fn an_operator_disconnects_with_4006() {
    let mut rig = Rig::new(config());
    let (one, _, _) = session(&mut rig, "user:ada");
    let (two, _, _) = session(&mut rig, "user:ada");
    let (other, _, _) = session(&mut rig, "user:bob");
    let target = Target::User("ada".into());
    assert_eq!(count(&rig.api(ApiRequest::Disconnect { target })), 2);
    for gone in [one, two] {
        assert_eq!(rig.hear(gone), [json!({"closed": 4006})]);
    }
    assert!(rig.hear(other).is_empty());
}

// [1.group.publish] [4.joined] [4.left] [4.groups]
#[test]
fn a_group_takes_sessions_in_and_out_while_they_are_here() {
    let mut rig = Rig::new(config());
    let (ada, _, _) = session(&mut rig, "user:ada");
    let (guest, _, heard) = session_of_guest(&mut rig);
    let guest_user = heard[0]["payload"]["user"].as_str().unwrap().to_owned();
    assert_eq!(group(&mut rig, "staff", "ada", true), 1);
    assert_eq!(group(&mut rig, "staff", "ada", true), 0, "it is in already");
    assert_eq!(group(&mut rig, "staff", &guest_user, true), 1);
    assert_eq!(rooms_of(&rig.hear(ada), "$joined"), ["$group/staff"]);
    assert_eq!(rooms_of(&rig.hear(guest), "$joined"), ["$group/staff"]);
    say_in(&mut rig, ada, "$group/staff");
    assert_eq!(rooms_of(&rig.hear(guest), "m"), ["$group/staff"]);
    assert_eq!(group(&mut rig, "staff", &guest_user, false), 1);
    let left = rig.hear(guest);
    assert_eq!(left[0]["payload"], json!({"reason": "group"}));
    say_in(&mut rig, ada, "$group/staff");
    assert!(rig.hear(guest).is_empty());
}

fn session_of_guest(rig: &mut Rig) -> (Client, ClientId, Vec<Value>) {
    let (client, heard) = rig.hello(&json!({}));
    let id = ClientId::parse(heard[0]["payload"]["client"].as_str().unwrap()).unwrap();
    (client, id, heard)
}

// [1.group.publish] [3.hello.special] [4.groups]
#[test]
fn a_session_that_comes_finds_its_groups_and_goes_on_from_its_position() {
    let mut rig = Rig::new(config());
    group(&mut rig, "staff", "ada", true);
    group(&mut rig, "berlin", "ada", true);
    let (ada, _, heard) = session(&mut rig, "user:ada");
    assert_eq!(rooms_of(&heard, "$joined"), ["$user/ada", "$group/berlin", "$group/staff"]);
    let staff = heard.iter().find(|m| m["metadata"]["room"] == "$group/staff").unwrap();
    let epoch = &staff["payload"]["epoch"];
    say_in(&mut rig, ada, "$group/staff");
    say_in(&mut rig, ada, "$group/staff");
    let ticket = heard[0]["payload"]["ticket"].clone();
    rig.break_off(ada);
    let rooms = json!({"$group/staff": {"after": {"epoch": epoch, "offset": 1}}});
    let (_, again) = rig.hello(&json!({"ticket": ticket, "rooms": rooms}));
    let missed: Vec<_> = again.iter().filter(|message| message["type"] == "m").collect();
    assert_eq!(missed.len(), 1, "{again:?}");
    assert_eq!(missed[0]["metadata"]["offset"], 2);
}

#[test]
fn the_users_of_a_group_are_listed_a_page_at_a_time() {
    let mut rig = Rig::new(config());
    for user in ["cleo", "ada", "bob"] {
        group(&mut rig, "staff", user, true);
    }
    group(&mut rig, "staff", "bob", false);
    let page = |after: Option<&str>| ApiRequest::GroupUsers {
        group: "staff".into(),
        after: after.map(Into::into),
        limit: 1,
    };
    let users = |answer| match answer {
        ApiAnswer::Users(users) => users,
        other => panic!("{other:?}"),
    };
    assert_eq!(users(rig.api(page(None))), ["ada".into()]);
    assert_eq!(users(rig.api(page(Some("ada")))), ["cleo".into()]);
    assert!(users(rig.api(page(Some("cleo")))).is_empty());
    let bad = ApiRequest::Group { group: "a/b".into(), user: "ada".into(), member: true };
    assert!(matches!(rig.api(bad), ApiAnswer::Refused(_)));
}

/// With a store that survives the process: nothing is so before it has it.
fn durable() -> Rig {
    let mut config = config();
    config.groups_durable = true;
    Rig::new(config)
}

fn kept(rig: &mut Rig) -> Vec<(Box<str>, Box<str>)> {
    let request = Request::Groups { token: 0, after: None, limit: 10 };
    match rig.effects.store.handle(request, 0) {
        Completion::Groups { result: Ok(page), .. } => page.members,
        other => panic!("{other:?}"),
    }
}

/// Asks for a change while the store is slow, and gives what came of it.
fn regroup(rig: &mut Rig, member: bool, instead: Option<StoreError>) -> ApiAnswer {
    rig.effects.held = Some(VecDeque::new());
    let (group, user) = ("staff".into(), "ada".into());
    rig.ask_api(ApiRequest::Group { group, user, member });
    assert!(rig.effects.answers.is_empty(), "it waits for the store");
    rig.stored(instead);
    rig.effects.answers.pop().expect("an answer")
}

// [4.groups.restart]
#[test]
fn a_group_changes_when_the_store_has_it() {
    let mut rig = durable();
    let (ada, _, _) = session(&mut rig, "user:ada");
    rig.effects.held = Some(VecDeque::new());
    let (staff, user) = ("staff".into(), "ada".into());
    rig.ask_api(ApiRequest::Group { group: staff, user, member: true });
    assert!(rig.hear(ada).is_empty() && rig.effects.answers.is_empty());
    rig.stored(None);
    assert_eq!(count(&rig.effects.answers.pop().unwrap()), 1);
    assert_eq!(rooms_of(&rig.hear(ada), "$joined"), ["$group/staff"]);
    assert_eq!(kept(&mut rig), [("staff".into(), "ada".into())]);
    assert_eq!(count(&regroup(&mut rig, true, None)), 0, "it is in already");
    assert_eq!(count(&regroup(&mut rig, false, None)), 1);
    assert_eq!(rooms_of(&rig.hear(ada), "$left"), ["$group/staff"]);
    assert_eq!(kept(&mut rig), []);
}

#[test]
fn a_group_that_the_store_may_not_have_is_as_it_was_and_can_be_asked_for_again() {
    let mut rig = durable();
    let (ada, _, _) = session(&mut rig, "user:ada");
    for error in [StoreError::Unavailable, StoreError::Unknown] {
        match regroup(&mut rig, true, Some(error)) {
            ApiAnswer::Refused(refusal) => assert!(refusal.temporary),
            other => panic!("{other:?}"),
        }
        assert!(rig.hear(ada).is_empty());
    }
    // The store has it; whoever takes back what nobody knew must not find it after a restart.
    assert_eq!(kept(&mut rig).len(), 1);
    assert_eq!(count(&regroup(&mut rig, false, None)), 0);
    assert_eq!(kept(&mut rig), []);
    assert_eq!(count(&regroup(&mut rig, true, None)), 1);
    assert_eq!(rooms_of(&rig.hear(ada), "$joined"), ["$group/staff"]);
}

#[test]
fn changes_of_one_group_are_told_in_their_order_and_only_so_many_wait() {
    let mut rig = durable();
    let (ada, _, _) = session(&mut rig, "user:ada");
    rig.effects.held = Some(VecDeque::new());
    let change = |member| ApiRequest::Group { group: "staff".into(), user: "ada".into(), member };
    for n in 0..1_025 {
        rig.ask_api(change(n % 2 == 0));
    }
    match rig.effects.answers.pop() {
        Some(ApiAnswer::Refused(refusal)) => assert_eq!(refusal.limit, Some(1_024)),
        other => panic!("{other:?}"),
    }
    rig.stored(None);
    assert_eq!(rig.effects.answers.len(), 1_024);
    assert!(rig.effects.answers.iter().all(|answer| count(answer) == 1));
    assert_eq!(kept(&mut rig), []);
    rig.hear(ada);
    say_in(&mut rig, ada, "$group/staff");
    assert_eq!(rooms_of(&rig.hear(ada), "m"), [""; 0], "the last one took it out");
}

// [4.groups.restart]
#[test]
fn who_was_in_a_group_is_in_it_after_a_restart_but_for_guests() {
    let mut rig = durable();
    let (_, guest, _) = session(&mut rig, "user:cleo");
    assert_eq!(group(&mut rig, "staff", &format!("guest:{guest}"), true), 1);
    assert_eq!(kept(&mut rig), [], "nobody is that guest later");
    assert_eq!(group(&mut rig, "staff", "ada", true), 1);
    let members = kept(&mut rig);
    let mut rig = durable();
    for (group, user) in members {
        rig.shard.restore_group(&RoomName::group(&group).unwrap(), &user);
    }
    let (_, _, heard) = session(&mut rig, "user:ada");
    assert_eq!(rooms_of(&heard, "$joined"), ["$user/ada", "$group/staff"]);
    let users = rig.api(ApiRequest::GroupUsers { group: "staff".into(), after: None, limit: 9 });
    assert!(matches!(users, ApiAnswer::Users(users) if users == ["ada".into()]));
    assert_eq!(group(&mut rig, "staff", "ada", true), 0);
    assert_eq!(group(&mut rig, "staff", "ada", false), 1);
}

#[test]
fn groups_have_a_bound() {
    let mut config = config();
    config.limits.group_users = 2;
    config.limits.rooms = 1;
    let mut rig = Rig::new(config);
    assert_eq!(group(&mut rig, "a", "ada", true), 1);
    let over = |group: &str, user: &str| ApiRequest::Group {
        group: group.into(),
        user: user.into(),
        member: true,
    };
    assert!(matches!(rig.api(over("b", "ada")), ApiAnswer::Refused(_)), "one user, two groups");
    assert_eq!(group(&mut rig, "a", "bob", true), 1);
    assert!(matches!(rig.api(over("a", "cleo")), ApiAnswer::Refused(_)), "three in all");
    assert_eq!(group(&mut rig, "a", "ada", false), 1);
    assert_eq!(group(&mut rig, "a", "cleo", true), 1);
}

#[test]
fn rooms_are_listed_by_name_with_who_is_there_and_where_they_stand() {
    let mut rig = Rig::new(config());
    let ada = rig.guest_in("b", &json!({}));
    rig.ask(ada, "$join", &json!({}), &json!({"room": "a"}));
    rig.ask(ada, "$join", &json!({}), &json!({"room": "live/x"}));
    say_in(&mut rig, ada, "a");
    let mut list = |after: Option<&str>, limit, pattern: Option<&str>| {
        let after = after.map(room);
        let pattern = pattern.map(|pattern| Pattern::parse(pattern).unwrap());
        match rig.api(ApiRequest::Rooms { after, limit, pattern }) {
            ApiAnswer::Rooms(rows) => rows,
            other => panic!("{other:?}"),
        }
    };
    let names = |rows: &[RoomRow]| rows.iter().map(|r| r.room.to_string()).collect::<Vec<_>>();
    let all = list(None, 10, None);
    assert_eq!(names(&all), ["a", "b", "live/x"]);
    assert_eq!((all[0].members, all[0].users), (1, 1));
    assert_eq!(all[0].position.as_ref().unwrap().offset, 1);
    assert!(all[2].position.is_none());
    assert_eq!(names(&list(Some("a"), 1, None)), ["b"]);
    assert_eq!(names(&list(None, 10, Some("live/*"))), ["live/x"]);
    assert!(list(None, 0, None).is_empty());
}

#[test]
fn history_and_members_are_the_same_for_the_api() {
    let mut rig = Rig::new(config());
    let ada = rig.guest_in("a", &json!({}));
    for _ in 0..3 {
        say_in(&mut rig, ada, "a");
    }
    let page =
        rig.api(ApiRequest::History { room: room("a"), after: None, before: None, limit: 2 });
    let ApiAnswer::History { page } = page else { panic!("{page:?}") };
    assert_eq!(page.publications.iter().map(|(offset, _)| *offset).collect::<Vec<_>>(), [2, 3]);
    assert!(page.more);
    let unlogged =
        ApiRequest::History { room: room("live/x"), after: None, before: None, limit: 2 };
    assert!(matches!(rig.api(unlogged), ApiAnswer::Refused(_)));
    let members = rig.api(ApiRequest::Members { room: room("a"), limit: None, after: None });
    let ApiAnswer::Members { members, count: 1, users: 1, more: false } = members else {
        panic!("{members:?}")
    };
    assert_eq!(members.len(), 1);
}

// [3.members.pages]
#[test]
fn a_page_of_members_also_ends_by_bytes() {
    let mut config = config();
    config.limits.delivery_bytes = 2_000;
    let mut rig = Rig::new(config);
    let state = json!("x".repeat(900));
    let clients: Vec<_> = (0..5).map(|_| rig.guest_in("a", &json!({}))).collect();
    for client in &clients {
        rig.ask(*client, "$state", &state, &json!({"room": "a"}));
    }
    let (mut seen, mut after) = (0, None);
    loop {
        let payload = after.as_ref().map_or(json!({}), |after| json!({"after": after}));
        let page = rig.ask(clients[0], "$members", &payload, &json!({"room": "a"}));
        let members = page["payload"]["members"].as_array().unwrap().clone();
        assert!((1..=2).contains(&members.len()), "{} in one page", members.len());
        assert_eq!(page["payload"]["count"], 5);
        seen += members.len();
        after = members.last().map(|member| member["client"].clone());
        if page["payload"]["more"] == false {
            break;
        }
    }
    assert_eq!(seen, 5);
}
