"""A connection with permessage-deflate made by hand (RFC 7692), which checks every frame it gets.

What it inflates with has exactly the window that was agreed on, and refuses whatever reaches
farther back.
"""

import base64
import os
import struct
import zlib

from support.peer import BINARY, CLOSE, CONTINUATION, TEXT, encode, header, open_socket, read_head
from support.session import PATIENCE_S, SUBPROTOCOL

RSV1 = 4
TAIL = b"\x00\x00\xff\xff"


class Wire:
    def __init__(self, server, offer=None, path="/echo", subprotocol=None):
        self.socket = open_socket(server)
        key = base64.b64encode(os.urandom(16)).decode()
        request = (
            f"GET {path} HTTP/1.1\r\nHost: {server.address}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
        )
        if offer is not None:
            request += f"Sec-WebSocket-Extensions: {offer}\r\n"
        if subprotocol or path == "/ws":
            request += f"Sec-WebSocket-Protocol: {subprotocol or SUBPROTOCOL}\r\n"
        self.socket.sendall(request.encode() + b"\r\n")
        head, rest = read_head(self.socket)
        assert head.startswith(b"HTTP/1.1 101 "), head
        self.buffer = bytearray(rest)
        self.socket.settimeout(PATIENCE_S)
        self.answer = (header(head, b"sec-websocket-extensions") or b"").decode()
        names = [part.strip() for part in self.answer.split(";")]
        self.agreed = names[0] == "permessage-deflate"
        parameters = dict((name + "=").split("=")[:2] for name in names[1:])
        self.server_bits = int(parameters.get("server_max_window_bits", 15))
        self.client_bits = int(parameters.get("client_max_window_bits", 15))
        self.server_takeover = "server_no_context_takeover" not in parameters
        self.client_takeover = "client_no_context_takeover" not in parameters
        self.inflater = self.deflater = None

    # Sending

    def deflate(self, data):
        if self.deflater is None or not self.client_takeover:
            self.deflater = zlib.compressobj(9, wbits=-self.client_bits)
        out = self.deflater.compress(data) + self.deflater.flush(zlib.Z_SYNC_FLUSH)
        assert out.endswith(TAIL)
        return out[: -len(TAIL)]

    def send(self, data, opcode=TEXT):
        """A compressed message in one frame."""
        self.bytes(encode(opcode, self.deflate(data), rsv=RSV1))

    def bytes(self, data):
        self.socket.sendall(data)

    # Receiving

    def frame(self):
        """The next frame: fin, whether RSV1 is set, opcode, payload."""
        first, second = self.take(2)
        assert first & 0x30 == 0, first
        assert second & 0x80 == 0, "the server masked a frame"
        length = second
        if length == 126:
            (length,) = struct.unpack("!H", self.take(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", self.take(8))
        opcode, compressed = first & 0x0F, bool(first & 0x40)
        if opcode not in (TEXT, BINARY):
            assert not compressed, f"RSV1 on a frame with opcode {opcode}"
        if compressed:
            assert self.agreed, "RSV1 without agreement"
        return bool(first & 0x80), compressed, opcode, bytes(self.take(length))

    def message(self):
        """The next message, inflated, and how it came: opcode, data, whether compressed."""
        fin, compressed, opcode, payload = self.frame()
        while not fin:
            fin, _, continuation, more = self.frame()
            assert continuation == CONTINUATION
            payload += more
        return opcode, self.inflate(payload) if compressed else payload, compressed

    def inflate(self, payload):
        if self.inflater is None or not self.server_takeover:
            self.inflater = zlib.decompressobj(wbits=-self.server_bits)
        return inflate(self.inflater, payload + TAIL)

    def close_code(self):
        """Reads up to the close frame."""
        while True:
            _, _, opcode, payload = self.frame()
            if opcode == CLOSE:
                return struct.unpack("!H", payload[:2])[0] if payload else 1005

    def take(self, size):
        while len(self.buffer) < size:
            data = self.socket.recv(65536)
            assert data, "the connection ended"
            self.buffer += data
        taken, self.buffer = self.buffer[:size], self.buffer[size:]
        return taken

    def close(self):
        self.socket.close()


def inflate(inflater, data):
    """Inflates a byte at a time: zlib looks at the window only for what came in earlier calls, and
    forgives any distance within one."""
    out = bytearray()
    while True:
        piece = inflater.decompress(data, 1)
        if not piece:
            return bytes(out)
        out += piece
        data = inflater.unconsumed_tail
