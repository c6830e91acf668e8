"""What a stranger does before there is a connection: sockets, HTTP, and the opening handshake."""

import contextlib
import itertools
import os
import re
import selectors
import socket
import time
from collections import Counter
from urllib.parse import quote

from hostile import PATIENCE_S, Hostile, attack, hostiles, named
from support.server import API_KEY

KEY = f"Authorization: Bearer {API_KEY}\r\n"
UPGRADE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


def request(target, line, more="", host=None):
    return f"{line}\r\nHost: {host or f'{target[0]}:{target[1]}'}\r\n{more}\r\n"


def handshake(target, more=""):
    return request(target, "GET /ws HTTP/1.1", UPGRADE + more)


def answers(target, data):
    """Everything that comes until the server ends the connection, or waits for more."""
    connection = Hostile(target, head=False)
    connection.send(data.encode("latin-1"))
    connection.socket.settimeout(5)
    while connection.read():
        pass
    connection.socket.close()
    return bytes(connection.buffer)


def statuses(answer):
    return "http " + (" ".join(re.findall(r"HTTP/1.1 (\d+)", answer.decode("latin-1"))) or "none")


# Sockets


@attack
def silent_sockets(target, scale):
    """More connections than there may be, which say nothing."""
    seen = Counter()
    for _ in range(scale):
        connections = hostiles(target, 400, head=False)
        for connection in connections:
            while connection.read():
                pass
            seen[statuses(bytes(connection.buffer))] += 1
            connection.socket.close()
        last = Hostile(target)
        seen["served again"] += "$welcome" in set(named(last.answers(1)))
        last.drop()
    return seen


@attack
def slow_heads(target, _scale):
    """Requests that come by the byte, more than there may be."""
    connections = hostiles(target, 300, head=False)
    request = f"GET /ws HTTP/1.1\r\nHost: {target[0]}:{target[1]}\r\nX: ".encode()
    for connection in connections:
        connection.send(request)
    seen, selector = Counter(), selectors.DefaultSelector()
    for connection in connections:
        selector.register(connection.socket, selectors.EVENT_READ, connection)
    deadline = time.monotonic() + PATIENCE_S
    while selector.get_map() and time.monotonic() < deadline:
        for key, _ in selector.select(0.1):
            connection = key.data
            alive = connection.read()
            if not alive:
                status = connection.buffer[9:12].decode() if connection.buffer else "none"
                seen[f"http {status}"] += 1
                selector.unregister(connection.socket)
                connection.socket.close()
        for key in list(selector.get_map().values()):
            # Whoever was answered is read next.
            with contextlib.suppress(OSError):
                key.data.socket.sendall(b"y")
    seen["open"] = len(selector.get_map())
    return +seen


@attack
def slow_bodies(target, scale):
    """Bodies that come by the byte, with a key and without."""
    seen = Counter()
    for _ in range(scale):
        connections = hostiles(target, 100, head=False)
        for n, connection in enumerate(connections):
            post = "POST /v1/publish HTTP/1.1"
            more = (
                f"{KEY if n % 2 else ''}Content-Type: application/json\r\nContent-Length: 99999\r\n"
            )
            connection.send(request(target, post, more).encode())
        waiting, deadline = list(connections), time.monotonic() + PATIENCE_S
        while waiting and time.monotonic() < deadline:
            for connection in list(waiting):
                connection.send(b" ")
                connection.socket.settimeout(0.001)
                connection.read()
                if connection.buffer or connection.ended:
                    seen[statuses(bytes(connection.buffer))] += 1
                    waiting.remove(connection)
                    connection.drop()
        seen["open"] += len(waiting)
    return +seen


@attack
def slow_answers(target, scale):
    """Files that are asked for and not read: the place of whoever does it must be had again."""
    seen = Counter()
    page = answers(target, request(target, "GET / HTTP/1.1", "Connection: close\r\n")).decode()
    path = re.search(r'src="(/assets/[^"]+)"', page)
    file = request(target, f"GET {path.group(1) if path else '/openapi.json'} HTTP/1.1").encode()
    for _ in range(scale):
        connections = hostiles(target, 100, head=False, receive_buffer=4096)
        for connection in connections:
            connection.send(file * 50)
        deadline = time.monotonic() + PATIENCE_S
        while (count := held(target)) > 50 and time.monotonic() < deadline:
            time.sleep(0.1)
        seen["open" if count > 50 else "cut off"] += len(connections)
        for connection in connections:
            connection.drop()
    return seen


def held(target):
    """How many HTTP connections the server has."""
    metrics = answers(
        target, request(target, "GET /metrics HTTP/1.1", KEY + "Connection: close\r\n")
    )
    return int(re.search(rb"\nclarion_http_connections (\d+)", metrics).group(1))


# HTTP


@attack
def garbage(target, scale):
    """Bytes that are no HTTP at all."""
    seen = Counter()
    for n in range(100 * scale):
        connection = Hostile(target, head=False)
        data = os.urandom(2_000) if n % 2 else b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 50
        connection.send(data)
        connection.socket.settimeout(0.05)
        with contextlib.suppress(OSError):
            connection.socket.shutdown(socket.SHUT_WR)
        connection.socket.settimeout(PATIENCE_S)
        while connection.read():
            pass
        seen[f"http {connection.buffer[9:12].decode() or 'none'}"] += 1
        connection.socket.close()
    return seen


@attack
def guessed_keys(target, scale):
    """Calls of the API with keys that are none."""
    seen = Counter()
    connection = socket.create_connection(target, timeout=PATIENCE_S)
    for n in range(300 * scale):
        connection.sendall(
            f"GET /v1/clients HTTP/1.1\r\nHost: {target[0]}:{target[1]}\r\n"
            f"Authorization: Bearer {'x' * (n % 200)}\r\n\r\n".encode()
        )
        answer = connection.recv(65_536)
        seen[f"http {answer[9:12].decode()}"] += 1
    connection.close()
    return seen


@attack
def injected_paths(target, scale):
    """Paths and queries that want to be more than that."""
    rooms = [
        "a/../b",
        "..",
        "a\r\nX-Injected: 1",
        "a\0",
        "' OR 1=1 --",
        "<script>",
        "${jndi:ldap://x}",
    ]
    rooms += ["a b", "\u2025", "%2e%2e", "*", "**", "$all/x", "$user/../ada", "a" * 129]
    paths = [f"/v1/history?room={quote(room, safe='')}" for room in rooms]
    paths += [
        "/../../etc/passwd",
        "/assets/../../../etc/passwd",
        "/assets/%2e%2e/%2e%2e/etc/passwd",
        "/assets/..%5c..%5cetc",
        "/v1/%0d%0aX-Injected:%201",
        "/v1/history%3froom=a",
        "/v1/history?room=a&room=b",
        "/v1/history?room=%ff",
        "/v1/history?room=a%",
        "/v1/history?room",
        "/v1/rooms?match=a%00",
        "/v1/history?room=a&limit=99999999999999999999",
        "/v1/history?room=a&limit=1e3",
        f"/v1/history?room={'x' * 20_000}",
        "/v1/history?room=a b",
        "*",
    ]
    seen = Counter()
    for path in paths * scale:
        data = request(target, f"GET {path} HTTP/1.1", KEY + "Connection: close\r\n")
        answer = answers(target, data)
        if b"injected" in answer.lower():
            seen["injected"] += 1
        seen[statuses(answer)] += 1
    return seen


@attack
def forged_lines(target, scale):
    """Names that would be lines of the log, where whoever calls the API has them logged."""
    forged = '\n{"level":"ERROR","message":"forged"}\n\x1b[2J\x1b]0;forged\x07\u2028\x85\r forged'
    body = f'{{"user":{quoted(forged)},"room":{quoted(forged)},"group":{quoted(forged)}}}'
    seen = Counter()
    paths = ["kick", "disconnect", "join", "groups/add", "groups/remove", quote(forged)]
    for path, key in itertools.product(
        paths * scale, [KEY, f"Authorization: Bearer {quote(forged)}\r\n"]
    ):
        more = f"{key}Connection: close\r\nContent-Length: {len(body)}\r\n"
        more += "Content-Type: application/json\r\n"
        data = request(
            target, f"POST /v1/{path} HTTP/1.1", f"{more}User-Agent: {quote(forged)}\r\n"
        )
        seen[statuses(answers(target, data + body))] += 1
    return seen


def quoted(text):
    """A JSON string in ASCII."""
    return '"' + "".join(f"\\u{ord(character):04x}" for character in text) + '"'


# The handshake


@attack
def cross_site(target, scale):
    """Handshakes of pages of other sites, with what a browser sends along."""
    origins = ["http://evil.example", "null", "", "http://127.0.0.1.evil.example", "file://"]
    origins += ["http://localhost.evil.example", "http://127.0.0.1@evil.example", "https://[::1].x"]
    origins += [
        f"http://{target[0]}:{target[1]}, http://evil.example",
        f"//{target[0]}:{target[1]}",
    ]
    seen = Counter()
    brought = "Cookie: session=x\r\nSec-WebSocket-Protocol: clarion.v1.json\r\n"
    for origin in origins * scale:
        more = f"{brought}Origin: {origin}\r\n"
        seen[statuses(answers(target, handshake(target, more)))] += 1
    return seen


@attack
def rebound_names(target, scale):
    """A page whose own name leads here is of the same origin, and nobody's guest for that."""
    seen = Counter()
    for _ in range(10 * scale):
        connection = Hostile(target, host="evil.example", more="Origin: http://evil.example\r\n")
        seen.update(named(connection.answers(9)))
        seen[connection.ended or "open"] += 1
        connection.drop()
    return seen


@attack
def smuggled_requests(target, scale):
    """A request within another one, or behind a handshake that is refused."""
    inside = request(target, "GET /stats HTTP/1.1", KEY)
    seen = Counter()
    for more in [
        f"Content-Length: {len(inside)}\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 0\r\nContent-Length: 5\r\n",
        "Transfer-Encoding : chunked\r\n",
        "X: a\r\n Transfer-Encoding: chunked\r\n",
        "X: a\rTransfer-Encoding: chunked\r\n",
        "Host: other.example\r\n",
        "Sec-WebSocket-Version: 12\r\n",
        "Origin: http://evil.example\r\n",
        "",
    ] * (5 * scale):
        data = handshake(target, more)
        seen[statuses(answers(target, data + inside))] += 1
    for more in [
        "Content-Length: 4\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Content-Length: 4\r\n X: a\r\n",
    ] * (5 * scale):
        data = request(target, "POST /v1/publish HTTP/1.1", KEY + more)
        seen[statuses(answers(target, data + inside))] += 1
    return seen
