"""A client made by hand: every byte it sends is a test's, every byte it gets is checked.

It can do what no library lets one do: break the rules, stop reading, and cut the connection.
"""

import base64
import contextlib
import hashlib
import os
import queue
import socket
import struct
import threading

from support.session import PATIENCE_S, SUBPROTOCOL, Session
from support.tls import Shared

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
END = object()


class Peer(Session):
    """A connection whose frames are written and read here.

    A thread reads what comes, and answers Pings and close frames, so that the peer is a slow
    reader only when `reading` is False, and stubborn only when `answers` is.
    """

    def __init__(
        self,
        server,
        subprotocol=SUBPROTOCOL,
        path="/ws",
        say_hello=True,
        behind=b"",
        receive_buffer=None,
        source=None,
        **hello,
    ):
        super().__init__()
        self.socket = open_socket(server, receive_buffer, source)
        key = base64.b64encode(os.urandom(16))
        offer = f"Sec-WebSocket-Protocol: {subprotocol}\r\n" if subprotocol else ""
        request = (
            f"GET {path} HTTP/1.1\r\nHost: {server.address}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key.decode()}\r\n"
            f"Sec-WebSocket-Version: 13\r\n{offer}\r\n"
        )
        self.socket.sendall(request.encode() + behind)
        head, self.rest = read_head(self.socket)
        self.head = head
        assert head.startswith(b"HTTP/1.1 101 "), head
        accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
        assert header(head, b"sec-websocket-accept") == accept, head
        expected = subprotocol.encode() if subprotocol else None
        assert header(head, b"sec-websocket-protocol") == expected, head
        assert header(head, b"sec-websocket-extensions") is None, head
        self.messages = queue.Queue()
        self.unread = None
        self.can_read = threading.Event()
        self.can_read.set()
        self.answers = True
        # Pings that came.
        self.pings = 0
        # The code of the server's close frame, as soon as it was read.
        self.close_code = None
        self.writing = threading.Lock()
        self.reader = threading.Thread(target=self._reader, daemon=True)
        self.reader.start()
        if subprotocol and say_hello:
            self.hello(**hello)

    # Sending

    def send_text(self, text):
        self.frame(TEXT, text.encode())

    def frame(self, opcode, payload=b"", **shape):
        self.bytes(encode(opcode, payload, **shape))

    def bytes(self, data):
        # The reader answers Pings from its own thread.
        with self.writing:
            self.socket.sendall(data)

    # Receiving

    def read_text(self, timeout):
        kind, data = self.next_item(timeout)
        if kind != TEXT:
            # Stays for whoever asks how the connection ended.
            self.unread = (kind, data)
            raise ConnectionEnded(kind, data)
        return data

    def next_item(self, timeout=PATIENCE_S):
        """What comes next: kind and content of a message, a close frame, or the end."""
        if self.unread is not None:
            item, self.unread = self.unread, None
            return item
        try:
            return self.messages.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError("nothing came") from None

    def closed(self, timeout=PATIENCE_S):
        """Reads up to the close frame, checks that nothing but the end follows: code and reason."""
        kind = None
        while kind != CLOSE:
            kind, data = self.next_item(timeout)
            assert kind is not END, f"the connection ended without a close frame: {data}"
        kind, extra = self.next_item(timeout)
        assert kind is END, f"after the close frame came {kind} {extra}"
        if not data:
            return None, ""
        return struct.unpack("!H", data[:2])[0], data[2:].decode()

    @property
    def reading(self):
        return self.can_read.is_set()

    @reading.setter
    def reading(self, reading):
        if reading:
            self.can_read.set()
        else:
            self.can_read.clear()

    def _reader(self):
        buffer = bytearray(self.rest)
        message = None
        try:
            while True:
                while (frame := decode(buffer)) is not None:
                    fin, opcode, payload = frame
                    if opcode in (PING, CLOSE) and self.answers:
                        answer = PONG if opcode == PING else CLOSE
                        with contextlib.suppress(OSError):
                            self.frame(answer, payload if opcode == PING else payload[:2])
                    if opcode == CLOSE:
                        self.close_code = struct.unpack("!H", payload[:2])[0] if payload else 1005
                        self.messages.put((CLOSE, payload))
                    elif opcode in (PING, PONG):
                        self.pings += opcode == PING
                        continue
                    else:
                        message = payload if opcode else message + payload
                        kind = opcode or kind  # noqa: F821 (a continuation follows a beginning)
                        if fin:
                            text = message.decode() if kind == TEXT else message
                            self.messages.put((kind, text))
                self.can_read.wait()
                data = self.socket.recv(65536)
                if not data:
                    break
                buffer += data
            why = f"{len(buffer)} bytes of a frame were left" if buffer else "in order"
        except OSError as error:
            why = str(error)
        self.messages.put((END, why))
        # The server has closed its side; it waits for ours.
        self.socket.close()

    # Ending

    def close(self, code=1000):
        with contextlib.suppress(OSError):
            self.frame(CLOSE, struct.pack("!H", code))
        self.closed()

    def drop(self):
        """Ends the connection as a killed process does, with what is unread thrown away."""
        with contextlib.suppress(OSError):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.socket.shutdown(socket.SHUT_RD)
        self.can_read.set()
        # Not under the reader: the descriptor may be another connection's as soon as it is closed.
        self.reader.join(PATIENCE_S)
        self.socket.close()


class ConnectionEnded(Exception):
    """A message was waited for, and the connection ended."""


# Frames


def encode(opcode, payload=b"", fin=True, rsv=0, mask=True, length_size=None, length=None):
    """A frame, with every part as wrong as a test wants it.

    `length_size` forces 1, 3 or 9 bytes for the length; `length` lies about it.
    """
    length = len(payload) if length is None else length
    if length_size is None:
        length_size = 1 if length < 126 else 3 if length < 65536 else 9
    masked = 0x80 if mask else 0
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    if length_size == 1:
        head += bytes([masked | length])
    elif length_size == 3:
        head += bytes([masked | 126]) + struct.pack("!H", length)
    else:
        head += bytes([masked | 127]) + struct.pack("!Q", length)
    if not mask:
        return head + payload
    key = os.urandom(4)
    return head + key + xor(payload, key)


def xor(data, key):
    """Masks or unmasks; as one large number, since a loop over bytes would be the slow part."""
    size = len(data)
    mask = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(data, "big") ^ int.from_bytes(mask, "big")).to_bytes(size, "big")


def decode(buffer):
    """Takes one whole frame of a server from the front of `buffer`: fin, opcode, payload."""
    if len(buffer) < 2:
        return None
    first, second = buffer[0], buffer[1]
    assert first & 0x70 == 0, "the server set a reserved bit"
    assert second & 0x80 == 0, "the server masked a frame"
    length, start = second & 0x7F, 2
    if length >= 126:
        start = 4 if length == 126 else 10
        if len(buffer) < start:
            return None
        length = int.from_bytes(buffer[2:start], "big")
        assert length >= (126 if start == 4 else 65536), "the length is not minimal"
    if len(buffer) < start + length:
        return None
    payload = bytes(buffer[start : start + length])
    del buffer[: start + length]
    opcode = first & 0x0F
    assert opcode in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG), opcode
    return bool(first & 0x80), opcode, payload


# HTTP, as far as a handshake needs it


def open_socket(server, receive_buffer=None, source=None):
    sock = socket.socket()
    if source:
        sock.bind((source, 0))
    if receive_buffer:
        # Before connecting, or the window is already larger.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.settimeout(PATIENCE_S)
    sock.connect((server.host, server.ws_port))
    if server.tls:
        sock = Shared(sock, server.tls, server.host)
    # The reader may wait for as long as it likes; tests have their own patience.
    sock.settimeout(None)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def read_head(sock):
    """Reads up to the end of the headers: them, and what came behind."""
    sock.settimeout(PATIENCE_S)
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = sock.recv(65536)
        if not chunk:
            break
        data += chunk
    sock.settimeout(None)
    head, _, rest = data.partition(b"\r\n\r\n")
    return head, rest


def header(head, name):
    """The value of a header that comes once or never."""
    lines = [line.split(b":", 1) for line in head.split(b"\r\n")[1:]]
    values = [value.strip() for key, value in lines if key.lower() == name]
    assert len(values) <= 1, values
    return values[0] if values else None
