//! What two well-behaved ends do together.

use clarion_websocket::Opcode::{Binary, Continuation, Ping, Pong, Text};
use clarion_websocket::{CloseCode, Connection, Event, Limits, UsageError, frame};

use crate::pair::{End, Pair, Seen, text};
use crate::script::Script;

#[test]
fn messages_arrive_in_order_both_ways() {
    let mut pair = Pair::new();
    pair.client.connection.send_text("one", &mut pair.client.out).unwrap();
    pair.client.connection.send_binary(&[2, 2], &mut pair.client.out).unwrap();
    pair.server.connection.send_text("", &mut pair.server.out).unwrap();
    pair.server.connection.send_text("три", &mut pair.server.out).unwrap();
    pair.drive();
    assert_eq!(pair.server.seen, [text("one"), Seen::Binary(vec![2, 2])]);
    assert_eq!(pair.client.seen, [text(""), text("три")]);
}

#[test]
fn every_form_of_length_carries_its_messages() {
    for size in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
        let mut pair = Pair::new();
        pair.client.limits.message_bytes = 70_000;
        pair.server.limits.message_bytes = 70_000;
        let message = vec![b'x'; size];
        pair.client.connection.send_binary(&message, &mut pair.client.out).unwrap();
        pair.server.connection.send_binary(&message, &mut pair.server.out).unwrap();
        let header_size = if size < 126 {
            2
        } else if size < 65_536 {
            4
        } else {
            10
        };
        assert_eq!(pair.server.out.len(), header_size + size);
        assert_eq!(pair.client.out.len(), header_size + 4 + size);
        pair.drive();
        assert_eq!(pair.server.seen, [Seen::Binary(message.clone())]);
        assert_eq!(pair.client.seen, [Seen::Binary(message)]);
    }
}

#[test]
fn a_ping_is_answered_with_its_payload() {
    for payload in [&b""[..], b"beat", &[0xff; 125]] {
        let mut pair = Pair::new();
        pair.server.connection.ping(payload, &mut pair.server.out).unwrap();
        pair.drive();
        assert_eq!(pair.client.seen, [Seen::Ping(payload.to_vec())]);
        assert_eq!(pair.server.seen, [Seen::Pong(payload.to_vec())]);
    }
}

#[test]
fn either_end_closes_and_both_are_closed() {
    for client_closes in [true, false] {
        let mut pair = Pair::new();
        let (first, second) = if client_closes {
            (&mut pair.client, &mut pair.server)
        } else {
            (&mut pair.server, &mut pair.client)
        };
        first.connection.close(CloseCode::GOING_AWAY, "bye", &mut first.out).unwrap();
        assert!(!first.connection.is_open() && !first.connection.is_closed());
        assert!(second.connection.is_open());
        pair.drive();
        let (first, second) =
            if client_closes { (&pair.client, &pair.server) } else { (&pair.server, &pair.client) };
        assert!(first.connection.is_closed() && second.connection.is_closed());
        assert_eq!(second.seen, [Seen::Closed(Some(1001), "bye".into())]);
        // The echo has the code and leaves the reason out.
        assert_eq!(first.seen, [Seen::Closed(Some(1001), String::new())]);
    }
}

#[test]
fn both_ends_close_at_once_and_neither_echoes() {
    let mut pair = Pair::new();
    pair.client.connection.close(CloseCode::NORMAL, "", &mut pair.client.out).unwrap();
    pair.server.connection.close(CloseCode::GOING_AWAY, "", &mut pair.server.out).unwrap();
    let from_client = std::mem::take(&mut pair.client.out);
    let from_server = std::mem::take(&mut pair.server.out);
    pair.client.read(&from_server);
    pair.server.read(&from_client);
    assert!(pair.client.out.is_empty() && pair.server.out.is_empty());
    assert_eq!(pair.client.seen, [Seen::Closed(Some(1001), String::new())]);
    assert_eq!(pair.server.seen, [Seen::Closed(Some(1000), String::new())]);
}

#[test]
fn what_the_peer_sent_before_it_saw_our_close_still_arrives() {
    let mut pair = Pair::new();
    pair.server.connection.close(CloseCode::GOING_AWAY, "", &mut pair.server.out).unwrap();
    pair.client.connection.send_text("on its way", &mut pair.client.out).unwrap();
    pair.client.connection.ping(b"?", &mut pair.client.out).unwrap();
    pair.drive();
    assert_eq!(
        pair.server.seen,
        [text("on its way"), Seen::Ping(b"?".to_vec()), Seen::Closed(Some(1001), String::new())]
    );
}

#[test]
fn nothing_is_sent_after_a_close_frame() {
    let mut end = End::new(Connection::server());
    end.connection.close(CloseCode::NORMAL, "", &mut end.out).unwrap();
    let size = end.out.len();
    assert_eq!(end.connection.send_text("x", &mut end.out), Err(UsageError::Closing));
    assert_eq!(end.connection.send_binary(b"x", &mut end.out), Err(UsageError::Closing));
    assert_eq!(end.connection.ping(b"", &mut end.out), Err(UsageError::Closing));
    let again = end.connection.close(CloseCode::NORMAL, "", &mut end.out);
    assert_eq!(again, Err(UsageError::Closing));
    assert_eq!(end.out.len(), size);
}

#[test]
fn a_call_that_may_not_be_made_changes_nothing() {
    let mut end = End::new(Connection::server());
    assert_eq!(end.connection.ping(&[0; 126], &mut end.out), Err(UsageError::PingTooLong));
    for code in [CloseCode::NO_STATUS, CloseCode::ABNORMAL, CloseCode::TLS_HANDSHAKE] {
        let refused = end.connection.close(code, "", &mut end.out);
        assert_eq!(refused, Err(UsageError::CloseCode));
    }
    assert!(end.out.is_empty() && end.connection.is_open());
}

#[test]
fn the_examples_of_section_5_7_are_read() {
    let mut client = End::new(Connection::client([7; 32]));
    client.read(&[0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
    client.read(&[0x01, 0x03, 0x48, 0x65, 0x6c, 0x80, 0x02, 0x6c, 0x6f]);
    client.read(&[0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
    let hello = Seen::Ping(b"Hello".to_vec());
    assert_eq!(client.seen, [text("Hello"), text("Hello"), hello]);
    let masked = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    assert_eq!(Script::default().raw(&masked).events(), [text("Hello")]);
}

#[test]
fn control_frames_come_between_the_fragments_of_a_message() {
    let script = Script::default()
        .fragment(Text, "a€".as_bytes().split_at(2).0)
        .whole(Ping, b"1")
        .fragment(Continuation, "a€".as_bytes().split_at(2).1)
        .whole(Pong, b"")
        .fragment(Continuation, b"")
        .whole(Ping, [2; 125])
        .whole(Continuation, b"z")
        .whole(Binary, b"next");
    let expected = [
        Seen::Ping(b"1".to_vec()),
        Seen::Pong(vec![]),
        Seen::Ping(vec![2; 125]),
        text("a€z"),
        Seen::Binary(b"next".to_vec()),
    ];
    assert_eq!(script.events(), expected);
    let (_, answers) = script.play();
    assert_eq!(answers[..3], [0x8a, 1, b'1']);
    assert_eq!(answers[3..], [&[0x8a, 125], &[2; 125][..]].concat());
}

#[test]
fn a_message_that_is_whole_is_lent_from_the_input() {
    let mut input = Script::default().whole(Text, b"").whole(Text, b"not copied").0;
    let place = input.as_ptr_range();
    let mut connection = Connection::server();
    let mut rest = &mut input[..];
    let mut next = || match connection.receive(&Limits::default(), &mut rest, &mut Vec::new()) {
        Some(Event::Text(text)) => Some((text.len(), place.contains(&text.as_ptr()))),
        _ => None,
    };
    assert_eq!([next(), next(), next()], [Some((0, true)), Some((10, true)), None]);
}

#[test]
fn a_publication_encoded_once_is_what_a_server_would_send() {
    for payload in [&b"short"[..], &[b'm'; 300], &[b'l'; 70_000]] {
        let mut sent = Vec::new();
        let mut connection = Connection::server();
        connection.send_text(str::from_utf8(payload).unwrap(), &mut sent).unwrap();
        let mut shared = Vec::new();
        frame::encode(Text, payload, &mut shared);
        let mut header = [0; 10];
        let size = frame::encode_header(Text, payload.len(), &mut header);
        assert_eq!(sent, shared);
        assert_eq!(sent, [&header[..size], payload].concat());
    }
}

#[test]
fn a_client_masks_each_frame_with_another_key() {
    let mut wire = Vec::new();
    let mut connection = Connection::client([7; 32]);
    for _ in 0..100 {
        connection.send_binary(b"", &mut wire).unwrap();
    }
    let mut keys: Vec<&[u8]> = wire.chunks(6).map(|frame| &frame[2..]).collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 100);
}
