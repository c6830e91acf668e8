//! Each rule that a peer can break, what it is told, and that nothing comes after.

use clarion_websocket::Opcode::{Binary, Close, Continuation, Ping, Text};
use clarion_websocket::ProtocolError::{self, *};
use clarion_websocket::{Connection, Limits};

use crate::pair::{End, Pair, Seen, text};
use crate::script::{MASK, Script};

/// Plays the script, then much that would be right, and expects only this failure and its close
/// frame, whether it comes in one read or byte by byte.
#[track_caller]
fn fails(script: Script, error: ProtocolError) {
    fails_within(&Limits::default(), script, error);
}

#[track_caller]
fn fails_within(limits: &Limits, script: Script, error: ProtocolError) {
    let script = script.whole(Text, b"late").whole(Ping, b"late").whole(Close, [3, 232]);
    assert_eq!(script.events_within(limits), [Seen::Failed(error)]);
    let (_, answer) = script.play_cut(limits, &[]);
    let mut client = End::new(Connection::client([7; 32]));
    client.read(&answer);
    let told = Seen::Closed(Some(error.code().get()), error.reason().to_owned());
    assert_eq!(client.seen, [told]);
}

fn start() -> Script {
    Script::default()
}

/// A client's frame by its first byte and its length field.
fn header(first: u8, length: &[u8]) -> Script {
    let (size, rest) = length.split_first().unwrap();
    start().raw(&[first, 0x80 | size]).raw(rest).raw(&MASK)
}

#[test]
fn reserved_bits_are_refused() {
    for bit in [0x40, 0x20, 0x10] {
        for first in [0x81, 0x82, 0x80, 0x88, 0x89, 0x8a] {
            fails(header(first | bit, &[0]), ReservedBits);
        }
    }
}

#[test]
fn reserved_opcodes_are_refused() {
    for opcode in [3, 4, 5, 6, 7, 0xb, 0xc, 0xd, 0xe, 0xf] {
        fails(header(0x80 | opcode, &[0]), ReservedOpcode);
        fails(header(opcode, &[0]), ReservedOpcode);
    }
}

#[test]
fn control_frames_are_short_and_whole() {
    for opcode in [8, 9, 0xa] {
        fails(header(opcode, &[0]), FragmentedControl);
        fails(header(0x80 | opcode, &[126, 0, 126]), ControlTooLong);
        fails(header(0x80 | opcode, &[127, 0, 0, 0, 0, 0, 1, 0, 0]), ControlTooLong);
    }
}

#[test]
fn a_client_masks_and_a_server_does_not() {
    fails(start().raw(&[0x81, 0x01, b'a']), Unmasked);
    fails(start().raw(&[0x81, 0x00]), Unmasked);
    let mut client = End::new(Connection::client([7; 32]));
    client.read(&start().whole(Text, b"a").0);
    assert_eq!(client.seen, [Seen::Failed(Masked)]);
}

#[test]
fn lengths_are_in_their_shortest_form() {
    for size in [0, 1, 125] {
        fails(header(0x82, &[126, 0, size]), LengthNotMinimal);
        fails(header(0x82, &[127, 0, 0, 0, 0, 0, 0, 0, size]), LengthNotMinimal);
    }
    fails(header(0x82, &[127, 0, 0, 0, 0, 0, 0, 0xff, 0xff]), LengthNotMinimal);
}

#[test]
fn lengths_have_63_bits() {
    fails(header(0x82, &[127, 0x80, 0, 0, 0, 0, 0, 0, 0]), LengthTooLarge);
    fails(header(0x82, &[127, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), LengthTooLarge);
    fails(header(0x82, &[127, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), MessageTooBig);
}

#[test]
fn fragments_are_in_sequence() {
    fails(start().whole(Continuation, b""), UnexpectedContinuation);
    fails(start().fragment(Continuation, b"a"), UnexpectedContinuation);
    fails(start().fragment(Text, b"a").whole(Text, b"b"), ExpectedContinuation);
    fails(start().fragment(Text, b"a").whole(Binary, b"b"), ExpectedContinuation);
    fails(start().fragment(Binary, b"").fragment(Binary, b""), ExpectedContinuation);
    // The end of one message does not leave another open.
    let over = start().fragment(Text, b"a").whole(Continuation, b"b").whole(Continuation, b"c");
    assert_eq!(over.events(), [text("ab"), Seen::Failed(UnexpectedContinuation)]);
}

#[test]
fn text_is_utf8_as_a_whole_and_not_by_fragments() {
    fails(start().whole(Text, [0xff]), InvalidUtf8);
    fails(start().whole(Text, "€".as_bytes().split_at(2).0), InvalidUtf8);
    fails(start().fragment(Text, [0xe2, 0x82]).whole(Continuation, b""), InvalidUtf8);
    // A surrogate in UTF-8 is invalid at its second byte.
    fails(start().fragment(Text, [b'a', 0xed]).fragment(Continuation, [0xa0]), InvalidUtf8);
    let bytes = start().fragment(Binary, [0xff]).whole(Continuation, [0xe2]);
    assert_eq!(bytes.events(), [Seen::Binary(vec![0xff, 0xe2])]);
}

#[test]
fn text_fails_before_the_frame_or_message_is_whole() {
    let mut server = End::new(Connection::server());
    let mut script = start().fragment(Text, [b'a', 0xce, 0xba, 0xf4, 0x90, b'z', b'z']).0;
    script.truncate(2 + 4 + 4);
    server.read(&script);
    assert_eq!(server.seen, []);
    server.read(&[0x90 ^ MASK[0]]);
    assert_eq!(server.seen, [Seen::Failed(InvalidUtf8)]);
}

#[test]
fn a_close_frame_has_no_code_or_a_valid_one() {
    fails(start().whole(Close, [3]), CloseTruncated);
    for code in [0_u16, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
        fails(start().whole(Close, code.to_be_bytes()), ProtocolError::CloseCode);
    }
    for code in [1000_u16, 1003, 1007, 1011, 1012, 1014, 3000, 3999, 4000, 4999] {
        let script = start().whole(Close, code.to_be_bytes());
        assert_eq!(script.events(), [Seen::Closed(Some(code), String::new())]);
    }
    assert_eq!(start().whole(Close, []).events(), [Seen::Closed(None, String::new())]);
}

#[test]
fn a_close_reason_is_utf8() {
    fails(start().whole(Close, [3, 232, 0xc3, 0x28]), CloseReason);
    fails(start().whole(Close, [3, 232, 0xe2, 0x82]), CloseReason);
}

#[test]
fn nothing_is_read_after_a_close_frame() {
    for late in [
        start().whole(Text, b"late"),
        start().whole(Ping, b"late"),
        start().whole(Close, [3, 233]),
        start().raw(&[0xff; 40]),
        header(0x82, &[127, 0, 0, 0, 0, 1, 0, 0, 0]),
    ] {
        let script = start().whole(Close, [3, 232]).raw(&late.0);
        assert_eq!(script.events(), [Seen::Closed(Some(1000), String::new())]);
        assert_eq!(script.play().1, [0x88, 2, 3, 232]);
    }
}

#[test]
fn a_close_frame_ends_a_message_that_is_under_way() {
    let script = start().fragment(Text, b"never whole").whole(Close, []);
    assert_eq!(script.events(), [Seen::Closed(None, String::new())]);
    assert_eq!(script.play().1, [0x88, 0]);
}

#[test]
fn a_message_as_long_as_the_limit_passes_and_one_byte_more_fails() {
    let limits = Limits { message_bytes: 300, fragments: 10 };
    let within = [
        start().whole(Binary, [1; 300]),
        start().fragment(Binary, [1; 300]).whole(Continuation, []),
        start().fragment(Binary, []).fragment(Continuation, [1; 299]).whole(Continuation, [1]),
    ];
    for script in within {
        assert_eq!(script.events_within(&limits), [Seen::Binary(vec![1; 300])]);
    }
    fails_within(&limits, start().whole(Binary, [1; 301]), MessageTooBig);
    let split = start().fragment(Binary, [1; 300]).fragment(Continuation, [1]);
    fails_within(&limits, split, MessageTooBig);
    // The bytes of a character that is not whole count too.
    let text = start().fragment(Text, [&[b'a'; 298][..], &[0xe2, 0x82]].concat());
    fails_within(&limits, text.whole(Continuation, [0xac]), MessageTooBig);
}

#[test]
fn a_message_too_long_is_refused_at_its_header() {
    fails(header(0x82, &[127, 0, 0, 0, 0, 0, 1, 0, 1]), MessageTooBig);
    fails(header(0x01, &[127, 0, 0, 0, 0, 0, 1, 0, 1]), MessageTooBig);
}

#[test]
fn empty_fragments_are_bounded() {
    let limits = Limits { message_bytes: 10, fragments: 3 };
    let three = start().fragment(Text, b"").fragment(Continuation, b"");
    let whole = three.clone().whole(Continuation, b"");
    assert_eq!(whole.events_within(&limits), [text("")]);
    let four = three.fragment(Continuation, b"").fragment(Continuation, b"");
    fails_within(&limits, four, TooManyFragments);
}

#[test]
fn an_end_that_is_closing_fails_without_a_second_close_frame() {
    let mut pair = Pair::new();
    let server = &mut pair.server;
    let code = clarion_websocket::CloseCode::GOING_AWAY;
    server.connection.close(code, "", &mut server.out).unwrap();
    let size = server.out.len();
    server.read(&[0xff, 0xff]);
    assert_eq!(server.seen, [Seen::Failed(ReservedBits)]);
    assert_eq!(server.out.len(), size);
    assert!(server.connection.is_closed());
}
