"""What a hostile or broken client does. Each attack says what became of it, and judges nothing.

An attack is a function of a server's address and of how much there is to be of it; it returns how
often it saw what: `closed 1009`, `http 400`, `error rate_limited`, `open`. It runs in a process of
its own, so that an honest client beside it is slowed down by the server and by nothing else:

    python attacks.py ping_flood 127.0.0.1 8080 1
"""

import base64
import contextlib
import json
import os
import selectors
import socket
import struct
import sys
import time
import zlib
from collections import Counter

from support.peer import BINARY, CLOSE, CONTINUATION, PING, TEXT, decode, encode

ATTACKS = {}
# How long an attacker waits for what the server does at last.
PATIENCE_S = 30


def attack(function):
    ATTACKS[function.__name__] = function
    return function


class Hostile:
    """A connection that sends whatever it likes, and reads when it likes."""

    def __init__(self, target, head=True, deflate=False, hello=True, receive_buffer=None):
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(PATIENCE_S)
        self.socket.connect(target)
        self.buffer = bytearray()
        self.ended = None
        if head:
            extension = "Sec-WebSocket-Extensions: permessage-deflate\r\n" if deflate else ""
            self.send(
                f"GET /ws HTTP/1.1\r\nHost: {target[0]}:{target[1]}\r\nUpgrade: websocket\r\n"
                f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n{extension}"
                f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\n"
                "Sec-WebSocket-Protocol: clarion.v1.json\r\n\r\n".encode()
            )
            while b"\r\n\r\n" not in self.buffer and self.read():
                pass
            head, _, rest = bytes(self.buffer).partition(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 101 "):
                self.ended = f"http {head[9:12].decode()}"
            self.buffer = bytearray(rest)
            if hello:
                self.say("$hello")

    def send(self, data):
        """Sends all of it, or learns that nobody takes it."""
        if self.ended is None:
            try:
                self.socket.sendall(data)
            except TimeoutError:
                self.ended = "not read"
            except OSError:
                self.end()

    def frame(self, opcode, payload=b"", **shape):
        self.send(encode(opcode, payload, **shape))

    def say(self, kind, payload=None, **metadata):
        self.frame(TEXT, text(kind, payload, **metadata))

    def read(self):
        """Takes what is there, waiting for something. False: that was all."""
        try:
            data = self.socket.recv(1 << 16)
        except OSError:
            data = b""
        self.buffer += data
        return bool(data)

    def end(self):
        """Reads to the end, and says how it was."""
        while self.read():
            pass
        if self.ended in (None, "not read"):
            self.ended = "lost"
        for opcode, payload in self.frames():
            if opcode == CLOSE:
                code = struct.unpack("!H", payload[:2])[0] if payload else 1005
                self.ended = f"closed {code}"
        self.socket.close()
        return self.ended

    def frames(self):
        while (frame := decode(self.buffer)) is not None:
            yield frame[1], frame[2]

    def answers(self, count, timeout=PATIENCE_S):
        """The next so many messages, or fewer if it ends before."""
        messages, deadline = [], time.monotonic() + timeout
        while len(messages) < count and time.monotonic() < deadline:
            for opcode, payload in self.frames():
                if opcode == TEXT:
                    messages.append(json.loads(payload))
                elif opcode == CLOSE:
                    self.ended = f"closed {struct.unpack('!H', payload[:2])[0]}"
            if len(messages) < count and (self.ended or not self.read()):
                break
        return messages

    def drop(self):
        """Ends as a process that is killed does: with a reset."""
        with contextlib.suppress(OSError):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


def text(kind, payload=None, **metadata):
    return json.dumps({"type": kind, "payload": payload, "metadata": metadata}).encode()


def named(messages):
    """What a client was told: errors by name, everything else by type."""
    for message in messages:
        error = message["type"] == "$error"
        yield f"error {message['payload']['name']}" if error else message["type"]


def hostiles(target, count, **options):
    return [Hostile(target, **options) for _ in range(count)]


def ends(connections):
    return Counter(connection.end() for connection in connections)


# Frames


@attack
def ping_flood(target, scale):
    """Pings as fast as they go, whose Pongs nobody reads."""
    connections = hostiles(target, 4, receive_buffer=4096)
    pings = encode(PING, b"x" * 125) * 500
    for _ in range(20 * scale):
        for connection in connections:
            connection.socket.settimeout(5)
            connection.send(pings)
    return ends(connections)


@attack
def close_flood(target, scale):
    """Connections that are opened to be closed."""
    seen = Counter()
    for _ in range(150 * scale):
        connection = Hostile(target)
        connection.frame(CLOSE, struct.pack("!H", 1000))
        seen[connection.end()] += 1
    return seen


@attack
def empty_fragments(target, scale):
    """A message that goes on for ever and says nothing."""
    seen = Counter()
    for _ in range(5 * scale):
        connection = Hostile(target)
        connection.frame(TEXT, fin=False)
        connection.send(encode(CONTINUATION, fin=False) * 5_000)
        seen[connection.end()] += 1
    return seen


@attack
def one_byte_frames(target, scale):
    """Messages in as many frames as may be, and in one more."""
    seen = Counter()
    rest = 1024 - len(text("m", "", room="attack/bytes", id=1))
    whole = text("m", "x" * rest, room="attack/bytes", id=1)
    for _ in range(5 * scale):
        connection = Hostile(target)
        connection.answers(1)
        pieces = [whole[n : n + 1] for n in range(len(whole))]
        for over in (False, True):
            parts = [*pieces, b" "] if over else pieces
            frames = [encode(TEXT, parts[0], fin=False)]
            frames += [encode(CONTINUATION, part, fin=False) for part in parts[1:-1]]
            frames.append(encode(CONTINUATION, parts[-1]))
            connection.send(b"".join(frames))
            if not over:
                seen.update(named(connection.answers(1)))
        seen[connection.end()] += 1
    return seen


@attack
def largest_messages(target, scale):
    """Messages of exactly the limit, and of one byte more."""
    seen, limit = Counter(), 65_536
    rest = limit - len(text("m", "", room="attack/large", id=1))
    for _ in range(5 * scale):
        connection = Hostile(target)
        connection.answers(1)
        connection.say("m", "x" * rest, room="attack/large", id=1)
        seen.update(named(connection.answers(1)))
        connection.say("m", "x" * (rest + 1), room="attack/large", id=1)
        seen[connection.end()] += 1
    return seen


@attack
def announced_giants(target, scale):
    """Frames that say they are as long as a frame can be."""
    seen = Counter()
    for n in range(20 * scale):
        connection = Hostile(target)
        connection.frame(BINARY if n % 2 else TEXT, b"x" * 100, length_size=9, length=(1 << 62) + n)
        seen[connection.end()] += 1
    return seen


def deflated(data):
    squeezer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (squeezer.compress(data) + squeezer.flush(zlib.Z_SYNC_FLUSH))[:-4]


@attack
def bombs(target, scale):
    """A message of 60 KB that inflates to 60 MB."""
    seen, bomb = Counter(), deflated(b" " * 60_000_000)
    for _ in range(5 * scale):
        connection = Hostile(target, deflate=True)
        connection.frame(TEXT, bomb, rsv=4)
        seen[connection.end()] += 1
    return seen


@attack
def small_bombs(target, scale):
    """Messages that inflate to just what a message may have: a thousand times what they cost."""
    seen = Counter()
    bomb = encode(TEXT, deflated(b" " * 65_500 + b"{}"), rsv=4)
    connections = hostiles(target, 4, deflate=True)
    for connection in connections:
        connection.socket.settimeout(1)
        connection.send(bomb * 1_000 * scale)
    for connection in connections:
        seen.update(set(named(connection.answers(1_000, timeout=1))))
        connection.drop()
    return seen


# Messages


@attack
def broken_messages(target, scale):
    """JSON that is none, or too much of it."""
    broken = [
        b"[" * 60_000,
        b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        b'{"type":"m","type":"m"}',
        b'{"type":"\\ud800"}',
        b'{"type":"m","metadata":{"room":"a","id":' + b"9" * 60_000 + b"}}",
        b'{"type":"m","metadata":{"room":"a/../b","id":1}}',
        b'{"type":"$join","payload":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
        b'{"type":"m","metadata":{"room":"\\u0000"}}',
        b"\xef\xbb\xbf{}",
        b"null",
        b"",
    ]
    seen = Counter()
    for n in range(4 * scale):
        connection = Hostile(target)
        connection.answers(1)
        for k in range(2_000):
            connection.frame(TEXT, broken[(n + k) % len(broken)])
            if connection.ended:
                break
        seen[connection.end()] += 1
    return seen


@attack
def forged_tickets(target, scale):
    """Tickets that were never issued, and tokens that nobody signed."""
    seen = Counter()
    for n in range(8 * scale):
        for bad in (
            {"ticket": base64.urlsafe_b64encode(os.urandom(90)).decode().rstrip("=")},
            {"ticket": "x" * (n % 40 * 700)},
        ):
            connection = Hostile(target, hello=False)
            connection.say("$hello", bad)
            welcome = connection.answers(1)
            if welcome and welcome[0]["type"] == "$welcome":
                assert welcome[0]["payload"]["resumed"] is False
            seen.update(named(welcome))
            connection.drop()
        header = base64.urlsafe_b64encode(b'{"alg":"none"}').decode().rstrip("=")
        claims = base64.urlsafe_b64encode(b'{"sub":"root","exp":9999999999}').decode().rstrip("=")
        connection = Hostile(target, hello=False)
        connection.say("$hello", {"token": f"{header}.{claims}."})
        seen[connection.end()] += 1
    return seen


# What is asked for


def pipelined(target, scale, commands, count=4, rounds=20, reads=False, **options):
    """Many commands at once from several connections, over and over."""
    connections = hostiles(target, count, **options)
    block = b"".join(encode(TEXT, command) for command in commands)
    for connection in connections:
        connection.socket.settimeout(0.5)
    for _ in range(rounds * scale):
        for connection in connections:
            connection.send(block)
            if reads and connection.ended is None:
                with contextlib.suppress(OSError):
                    connection.socket.settimeout(0.01)
                    connection.socket.recv(1 << 20)
                    connection.socket.settimeout(0.5)
    for connection in connections:
        connection.ended = None
        connection.socket.settimeout(PATIENCE_S)
    return ends(connections)


@attack
def history_flood(target, scale):
    """Pages of history, as large as they come, which nobody reads."""
    connection = Hostile(target)
    for _ in range(50):
        connection.say("m", "x" * 60_000, room="attack/history", id=1)
    connection.answers(50)
    connection.drop()
    asks = [text("$history", {"limit": 1000}, room="attack/history", id=n) for n in range(100)]
    return pipelined(target, scale, asks, receive_buffer=4096)


@attack
def join_flood(target, scale):
    """In and out of rooms, without end."""
    commands = []
    for n in range(100):
        commands.append(text("$join", {"members": True}, room=f"attack/join/{n}", id=n))
        commands.append(text("$leave", room=f"attack/join/{n}", id=n))
    return pipelined(target, scale, commands)


@attack
def state_flood(target, scale):
    """Presence that changes all the time, in a room that is told."""
    commands = [text("$join", {"members": True}, room="attack/state")]
    commands += [text("$state", "x" * 1_000, room="attack/state", id=n) for n in range(100)]
    return pipelined(target, scale, commands)


@attack
def key_flood(target, scale):
    """Publications with a key each, to rooms that are new each time."""
    commands = [
        text("m", "x", room=f"attack/keys/{os.urandom(6).hex()}", key="k" * 60, id=n)
        for n in range(200)
    ]
    return pipelined(target, scale, commands)


@attack
def many_rooms(target, scale):
    """A `$hello` that wants as many rooms as fit into a message."""
    seen = Counter()
    rooms = {f"attack/{n}": {"last": 100, "members": True} for n in range(1_000)}
    for _ in range(5 * scale):
        connection = Hostile(target, hello=False)
        connection.say("$hello", {"rooms": rooms})
        seen.update(set(named(connection.answers(1_001))))
        connection.drop()
    return seen


@attack
def vanishing(target, scale):
    """Sessions that join what they may and are gone without a word."""
    seen = Counter()
    for n in range(60 * scale):
        connection = Hostile(target, hello=False)
        rooms = {f"attack/vanish/{n}/{k}": {"members": True} for k in range(100)}
        connection.say("$hello", {"rooms": rooms})
        seen.update(set(named(connection.answers(101))))
        connection.drop()
    return seen


@attack
def deaf_members(target, scale):
    """Members of a busy room who never read."""
    connections = hostiles(target, 8, hello=False, receive_buffer=4096)
    for connection in connections:
        connection.say("$hello", {"rooms": {"attack/deaf": {}}})
    speaker = Hostile(target)
    for _ in range(10 * scale):
        for n in range(20):
            speaker.say("m", os.urandom(20_000).hex(), room="attack/deaf", id=n)
        speaker.answers(20)
    speaker.drop()
    for connection in connections:
        connection.drop()
    return Counter(connection.ended or "open" for connection in connections)


# Slowness


@attack
def slow_frames(target, scale):
    """Frames that come by the byte."""
    connections = hostiles(target, 100)
    for connection in connections:
        connection.send(encode(TEXT, b"{" * 60_000)[:100])
    for _ in range(20 * scale):
        for connection in connections:
            connection.send(b"x")
        time.sleep(0.02)
    for connection in connections:
        connection.drop()
    return Counter(connection.ended or "open" for connection in connections)


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


def main(name, host, port, scale):
    print(json.dumps(ATTACKS[name]((host, int(port)), int(scale))))


if __name__ == "__main__":
    main(*sys.argv[1:])
