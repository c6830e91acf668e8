//! Calls of two joined ends in any order: what one sends the other sees, and both close.

use clarion_websocket::deflate::Settings;
use clarion_websocket::{CloseCode, Connection, Limits};

use crate::end::{End, Seen};
use crate::handshake::{config, negotiate};
use crate::input::Input;

/// The most calls of one input.
const CALL_COUNT_MAX: usize = 200;

/// One end, what it sent, and what is on its way to the other.
struct Side {
    end: End,
    /// Messages and pings, and at last the close frame.
    sent: Vec<Seen>,
    wire: Vec<u8>,
}

pub(crate) fn run(input: &[u8]) {
    let mut input = Input(input);
    let agreed = if input.flag() {
        let (client, server) = (config(&mut input), config(&mut input));
        negotiate(client, server)
    } else {
        None
    };
    let limits = Limits { message_bytes: 1 << 17, fragments: 4 };
    let side = |connection| Side {
        end: End::new(connection, limits, agreed),
        sent: Vec::new(),
        wire: Vec::new(),
    };
    let mut sides = [side(Connection::client([9; 32])), side(Connection::server())];
    for _ in 0..CALL_COUNT_MAX {
        if input.is_empty() {
            break;
        }
        let choice = input.byte();
        call(&mut sides, usize::from(choice & 1), choice >> 1 & 7, &mut input);
    }

    // Everything arrives. Each round only answers the one before, so there are few.
    let closes = sides.iter().any(|side| matches!(side.sent.last(), Some(Seen::Closed(..))));
    for _ in 0..4 {
        for from in 0..2 {
            carry(&mut sides, from, usize::MAX);
        }
    }
    for (from, to) in [(0, 1), (1, 0)] {
        assert!(sides[from].wire.is_empty());
        let seen = &sides[to].end.seen;
        let is_answer = |seen: &&Seen| matches!(seen, Seen::Pong(_));
        let (pongs, others): (Vec<_>, Vec<_>) = seen.iter().partition(is_answer);
        // An end that did not close first has closed by an echo, of the other's code.
        let mut expected = sides[from].sent.clone();
        if closes && !matches!(expected.last(), Some(Seen::Closed(..))) {
            let Some(Seen::Closed(code, _)) = sides[to].sent.last() else { panic!("one closed") };
            expected.push(Seen::Closed(*code, String::new()));
        }
        assert!(others.into_iter().eq(&expected), "{seen:?} of {expected:?}");
        // An end that has closed answers pings until it has read the other's close frame, but
        // nothing is read of it after its own.
        let pings = sides[to].sent.iter().filter_map(|sent| match sent {
            Seen::Ping(payload) => Some(Seen::Pong(payload.clone())),
            _ => None,
        });
        let pings: Vec<_> = pings.collect();
        assert!(pongs.len() <= pings.len() && pongs.iter().zip(&pings).all(|(a, b)| *a == b));
        assert!(closes || pongs.len() == pings.len());
        assert_eq!(sides[to].end.connection.is_closed(), closes);
        assert_eq!(sides[to].end.connection.is_open(), !closes);
    }
}

fn call(sides: &mut [Side; 2], from: usize, choice: u8, input: &mut Input<'_>) {
    let settings = Settings { threshold_bytes: usize::from(choice), level: 1 };
    let Side { end, sent, .. } = &mut sides[from];
    let was_open = end.connection.is_open();
    let (pool, out) = (&mut end.pool, &mut end.out);
    let (item, result) = match choice {
        0 | 1 => {
            let payload = input.long_payload();
            let text = String::from_utf8_lossy(&payload).into_owned();
            let result = match choice {
                0 => end.connection.send_text_with(&text, &settings, pool, out),
                _ => end.connection.send_text(&text, out),
            };
            (Seen::Text(text), result)
        }
        2 => {
            let payload = input.long_payload();
            let result = end.connection.send_binary_with(&payload, &settings, pool, out);
            (Seen::Binary(payload), result)
        }
        3 => {
            let payload = input.payload();
            let result = end.connection.ping(payload, out);
            assert_eq!(result.is_ok(), was_open && payload.len() <= 125);
            if result.is_ok() {
                sent.push(Seen::Ping(payload.to_owned()));
            }
            return;
        }
        4 => {
            end.connection.release_compressor();
            return;
        }
        5 if input.byte() < 16 => {
            let code = CloseCode::new(1000 + input.number() % 4000).expect("in range");
            let reason = String::from_utf8_lossy(input.payload()).into_owned();
            let result = end.connection.close(code, &reason, out);
            assert_eq!(result.is_ok(), was_open && code.is_sendable());
            if result.is_ok() {
                let most = boundary(&reason, 123);
                sent.push(Seen::Closed(Some(code.get()), reason[..most].to_owned()));
            }
            return;
        }
        _ => {
            let size = usize::from(input.number());
            return carry(sides, from, size);
        }
    };
    assert_eq!(result.is_ok(), was_open);
    if was_open {
        sent.push(item);
    }
}

/// The end of the last character that ends within `size` bytes.
fn boundary(text: &str, size: usize) -> usize {
    let mut size = size.min(text.len());
    while !text.is_char_boundary(size) {
        size -= 1;
    }
    size
}

/// Brings some of what is on its way from one side to the other.
fn carry(sides: &mut [Side; 2], from: usize, size: usize) {
    let side = &mut sides[from];
    side.wire.append(&mut side.end.out);
    let size = size.min(side.wire.len());
    let bytes: Vec<_> = side.wire.drain(..size).collect();
    sides[1 - from].end.read(&bytes);
}
