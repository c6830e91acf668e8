//! Compressed messages: what two ends do together, and each rule that a peer can break.

use clarion_websocket::Opcode::{Binary, Continuation, Ping, Text};
use clarion_websocket::ProtocolError::{self, *};
use clarion_websocket::deflate::{self, Agreed, Config, Pool, Settings};
use clarion_websocket::handshake::Extension;
use clarion_websocket::{CloseCode, Connection, Limits, Role, UsageError, frame};
use proptest::collection::vec;
use proptest::prelude::*;
use zlib_rs::{Deflate, DeflateFlush};

use crate::inflate::inflate;
use crate::pair::{End, Pair, Seen, text};
use crate::properties::{config, cuts_of};
use crate::script::{MASK, Script};

const TAKEOVER: Config = Config {
    server_takeover: true,
    client_takeover: true,
    server_window_bits: 15,
    client_window_bits: 15,
};

/// Compress whatever shrinks.
const ALL: Settings = Settings { threshold_bytes: 0, level: 3 };

pub(crate) fn agree(config: Config) -> Agreed {
    let name = "permessage-deflate";
    let offer = Extension { name, parameters: vec![("client_max_window_bits", None)] };
    deflate::accept(&config, &[offer]).unwrap().agreed
}

fn server(config: Config) -> Connection {
    Connection::server().with_deflate(agree(config))
}

fn pair(config: Config) -> Pair {
    Pair::of(Connection::client([7; 32]).with_deflate(agree(config)), server(config))
}

fn send(end: &mut End, message: &Seen, settings: &Settings) {
    let End { connection, pool, out, .. } = end;
    match message {
        Seen::Text(text) => connection.send_text_with(text, settings, pool, out).unwrap(),
        Seen::Binary(bytes) => connection.send_binary_with(bytes, settings, pool, out).unwrap(),
        _ => unreachable!("only messages are sent"),
    }
}

/// A payload as RFC 7692 section 7.2.1 makes it, by other means than the crate's.
fn deflated(payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0; payload.len() + payload.len() / 8 + 64];
    let mut stream = Deflate::new(6, false, 15);
    stream.compress(payload, &mut out, DeflateFlush::SyncFlush).unwrap();
    out.truncate(stream.total_out() as usize);
    assert!(out.ends_with(&[0, 0, 0xff, 0xff]));
    out.truncate(out.len() - 4);
    out
}

/// What a server that agreed to this makes of the script, in one read or byte by byte.
#[track_caller]
fn events(config: Config, limits: &Limits, script: &Script) -> Vec<Seen> {
    let cuts: Vec<usize> = (0..script.0.len()).collect();
    let whole = script.play_to(server(config), limits, &[]);
    assert_eq!(whole, script.play_to(server(config), limits, &cuts));
    whole.0
}

#[track_caller]
fn fails(script: Script, error: ProtocolError) {
    fails_within(&Limits::default(), script, error);
}

/// Plays the script, then what would be right, and expects only this failure and its close frame.
#[track_caller]
fn fails_within(limits: &Limits, script: Script, error: ProtocolError) {
    let script = script.whole(Text, b"late").whole(Ping, b"late");
    for config in [Config::default(), TAKEOVER] {
        assert_eq!(events(config, limits, &script), [Seen::Failed(error)]);
        let (_, answer) = script.play_to(server(config), limits, &[]);
        let mut client = End::new(Connection::client([7; 32]));
        client.read(&answer);
        let told = Seen::Closed(Some(error.code().get()), error.reason().to_owned());
        assert_eq!(client.seen, [told]);
    }
}

fn start() -> Script {
    Script::default()
}

/// Bytes that do not shrink.
fn noise(size: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..size).map(|_| next()).collect()
}

#[test]
fn messages_arrive_whatever_was_agreed() {
    let story = "It was a dark and stormy night; the rain fell in torrents. ".repeat(30);
    let messages = [
        text(&story),
        Seen::Binary(noise(600)),
        text(""),
        Seen::Binary(vec![7; 40_000]),
        text(&story),
        text("ß€😀".repeat(99).as_str()),
    ];
    for server_window_bits in 9..=15 {
        for client_window_bits in 9..=15 {
            for (server_takeover, client_takeover) in
                [(false, false), (false, true), (true, false), (true, true)]
            {
                let mut pair = pair(Config {
                    server_takeover,
                    client_takeover,
                    server_window_bits,
                    client_window_bits,
                });
                for message in &messages {
                    send(&mut pair.client, message, &Settings::default());
                    send(&mut pair.server, message, &Settings::default());
                    pair.drive();
                }
                assert_eq!(pair.server.seen, messages);
                assert_eq!(pair.client.seen, messages);
            }
        }
    }
}

#[test]
fn the_examples_of_section_7_2_3_are_read() {
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let script = start()
        .compressed(true, Text, hello)
        .compressed(false, Text, &hello[..3])
        .whole(Ping, b"?")
        .whole(Continuation, &hello[3..])
        .compressed(true, Text, [0, 5, 0, 0xfa, 0xff, b'H', b'e', b'l', b'l', b'o', 0])
        .compressed(true, Text, [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0, 0])
        .compressed(true, Text, [0xf2, 0x48, 5, 0, 0, 0, 0xff, 0xff, 0xca, 0xc9, 0xc9, 7, 0])
        .compressed(true, Binary, [0])
        .whole(Text, "plain");
    let ping = Seen::Ping(b"?".to_vec());
    let hello = || text("Hello");
    let expected = [hello(), ping, hello(), hello(), hello(), hello(), Seen::Binary(vec![])];
    for config in [Config::default(), TAKEOVER] {
        let seen = events(config, &Limits::default(), &script);
        assert_eq!(seen, [&expected[..], &[text("plain")]].concat());
    }
}

#[test]
fn a_message_refers_to_one_before_only_where_that_was_agreed() {
    // The second example of section 7.2.3.2.
    let script = start()
        .compressed(true, Text, [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00])
        .whole(Text, "what comes plain is not referred to")
        .compressed(true, Text, [0xf2, 0x00, 0x11, 0x00, 0x00]);
    let plain = text("what comes plain is not referred to");
    assert_eq!(
        events(TAKEOVER, &Limits::default(), &script),
        [text("Hello"), plain.clone(), text("Hello")]
    );
    assert_eq!(
        events(Config::default(), &Limits::default(), &script),
        [text("Hello"), plain, Seen::Failed(InvalidDeflate)]
    );
}

#[test]
fn blocks_after_a_last_block_refer_to_those_before_it() {
    let last = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let again = [0xf2, 0x00, 0x11, 0x00, 0x00];
    let within = start().compressed(true, Text, [&last[..], &again].concat());
    let across = start().compressed(true, Text, [&last[..], &[0]].concat());
    let across = across.compressed(true, Text, again);
    for config in [Config::default(), TAKEOVER] {
        assert_eq!(events(config, &Limits::default(), &within), [text("HelloHello")]);
    }
    let seen = events(TAKEOVER, &Limits::default(), &across);
    assert_eq!(seen, [text("Hello"), text("Hello")]);
}

#[test]
fn an_empty_compressed_message_is_a_zero_byte_or_nothing() {
    let script = start().compressed(true, Text, []).compressed(true, Binary, [0]);
    let script = script.compressed(false, Text, []).fragment(Continuation, []);
    let script = script.whole(Continuation, [0]);
    let seen = events(TAKEOVER, &Limits::default(), &script);
    assert_eq!(seen, [text(""), Seen::Binary(vec![]), text("")]);
}

#[test]
fn the_bit_is_only_for_the_first_frame_of_a_message() {
    let frame = |first: u8, size: u8| start().raw(&[first, 0x80 | size]).raw(&MASK);
    for first in [0xc0, 0x40, 0xc8, 0xc9, 0xca] {
        fails(frame(first, 0), ReservedBits);
    }
    // Also where a continuation is due, of a message compressed or not.
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    for begun in [start().compressed(false, Text, &hello[..3]), start().fragment(Text, "x")] {
        fails(begun.raw(&[0xc0, 0x84]).raw(&MASK), ReservedBits);
    }
    // The other two bits mean nothing still.
    for first in [0xa1, 0x91, 0xe1, 0xd1, 0xf2] {
        fails(frame(first, 0), ReservedBits);
    }
    // Nor does this one without the agreement.
    assert_eq!(start().compressed(true, Text, hello).events(), [Seen::Failed(ReservedBits)]);
    fails(start().compressed(false, Text, &hello[..3]).whole(Text, "y"), ExpectedContinuation);
}

#[test]
fn what_is_not_deflate_fails() {
    for payload in [
        &[0x06][..],                                             // the reserved type of block
        &[0x00, 5, 0, 0, 0],             // a stored block whose lengths disagree
        &[0xf2, 0x00, 0x11, 0x00, 0x00], // a distance to before the beginning
        &[0xf2, 0x48, 0xcd, 0xc9],       // cut inside a block
        &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07], // without the beginning of the empty block
        &[0x00, 5, 0, 0xfa, 0xff, b'H'], // cut inside a stored block
        &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], // nothing after the last block
        &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 7, 0, 0, 0, 0xff, 0xff], // the tail is there already
        &[0x00, 4, 0, 0xfb, 0xff],       // what is appended would be its content
    ] {
        fails(start().compressed(true, Binary, payload), InvalidDeflate);
    }
    assert_eq!(InvalidDeflate.code(), CloseCode::INVALID_PAYLOAD);
}

#[test]
fn inflated_text_fails_at_its_first_bad_byte() {
    let bad = deflated(b"good\xff and much more that never arrives");
    fails(start().compressed(false, Text, &bad), InvalidUtf8);
    fails(start().compressed(true, Text, deflated("€".as_bytes().split_at(2).0)), InvalidUtf8);
    // Characters are split by fragments and by buffers of 16 KiB.
    let long = format!("x{}", "€".repeat(12_000));
    let payload = deflated(long.as_bytes());
    let (first, second) = payload.split_at(payload.len() / 2);
    let script = start().compressed(false, Text, first).whole(Continuation, second);
    assert_eq!(events(TAKEOVER, &Limits::default(), &script), [text(&long)]);
}

// [7.deflate.limits]
#[test]
fn a_message_is_as_long_as_it_inflates_to() {
    let limits = Limits { message_bytes: 1000, ..Limits::default() };
    for size in [999, 1000] {
        let script = start().compressed(true, Binary, deflated(&vec![0; size]));
        assert_eq!(events(TAKEOVER, &limits, &script), [Seen::Binary(vec![0; size])]);
    }
    // What does not shrink comes in more bytes than it has.
    let noise = noise(1000);
    assert!(deflated(&noise).len() > 1000);
    let script = start().compressed(true, Binary, deflated(&noise));
    assert_eq!(events(TAKEOVER, &limits, &script), [Seen::Binary(noise)]);

    fails_within(&limits, start().compressed(true, Binary, deflated(&[0; 1001])), MessageTooBig);
    // The end of the message is not waited for.
    let bomb = deflated(&vec![0; 1 << 20]);
    assert!(bomb.len() < 3000);
    fails_within(&limits, start().compressed(false, Binary, bomb), MessageTooBig);
}

#[test]
fn a_compressed_message_that_never_says_anything_ends_too() {
    let limits = Limits { message_bytes: 100, fragments: 20 };
    // Empty stored blocks: 1,224 bytes are the most that 100 may come in.
    let nothing = [0, 0, 0, 0xff, 0xff].repeat(250);
    fails_within(&limits, start().compressed(false, Binary, &nothing), MessageTooBig);
    let halves = start().compressed(false, Binary, &nothing[..1000]);
    fails_within(&limits, halves.fragment(Continuation, &nothing[1000..]), MessageTooBig);
    // Empty last blocks, each of which costs a new window.
    fails_within(&limits, start().compressed(false, Binary, [3, 0].repeat(20)), TooManyFragments);
    let script = start().compressed(true, Binary, [&[3, 0].repeat(19)[..], &[0]].concat());
    assert_eq!(events(TAKEOVER, &limits, &script), [Seen::Binary(vec![])]);
}

#[test]
fn a_message_is_compressed_from_the_threshold_if_it_shrinks() {
    let sent = |payload: &[u8], settings: &Settings, config: Config| {
        let mut end = End::new(server(config));
        send(&mut end, &Seen::Binary(payload.to_vec()), settings);
        (end.out[0] == 0xc2, end.out.len())
    };
    let settings = Settings::default();
    assert_eq!(settings, Settings { threshold_bytes: 256, level: 3 });
    for config in [Config::default(), TAKEOVER] {
        assert_eq!(sent(&[1; 255], &settings, config), (false, 4 + 255));
        assert!(sent(&[1; 256], &settings, config).0);
        assert_eq!(sent(&noise(500), &settings, config), (false, 4 + 500));
        assert_eq!(sent(&[], &ALL, config), (false, 2));
        assert_eq!(sent(&[1], &ALL, config), (false, 3));
    }
    // Not agreed: never.
    let mut end = End::new(Connection::server());
    send(&mut end, &text(&"x".repeat(1000)), &settings);
    assert_eq!(end.out[0], 0x81);
    // Closing: not at all.
    let mut end = End::new(server(TAKEOVER));
    end.connection.close(CloseCode::NORMAL, "", &mut end.out).unwrap();
    let size = end.out.len();
    let (pool, out) = (&mut end.pool, &mut end.out);
    let refused = end.connection.send_text_with(&"x".repeat(1000), &settings, pool, out);
    assert_eq!((refused, out.len()), (Err(UsageError::Closing), size));
}

#[test]
fn takeover_makes_the_second_message_small_and_nothing_else_does() {
    let message = Seen::Binary(noise(200).into_iter().map(|byte| byte & 0x3f).collect());
    for config in [Config::default(), TAKEOVER] {
        let mut pair = pair(config);
        let mut sizes = Vec::new();
        for _ in 0..3 {
            send(&mut pair.server, &message, &ALL);
            send(&mut pair.client, &message, &ALL);
            sizes.push((pair.server.out.len(), pair.client.out.len()));
            pair.drive();
        }
        // Whoever frees its compressor begins anew, and is understood.
        pair.server.connection.release_compressor();
        pair.client.connection.release_compressor();
        send(&mut pair.server, &message, &ALL);
        send(&mut pair.client, &message, &ALL);
        assert_eq!((pair.server.out.len(), pair.client.out.len()), sizes[0]);
        pair.drive();
        assert_eq!(pair.server.seen, vec![message.clone(); 4]);
        assert_eq!(pair.client.seen, vec![message.clone(); 4]);
        if config == TAKEOVER {
            assert!(sizes[1].0 < 20 && sizes[1].1 < 20, "{sizes:?}");
        } else {
            assert!(sizes.iter().all(|size| *size == sizes[0]), "{sizes:?}");
        }
    }
}

#[test]
fn a_context_survives_messages_that_are_not_compressed_and_changes_of_level() {
    let mut pair = pair(TAKEOVER);
    let messages = [text(&"abcde ".repeat(50)), Seen::Binary(noise(400)), text("plain")];
    for round in 0..6 {
        for message in &messages {
            let level = [3, 3, 1, 9, 9, 0][round];
            send(&mut pair.server, message, &Settings { threshold_bytes: 100, level });
            pair.server.connection.send_text("meanwhile", &mut pair.server.out).unwrap();
            pair.drive();
            assert_eq!(pair.client.take_seen(), [message.clone(), text("meanwhile")]);
        }
    }
}

/// The payload of the one frame that a server sent.
fn payload_of(wire: &[u8]) -> &[u8] {
    let (header, size) = frame::Header::decode(wire, Role::Client, true).unwrap().unwrap();
    assert!(header.compressed && header.payload_size == (wire.len() - size) as u64);
    &wire[size..]
}

#[test]
fn no_frame_is_compressed_with_a_larger_window_than_agreed() {
    for bits in 9..=15_u8 {
        // All repeats, at distances around the window's size, and some that are near.
        let window = 1 << bits;
        let mut message = Vec::new();
        for period in [window - 300, window - 1, window, window + 1, window + 50, 2 * window] {
            let part = noise(period);
            message.extend([&part[..], &part, &part[..100], &part[..100]].concat());
        }
        for level in 1..=9 {
            for server_takeover in [false, true] {
                let config =
                    Config { server_takeover, server_window_bits: bits, ..Config::default() };
                let mut end = End::new(server(config));
                let settings = Settings { level, threshold_bytes: 0 };
                send(&mut end, &Seen::Binary(message.clone()), &settings);
                let (inflated, farthest) = inflate(payload_of(&end.out));
                assert!(inflated == message && farthest > 0);
                assert!(farthest <= window, "{bits} bits, level {level}: {farthest}");
            }
        }
        // The test can fail: a larger window does not pass it.
        if bits < 15 {
            let (inflated, farthest) = inflate(&deflated(&message));
            assert!(inflated == message && farthest > window, "{bits} bits: {farthest}");
        }
    }
}

/// What the quick compressor of level 1 makes, and how far that refers back, by an inflater that
/// shares nothing with it; `None` if it does not shrink.
fn quick(bits: u8, message: &[u8]) -> Option<usize> {
    let config = Config { server_window_bits: bits, ..Config::default() };
    let mut end = End::new(server(config));
    let settings = Settings { level: 1, threshold_bytes: 0 };
    send(&mut end, &Seen::Binary(message.to_vec()), &settings);
    let (header, size) = frame::Header::decode(&end.out, Role::Client, true).unwrap().unwrap();
    let payload = &end.out[size..];
    if !header.compressed {
        assert!(payload == message);
        return None;
    }
    assert!(payload.len() < message.len());
    let (inflated, farthest) = inflate(payload);
    assert!(inflated == message && farthest <= 1 << bits, "{bits} bits: {farthest}");
    // And zlib reads it, as do we.
    let mut client = End::new(Connection::client([7; 32]).with_deflate(agree(config)));
    client.limits.message_bytes = 1 << 24;
    client.read(&end.out);
    assert!(client.seen == [Seen::Binary(message.to_vec())]);
    Some(farthest)
}

#[test]
fn a_quick_message_has_matches_of_every_length_and_at_every_power_of_two() {
    // What shrinks anyway, so that one match decides nothing.
    let tail = "=".repeat(300);
    for length in 4..=300 {
        let part = noise(length);
        let message = [&part[..], b"-", &part, b"+", tail.as_bytes()].concat();
        assert!(quick(15, &message).unwrap() > length.min(258));
    }
    for power in 0..=15_u8 {
        for distance in [(1 << power) - 1, 1 << power, (1 << power) + 1] {
            let part = noise(distance);
            let message = part.repeat(600_usize.div_ceil(distance.max(1)).max(2));
            let bits = power.max(9);
            match quick(bits, &message) {
                // What repeats more than once is also found where it was twice before.
                Some(farthest) => assert!(farthest <= 1 << bits && farthest % distance == 0),
                None => assert!(distance == 0 || distance > 1 << bits, "{bits}: {distance}"),
            }
        }
    }
}

#[test]
fn a_client_compresses_within_the_window_it_was_told() {
    for bits in 9..=15 {
        let config = Config { client_window_bits: bits, ..Config::default() };
        let mut end = End::new(Connection::client([7; 32]).with_deflate(agree(config)));
        let part = noise(1 << bits);
        let message = [&part[..], &part, &part[..200], &part[..200]].concat();
        send(&mut end, &Seen::Binary(message.clone()), &ALL);
        let (header, size) = frame::Header::decode(&end.out, Role::Server, true).unwrap().unwrap();
        let mask = header.mask.unwrap();
        let payload: Vec<u8> =
            end.out[size..].iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
        let (inflated, farthest) = inflate(&payload);
        assert!(inflated == message && (1..=1 << bits).contains(&farthest), "{bits}: {farthest}");
    }
}

#[test]
fn a_frame_made_once_is_what_each_connection_would_have_made() {
    let payload = "one for all, all for one; ".repeat(40);
    let mut pool = Pool::default();
    for _ in 0..3 {
        let mut shared = b"before".to_vec();
        let settings = Settings::default();
        assert!(deflate::encode(Text, payload.as_bytes(), &settings, &mut pool, &mut shared));
        let mut end = End::new(server(Config::default()));
        send(&mut end, &text(&payload), &settings);
        assert_eq!(shared[6..], end.out);
        let mut pair = pair(Config::default());
        pair.client.read(&shared[6..]);
        assert_eq!(pair.client.seen, [text(&payload)]);
    }
    for payload in [&[b'x'; 255][..], &noise(300)] {
        let mut out = b"before".to_vec();
        assert!(!deflate::encode(Binary, payload, &Settings::default(), &mut pool, &mut out));
        assert_eq!(out, b"before");
    }
}

#[test]
fn a_pool_counts_what_it_was_used_for() {
    let payload = "one for all, all for one; ".repeat(40);
    let size = payload.len() as u64;
    for config in [Config::default(), TAKEOVER] {
        let (mut ours, mut theirs) = (Pool::default(), Pool::default());
        let mut client = Connection::client([7; 32]).with_deflate(agree(config));
        let mut server = server(config);
        let (mut wire, settings) = (Vec::new(), Settings::default());
        client.send_text_with(&payload, &settings, &mut theirs, &mut wire).unwrap();
        client.send_text_with("short", &settings, &mut theirs, &mut wire).unwrap();
        let sent = theirs.counts().deflated;
        let header_size = 8;
        let mut input = &mut wire[..];
        let limits = Limits::default();
        while server.receive_with(&limits, &mut ours, &mut input, &mut Vec::new()).is_some() {}
        let received = ours.counts().inflated;
        assert_eq!((received.messages, received.plain_bytes), (1, size));
        assert_eq!((sent.messages, sent.plain_bytes), (1, size));
        let compressed_bytes = received.compressed_bytes;
        assert!((1..size / 4).contains(&compressed_bytes), "{compressed_bytes}");
        assert!((2..=header_size).contains(&(sent.compressed_bytes - compressed_bytes)));
    }
    let (mut pool, mut out) = (Pool::default(), Vec::new());
    deflate::encode(Text, payload.as_bytes(), &Settings::default(), &mut pool, &mut out);
    deflate::encode(Text, b"short", &Settings::default(), &mut pool, &mut out);
    let deflated = pool.counts().deflated;
    assert_eq!((deflated.messages, deflated.compressed_bytes), (1, out.len() as u64));
}

fn message() -> impl Strategy<Value = Seen> {
    let word = prop_oneof![
        4 => Just("clarion ".to_owned()),
        2 => Just("{\"type\":\"message\",".to_owned()),
        1 => any::<String>(),
    ];
    prop_oneof![
        4 => vec(word, 0..60).prop_map(|words| Seen::Text(words.concat())),
        2 => (any::<u8>(), 0_usize..70_000).prop_map(|(byte, size)| Seen::Binary(vec![byte; size])),
        1 => vec(any::<u8>(), 0..600).prop_map(Seen::Binary),
    ]
}

fn any_config() -> impl Strategy<Value = Config> {
    (any::<bool>(), any::<bool>(), 9_u8..=15, 9_u8..=15).prop_map(|(server, client, s, c)| Config {
        server_takeover: server,
        client_takeover: client,
        server_window_bits: s,
        client_window_bits: c,
    })
}

/// Payloads that are mostly deflate: some bytes of one may be wrong, and some are missing.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    let valid = prop_oneof![
        any::<String>().prop_map(|text| deflated(text.as_bytes())),
        (any::<u8>(), 0_usize..3000).prop_map(|(byte, size)| deflated(&vec![byte; size])),
        Just(vec![0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0xf2, 0x00, 0x11, 0x00, 0x00]),
        Just(vec![0x03, 0x00]),
        vec(any::<u8>(), 0..40),
    ];
    let fault = vec(any::<(prop::sample::Index, u8)>(), 0..2);
    (vec(valid, 1..4), fault).prop_map(|(parts, faults)| {
        let mut payload = parts.join(&[0, 0, 0xff, 0xff][..]);
        for (place, byte) in faults {
            if !payload.is_empty() {
                let place = place.index(payload.len());
                payload[place] = byte;
            }
        }
        payload
    })
}

/// Text, JSON, repetitions near and far, and what repeats nothing.
fn part() -> impl Strategy<Value = Vec<u8>> {
    let json = (any::<u32>(), any::<u16>(), "[a-z ]{0,40}").prop_map(|(offset, user, text)| {
        format!(
            r#"{{"type":"m","offset":{offset},"from":{{"user":"u{user}"}},"payload":"{text}"}}"#
        )
        .into_bytes()
    });
    prop_oneof![
        4 => json,
        2 => any::<String>().prop_map(String::into_bytes),
        2 => (vec(any::<u8>(), 1..40), 1_usize..300).prop_map(|(part, times)| part.repeat(times)),
        1 => (0_usize..3).prop_map(|times| noise(9_000 * times)),
        1 => vec(any::<u8>(), 0..600),
        1 => vec(0_u8..3, 0..600),
    ]
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn what_one_end_compresses_the_other_sees(
        config in any_config(),
        messages in vec((message(), any::<bool>(), 1_u8..=9), 0..6),
        marks in vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let mut pair = pair(config);
        pair.client.limits.message_bytes = 1 << 20;
        pair.server.limits.message_bytes = 1 << 20;
        let (mut by_client, mut by_server) = (Vec::new(), Vec::new());
        for (message, from_client, level) in messages {
            let (end, sent) = if from_client {
                (&mut pair.client, &mut by_client)
            } else {
                (&mut pair.server, &mut by_server)
            };
            send(end, &message, &Settings { threshold_bytes: 20, level });
            sent.push(message);
        }
        let wire = std::mem::take(&mut pair.client.out);
        pair.server.read_cut(&wire, &cuts_of(&marks, wire.len()));
        let wire = std::mem::take(&mut pair.server.out);
        pair.client.read_cut(&wire, &cuts_of(&marks, wire.len()));
        prop_assert_eq!(&pair.server.seen, &by_client);
        prop_assert_eq!(&pair.client.seen, &by_server);
    }

    #[test]
    fn whatever_is_compressed_quickly_is_read_by_two_inflaters(
        parts in vec(part(), 0..12),
        bits in 9_u8..=15,
    ) {
        quick(bits, &parts.concat());
    }

    #[test]
    fn any_compressed_bytes_cut_anywhere_give_the_same_events(
        frames in vec((payload(), any::<bool>(), any::<prop::sample::Index>()), 1..5),
        takeover in any::<bool>(),
        marks in vec(any::<prop::sample::Index>(), 0..8),
        message_bytes in prop_oneof![Just(65_536_usize), 0_usize..2000],
    ) {
        let config = if takeover { TAKEOVER } else { Config::default() };
        let limits = Limits { message_bytes, fragments: 6 };
        let mut script = start();
        for (payload, is_text, cut) in frames {
            let opcode = if is_text { Text } else { Binary };
            let (first, second) = payload.split_at(cut.index(payload.len() + 1));
            script = script.compressed(false, opcode, first).whole(Continuation, second);
        }
        let whole = script.play_to(server(config), &limits, &[]);
        let cuts = cuts_of(&marks, script.0.len());
        prop_assert_eq!(&script.play_to(server(config), &limits, &cuts), &whole);
        let each: Vec<usize> = (0..script.0.len()).collect();
        prop_assert_eq!(&script.play_to(server(config), &limits, &each), &whole);
    }
}
