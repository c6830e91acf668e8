//! Tokens and tickets.

use clarion_client::core::{ClientError, ClientState, Options, TokenError, TokenReason};
use serde_json::json;

use crate::world::World;

fn fetching() -> World {
    World::with(Options { can_fetch_token: true, ..Options::default() })
}

fn fetched(world: &mut World, result: Result<&str, TokenError>) -> TokenReason {
    let (fetch, reason) = world.fetches.pop().expect("a fetch");
    world.core.on_token(fetch, result.map(str::to_owned), world.now);
    world.settle();
    reason
}

#[test]
fn token_is_fetched_before_the_first_connection_only() {
    let mut world = fetching();
    world.connect();
    assert_eq!(world.sockets, 0);
    assert_eq!(fetched(&mut world, Ok("t1")), TokenReason::Connect);
    let hello = world.welcome(json!({}));
    assert_eq!(hello["payload"]["token"], "t1");
    let hello = world.dropped(1006);
    assert_eq!((&hello["payload"]["token"], world.fetches.len()), (&json!("t1"), 0));
}

#[test]
fn newest_ticket_is_used_until_it_expires() {
    let mut world = World::new();
    world.connected();
    world.advance(1);
    world.lose(1006);
    world.reconnect();
    let hello = world.welcome(json!({"ticket": "ticket-2", "ticket_ttl_ms": 1_000}));
    assert_eq!(hello["payload"]["ticket"], "ticket-1");
    world.advance(1_000);
    let hello = world.dropped(1006);
    assert_eq!(hello["payload"]["ticket"], json!(null));
}

#[test]
fn expired_token_is_replaced_before_coming_back() {
    for told in [true, false] {
        let mut world = fetching();
        world.connect();
        fetched(&mut world, Ok("t1"));
        world.welcome(json!({"expires_at": "2026-01-01T00:00:10.000Z"}));
        world.advance(if told { 1 } else { 20_000 });
        world.lose(if told { 4102 } else { 1006 });
        world.reconnect();
        assert_eq!(fetched(&mut world, Ok("t2")), TokenReason::Expired);
        assert_eq!(world.open()["payload"]["token"], "t2");
    }
}

#[test]
fn kept_token_that_is_refused_gets_one_more_try_with_a_new_one() {
    let mut world = fetching();
    world.connect();
    fetched(&mut world, Ok("t1"));
    world.welcome(json!({}));
    world.dropped(1006);
    world.lose(4001);
    assert_eq!(world.state(), ClientState::Connecting);
    world.reconnect();
    assert_eq!(fetched(&mut world, Ok("t2")), TokenReason::Expired);
    world.open();
    world.lose(4001);
    assert_eq!(world.state(), ClientState::Closed);
}

#[test]
fn token_that_was_good_and_is_revoked_gets_one_more_try_with_a_new_one() {
    let mut world = fetching();
    world.connect();
    fetched(&mut world, Ok("t1"));
    world.welcome(json!({}));
    world.lose(4001);
    assert_eq!(world.state(), ClientState::Connecting);
    world.reconnect();
    assert_eq!(fetched(&mut world, Ok("t2")), TokenReason::Expired);
    world.open();
    world.lose(4001);
    assert_eq!(world.state(), ClientState::Closed);
}

#[test]
fn refused_static_token_stops() {
    let mut world = World::with(Options { token: Some("t".to_owned()), ..Options::default() });
    world.connect();
    world.open();
    let error = json!({"code": 401, "name": "unauthenticated", "message": "it has expired",
        "temporary": false, "close": 4001});
    world.say("$error", error, json!({"id": 0}));
    world.lose(4001);
    let status = world.core.status();
    assert_eq!((status.state, &*status.reason), (ClientState::Closed, "unauthenticated"));
    let [ClientError::Refused(refused)] = &*world.errors else { panic!("{:?}", world.errors) };
    assert_eq!(refused.message, "it has expired");
}

#[test]
fn back_end_that_fails_or_hangs_is_asked_again() {
    let mut world = fetching();
    world.connect();
    fetched(&mut world, Err(TokenError::Failed("503".to_owned())));
    assert_eq!(world.core.status().reason, "token_failed");
    assert_eq!(world.errors, [ClientError::Token("503".to_owned())]);
    world.reconnect();
    let (late, _) = world.fetches[0];
    world.advance(10_000);
    assert_eq!(world.core.status().reason, "token_failed");
    world.core.on_token(late, Ok("late".to_owned()), world.now);
    world.settle();
    assert_eq!(world.sockets, 0);
    // It is as good as any.
    world.reconnect();
    assert_eq!(world.open()["payload"]["token"], "late");
}

#[test]
fn user_who_may_not_connect_stops_the_client() {
    let mut world = fetching();
    world.connect();
    fetched(&mut world, Err(TokenError::Refused("no such user".to_owned())));
    assert_eq!((world.state(), world.core.status().code), (ClientState::Closed, 4001));
}

#[test]
fn closing_during_the_fetch_opens_nothing() {
    let mut world = fetching();
    world.connect();
    world.close();
    fetched(&mut world, Ok("t1"));
    assert_eq!((world.sockets, world.state()), (0, ClientState::Closed));
}

#[test]
fn new_token_is_sent_on_the_open_connection() {
    let mut world = fetching();
    world.connect();
    fetched(&mut world, Ok("t1"));
    world.welcome(json!({}));
    let expires = json!({"expires_at": "2026-01-01T00:01:00.000Z"});
    world.say("$refresh", expires, json!({}));
    assert_eq!(
        fetched(&mut world, Err(TokenError::Failed("503".to_owned()))),
        TokenReason::Refresh
    );
    world.advance(1_500);
    assert_eq!(fetched(&mut world, Ok("t2")), TokenReason::Refresh);
    let refresh = world.next("$refresh");
    assert_eq!(refresh["payload"], json!({"token": "t2"}));
    world.reply(&refresh, json!({"expires_at": "2026-01-01T01:00:00.000Z"}));
    assert_eq!(world.state(), ClientState::Connected);
    assert_eq!(world.dropped(1006)["payload"]["token"], "t2");
}

#[test]
fn token_that_comes_after_the_connection_is_kept_and_not_sent() {
    let mut world = fetching();
    world.connect();
    fetched(&mut world, Ok("t1"));
    world.welcome(json!({}));
    world.say("$refresh", json!({}), json!({}));
    world.lose(1006);
    world.reconnect();
    fetched(&mut world, Ok("t2"));
    assert_eq!(world.welcome(json!({}))["payload"]["token"], "t2");
    assert!(world.sent.is_empty());
}
