"""Frames that break RFC 6455, on the protocol's endpoint and on the bare echo.

Autobahn covers more of what a correct client may send (tests/conformance); this is what it was
found not to catch, and that one bad connection does no harm to others.
"""

import struct

import pytest

from support.peer import BINARY, CLOSE, CONTINUATION, PING, TEXT, encode

VIOLATIONS = {
    "unmasked_text": (encode(TEXT, b"{}", mask=False), 1002),
    "unmasked_ping": (encode(PING, b"", mask=False), 1002),
    "unmasked_close": (encode(CLOSE, struct.pack("!H", 1000), mask=False), 1002),
    "reserved_bit_1": (encode(TEXT, b"{}", rsv=4), 1002),
    "reserved_bit_2": (encode(TEXT, b"{}", rsv=2), 1002),
    "reserved_bit_3": (encode(PING, b"", rsv=1), 1002),
    "reserved_data_opcode": (encode(3, b""), 1002),
    "reserved_control_opcode": (encode(11, b""), 1002),
    "fragmented_ping": (encode(PING, b"a", fin=False), 1002),
    "fragmented_close": (encode(CLOSE, b"", fin=False), 1002),
    "long_ping": (encode(PING, b"a" * 126), 1002),
    "length_of_5_in_3_bytes": (encode(TEXT, b"hello", length_size=3), 1002),
    "length_of_5_in_9_bytes": (encode(TEXT, b"hello", length_size=9), 1002),
    "length_of_200_in_9_bytes": (encode(TEXT, b"a" * 200, length_size=9), 1002),
    "length_with_highest_bit": (encode(TEXT, b"", length_size=9, length=1 << 63), 1002),
    "continuation_of_nothing": (encode(CONTINUATION, b"a"), 1002),
    "message_in_message": (encode(TEXT, b"a", fin=False) + encode(TEXT, b"b"), 1002),
    "close_with_half_a_code": (encode(CLOSE, b"\x03"), 1002),
    "close_with_1005": (encode(CLOSE, struct.pack("!H", 1005)), 1002),
    "close_with_999": (encode(CLOSE, struct.pack("!H", 999)), 1002),
    "close_with_5000": (encode(CLOSE, struct.pack("!H", 5000)), 1002),
    "close_with_a_reason_that_is_not_text": (encode(CLOSE, b"\x03\xe8\xff"), 1007),
    "text_that_is_not_utf8": (encode(TEXT, b"\xff"), 1007),
    "text_with_an_overlong_slash": (encode(TEXT, b"\xc0\xaf"), 1007),
    "text_with_a_surrogate": (encode(TEXT, b"\xed\xa0\x80"), 1007),
    "text_that_ends_within_a_character": (encode(TEXT, "é".encode()[:1]), 1007),
    # At once, not when the message is whole.
    "bad_bytes_in_the_first_fragment": (encode(TEXT, b"\xff", fin=False), 1007),
}


@pytest.mark.parametrize("path", ["/ws", "/echo"])
@pytest.mark.parametrize("name", VIOLATIONS)
def test_a_broken_frame_ends_the_connection_with_its_code(peer, name, path):
    frames, code = VIOLATIONS[name]
    session = peer(path=path) if path == "/ws" else peer(path=path, subprotocol=None)
    session.bytes(frames)
    assert session.closed()[0] == code


@pytest.mark.parametrize("code", [1000, 1001, 1011, 3000, 4999])
def test_a_close_is_answered_with_its_own_code(peer, code):
    session = peer()
    session.frame(CLOSE, struct.pack("!H", code) + b"bye")
    assert session.closed()[0] == code


def test_a_close_without_code_is_answered_without(peer):
    session = peer()
    session.frame(CLOSE)
    assert session.closed()[0] is None


def test_what_comes_behind_a_close_is_not_looked_at(peer, connect, room):
    session = peer()
    command = b'{"type":"m","payload":1,"metadata":{"room":"%s"}}' % room.encode()
    close = encode(CLOSE, struct.pack("!H", 1000))
    # A command behind the close, then rubbish: neither is carried out nor answered.
    session.bytes(close + encode(TEXT, command) + b"\xff" * 100)
    assert session.closed()[0] == 1000
    assert connect().request("$history", {"limit": 0}, room=room)["offset"] == 0


def test_what_came_before_a_close_is_carried_out(peer, connect, room):
    session = peer()
    command = b'{"type":"m","payload":1,"metadata":{"room":"%s"}}' % room.encode()
    session.bytes(encode(TEXT, command) + encode(CLOSE, struct.pack("!H", 1000)))
    assert session.closed()[0] == 1000
    assert connect().request("$history", {"limit": 0}, room=room)["offset"] == 1


def test_a_message_over_the_limit_is_1009_before_it_was_sent(peer):
    session = peer()
    # Only the head of it: nobody has to send 64 MiB to learn that it is too much.
    session.bytes(encode(TEXT, b"", length=64 << 20))
    assert session.closed()[0] == 1009
    pieces = peer()
    pieces.frame(TEXT, b"a" * 40_000, fin=False)
    pieces.frame(CONTINUATION, b"a" * 40_000)
    assert pieces.closed()[0] == 1009


def test_a_message_as_large_as_allowed_is_read(peer, room):
    session = peer()
    rest = len('{"type":"m","payload":"","metadata":{"room":"","id":1}}') + len(room)
    text = "x" * (65_536 - rest)
    whole = f'{{"type":"m","payload":"{text}","metadata":{{"room":"{room}","id":1}}}}'
    assert len(whole) == 65_536
    session.send_text(whole)
    assert session.answer(1)["offset"] == 1
    session.send_text(whole + " ")
    assert session.closed()[0] == 1009


def test_too_many_fragments_are_too_many(peer):
    session = peer()
    session.bytes(encode(TEXT, b"", fin=False) + encode(CONTINUATION, b"", fin=False) * 2000)
    assert session.closed()[0] == 1009


# [2.binary]
def test_binary_is_unsupported(peer):
    session = peer()
    session.frame(BINARY, b"{}")
    code, reason = session.closed()
    assert code == 1003
    assert "binary" in reason


def test_a_message_may_come_in_pieces_with_pings_between(peer):
    session = peer()
    text = '{"type":"$ping","payload":"é","metadata":{"id":1}}'.encode()
    frames = b"".join(
        encode(TEXT if at == 0 else CONTINUATION, text[at : at + 1], fin=at == len(text) - 1)
        + encode(PING, b"between")
        for at in range(len(text))
    )
    session.bytes(frames)
    assert session.answer(1) == "é"


def test_frames_may_be_cut_anywhere(peer):
    session = peer()
    frame = encode(TEXT, b'{"type":"$ping","payload":"x","metadata":{"id":1}}')
    for at in range(len(frame)):
        session.bytes(frame[at : at + 1])
    assert session.answer(1) == "x"


def test_a_broken_connection_breaks_no_other(peer, connect, room):
    ada, bob = connect(), connect()
    bob.join(room)
    broken = [peer() for _ in range(len(VIOLATIONS))]
    for session in broken:
        session.join(room)
    for session, (frames, _) in zip(broken, VIOLATIONS.values(), strict=True):
        session.bytes(frames)
    for session, (_, code) in zip(broken, VIOLATIONS.values(), strict=True):
        assert session.closed()[0] == code
    for n in range(10):
        ada.publish(room, n)
    assert [m["payload"] for m in bob.publications(room, 10)] == list(range(10))


def test_the_echo_echoes_text_and_binary(peer):
    session = peer(path="/echo", subprotocol=None)
    session.frame(TEXT, "grüße".encode())
    assert session.read_text(5) == "grüße"
    session.frame(BINARY, bytes(range(256)) * 1000)
    kind, data = session.next_item()
    assert (kind, data) == (BINARY, bytes(range(256)) * 1000)
    session.frame(TEXT, b"a" * (1 << 20))
    assert len(session.read_text(5)) == 1 << 20
    session.close()
