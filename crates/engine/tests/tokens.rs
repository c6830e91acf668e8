//! What a token says, for as long as it is good: user, groups, expiry.

mod rig;

use clarion_engine::mail::ApiAnswer;
use rig::{Rig, config};
use serde_json::{Value, json};

/// The wall clock of a new rig.
const START_MS: u64 = 1_700_000_000_000;

fn joined(heard: &[Value]) -> Vec<&str> {
    let joined = heard.iter().filter(|message| message["type"] == "$joined");
    joined.map(|message| message["metadata"]["room"].as_str().unwrap()).collect()
}

// [1.group.publish] [4.joined] [3.ticket] [4.groups]
#[test]
fn a_session_is_in_the_groups_of_its_token_and_the_ticket_knows_them() {
    let mut rig = Rig::new(config());
    let (client, heard) = rig.hello(&json!({"token": "user:ada group:staff group:berlin"}));
    assert_eq!(joined(&heard), ["$user/ada", "$group/berlin", "$group/staff"]);
    let ticket = heard[0]["payload"]["ticket"].clone();
    rig.break_off(client);
    let (_, again) = rig.hello(&json!({"ticket": ticket}));
    assert_eq!(again[0]["payload"]["resumed"], true);
    assert_eq!(joined(&again), ["$user/ada", "$group/berlin", "$group/staff"]);
}

// [4.left] [1.special.leave] [4.groups.refresh]
#[test]
fn a_fresh_token_brings_groups_and_takes_others_away() {
    let mut rig = Rig::new(config());
    let (client, _) = rig.hello(&json!({"token": "user:ada group:staff group:berlin"}));
    let token = json!({"token": "user:ada group:berlin group:rome"});
    rig.say(client, &json!({"type": "$refresh", "payload": token, "metadata": {"id": 1}}));
    let heard = rig.hear(client);
    assert_eq!(joined(&heard), ["$group/rome"]);
    let left: Vec<_> = heard.iter().filter(|message| message["type"] == "$left").collect();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0]["payload"]["reason"], "group");
    assert_eq!(left[0]["metadata"]["room"], "$group/staff");
}

// [1.name.ids] [3.guest.id]
#[test]
fn a_token_with_a_user_or_group_that_cannot_be_is_refused() {
    let long = "x".repeat(97);
    for token in [
        "user:guest:ada".to_owned(),
        "user:a/b".to_owned(),
        "user:ada group:a/b".to_owned(),
        format!("user:{long}"),
        format!("user:ada group:{long}"),
        format!("user:ada {}", (0..101).map(|n| format!("group:{n} ")).collect::<String>()),
    ] {
        let mut rig = Rig::new(config());
        let (_, heard) = rig.hello(&json!({"token": token}));
        assert_eq!(heard[0]["payload"]["name"], "unauthenticated", "{token}");
        assert_eq!(heard[1]["closed"], 4001, "{token}");
    }
}

// [4.refresh] [6.back] [3.refresh]
#[test]
fn a_fresh_token_is_asked_for_a_minute_ahead_and_expiry_is_4102() {
    let mut rig = Rig::new(config());
    let mut config_ms = START_MS + 300_000;
    let (client, heard) = rig.hello(&json!({"token": format!("user:ada expires:{config_ms}")}));
    assert_eq!(heard[0]["payload"]["expires_at"], "2023-11-14T22:18:20.000Z");
    keep_alive(&mut rig, client, 239_999);
    assert_eq!(rig.hear(client), Vec::<Value>::new());
    keep_alive(&mut rig, client, 1);
    let heard = rig.hear(client);
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert_eq!(heard[0]["type"], "$refresh");
    assert_eq!(heard[0]["payload"], json!({"expires_at": "2023-11-14T22:18:20.000Z"}));
    // A new one moves both.
    config_ms += 100_000;
    let token = json!({"token": format!("user:ada expires:{config_ms}")});
    let reply = rig.ask(client, "$refresh", &token, &json!({}));
    assert_eq!(reply["payload"]["expires_at"], "2023-11-14T22:20:00.000Z");
    keep_alive(&mut rig, client, 99_999);
    assert!(rig.hear(client).is_empty());
    keep_alive(&mut rig, client, 1);
    assert_eq!(rig.hear(client)[0]["type"], "$refresh");
    keep_alive(&mut rig, client, 59_999);
    assert!(rig.hear(client).is_empty(), "told once");
    keep_alive(&mut rig, client, 1);
    assert_eq!(rig.hear(client), [json!({"closed": 4102})]);
}

// [3.refresh] [3.refresh.never]
#[test]
fn a_fresh_token_must_be_the_same_users() {
    let mut rig = Rig::new(config());
    let (client, _) = rig.hello(&json!({"token": "user:ada"}));
    let answer = rig.ask(client, "$refresh", &json!({"token": "user:bob"}), &json!({}));
    assert_eq!(answer["payload"]["name"], "forbidden");
    let answer = rig.ask(client, "$refresh", &json!({"token": "nonsense"}), &json!({}));
    assert_eq!(answer["payload"]["name"], "unauthenticated");
    let reply = rig.ask(client, "$refresh", &json!({"token": "user:ada"}), &json!({}));
    assert_eq!(reply["payload"], json!({}), "it never expires");
}

// [3.ticket]
#[test]
fn a_ticket_ends_with_its_token() {
    let mut rig = Rig::new(config());
    let expires = START_MS + 30_000;
    let (client, heard) = rig.hello(&json!({"token": format!("user:ada expires:{expires}")}));
    assert_eq!(heard[0]["payload"]["ticket_ttl_ms"], 30_000);
    let ticket = heard[0]["payload"]["ticket"].clone();
    rig.break_off(client);
    rig.pass(30_000);
    let (_, again) = rig.hello(&json!({"ticket": ticket}));
    assert_eq!(again[0]["payload"]["resumed"], false);
}

/// A rig whose rooms' settings decide, and not the rig.
fn decided() -> Rig {
    let mut rig = Rig::new(config());
    rig.effects.permissions = Some(config());
    rig
}

/// The name of the error that a command is answered by, or its type if it is none.
fn outcome(rig: &mut Rig, client: rig::Client, kind: &str, room: &str) -> String {
    let answer = rig.ask(client, kind, &json!({"limit": 1}), &json!({"room": room}));
    answer["payload"]["name"].as_str().or(answer["type"].as_str()).unwrap().to_owned()
}

// [3.may.list] [3.ticket] [3.resume]
#[test]
fn a_token_confines_its_session_and_its_ticket_does() {
    let mut rig = decided();
    let token = "user:ada room:chat/**=join,publish room:$user/bob=publish";
    let (client, heard) = rig.hello(&json!({"token": token}));
    assert_eq!(joined(&heard), ["$user/ada"], "its own room is none of the list's affair");
    let rooms = json!({"chat/1": {}, "news": {}, "chat/2": {"members": true}});
    let ticket = heard[0]["payload"]["ticket"].clone();
    for (kind, room, expected) in [
        ("$join", "chat/1", "$reply"),
        ("$history", "chat/1", "forbidden"),
        ("$join", "news", "forbidden"),
        ("m", "news", "forbidden"),
        ("m", "chat/2", "$reply"),
        ("m", "$user/bob", "$reply"),
        ("m", "$user/eve", "forbidden"),
        ("$history", "$user/ada", "$reply"),
    ] {
        assert_eq!(outcome(&mut rig, client, kind, room), expected, "{kind} {room}");
    }
    rig.break_off(client);
    let (_, again) = rig.hello(&json!({"ticket": ticket, "rooms": rooms}));
    assert_eq!(again[0]["payload"]["resumed"], true);
    assert_eq!(joined(&again), ["$user/ada", "chat/1"]);
    let refused = again.iter().filter(|message| message["type"] == "$error");
    let refused: Vec<_> = refused.map(|message| &message["metadata"]["room"]).collect();
    assert_eq!(refused, ["chat/2", "news"], "`members: true` needs `members`");
}

// [3.refresh.grants] [3.refresh.left] [4.left]
#[test]
fn what_a_fresh_token_grants_holds_at_once() {
    let mut rig = decided();
    let (client, heard) = rig.hello(&json!({"token": "user:ada rooms:1 publish_per_s:7"}));
    let limits = &heard[0]["payload"]["limits"];
    assert_eq!((&limits["rooms"], &limits["publish_per_s"]), (&json!(1), &json!(7)));
    assert_eq!(outcome(&mut rig, client, "$join", "a"), "$reply");
    assert_eq!(outcome(&mut rig, client, "$join", "b"), "rate_limited");
    let refresh = |rig: &mut Rig, token: &str| {
        rig.say(client, &json!({"type": "$refresh", "payload": {"token": token}}));
        rig.hear(client)
    };
    assert_eq!(refresh(&mut rig, "user:ada publish_per_s:1"), Vec::<Value>::new());
    assert_eq!(outcome(&mut rig, client, "$join", "b"), "$reply");
    assert_eq!(outcome(&mut rig, client, "m", "b"), "$reply");
    assert_eq!(outcome(&mut rig, client, "m", "b"), "rate_limited");
    let heard = refresh(&mut rig, "user:ada room:b=join");
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert_eq!(heard[0]["type"], "$left");
    assert_eq!(heard[0]["payload"]["reason"], "forbidden");
    assert_eq!(heard[0]["metadata"]["room"], "a");
    rig.broadcast("a", 1);
    rig.broadcast("b", 1);
    let heard = rig.hear(client);
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert_eq!(heard[0]["metadata"]["room"], "b");
}

// [3.refresh.left]
#[test]
fn a_join_under_way_and_a_late_verdict_are_seen_to_after_a_refresh() {
    let mut rig = decided();
    let (client, _) = rig.hello(&json!({"token": "user:ada"}));
    // The store has not said yet where the log of the room stands.
    rig.effects.held = Some(std::collections::VecDeque::new());
    rig.say(client, &json!({"type": "$join", "metadata": {"room": "a", "id": 1}}));
    rig.say(client, &json!({"type": "$refresh", "payload": {"token": "user:ada room:b=join"}}));
    assert_eq!(rig.hear(client), Vec::<Value>::new());
    rig.effects.late = Some(Vec::new());
    rig.stored(None);
    let heard = rig.hear(client);
    assert_eq!(heard[0]["type"], "$reply");
    let questions = rig.effects.late.take().unwrap();
    rig.decide(client, questions[0], clarion_engine::effects::Verdict::Deny);
    let heard = rig.hear(client);
    assert_eq!(heard[0]["type"], "$left", "{heard:?}");
    assert_eq!(heard[0]["payload"]["reason"], "forbidden");
}

// [3.resume.token]
#[test]
fn a_token_of_the_handshake_beside_a_ticket_must_name_its_user() {
    let mut rig = Rig::new(config());
    for (brought, resumed, user) in [("user:ada", true, "ada"), ("user:bob", false, "bob")] {
        let (client, heard) = rig.hello(&json!({"token": "user:ada"}));
        let ticket = heard[0]["payload"]["ticket"].clone();
        rig.break_off(client);
        let client = rig.open_with(true, Some(brought));
        rig.say(client, &json!({"type": "$hello", "payload": {"ticket": ticket}}));
        let welcome = rig.hear(client)[0]["payload"].clone();
        assert_eq!((&welcome["resumed"], &welcome["user"]), (&json!(resumed), &json!(user)));
    }
}

// [3.may.size]
#[test]
fn a_token_that_no_ticket_could_repeat_is_refused() {
    let pattern = |n: usize, size: usize| format!("room:{:x<size$}=join ", format!("r{n}"));
    let rooms =
        |count: usize, size: usize| (0..count).map(|n| pattern(n, size)).collect::<String>();
    for (rooms, good) in [
        (rooms(100, 20), true),
        (rooms(101, 20), false),
        (rooms(64, 126), true),
        (rooms(65, 126), false),
    ] {
        let mut rig = Rig::new(config());
        let (_, heard) = rig.hello(&json!({"token": format!("user:ada {rooms}")}));
        if good {
            let ticket = heard[0]["payload"]["ticket"].as_str().unwrap();
            assert!(ticket.len() < 12_000, "{} bytes", ticket.len());
        } else {
            assert_eq!(heard[0]["payload"]["name"], "unauthenticated");
            assert_eq!(heard[1]["closed"], 4001);
        }
    }
}

// [3.may.content]
#[test]
fn a_room_takes_its_types_and_sizes_from_everybody() {
    let mut config = config();
    config.rooms[0].settings.types = Some(["m".into()].into());
    config.rooms[0].settings.payload_bytes = Some(10);
    let mut rig = Rig::new(config);
    let client = rig.guest_in("live/1", &json!({}));
    let room = json!({"room": "live/1"});
    let answer = rig.ask(client, "m", &json!("12345678"), &room);
    assert_eq!(answer["type"], "$reply");
    let answer = rig.ask(client, "m", &json!("123456789"), &room);
    let wrong = &answer["payload"];
    assert_eq!((&wrong["code"], &wrong["limit"]), (&json!(413), &json!(10)));
    let answer = rig.ask(client, "n", &json!(1), &room);
    let wrong = &answer["payload"];
    assert_eq!((&wrong["code"], &wrong["name"]), (&json!(422), &json!("schema")));
    assert_eq!(wrong["field"], "type");
    let answer = rig.broadcast("live/1", 12_345_678_901);
    assert!(matches!(answer, ApiAnswer::Refused(refusal) if refusal.limit == Some(10)));
}

/// Lets time pass for a client that has something to say now and then.
fn keep_alive(rig: &mut Rig, client: rig::Client, ms: u64) {
    let mut left = ms;
    while left > 0 {
        rig.ask(client, "$ping", &json!(0), &json!({}));
        let step = left.min(20_000);
        rig.pass(step);
        left -= step;
    }
}
