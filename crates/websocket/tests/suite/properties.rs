//! What holds for all input: nothing is lost on the way, and where it is cut does not matter.

use clarion_websocket::{CloseCode, Limits, Opcode, ProtocolError};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};

use crate::pair::{End, Pair, Seen};
use crate::script::Script;

/// The same cases in every run.
pub(crate) fn config(cases: u32) -> Config {
    Config { cases, rng_seed: RngSeed::Fixed(6455), failure_persistence: None, ..Config::default() }
}

/// A call on one end.
#[derive(Debug, Clone)]
enum Call {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Close(u16, String),
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        8 => any::<String>().prop_map(Call::Text),
        8 => vec(any::<u8>(), 0..400).prop_map(Call::Binary),
        4 => vec(any::<u8>(), 0..=125).prop_map(Call::Ping),
        1 => (3000_u16..5000, "[a-zß]{0,20}").prop_map(|(code, reason)| Call::Close(code, reason)),
    ]
}

/// Makes a call, and returns what the other end is to see of it, if the call was allowed.
fn make(end: &mut End, call: Call) -> Option<Seen> {
    let (connection, out) = (&mut end.connection, &mut end.out);
    let result = match &call {
        Call::Text(text) => connection.send_text(text, out),
        Call::Binary(bytes) => connection.send_binary(bytes, out),
        Call::Ping(payload) => connection.ping(payload, out),
        Call::Close(code, reason) => connection.close(CloseCode::new(*code).unwrap(), reason, out),
    };
    result.ok().map(|()| match call {
        Call::Text(text) => Seen::Text(text),
        Call::Binary(bytes) => Seen::Binary(bytes),
        Call::Ping(payload) => Seen::Ping(payload),
        Call::Close(code, reason) => Seen::Closed(Some(code), reason),
    })
}

/// What an end sees of the other's answers to what it sent.
fn answers_to(sent: &[Seen]) -> Vec<Seen> {
    let answer = |seen: &Seen| match seen {
        Seen::Ping(payload) => Some(Seen::Pong(payload.clone())),
        Seen::Closed(code, _) => Some(Seen::Closed(*code, String::new())),
        Seen::Text(_) | Seen::Binary(_) | Seen::Pong(_) | Seen::Failed(_) => None,
    };
    sent.iter().filter_map(answer).collect()
}

fn closes(sent: &[Seen]) -> bool {
    matches!(sent.last(), Some(Seen::Closed(..)))
}

/// Places to cut `size` bytes at.
pub(crate) fn cuts_of(marks: &[prop::sample::Index], size: usize) -> Vec<usize> {
    let mut cuts: Vec<usize> = marks.iter().map(|mark| mark.index(size + 1)).collect();
    cuts.sort_unstable();
    cuts
}

/// Frames that are mostly right: what a peer with a few faults sends.
pub(crate) fn script() -> impl Strategy<Value = Script> {
    let payload = prop_oneof![
        vec(any::<u8>(), 0..20),
        any::<String>().prop_map(String::into_bytes),
        vec(Just(b'x'), 120..130),
        vec(Just(0xce), 1..3),
        Just(vec![3, 232]),
    ];
    let opcode = prop_oneof![
        3 => Just(Opcode::Text),
        3 => Just(Opcode::Binary),
        6 => Just(Opcode::Continuation),
        2 => Just(Opcode::Ping),
        1 => Just(Opcode::Pong),
        1 => Just(Opcode::Close),
    ];
    let frame = (opcode, any::<bool>(), any::<prop::sample::Index>(), payload);
    (vec(frame, 1..12), any::<bool>(), vec(any::<(prop::sample::Index, u8)>(), 0..2)).prop_map(
        |(frames, in_order, faults)| {
            let mut script = Script::default();
            let mut under_way = false;
            for (mut opcode, mut fin, cut, mut payload) in frames {
                if opcode.is_control() {
                    fin = true;
                    payload.truncate(125);
                } else if in_order {
                    opcode = match (under_way, opcode) {
                        (true, _) => Opcode::Continuation,
                        (false, Opcode::Continuation) => Opcode::Binary,
                        (false, first) => first,
                    };
                    under_way = !fin;
                    if opcode == Opcode::Continuation {
                        payload.truncate(cut.index(payload.len() + 1));
                    }
                }
                script = script.frame(fin, opcode, payload);
            }
            for (place, byte) in faults {
                let place = place.index(script.0.len());
                script.0[place] = byte;
            }
            script
        },
    )
}

proptest! {
    #![proptest_config(config(600))]

    #[test]
    fn what_one_end_sends_the_other_sees(
        calls in vec((any::<bool>(), call()), 0..20),
        marks in vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let mut pair = Pair::new();
        let (mut by_client, mut by_server) = (Vec::new(), Vec::new());
        for (from_client, call) in calls {
            if from_client {
                by_client.extend(make(&mut pair.client, call));
            } else {
                by_server.extend(make(&mut pair.server, call));
            }
        }

        let wire = std::mem::take(&mut pair.client.out);
        pair.server.read_cut(&wire, &cuts_of(&marks, wire.len()));
        prop_assert_eq!(&pair.server.take_seen(), &by_client);

        // What the server said of itself goes before its answers to the client, which are not read
        // if it has closed.
        let mut expected = by_server.clone();
        if !closes(&by_server) {
            expected.extend(answers_to(&by_client));
        }
        let wire = std::mem::take(&mut pair.server.out);
        pair.client.read_cut(&wire, &cuts_of(&marks, wire.len()));
        prop_assert_eq!(&pair.client.seen, &expected);

        let expected = if closes(&by_client) { vec![] } else { answers_to(&by_server) };
        pair.drive();
        prop_assert_eq!(&pair.server.seen, &expected);
        let closed = closes(&by_client) || closes(&by_server);
        prop_assert_eq!(pair.server.connection.is_closed(), closed);
        prop_assert_eq!(pair.client.connection.is_closed(), closed);
    }

    #[test]
    fn the_same_input_cut_anywhere_gives_the_same_events(
        script in script(),
        marks in vec(any::<prop::sample::Index>(), 0..8),
        message_bytes in prop_oneof![Just(65_536_usize), 0_usize..60],
    ) {
        let limits = Limits { message_bytes, fragments: 4 };
        let whole = script.play_cut(&limits, &[]);
        prop_assert_eq!(&script.play_cut(&limits, &cuts_of(&marks, script.0.len())), &whole);
        let each: Vec<usize> = (0..script.0.len()).collect();
        prop_assert_eq!(&script.play_cut(&limits, &each), &whole);
    }

    #[test]
    fn text_is_judged_as_the_standard_library_does(
        pieces in vec(prop_oneof![
            vec(any::<u8>(), 0..6),
            any::<char>().prop_map(|c| c.to_string().into_bytes()),
            vec(0x80_u8..=0xff, 0..3),
        ], 1..6),
    ) {
        let bytes = pieces.concat();
        let mut script = Script::default().fragment(Opcode::Text, b"");
        for piece in &pieces {
            script = script.fragment(Opcode::Continuation, piece);
        }
        let expected = match String::from_utf8(bytes.clone()) {
            Ok(text) => Seen::Text(text),
            Err(_) => Seen::Failed(ProtocolError::InvalidUtf8),
        };
        prop_assert_eq!(script.clone().whole(Opcode::Continuation, b"").events(), [expected]);
        // Without an end it fails already if no end could save it.
        let lost = str::from_utf8(&bytes).is_err_and(|error| error.error_len().is_some());
        let early: &[Seen] = if lost { &[Seen::Failed(ProtocolError::InvalidUtf8)] } else { &[] };
        prop_assert_eq!(&script.events()[..], early);
    }
}
