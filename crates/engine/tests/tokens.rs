//! What a token says, for as long as it is good: user, groups, expiry.

mod rig;

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
