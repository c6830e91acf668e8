//! Rooms as logs: positions, pages, keys, and a store that is slow, fails or loses a log.

mod rig;

use clarion_protocol::RoomName;
use clarion_store::StoreError;
use rig::{Client, Rig, config};
use serde_json::{Value, json};
use std::collections::VecDeque;

fn publish(rig: &mut Rig, client: Client, n: u64) -> Value {
    rig.ask(client, "m", &json!(n), &json!({"room": "a"}))["payload"].clone()
}

fn offsets(publications: &[Value]) -> Vec<u64> {
    publications.iter().filter_map(|message| message["metadata"]["offset"].as_u64()).collect()
}

// [2.time]
#[test]
fn times_repeat_and_go_back_and_offsets_do_neither() {
    let mut rig = Rig::new(config());
    let client = rig.guest_in("a", &json!({}));
    let first = publish(&mut rig, client, 1);
    let same = publish(&mut rig, client, 2);
    rig.effects.now.wall_ms -= 3_600_000;
    let before = publish(&mut rig, client, 3);
    assert_eq!(first["time"], same["time"]);
    assert!(before["time"].as_str() < same["time"].as_str());
    assert_eq!([&first, &same, &before].map(|reply| reply["offset"].as_u64()), [1, 2, 3].map(Some));
}

// [3.count.more] [3.history] [3.history.bounds]
#[test]
fn more_than_a_page_is_given_by_pages() {
    let mut config = config();
    config.limits.page = 3;
    let mut rig = Rig::new(config);
    let client = rig.guest_in("a", &json!({}));
    let epoch = publish(&mut rig, client, 1)["epoch"].clone();
    (2..=7).for_each(|n| drop(publish(&mut rig, client, n)));
    let (mut seen, mut after) = (Vec::new(), 0);
    loop {
        let payload =
            json!({"after": {"epoch": epoch, "offset": after}, "limit": 9_007_199_254_740_991u64});
        let page = rig.ask(client, "$history", &payload, &json!({"room": "a"}))["payload"].clone();
        let found = offsets(page["publications"].as_array().unwrap());
        assert!(found.len() <= 3);
        seen.extend(found);
        after = *seen.last().unwrap();
        if page["more"] == false {
            break;
        }
    }
    assert_eq!(seen, (1..=7).collect::<Vec<_>>());
    for payload in
        [json!({"limit": 3}), json!({"before": {"epoch": epoch, "offset": 8}, "limit": 99})]
    {
        let page = rig.ask(client, "$history", &payload, &json!({"room": "a"}))["payload"].clone();
        assert_eq!(offsets(page["publications"].as_array().unwrap()), [5, 6, 7]);
        assert_eq!(page["more"], true);
    }
    let both = json!({"after": {"epoch": epoch, "offset": 1}, "before": {"epoch": epoch, "offset": 3}, "limit": 1});
    let refused = rig.ask(client, "$history", &both, &json!({"room": "a"}));
    assert_eq!(refused["payload"]["name"], "bad_request");
}

// [3.history.bytes]
#[test]
fn a_page_of_history_ends_by_bytes_and_has_at_least_one() {
    let mut config = config();
    config.limits.delivery_bytes = 4_000;
    let mut rig = Rig::new(config);
    let client = rig.guest_in("a", &json!({}));
    for _ in 0..6 {
        rig.ask(client, "m", &json!("x".repeat(1_500)), &json!({"room": "a"}));
    }
    rig.ask(client, "m", &json!("x".repeat(3_500)), &json!({"room": "a"}));
    let page = |rig: &mut Rig, limit: u64| {
        let reply = rig.ask(client, "$history", &json!({"limit": limit}), &json!({"room": "a"}));
        let publications = reply["payload"]["publications"].as_array().unwrap().clone();
        (offsets(&publications), reply["payload"]["more"].clone())
    };
    assert_eq!(page(&mut rig, 9), (vec![7], json!(true)));
    let payload = json!({"before": {"epoch": "e", "offset": 1}, "limit": 1});
    let epoch =
        rig.ask(client, "$history", &payload, &json!({"room": "a"}))["payload"]["epoch"].clone();
    let payload = json!({"after": {"epoch": epoch, "offset": 0}, "limit": 9});
    let reply = rig.ask(client, "$history", &payload, &json!({"room": "a"}))["payload"].clone();
    assert_eq!(offsets(reply["publications"].as_array().unwrap()), [1, 2]);
    assert_eq!(reply["more"], true);
}

// [3.history.reply]
#[test]
fn history_says_where_the_log_stands_and_begins() {
    let mut rig = Rig::new(config());
    let (client, _) = rig.hello(&json!({}));
    let stand = |rig: &mut Rig| {
        let reply = rig.ask(client, "$history", &json!({"limit": 0}), &json!({"room": "short"}));
        (reply["payload"]["offset"].clone(), reply["payload"]["first"].clone())
    };
    assert_eq!(stand(&mut rig), (json!(0), json!(1)), "head + 1 where there is none");
    for _ in 0..5 {
        rig.ask(client, "m", &json!(1), &json!({"room": "short"}));
    }
    assert_eq!(stand(&mut rig), (json!(5), json!(3)), "three are kept");
}

// [4.gap.epoch] [5.1.epoch] [5.1.place] [1.room.log]
#[test]
fn members_hear_of_a_lost_log_before_anything_of_the_new_one() {
    let mut rig = Rig::new(config());
    let members = [rig.guest_in("a", &json!({})), rig.guest_in("a", &json!({}))];
    let old = publish(&mut rig, members[0], 1);
    members.iter().for_each(|member| drop(rig.hear(*member)));
    rig.effects.store.lose(&RoomName::parse("a").unwrap());
    rig.say(members[0], &json!({"type": "m", "payload": 2, "metadata": {"room": "a"}}));
    for member in members {
        let heard = rig.hear(member);
        assert_eq!(heard[0]["type"], "$gap", "{heard:?}");
        assert_eq!(heard[0]["metadata"], json!({"room": "a"}));
        let gap = &heard[0]["payload"];
        assert_eq!((&gap["reason"], &gap["offset"]), (&json!("epoch"), &json!(0)));
        assert_ne!(gap["epoch"], old["epoch"]);
        assert_eq!(heard[1]["metadata"]["epoch"], gap["epoch"]);
        assert_eq!(heard[1]["metadata"]["offset"], 1);
    }
}

// [5.3] [3.publish]
#[test]
fn nobody_sees_a_publication_before_the_store_has_it() {
    let mut rig = Rig::new(config());
    let publisher = rig.guest_in("a", &json!({}));
    let member = rig.guest_in("a", &json!({}));
    rig.effects.held = Some(VecDeque::new());
    rig.say(publisher, &json!({"type": "m", "payload": 1, "metadata": {"room": "a", "id": 1}}));
    rig.pass(1_000);
    assert!(rig.hear(publisher).is_empty() && rig.hear(member).is_empty());
    rig.stored(None);
    let heard = rig.hear(publisher);
    let reply = heard.iter().find(|message| message["type"] == "$reply").expect("a reply");
    assert_eq!(reply["payload"]["offset"], 1);
    assert_eq!(rig.hear(member)[0]["payload"], 1);
}

// [5.4.unknown] [6.temporary]
#[test]
fn an_unknown_outcome_is_temporary_and_safe_to_repeat_with_the_key() {
    let mut rig = Rig::new(config());
    let client = rig.guest_in("a", &json!({}));
    let message =
        json!({"type": "m", "payload": 1, "metadata": {"room": "a", "id": 1, "key": "k"}});
    rig.effects.held = Some(VecDeque::new());
    rig.say(client, &message);
    // It was stored, and the answer was lost.
    rig.stored(Some(StoreError::Unknown));
    let heard = rig.hear(client);
    let error = heard.iter().find(|message| message["type"] == "$error").expect("an error");
    assert_eq!(
        (&error["payload"]["code"], &error["payload"]["temporary"]),
        (&json!(503), &json!(true))
    );
    // It is kept, so members see it, whether or not anybody repeats it.
    assert_eq!(offsets(&heard), [1]);
    rig.say(client, &message);
    let again = rig.hear(client);
    let reply = again.iter().find(|message| message["type"] == "$reply").expect("a reply");
    assert_eq!(reply["payload"]["offset"], 1);
    assert_eq!(reply["payload"]["duplicate"], true);
    assert!(offsets(&again).is_empty(), "once");
    let page = rig.ask(client, "$history", &json!({"limit": 9}), &json!({"room": "a"}));
    assert_eq!(page["payload"]["publications"].as_array().unwrap().len(), 1);
}

// [5.4.failure] [5.4.flight]
#[test]
fn who_waits_for_the_same_key_gets_its_result_and_failure_frees_it() {
    let mut rig = Rig::new(config());
    let client = rig.guest_in("a", &json!({}));
    let say = |rig: &mut Rig, id: u64| {
        rig.say(
            client,
            &json!({"type": "m", "payload": id, "metadata": {"room": "a", "id": id, "key": "k"}}),
        );
    };
    rig.effects.held = Some(VecDeque::new());
    say(&mut rig, 1);
    say(&mut rig, 2);
    assert!(rig.hear(client).is_empty(), "the second waits");
    rig.stored(Some(StoreError::Unavailable));
    let heard = rig.hear(client);
    let names: Vec<_> = heard.iter().map(|message| &message["payload"]["name"]).collect();
    assert_eq!(names, ["unavailable", "unavailable"]);
    say(&mut rig, 3);
    let heard = rig.hear(client);
    let reply = heard.iter().find(|message| message["type"] == "$reply").expect("a reply");
    assert_eq!((&reply["payload"]["offset"], reply["payload"].get("duplicate")), (&json!(1), None));
}

// [5.4.key]
#[test]
fn a_key_is_remembered_for_five_minutes() {
    let mut rig = Rig::new(config());
    let (client, _) = rig.hello(&json!({"token": "user:ada"}));
    let say = |rig: &mut Rig| {
        let metadata = json!({"room": "a", "key": "k"});
        rig.ask(client, "m", &json!(1), &metadata)["payload"]["offset"].as_u64()
    };
    assert_eq!(say(&mut rig), Some(1));
    rig.effects.now.wall_ms += 299_999;
    assert_eq!(say(&mut rig), Some(1));
    rig.effects.now.wall_ms += 2;
    assert_eq!(say(&mut rig), Some(2));
}
