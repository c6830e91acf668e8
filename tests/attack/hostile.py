"""What all attackers share: the list of attacks, and a client that does what no client should.

An attack is a function of a server's address and of how much there is to be of it; it returns how
often it saw what: `closed 1009`, `http 400`, `error rate_limited`, `open`.
"""

import base64
import contextlib
import json
import os
import socket
import struct
import time
from collections import Counter

from support.peer import CLOSE, TEXT, decode, encode

ATTACKS = {}
# How long an attacker waits for what the server does at last.
PATIENCE_S = 30


def attack(function):
    ATTACKS[function.__name__] = function
    return function


class Hostile:
    """A connection that sends whatever it likes, and reads when it likes."""

    def __init__(
        self,
        target,
        head=True,
        deflate=False,
        hello=True,
        receive_buffer=None,
        host=None,
        more="",
        subprotocol=True,
    ):
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(PATIENCE_S)
        self.socket.connect(target)
        self.buffer = bytearray()
        self.ended = None
        if head:
            offer = "Sec-WebSocket-Protocol: clarion.v1.json\r\n" if subprotocol else ""
            extension = "Sec-WebSocket-Extensions: permessage-deflate\r\n" if deflate else ""
            self.send(
                f"GET /ws HTTP/1.1\r\nHost: {host or f'{target[0]}:{target[1]}'}\r\n{more}"
                "Upgrade: websocket\r\n"
                f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n{extension}"
                f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\n"
                f"{offer}\r\n".encode()
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
