//! Any bytes give events or a broken rule, never a panic, and the end of a connection is its end.

use clarion_websocket::deflate::Config;
use clarion_websocket::handshake::{Opening, Request, accept};
use clarion_websocket::{CloseCode, Connection};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::deflate::agree;
use crate::pair::{End, Seen};
use crate::properties::{config, script};

/// What a driver or an application may do next, in any order.
#[derive(Debug, Clone)]
enum Act {
    Read(Vec<u8>),
    SendText(String),
    Ping(Vec<u8>),
    Close(u16, String),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => vec(any::<u8>(), 0..40).prop_map(Act::Read),
        8 => script().prop_map(|script| Act::Read(script.0)),
        2 => any::<String>().prop_map(Act::SendText),
        2 => vec(any::<u8>(), 0..200).prop_map(Act::Ping),
        1 => (1000_u16..5000, any::<String>()).prop_map(|(code, reason)| Act::Close(code, reason)),
    ]
}

/// Performs the acts, and checks after each what an application relies on.
fn perform(connection: Connection, acts: Vec<Act>) {
    let mut end = End::new(connection);
    for act in acts {
        let was_open = end.connection.is_open();
        let (seen_count, out_size) = (end.seen.len(), end.out.len());
        match act {
            Act::Read(bytes) => {
                end.read(&bytes);
                let most = out_size + 3 * bytes.len() + 131;
                assert!(end.out.len() <= most, "answers are in proportion to the input");
            }
            Act::SendText(text) => {
                let sent = end.connection.send_text(&text, &mut end.out);
                assert_eq!(sent.is_ok(), was_open);
            }
            Act::Ping(payload) => {
                let sent = end.connection.ping(&payload, &mut end.out);
                assert_eq!(sent.is_ok(), was_open && payload.len() <= 125);
            }
            Act::Close(code, reason) => {
                let code = CloseCode::new(code).unwrap();
                let sent = end.connection.close(code, &reason, &mut end.out);
                assert_eq!(sent.is_ok(), was_open && code.is_sendable());
                assert!(sent.is_err() || !end.connection.is_open());
            }
        }
        let is_last = |seen: &Seen| matches!(seen, Seen::Closed(..) | Seen::Failed(_));
        let last = end.seen.iter().position(is_last);
        assert_eq!(last.is_some(), end.connection.is_closed());
        assert!(last.is_none_or(|index| index + 1 == end.seen.len()));
        assert!(end.seen.len() >= seen_count);
    }
}

proptest! {
    #![proptest_config(config(600))]

    #[test]
    fn a_server_survives_anything(acts in vec(act(), 1..12)) {
        perform(Connection::server(), acts);
    }

    #[test]
    fn ends_that_inflate_survive_anything(acts in vec(act(), 1..12), takeover in any::<bool>()) {
        let config = Config {
            server_takeover: takeover,
            client_takeover: takeover,
            ..Config::default()
        };
        perform(Connection::server().with_deflate(agree(config)), acts.clone());
        perform(Connection::client([7; 32]).with_deflate(agree(config)), acts);
    }

    #[test]
    fn a_client_survives_anything(acts in vec(act(), 1..12)) {
        perform(Connection::client([7; 32]), acts);
    }

    #[test]
    fn a_handshake_survives_any_header(
        method in "(GET|[a-zA-Z]{0,4})",
        target in "(/|.{0,10})",
        headers in vec(
            (
                prop_oneof![
                    Just("host"), Just("upgrade"), Just("connection"), Just("origin"),
                    Just("sec-websocket-key"), Just("sec-websocket-version"),
                    Just("sec-websocket-protocol"), Just("sec-websocket-extensions"),
                    Just("sec-websocket-accept"),
                ],
                prop_oneof![
                    vec(any::<u8>(), 0..30),
                    "[a-z0-9;,=\"\\\\ ]{0,30}".prop_map(String::into_bytes),
                ],
            ),
            0..10,
        ),
    ) {
        let headers = || headers.iter().map(|(name, value)| (*name, &value[..]));
        let request = Request { method: &method, target: &target, version: (1, 1) };
        // None of these has a key that decodes to 16 bytes, or the answer to one.
        prop_assert!(accept(&request, headers()).is_err());
        prop_assert!(Opening::new([1; 16], &[]).verify(101, headers()).is_err());
    }
}
