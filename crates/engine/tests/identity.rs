//! Who somebody is: tokens of all kinds, tickets, and what `$welcome` says of them.

mod rig;

use clarion_engine::config::{Access, Config, Permissions, RoomRule, RoomSettings};
use clarion_engine::effects::{AuthOutcome, Grants};
use clarion_protocol::Pattern;
use rig::{Rig, config};
use serde_json::{Value, json};

/// Makes a token good for so long.
fn token(rig: &mut Rig, text: &str, user: &str, info: Option<&str>, for_ms: u64) {
    let expires_at_ms = Some(rig.effects.now.wall_ms + for_ms);
    let outcome = AuthOutcome::User {
        user: user.into(),
        info: info.map(Into::into),
        grants: Grants::default(),
        issued_at_ms: 0,
        expires_at_ms,
    };
    rig.effects.tokens.push((text.into(), outcome));
}

fn welcome(heard: &[Value]) -> &Value {
    assert_eq!(heard[0]["type"], "$welcome", "{heard:?}");
    &heard[0]["payload"]
}

// [3.credentials.order]
#[test]
fn the_token_of_hello_is_over_that_of_the_handshake() {
    let mut rig = Rig::new(config());
    for (hello, user) in [(json!({"token": "user:ada"}), "ada"), (json!({}), "bob")] {
        let client = rig.open_with(true, Some("user:bob"));
        rig.say(client, &json!({"type": "$hello", "payload": hello}));
        assert_eq!(welcome(&rig.hear(client))["user"], user);
    }
    // Without subprotocol the handshake's is all there is.
    let client = rig.open_with(false, Some("user:bob"));
    assert_eq!(welcome(&rig.hear(client))["user"], "bob");
    // And where it is invalid nobody is a guest for it.
    let client = rig.open_with(true, Some("stolen"));
    rig.say(client, &json!({"type": "$hello"}));
    assert_eq!(rig.hear(client)[1]["closed"], 4001);
}

// [3.session.client]
#[test]
fn a_client_id_is_stable_public_and_no_credential() {
    let mut rig = Rig::new(config());
    let (client, heard) = rig.hello(&json!({}));
    let id = welcome(&heard)["client"].as_str().unwrap().to_owned();
    assert_eq!(id.len(), 22);
    let mut ticket = welcome(&heard)["ticket"].clone();
    rig.break_off(client);
    for _ in 0..3 {
        let (client, heard) = rig.hello(&json!({"ticket": ticket}));
        assert_eq!(welcome(&heard)["client"], *id);
        ticket = welcome(&heard)["ticket"].clone();
        rig.break_off(client);
    }
    let (_, heard) = rig.hello(&json!({"ticket": id}));
    assert_eq!(welcome(&heard)["resumed"], false);
    assert_ne!(welcome(&heard)["client"], *id);
}

// [3.ticket] [4.welcome]
#[test]
fn a_ticket_is_good_no_longer_than_the_token_it_came_with() {
    let mut rig = Rig::new(config());
    token(&mut rig, "t", "ada", None, 10_000);
    let (client, heard) = rig.hello(&json!({"token": "t"}));
    assert_eq!(welcome(&heard)["ticket_ttl_ms"], 10_000);
    assert_eq!(welcome(&heard)["expires_at"], "2023-11-14T22:13:30.000Z");
    let ticket = welcome(&heard)["ticket"].clone();
    rig.break_off(client);
    rig.pass(9_999);
    let (client, heard) = rig.hello(&json!({"ticket": ticket}));
    assert_eq!(
        (&welcome(&heard)["resumed"], &welcome(&heard)["ticket_ttl_ms"]),
        (&json!(true), &json!(1))
    );
    // A resumed session ends with its token as well.
    rig.pass(1);
    assert_eq!(rig.hear(client).last(), Some(&json!({"closed": 4102})));
    let (_, heard) = rig.hello(&json!({"ticket": ticket}));
    assert_eq!(welcome(&heard)["resumed"], false);
    assert!(welcome(&heard)["user"].as_str().unwrap().starts_with("guest:"));
}

/// Settings in which nobody may join this room.
fn closed(room: &str) -> Config {
    let permissions = Permissions::new(Access::Nobody, Access::Nobody);
    let settings =
        RoomSettings { log: None, presence: false, permissions, ..RoomSettings::default() };
    let rooms = vec![RoomRule { pattern: Pattern::parse(room).unwrap(), settings }];
    Config { rooms, ..config() }
}

// [3.resume]
#[test]
fn resuming_asks_for_no_token_and_for_every_permission_again() {
    let mut rig = Rig::new(config());
    let (client, heard) = rig.hello(&json!({"token": "user:ada"}));
    for room in ["a", "b"] {
        let joined = rig.ask(client, "$join", &json!({}), &json!({"room": room}));
        assert_eq!(joined["type"], "$reply");
    }
    rig.break_off(client);
    rig.effects.permissions = Some(closed("b"));
    let rooms = json!({"a": {}, "b": {}});
    let ticket = &welcome(&heard)["ticket"];
    let (_, again) = rig.hello(&json!({"ticket": ticket, "rooms": rooms}));
    assert_eq!(welcome(&again)["resumed"], true);
    let of = |room: &str| {
        let found = again.iter().find(|message| message["metadata"]["room"] == room);
        found.unwrap_or_else(|| panic!("nothing of {room}")).clone()
    };
    assert_eq!(of("a")["type"], "$joined");
    assert_eq!(
        (&of("b")["type"], &of("b")["payload"]["name"]),
        (&json!("$error"), &json!("forbidden"))
    );
    assert_eq!(of("b")["metadata"], json!({"room": "b"}));
}

// [3.own] [2.publication] [4.entry.bytes]
#[test]
fn who_a_token_says_one_is_is_told_to_others_as_it_came() {
    let mut rig = Rig::new(config());
    let info = r#"{ "name":"Ada",  "n":1e400 }"#;
    token(&mut rig, "t", "ada", Some(info), 60_000);
    let (ada, heard) = rig.hello(&json!({"token": "t"}));
    let id = welcome(&heard)["client"].clone();
    let (watcher, _) = rig.hello(&json!({"token": "user:bob"}));
    rig.ask(watcher, "$join", &json!({"members": true}), &json!({"room": "a"}));
    rig.ask(ada, "$join", &json!({}), &json!({"room": "a"}));
    rig.say_text(ada, r#"{"type":"$state","payload":{ "x" :1},"metadata":{"room":"a"}}"#);
    rig.say(ada, &json!({"type": "m", "payload": 1, "metadata": {"room": "a"}}));
    rig.pass(250);
    let texts = rig.texts(watcher);
    let from = format!(r#""from":{{"client":{id},"user":"ada","info":{info}}}"#);
    assert!(texts.iter().any(|text| text.contains(&from)), "{texts:?}");
    let entry = format!(r#"{{"client":{id},"user":"ada","info":{info},"state":{{ "x" :1}}}}"#);
    assert!(texts.iter().any(|text| text.contains(&entry)), "{texts:?}");
    // Its own publication came to her as well.
    let own = rig.texts(ada);
    assert!(own.is_empty() || own.iter().any(|text| text.contains(&from)), "{own:?}");
}

// [3.members.count] [4.members.sessions]
#[test]
fn two_sessions_of_one_user_are_two_members_and_one_user() {
    let mut rig = Rig::new(config());
    let watcher = rig.guest_in("a", &json!({"members": true}));
    for _ in 0..2 {
        let (client, _) = rig.hello(&json!({"token": "user:ada"}));
        rig.ask(client, "$join", &json!({}), &json!({"room": "a"}));
    }
    let page = rig.ask(watcher, "$members", &json!({"limit": 1}), &json!({"room": "a"}));
    assert_eq!((&page["payload"]["count"], &page["payload"]["users"]), (&json!(3), &json!(2)));
    assert_eq!(page["payload"]["members"].as_array().unwrap().len(), 1);
    rig.pass(250);
    let told = rig.hear(watcher);
    let told = told.iter().rfind(|message| message["type"] == "$members").unwrap();
    let of_ada: Vec<_> = told["payload"]["joined"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|entry| entry["user"] == "ada")
        .collect();
    assert_eq!(of_ada.len(), 2);
    assert_ne!(of_ada[0]["client"], of_ada[1]["client"]);
    assert_eq!((&told["payload"]["count"], &told["payload"]["users"]), (&json!(3), &json!(2)));
}
