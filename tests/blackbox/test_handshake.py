"""The opening handshake and what is refused there, byte by byte. Protocol, section 7."""

import contextlib
import json
import os
import socket
import time

import pytest

from support.peer import TEXT, Peer, encode, header, open_socket, read_head
from support.server import wait_until

KEY = "dGhlIHNhbXBsZSBub25jZQ=="


def request(server, path="/ws", method="GET", version="HTTP/1.1", drop=(), **changes):
    """A good handshake, with headers dropped or changed: `Sec_WebSocket_Key="x"`."""
    headers = {
        "Host": server.address,
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": KEY,
        "Sec-WebSocket-Version": "13",
    }
    headers.update({name.replace("_", "-"): value for name, value in changes.items()})
    lines = [f"{method} {path} {version}"]
    for name, value in headers.items():
        if name not in drop:
            lines += [f"{name}: {v}" for v in (value if isinstance(value, list) else [value])]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


class Answer:
    """What came back: status, headers and body."""

    def __init__(self, server, data):
        with open_socket(server) as sock:
            sock.sendall(data)
            self.head, rest = read_head(sock)
            self.status = int(self.head.split()[1]) if self.head else None
            self.body = rest
            length = int(header(self.head, b"content-length") or 0) if self.head else 0
            while len(self.body) < length and (more := sock.recv(65536)):
                self.body += more

    def header(self, name):
        value = header(self.head, name.lower().encode())
        return value.decode() if value is not None else None


def refused(server, data, status):
    """Sends this, and checks the status and that the body is a problem document."""
    answer = Answer(server, data)
    assert answer.status == status, (answer.head, answer.body)
    assert answer.header("Content-Type") == "application/problem+json"
    problem = json.loads(answer.body)
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"].endswith(".")
    return answer, problem


# [7.paths]
def test_a_good_request_becomes_a_connection(server):
    answer = Answer(server, request(server))
    assert answer.status == 101
    # The example of RFC 6455, section 1.3.
    assert answer.header("Sec-WebSocket-Accept") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert answer.header("Upgrade").lower() == "websocket"
    assert answer.header("Connection").lower() == "upgrade"


# [7.paths]
@pytest.mark.parametrize(
    "changes",
    [
        {"Upgrade": "WebSocket"},
        {"Connection": "keep-alive, Upgrade"},
        {"Sec_WebSocket_Protocol": "other, clarion.v1.json"},
        {"Sec_WebSocket_Protocol": ["other", "clarion.v1.json"]},
        {"Sec_WebSocket_Extensions": "permessage-bzip2, x-unknown; level=9"},
        {"X_Unknown": "1"},
        {"path": "/ws?token=x&room=y"},
        {"path": "/"},
    ],
)
def test_requests_may_differ_in_what_does_not_matter(server, changes):
    answer = Answer(server, request(server, **changes))
    assert answer.status == 101, answer.body
    expected = "clarion.v1.json" if "Sec_WebSocket_Protocol" in changes else None
    assert answer.header("Sec-WebSocket-Protocol") == expected
    assert answer.header("Sec-WebSocket-Extensions") is None


# [2.subprotocol.unknown] [7.refusals] [7.problem]
@pytest.mark.parametrize(
    ("changes", "status", "word"),
    [
        ({"Sec_WebSocket_Key": "short"}, 400, "Key"),
        ({"Sec_WebSocket_Key": KEY[:-2] + "=="[:1]}, 400, "Key"),
        ({"Sec_WebSocket_Key": [KEY, KEY]}, 400, "Key"),
        ({"drop": ["Sec-WebSocket-Key"]}, 400, "Key"),
        ({"drop": ["Sec-WebSocket-Version"]}, 426, "Version"),
        ({"Sec_WebSocket_Version": "12"}, 426, "Version"),
        ({"Sec_WebSocket_Version": ["13", "13"]}, 426, "Version"),
        ({"drop": ["Upgrade"]}, 426, "Upgrade"),
        ({"Upgrade": "h2c"}, 426, "Upgrade"),
        ({"drop": ["Connection"]}, 426, "Connection"),
        ({"Connection": "close"}, 426, "Connection"),
        ({"drop": ["Host"]}, 400, "Host"),
        ({"Host": ["localhost", "localhost"]}, 400, "Host"),
        ({"Sec_WebSocket_Protocol": "other"}, 400, "rotocol"),
        ({"Sec_WebSocket_Protocol": "clarion.v9.json, other"}, 400, "rotocol"),
        ({"Sec_WebSocket_Protocol": "clarion.v1.json, clarion.v1.json"}, 400, "rotocol"),
        ({"Sec_WebSocket_Protocol": "not a token"}, 400, "rotocol"),
        ({"path": "/nothing"}, 404, None),
        ({"path": "/ws/"}, 404, None),
    ],
)
def test_a_request_that_breaks_a_rule_is_told_which(server, changes, status, word):
    answer, problem = refused(server, request(server, **changes), status)
    assert word is None or word in problem["detail"], problem
    if status == 426:
        assert answer.header("Sec-WebSocket-Version") == "13"
        assert answer.header("Upgrade").lower() == "websocket"


# [7.paths] [7.refusals]
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_only_get_opens_a_connection(server, method):
    data = request(server, method=method, Content_Length="0")
    answer, _ = refused(server, data, 405)
    assert answer.header("Allow") == "GET"


def test_http_1_0_cannot_upgrade(server):
    answer = Answer(server, request(server, version="HTTP/1.0"))
    assert answer.status in (400, 426, 505), answer.head


# [6.http] [7.refusals]
@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "http://127.0.0.1.evil.example", "https://localhost.evil"],
)
def test_pages_of_other_sites_are_refused(server, origin):
    _, problem = refused(server, request(server, Origin=origin), 403)
    assert "rigin" in problem["detail"]
    # Offering the subprotocol makes no difference: a page of another site learns nothing.
    data = request(server, Origin=origin, Sec_WebSocket_Protocol="clarion.v1.json")
    refused(server, data, 403)


@pytest.mark.parametrize("origin", ["http://{address}", "http://localhost:5173", "http://[::1]:1"])
def test_pages_of_this_machine_may_connect(server, origin):
    data = request(server, Origin=origin.format(address=server.address))
    assert Answer(server, data).status == 101


def test_other_origins_can_be_allowed(start):
    server = start({"origins": {"allowed": ["https://app.example", "https://*.shop.example"]}})
    for origin in ("https://app.example", "https://eu.shop.example"):
        assert Answer(server, request(server, Origin=origin)).status == 101
    for origin in ("https://shop.example", "http://app.example", "https://app.example.evil"):
        refused(server, request(server, Origin=origin), 403)


# [7.paths]
def test_the_echo_is_only_there_when_it_is_switched_on(start, server):
    assert Answer(server, request(server, path="/echo")).status == 101
    refused(start(), request(start(), path="/echo"), 404)


# [7.problem]
@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(64),
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"GET /ws\r\n\r\n",
        b"GET /ws HTTP/1.1\r\nHost: a\r\nBad Header: x\r\n\r\n",
        b"\x00" * 100 + b"\r\n\r\n",
        encode(TEXT, b"{}"),
    ],
)
def test_garbage_before_the_handshake_is_answered_or_cut_off(server, garbage):
    with open_socket(server) as sock:
        sock.sendall(garbage)
        sock.shutdown(socket.SHUT_WR)
        sock.settimeout(10)
        data = b""
        while chunk := sock.recv(65536):
            data += chunk
    assert data == b"" or data.startswith(b"HTTP/1.1 400 "), data


# [7.refusals]
def test_headers_of_100_kilobytes_are_431(server):
    data = request(server, X_Large="x" * 100_000)
    with open_socket(server) as sock:
        sock.settimeout(10)
        # The answer may come before all of it was sent.
        with contextlib.suppress(OSError):
            sock.sendall(data)
        head, _ = read_head(sock)
    assert head.startswith(b"HTTP/1.1 431 "), head


# [7.refusals]
def test_many_headers_are_431(server):
    data = request(server, **{f"X_{n}": "1" for n in range(2000)})
    answer = Answer(server, data)
    assert answer.status == 431, answer.head


def test_slow_headers_are_cut_off_within_the_handshake_time(start):
    server = start({"limits": {"handshake": "500ms"}})
    for beginning in (b"", b"GET /ws HTTP/1.1\r\nHost: localhost\r\nX-Slow: "):
        with open_socket(server) as sock:
            started = time.monotonic()
            sock.sendall(beginning)
            sock.settimeout(10)
            data = b""
            try:
                while True:
                    # A byte now and then buys no time.
                    if beginning:
                        sock.sendall(b"x")
                    sock.settimeout(0.1)
                    try:
                        chunk = sock.recv(65536)
                    except TimeoutError:
                        assert time.monotonic() - started < 5, "it is still open"
                        continue
                    if not chunk:
                        break
                    data += chunk
            except (BrokenPipeError, ConnectionResetError):
                pass
            assert time.monotonic() - started >= 0.4
            assert data == b"" or data.startswith(b"HTTP/1.1 408 "), data


def test_bytes_behind_the_request_are_read(server):
    """Whoever sends its first frames together with the handshake is answered like anybody."""
    for _ in range(50):
        hello = encode(TEXT, b'{"type":"$hello","payload":{},"metadata":{"id":1}}')
        ping = encode(TEXT, b'{"type":"$ping","payload":7,"metadata":{"id":2}}')
        session = Peer(server, say_hello=False, behind=hello + ping)
        assert session.answer(1)["resumed"] is False
        assert session.answer(2) == 7
        session.close()


def test_bytes_behind_the_request_in_one_segment_or_many(server):
    data = request(server, path="/echo") + encode(TEXT, b"a" * 5000)
    for size in (1, 7, 100, len(data)):
        with open_socket(server) as sock:
            for at in range(0, len(data), size):
                sock.sendall(data[at : at + size])
            head, rest = read_head(sock)
            assert head.startswith(b"HTTP/1.1 101 ")
            while len(rest) < 5004:
                rest += sock.recv(65536)
            assert rest == b"\x81\x7e\x13\x88" + b"a" * 5000


def test_a_body_is_no_part_of_a_handshake(server):
    data = request(server, Content_Length="2") + b"{}"
    assert Answer(server, data).status in (101, 400)


# [7.refusals]
def test_an_ordinary_request_at_the_endpoint_is_told_to_upgrade(server):
    data = b"GET /ws HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answer, _ = refused(server, data, 426)
    assert answer.header("Sec-WebSocket-Version") == "13"


def test_the_front_page_and_the_endpoint_share_a_path(server):
    status, body = server.get("/")
    assert status == 200
    assert "<html" in body.lower()


def test_several_requests_on_one_connection(server):
    data = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with open_socket(server) as sock:
        for _ in range(3):
            sock.sendall(data)
            head, _ = read_head(sock)
            assert head.startswith(b"HTTP/1.1 200 ")
        # And then it becomes a WebSocket connection.
        sock.sendall(request(server, path="/echo"))
        head, _ = read_head(sock)
        assert head.startswith(b"HTTP/1.1 101 ")


# [6.http] [7.refusals]
def test_over_the_limit_of_connections_the_handshake_is_503(start, peer):
    server = start({"limits": {"connections": 2}})
    first = peer(server)
    peer(server)
    answer, _ = refused(server, request(server), 503)
    assert int(answer.header("Retry-After")) >= 1
    first.close()
    wait_until(lambda: Answer(server, request(server)).status == 101, "room for another")
