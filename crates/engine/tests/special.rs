//! Rooms with `$`: who is in them, who hears what, and what they keep.

mod rig;

use clarion_engine::config::{RoomRule, RoomSettings};
use clarion_engine::mail::{ApiAnswer, ApiRequest};
use clarion_protocol::Pattern;
use clarion_store::LogLimits;
use rig::{Client, Rig, config};
use serde_json::{Value, json};

fn published(answer: ApiAnswer) -> (Option<u64>, u64) {
    match answer {
        ApiAnswer::Published { position, members, .. } => (position.map(|at| at.offset), members),
        other => panic!("{other:?}"),
    }
}

fn payloads(heard: &[Value]) -> Vec<u64> {
    heard.iter().filter(|m| m["type"] == "m").filter_map(|m| m["payload"].as_u64()).collect()
}

fn user(rig: &mut Rig, payload: &Value) -> (Client, Vec<Value>) {
    let mut payload = payload.clone();
    payload["token"] = json!("user:ada");
    rig.hello(&payload)
}

// [1.user.publish] [4.joined]
#[test]
fn a_users_room_reaches_all_their_devices_and_nobody_else() {
    let mut rig = Rig::new(config());
    let (phone, heard) = user(&mut rig, &json!({}));
    let joined = heard.iter().find(|message| message["type"] == "$joined").expect("told");
    assert_eq!(joined["metadata"], json!({"room": "$user/ada"}));
    assert_eq!((&joined["payload"]["offset"], &joined["payload"]["from"]), (&json!(0), &json!(1)));
    let (laptop, _) = user(&mut rig, &json!({}));
    let (other, _) = rig.hello(&json!({"token": "user:bob"}));
    assert_eq!(published(rig.broadcast("$user/ada", 7)), (Some(1), 2));
    for (client, wanted) in [(phone, vec![7]), (laptop, vec![7]), (other, vec![])] {
        assert_eq!(payloads(&rig.hear(client)), wanted);
    }
}

// [1.special.leave] [1.special.refused] [1.special.join]
#[test]
fn what_the_server_joined_no_client_leaves() {
    let mut rig = Rig::new(config());
    let (client, _) = user(&mut rig, &json!({}));
    for room in ["$user/ada", "$user/bob", "$all", "$group/staff"] {
        for command in ["$leave", "$join"] {
            let refused = rig.ask(client, command, &json!({}), &json!({"room": room}));
            let found = (&refused["payload"]["code"], &refused["payload"]["name"]);
            assert_eq!(found, (&json!(400), &json!("bad_room")), "{command} {room}");
        }
    }
    rig.broadcast("$user/ada", 1);
    assert_eq!(payloads(&rig.hear(client)), [1]);
}

// [5.7.keeps] [5.7.resume] [5.7.once] [3.resume.user] [3.hello.special] [1.user.queue]
#[test]
fn a_users_log_keeps_what_came_while_nobody_was_there() {
    let mut rig = Rig::new(config());
    let (client, heard) = user(&mut rig, &json!({}));
    let epoch = heard.iter().find_map(|m| m["payload"]["epoch"].as_str()).unwrap().to_owned();
    rig.broadcast("$user/ada", 1);
    assert_eq!(payloads(&rig.hear(client)), [1]);
    rig.break_off(client);
    for n in [2, 3] {
        assert_eq!(published(rig.broadcast("$user/ada", n)), (Some(n), 0));
    }
    // `$` rooms may be named for their positions; what one is not in anyway is not even answered.
    let rooms = json!({
        "$user/ada": {"after": {"epoch": epoch, "offset": 1}},
        "$user/bob": {}, "$all": {}, "$group/staff": {}, "$client/AAAAAAAAAAAAAAAAAAAAAA": {},
    });
    let (client, heard) = user(&mut rig, &json!({"rooms": rooms}));
    let told: Vec<_> = heard.iter().filter(|m| m["type"] != "m").map(|m| &m["type"]).collect();
    assert_eq!(told, ["$welcome", "$joined"]);
    assert_eq!(heard[1]["payload"]["recovered"], true);
    assert_eq!(heard[1]["payload"]["from"], 2);
    rig.broadcast("$user/ada", 4);
    let live = rig.hear(client);
    assert_eq!([payloads(&heard), payloads(&live)].concat(), [2, 3, 4], "each once");
    // Whatever that device saw, another resumes where it was itself.
    let rooms = json!({"$user/ada": {"after": {"epoch": epoch, "offset": 0}}});
    let (_, heard) = user(&mut rig, &json!({"rooms": rooms}));
    assert_eq!(payloads(&heard), [1, 2, 3, 4]);
}

// [5.7.limits]
#[test]
fn a_users_log_is_bounded_and_says_what_it_lost() {
    let mut config = config();
    config.limits.outbox_bytes = 2_000;
    config.rooms.push(RoomRule {
        pattern: Pattern::parse("$user/*").unwrap(),
        settings: RoomSettings {
            log: Some(LogLimits { size: 3, age_ms: 10_000, ..LogLimits::default() }),
            presence: false,
            ..RoomSettings::default()
        },
    });
    let mut rig = Rig::new(config);
    let (client, heard) = user(&mut rig, &json!({}));
    let epoch = heard.iter().find_map(|m| m["payload"]["epoch"].as_str()).unwrap().to_owned();
    rig.effects.deaf.push(client);
    for n in 1..=50 {
        rig.broadcast("$user/ada", n);
    }
    rig.listen(client);
    let heard = rig.hear(client);
    let gap = heard.iter().position(|m| m["type"] == "$gap").expect("a gap");
    let payload = &heard[gap]["payload"];
    assert_eq!((&payload["reason"], &payload["offset"]), (&json!("trimmed"), &json!(47)));
    assert_eq!(payloads(&heard[gap..]), [48, 49, 50]);
    rig.break_off(client);
    let history = |rig: &mut Rig| {
        let (client, _) = user(rig, &json!({}));
        let page = rig.ask(client, "$history", &json!({"limit": 9}), &json!({"room": "$user/ada"}));
        rig.break_off(client);
        page["payload"]["publications"].as_array().unwrap().len()
    };
    assert_eq!(history(&mut rig), 3);
    rig.pass(10_001);
    assert_eq!(history(&mut rig), 0);
    let after = json!({"after": {"epoch": epoch, "offset": 48}});
    let (_, heard) = user(&mut rig, &json!({"rooms": {"$user/ada": after}}));
    assert_eq!(heard[1]["payload"]["recovered"], false);
}

// [5.7.guest] [5.7.guest-room] [3.guest.id]
#[test]
fn a_guests_room_is_an_address_of_that_session_and_keeps_nothing() {
    let mut rig = Rig::new(config());
    let (client, heard) = rig.hello(&json!({}));
    let id = heard[0]["payload"]["client"].as_str().unwrap().to_owned();
    let room = format!("$user/guest:{id}");
    assert_eq!(heard[0]["payload"]["user"], format!("guest:{id}"));
    assert_eq!(heard[1], json!({"type": "$joined", "payload": {}, "metadata": {"room": room}}));
    let (another, _) = rig.hello(&json!({}));
    assert_eq!(published(rig.broadcast(&room, 1)), (None, 1));
    assert_eq!(payloads(&rig.hear(client)), [1]);
    assert!(rig.hear(another).is_empty());
    rig.break_off(client);
    assert_eq!(published(rig.broadcast(&room, 2)), (None, 0));
    let ticket = heard[0]["payload"]["ticket"].clone();
    let (_, again) = rig.hello(&json!({"ticket": ticket}));
    assert_eq!(again[0]["payload"]["resumed"], true);
    assert!(payloads(&again).is_empty(), "nothing was kept");
    assert_eq!(rig.effects.store.rooms().count(), 0, "it costs no log");
}

// [1.all.publish] [1.client.publish]
#[test]
fn everybody_hears_all_and_one_connection_its_own() {
    let mut rig = Rig::new(config());
    let (ada, heard) = user(&mut rig, &json!({}));
    let guest = rig.guest_in("a", &json!({}));
    assert_eq!(published(rig.broadcast("$all", 1)), (None, 2));
    let id = heard[0]["payload"]["client"].as_str().unwrap();
    assert_eq!(published(rig.broadcast(&format!("$client/{id}"), 2)), (None, 1));
    let heard = rig.hear(ada);
    assert_eq!(payloads(&heard), [1, 2]);
    assert!(heard.iter().all(|message| message["metadata"].get("offset").is_none()));
    assert_eq!(payloads(&rig.hear(guest)), [1]);
    // Nobody joins it, so nobody has a position in it.
    let refused = rig.ask(ada, "$history", &json!({"limit": 1}), &json!({"room": "$all"}));
    assert_eq!(refused["type"], "$error");
}

// [4.groups.restart]
#[test]
fn groups_that_the_api_made_end_with_the_process() {
    let mut rig = Rig::new(config());
    let (group, who) = ("staff".into(), "ada".into());
    rig.api(ApiRequest::Group { group, user: who, member: true });
    let rooms = |heard: &[Value]| -> Vec<Value> {
        let joined = heard.iter().filter(|message| message["type"] == "$joined");
        joined.map(|message| message["metadata"]["room"].clone()).collect()
    };
    let (_, heard) = user(&mut rig, &json!({}));
    assert_eq!(rooms(&heard), ["$user/ada", "$group/staff"]);
    rig.restart(true);
    let (_, heard) = user(&mut rig, &json!({}));
    assert_eq!(rooms(&heard), ["$user/ada"]);
}
