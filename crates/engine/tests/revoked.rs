//! Clients, users and tokens that are revoked: what is closed, and who is let in no more.

mod rig;

use clarion_engine::mail::{ApiAnswer, ApiRequest};
use clarion_engine::revoked::{Span, Subject};
use clarion_protocol::ClientId;
use clarion_store::{Completion, Request, StoreError};
use rig::{Client, Rig, config};
use serde_json::{Value, json};
use std::collections::VecDeque;

/// The wall clock of a new rig.
const START_MS: u64 = 1_700_000_000_000;

fn span() -> Span {
    Span { at_ms: START_MS + 1_000, until_ms: START_MS + 10_000 }
}

fn revoke(rig: &mut Rig, subject: Subject) -> u64 {
    match rig.api(ApiRequest::Revoke { subject, span: span(), keep: true }) {
        ApiAnswer::Count(count) => count,
        other => panic!("{other:?}"),
    }
}

fn user(name: &str) -> Subject {
    Subject::User(name.into())
}

/// A connection, the id of its session, and its ticket.
fn session(rig: &mut Rig, token: &str) -> (Client, ClientId, Value) {
    let (client, heard) = rig.hello(&json!({"token": token}));
    let welcome = &heard[0]["payload"];
    let id = ClientId::parse(welcome["client"].as_str().unwrap()).unwrap();
    (client, id, welcome["ticket"].clone())
}

/// Whether somebody with this `$hello` is welcomed, and whether as the session of before.
fn welcomed(rig: &mut Rig, hello: &Value) -> Option<bool> {
    let (_, heard) = rig.hello(hello);
    if heard[0]["type"] == "$welcome" {
        return heard[0]["payload"]["resumed"].as_bool();
    }
    turned_away(&heard);
    None
}

fn turned_away(heard: &[Value]) {
    let [error, closed] = heard else { panic!("{heard:?}") };
    assert_eq!(error["type"], "$error");
    assert_eq!(
        (&error["payload"]["code"], &error["payload"]["close"]),
        (&json!(401), &json!(4001))
    );
    assert_eq!(error["payload"]["name"], "unauthenticated");
    assert_eq!(closed["closed"], 4001);
}

// [3.revoked.client] [3.revoked.ticket] [3.revoked.closed]
#[test]
fn a_clients_revocation_ends_its_session_and_leaves_its_token() {
    let mut rig = Rig::new(config());
    let (ada, id, ticket) = session(&mut rig, "user:ada");
    let (other, _, others_ticket) = session(&mut rig, "user:ada");
    assert_eq!(revoke(&mut rig, Subject::Client(id)), 1);
    turned_away(&rig.hear(ada));
    assert!(rig.hear(other).is_empty());
    let back = json!({"ticket": ticket, "token": "user:ada"});
    assert_eq!(welcomed(&mut rig, &back), Some(false), "the token makes a new session");
    let (_, heard) = rig.hello(&json!({"ticket": ticket}));
    assert_eq!(heard[0]["payload"]["resumed"], false, "as with one that has expired");
    rig.break_off(other);
    assert_eq!(welcomed(&mut rig, &json!({"ticket": others_ticket})), Some(true));
}

// [3.revoked.user] [3.revoked.ticket] [3.revoked.closed] [3.revoked.refused]
#[test]
fn a_users_revocation_ends_all_that_is_not_newer() {
    let mut rig = Rig::new(config());
    let (old, _, ticket) = session(&mut rig, "user:ada");
    let at = format!("user:ada issued:{}", span().at_ms - 30_000);
    let (second, ..) = session(&mut rig, &at);
    let (bob, _, bobs) = session(&mut rig, "user:bob");
    assert_eq!(revoke(&mut rig, user("ada")), 2);
    turned_away(&rig.hear(old));
    turned_away(&rig.hear(second));
    assert!(rig.hear(bob).is_empty());
    assert_eq!(welcomed(&mut rig, &json!({"token": "user:ada"})), None, "it says no time");
    assert_eq!(welcomed(&mut rig, &json!({"token": at})), None);
    assert_eq!(welcomed(&mut rig, &json!({"ticket": ticket, "token": at})), None);
    let newer = format!("user:ada issued:{}", span().at_ms + 1);
    let (newest, _, fresh) = session(&mut rig, &newer);
    assert_eq!(welcomed(&mut rig, &json!({"ticket": ticket, "token": newer})), Some(false));
    rig.break_off(newest);
    assert_eq!(welcomed(&mut rig, &json!({"ticket": fresh})), Some(true));
    rig.break_off(bob);
    assert_eq!(welcomed(&mut rig, &json!({"ticket": bobs})), Some(true));
}

// [3.revoked.renew]
#[test]
fn a_token_that_may_be_newer_is_to_be_fetched_again_for_a_while() {
    let mut rig = Rig::new(config());
    let at_ms = START_MS + 100_000;
    let span = Span { at_ms, until_ms: at_ms + 100_000 };
    rig.pass(100_000);
    rig.api(ApiRequest::Revoke { subject: user("ada"), span, keep: true });
    let code = |rig: &mut Rig, issued_at_ms: u64| {
        let (_, heard) = rig.hello(&json!({"token": format!("user:ada issued:{issued_at_ms}")}));
        assert_eq!(heard[0]["payload"]["name"], "unauthenticated");
        assert_eq!(heard[0]["payload"]["close"], heard[1]["closed"]);
        heard[1]["closed"].as_u64().unwrap()
    };
    assert_eq!(code(&mut rig, at_ms), 4102);
    assert_eq!(code(&mut rig, at_ms - 29_999), 4102);
    assert_eq!(code(&mut rig, at_ms - 30_000), 4001);
    rig.pass(29_999);
    assert_eq!(code(&mut rig, at_ms), 4102);
    rig.pass(1);
    assert_eq!(code(&mut rig, at_ms), 4001);
    // A token that was revoked by its id is not good however new it is.
    rig.api(ApiRequest::Revoke { subject: Subject::Token("t".into()), span, keep: true });
    let (_, heard) = rig.hello(&json!({"token": format!("user:bob id:t issued:{at_ms}")}));
    assert_eq!(heard[1]["closed"], 4001);
}

// [3.revoked.user]
#[test]
fn a_guest_can_be_revoked_like_a_user() {
    let mut rig = Rig::new(config());
    let (guest, heard) = rig.hello(&json!({}));
    let (other, _) = rig.hello(&json!({}));
    let ticket = &heard[0]["payload"]["ticket"];
    assert_eq!(revoke(&mut rig, user(heard[0]["payload"]["user"].as_str().unwrap())), 1);
    turned_away(&rig.hear(guest));
    assert!(rig.hear(other).is_empty());
    assert_eq!(welcomed(&mut rig, &json!({"ticket": ticket})), Some(false));
}

// [3.revoked.token] [3.revoked.ticket] [3.revoked.refused] [3.ticket]
#[test]
fn a_tokens_revocation_ends_what_came_of_it() {
    let mut rig = Rig::new(config());
    let (ada, _, ticket) = session(&mut rig, "user:ada id:t1");
    let (other, ..) = session(&mut rig, "user:ada id:t2");
    assert_eq!(revoke(&mut rig, Subject::Token("t1".into())), 1);
    turned_away(&rig.hear(ada));
    assert!(rig.hear(other).is_empty());
    assert_eq!(welcomed(&mut rig, &json!({"token": "user:ada id:t1"})), None);
    assert_eq!(welcomed(&mut rig, &json!({"token": "user:bob id:t1"})), None);
    let newer = format!("user:ada id:t1 issued:{}", span().at_ms + 1);
    assert_eq!(welcomed(&mut rig, &json!({"token": newer})), None);
    assert_eq!(welcomed(&mut rig, &json!({"token": "user:ada id:t3"})), Some(false));
    let back = json!({"ticket": ticket, "token": "user:ada id:t3"});
    assert_eq!(welcomed(&mut rig, &back), Some(false));
}

// [3.revoked.refresh]
#[test]
fn a_session_stands_on_the_token_that_it_was_refreshed_with() {
    let mut rig = Rig::new(config());
    let (ada, ..) = session(&mut rig, "user:ada id:t1");
    let refresh =
        |rig: &mut Rig, token: &str| rig.ask(ada, "$refresh", &json!({"token": token}), &json!({}));
    assert_eq!(revoke(&mut rig, Subject::Token("t2".into())), 0);
    let refused = refresh(&mut rig, "user:ada id:t2");
    assert_eq!(refused["payload"]["name"], "unauthenticated");
    assert_eq!(refused["payload"]["field"], "payload.token");
    assert_eq!(refresh(&mut rig, "user:ada id:t3")["type"], "$reply", "the session stays");
    assert_eq!(revoke(&mut rig, Subject::Token("t1".into())), 0, "it left that one behind");
    assert!(rig.hear(ada).is_empty());
    assert_eq!(revoke(&mut rig, Subject::Token("t3".into())), 1);
    turned_away(&rig.hear(ada));
}

// [3.revoked.refused]
#[test]
fn a_void_token_of_the_handshake_is_refused_like_one_of_hello() {
    let mut rig = Rig::new(config());
    assert_eq!(revoke(&mut rig, user("ada")), 0);
    let client = rig.open_with(false, Some("user:ada"));
    turned_away(&rig.hear(client));
    let client = rig.open_with(true, Some("user:ada"));
    rig.say(client, &json!({"type": "$hello", "payload": {}, "metadata": {}}));
    turned_away(&rig.hear(client));
}

// [3.revoked.at-once]
#[test]
fn whose_token_is_still_being_verified_is_revoked_too() {
    let mut rig = Rig::new(config());
    let (ada, _, ticket) = session(&mut rig, "user:ada");
    let (coming, heard) = rig.hello(&json!({"token": "later"}));
    let (resuming, _) = rig.hello(&json!({"token": "later", "ticket": ticket}));
    rig.say(ada, &json!({"type": "$refresh", "payload": {"token": "later"}, "metadata": {}}));
    assert!(heard.is_empty());
    let (bob, _, _) = session(&mut rig, "user:bob");
    rig.say(
        bob,
        &json!({"type": "$refresh", "payload": {"token": "later"}, "metadata": {"id": 1}}),
    );
    assert_eq!(revoke(&mut rig, user("ada")), 2, "with the one whose ticket says who it is");
    turned_away(&rig.hear(ada));
    turned_away(&rig.hear(resuming));
    for client in [coming, resuming, ada, bob] {
        rig.authenticated(client, rig::user_token("ada"));
    }
    turned_away(&rig.hear(coming));
    assert!(rig.hear(resuming).is_empty() && rig.hear(ada).is_empty());
    assert_eq!(rig.hear(bob)[0]["payload"]["name"], "unauthenticated");
}

// [3.revoked.closed]
#[test]
fn presence_ends_with_the_connection() {
    let mut rig = Rig::new(config());
    let (ada, ..) = session(&mut rig, "user:ada");
    rig.ask(ada, "$join", &json!({}), &json!({"room": "a"}));
    let watcher = rig.guest_in("a", &json!({"members": true}));
    revoke(&mut rig, user("ada"));
    rig.break_off(ada);
    rig.pass(250);
    assert_eq!(rig.hear(watcher)[0]["payload"]["left"][0]["user"], "ada");
}

// [3.revoked.closed]
#[test]
fn presence_of_who_is_revoked_while_it_joins_ends_with_the_connection() {
    let mut rig = Rig::new(config());
    let (ada, id, _) = session(&mut rig, "user:ada");
    rig.effects.held = Some(VecDeque::new());
    rig.say(ada, &json!({"type": "$join", "metadata": {"room": "a"}}));
    let subject = Subject::Client(id);
    let answer = rig.api(ApiRequest::Revoke { subject, span: span(), keep: false });
    assert!(matches!(answer, ApiAnswer::Count(1)), "{answer:?}");
    rig.break_off(ada);
    rig.stored(None);
    let bob = rig.guest_in("a", &json!({}));
    let members = rig.ask(bob, "$members", &json!({}), &json!({"room": "a"}));
    assert_eq!(members["payload"]["count"], 1);
}

// [3.revoked.absent]
#[test]
fn presence_of_who_is_away_ends_at_once() {
    let mut config = config();
    config.session.ttl_ms = 5_000;
    let mut rig = Rig::new(config);
    let (cleo, cleos, _) = session(&mut rig, "user:cleo");
    for client in [cleo, session(&mut rig, "user:ada").0, session(&mut rig, "user:bob").0] {
        rig.ask(client, "$join", &json!({}), &json!({"room": "a"}));
        rig.break_off(client);
    }
    let watcher = rig.guest_in("a", &json!({"members": true}));
    assert_eq!(revoke(&mut rig, user("ada")), 0);
    rig.pass(250);
    let left = |heard: &[Value]| heard[0]["payload"]["left"].clone();
    let heard = rig.hear(watcher);
    assert_eq!(left(&heard)[0]["user"], "ada");
    assert_eq!((left(&heard).as_array().unwrap().len(), heard.len()), (1, 1));
    assert_eq!(revoke(&mut rig, Subject::Client(cleos)), 0);
    rig.pass(250);
    assert_eq!(left(&rig.hear(watcher))[0]["user"], "cleo");
    // Nobody is counted twice: who comes and goes then has a grace as before.
    rig.pass(5_000);
    assert_eq!(left(&rig.hear(watcher))[0]["user"], "bob");
    let (ada, ..) = session(&mut rig, &format!("user:ada issued:{}", span().at_ms + 1));
    rig.ask(ada, "$join", &json!({}), &json!({"room": "a"}));
    rig.pass(250);
    rig.hear(watcher);
    rig.break_off(ada);
    rig.pass(1_000);
    assert!(rig.hear(watcher).is_empty());
}

// [3.revoked.over]
#[test]
fn what_is_over_is_forgotten() {
    let mut rig = Rig::new(config());
    revoke(&mut rig, user("ada"));
    let rows = |rig: &mut Rig| match rig.api(ApiRequest::Revocations { after: None, limit: 9 }) {
        ApiAnswer::Revocations(rows) => rows.len(),
        other => panic!("{other:?}"),
    };
    rig.pass(9_999);
    assert_eq!(welcomed(&mut rig, &json!({"token": "user:ada"})), None);
    assert_eq!(rows(&mut rig), 1);
    rig.pass(1);
    assert_eq!(welcomed(&mut rig, &json!({"token": "user:ada"})), Some(false));
    assert_eq!(rows(&mut rig), 0);
}

// [3.revoked.kept]
#[test]
fn it_holds_before_it_is_kept_and_is_answered_after() {
    for instead in [None, Some(StoreError::Unavailable), Some(StoreError::Unknown)] {
        let mut rig = Rig::new(config());
        let (ada, ..) = session(&mut rig, "user:ada");
        rig.effects.held = Some(VecDeque::new());
        rig.ask_api(ApiRequest::Revoke { subject: user("ada"), span: span(), keep: true });
        turned_away(&rig.hear(ada));
        assert_eq!(welcomed(&mut rig, &json!({"token": "user:ada"})), None);
        assert!(rig.effects.answers.is_empty());
        rig.stored(instead);
        match (rig.effects.answers.pop(), instead) {
            (Some(ApiAnswer::Count(1)), None) => {}
            (Some(ApiAnswer::Refused(refusal)), Some(_)) => assert!(refusal.temporary),
            other => panic!("{other:?}"),
        }
        assert_eq!(welcomed(&mut rig, &json!({"token": "user:ada"})), None);
    }
}

// [3.revoked.kept]
#[test]
fn who_was_revoked_is_revoked_after_a_restart() {
    let mut rig = Rig::new(config());
    let (_, id, _) = session(&mut rig, "user:cleo");
    for subject in [user("ada"), Subject::Token("t1".into()), Subject::Client(id)] {
        revoke(&mut rig, subject);
    }
    let request = Request::Revocations { token: 0, after: None, limit: 9 };
    let kept = match rig.effects.store.handle(request, START_MS) {
        Completion::Revocations { result: Ok(page), .. } => page.revocations,
        other => panic!("{other:?}"),
    };
    let mut rig = Rig::new(config());
    for revocation in &kept {
        let subject = Subject::parse(&revocation.subject).unwrap();
        let (at_ms, until_ms) = (revocation.at_ms, revocation.until_ms);
        assert_eq!(Span { at_ms, until_ms }, span());
        rig.shard.restore_revocation(subject, span());
    }
    let rows = rig.api(ApiRequest::Revocations { after: None, limit: 9 });
    assert!(matches!(rows, ApiAnswer::Revocations(rows) if rows.len() == 3));
    assert_eq!(welcomed(&mut rig, &json!({"token": "user:ada"})), None);
    assert_eq!(welcomed(&mut rig, &json!({"token": "user:bob id:t1"})), None);
    assert_eq!(welcomed(&mut rig, &json!({"token": "user:bob"})), Some(false));
}

// [3.revoked.limit]
#[test]
fn there_are_only_so_many_and_who_is_one_too_many_stays() {
    let mut config = config();
    config.limits.revocations = 1;
    let mut rig = Rig::new(config);
    let (ada, ..) = session(&mut rig, "user:ada");
    assert_eq!(revoke(&mut rig, user("bob")), 0);
    let request = |at_ms| {
        let span = Span { at_ms, until_ms: START_MS + 90_000 };
        ApiRequest::Revoke { subject: user("ada"), span, keep: true }
    };
    match rig.api(request(span().at_ms)) {
        ApiAnswer::Refused(refusal) => assert_eq!(refusal.limit, Some(1)),
        other => panic!("{other:?}"),
    }
    assert!(rig.hear(ada).is_empty());
    assert_eq!(revoke(&mut rig, user("bob")), 0, "that one is there already");
    let over = request(span().until_ms);
    assert!(matches!(rig.api(over), ApiAnswer::Count(1)), "the other is over");
}

#[test]
fn they_are_listed_a_page_at_a_time() {
    let mut rig = Rig::new(config());
    for subject in [Subject::Token("a".into()), user("b"), user("a")] {
        revoke(&mut rig, subject);
    }
    let mut page = |after| match rig.api(ApiRequest::Revocations { after, limit: 2 }) {
        ApiAnswer::Revocations(rows) => {
            rows.into_iter().map(|row| row.subject.to_string()).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(page(None), ["user:a", "user:b"]);
    assert_eq!(page(Some(user("b"))), ["jti:a"]);
    assert!(page(Some(Subject::Token("a".into()))).is_empty());
}
