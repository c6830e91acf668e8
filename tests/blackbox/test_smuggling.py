"""Requests that a proxy before the server might read differently than the server does, up to the
handshake and behind it. What is said of bodies of the API is in `test_v1.py`."""

import json
import re
import socket

import pytest

from support.peer import CLOSE, TEXT, decode, encode, open_socket, read_head
from support.server import PATIENCE_S

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
UPGRADE = f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {KEY}\r\n"
VERSION = "Sec-WebSocket-Version: 13\r\n"
PAGE = "Origin: http://evil.example\r\n"


def handshake(server, more="", line="GET /ws HTTP/1.1", host=None):
    return f"{line}\r\nHost: {host or server.address}\r\n{UPGRADE}{VERSION}{more}\r\n"


def inside(server):
    """The request that nobody but an operator may make, as it stands within another one."""
    key = f"Authorization: Bearer {server.api_key}\r\n"
    return f"GET /stats HTTP/1.1\r\nHost: {server.address}\r\n{key}\r\n"


def ended(server, data):
    """Sends bytes, and reads what comes until the server ends the connection."""
    with socket.create_connection((server.host, server.port), timeout=PATIENCE_S) as sock:
        sock.sendall(data.encode("latin-1"))
        got = b""
        while piece := sock.recv(65_536):
            got += piece
        return got


def statuses(answer):
    return [int(status) for status in re.findall(rb"HTTP/1.1 (\d+)", answer)]


REFUSED = {
    "a length": ("Content-Length: {length}\r\n", 400),
    "chunked": ("Transfer-Encoding: chunked\r\n", 400),
    "a length and chunked": ("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", 400),
    "chunked and a length": ("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", 400),
    "two lengths": ("Content-Length: 0\r\nContent-Length: {length}\r\n", 400),
    "a list of lengths": ("Content-Length: 0, 0\r\n", 400),
    "a length that is none": ("Content-Length: +0\r\n", 400),
    "a coding that is none": ("Transfer-Encoding: identity\r\n", 400),
    "chunked with a tab": ("Transfer-Encoding:\tchunked\r\n", 400),
    "a space before the colon": ("Transfer-Encoding : chunked\r\n", 400),
    "a folded line": ("X: a\r\n Transfer-Encoding: chunked\r\n", 400),
    "a folded tab": ("X: a\r\n\tTransfer-Encoding: chunked\r\n", 400),
    "a bare CR": ("X: a\rTransfer-Encoding: chunked\r\n", 400),
    "a NUL": ("X: a\0\r\n", 400),
    "two hosts": ("Host: other.example\r\n", 400),
    "two keys": (f"Sec-WebSocket-Key: {KEY}\r\n", 400),
    "two versions": (VERSION, 426),
    "two origins": (f"Origin: http://localhost\r\n{PAGE}", 400),
    "two origins in one": ("Origin: http://localhost, http://evil.example\r\n", 403),
    "an empty origin": ("Origin:\r\n", 403),
    "another site": (PAGE, 403),
    "another subprotocol": ("Sec-WebSocket-Protocol: chat\r\n", 400),
}


@pytest.mark.parametrize("name", REFUSED)
def test_behind_a_handshake_that_is_refused_nothing_is_read(server, name):
    """A proxy that takes the connection for a WebSocket does not look at what comes behind it."""
    more, status = REFUSED[name]
    data = handshake(server, more.format(length=len(inside(server)))) + inside(server)
    assert statuses(ended(server, data)) == [status]


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("POST /ws HTTP/1.1", 405),
        ("get /ws HTTP/1.1", 405),
        ("GET /ws/ HTTP/1.1", 404),
        ("GET /%77s HTTP/1.1", 404),
        ("GET /ws%20 HTTP/1.1", 404),
        ("GET /./ws HTTP/1.1", 404),
        ("GET //ws HTTP/1.1", 404),
        ("GET http://other.example/ws HTTP/1.1", 400),
        ("GET /ws HTTP/1.2", 400),
        ("GET /ws HTTP/1.1 ", 400),
        ("GET  /ws HTTP/1.1", 400),
        ("GET /ws /x HTTP/1.1", 400),
        ("GET /w\ns HTTP/1.1", 400),
        ("GET /healthz HTTP/1.1", 200),
    ],
)
def test_nor_behind_one_whose_first_line_is_odd(server, line, status):
    data = handshake(server, line=line) + inside(server)
    assert statuses(ended(server, data)) == [status]


@pytest.mark.parametrize("more", ["", "Content-Length: 0\r\n", "Upgrade: h2c\r\nTE: trailers\r\n"])
def test_behind_a_good_handshake_come_frames_and_no_requests(server, more):
    answer = ended(server, handshake(server, more) + inside(server))
    head, _, rest = answer.partition(b"\r\n\r\n")
    assert statuses(answer) == [101], head
    fin, opcode, payload = decode(bytearray(rest))
    assert (fin, opcode, payload[:2]) == (True, CLOSE, (1002).to_bytes(2, "big"))


def test_a_handshake_behind_a_request_is_a_handshake_all_the_same(server):
    """Pipelined in one segment, frames included: each answer in its order."""
    body = '{"type":"m","metadata":{"room":"pipelined"}}'
    post = (
        f"POST /v1/publish HTTP/1.1\r\nHost: {server.address}\r\nContent-Length: {len(body)}\r\n"
        f"Content-Type: application/json\r\nAuthorization: Bearer {server.api_key}\r\n\r\n{body}"
    )
    upgrade = handshake(server, line="GET /echo HTTP/1.1")
    with open_socket(server) as sock:
        sock.sendall((post + upgrade).encode() + encode(TEXT, b"behind"))
        got = b""
        sock.settimeout(PATIENCE_S)
        while not got.endswith(b"\x81\x06behind"):
            piece = sock.recv(65_536)
            assert piece, got
            got += piece
    assert statuses(got) == [200, 101]


def first_word(server, host):
    """What a client without a token is told that calls the server by this name."""
    page = f"Origin: http://{host}\r\nSec-WebSocket-Protocol: clarion.v1.json\r\n"
    hello = encode(TEXT, b'{"type":"$hello","payload":{},"metadata":{"id":1}}')
    with open_socket(server) as sock:
        sock.sendall(handshake(server, page, host=host).encode() + hello)
        head, rest = read_head(sock)
        assert head.startswith(b"HTTP/1.1 101 "), head
        buffer = bytearray(rest)
        sock.settimeout(PATIENCE_S)
        while (frame := decode(buffer)) is None:
            piece = sock.recv(65_536)
            assert piece, buffer
            buffer += piece
    return json.loads(frame[2])


# [3.guest.loopback]
def test_a_name_that_somebody_else_can_lead_here_is_not_this_machine(server):
    """A page at http://evil.example whose name server says 127.0.0.1 is of the same origin."""
    for host in ("evil.example", "localhost.evil.example", "10.0.0.1", "clarion:8080"):
        word = first_word(server, host)
        assert (word["type"], word["payload"]["name"]) == ("$error", "unauthenticated"), host
    for host in ("localhost", "chat.localhost:1", "127.1.2.3", "[::1]:8080"):
        assert first_word(server, host)["type"] == "$welcome", host
