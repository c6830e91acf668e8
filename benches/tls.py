"""What TLS costs the server: CPU of an echo, and memory of an idle connection, beside plain ones.

CLARION_BIN=target/release/clarion .venv/bin/python benches/tls.py

One client, one message in flight on each of eight connections; plain and TLS take turns, each first
as often as last. CPU is the sum of `schedstat` over the server's threads, memory its PSS.
"""

import socket
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "blackbox"))

from support.peer import TEXT, encode, read_head
from support.server import Server
from support.tls import Certificate, context

HEAD = (
    b"GET /echo HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
SETTINGS = {
    "heartbeat": {"interval": "10m"},
    "limits": {"connections": 20_000, "http_connections": 5_000},
}
ROUNDS, CONNECTIONS, IDLE = 9, 8, 2_000
# After so long what a closed connection held is back with the kernel, and what is left settles.
RETURNED_S, SETTLED_S = 22, 3


class Subject:
    def __init__(self, directory):
        certificate = Certificate(directory)
        self.trust = context(certificate)
        self.server = Server(directory, SETTINGS, echo=True, tls=certificate).start()
        self.process = Path(f"/proc/{self.server.process.pid}")

    def connect(self, tls):
        port = self.server.tls_port if tls else self.server.port
        sock = socket.create_connection((self.server.host, port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            sock = self.trust.wrap_socket(sock, server_hostname="localhost")
        sock.sendall(HEAD)
        head, _ = read_head(sock)
        assert head.startswith(b"HTTP/1.1 101 "), head
        return sock

    def cpu_us(self):
        threads = (self.process / "task").iterdir()
        return sum(int((each / "schedstat").read_text().split()[0]) for each in threads) / 1_000

    def memory(self):
        lines = (self.process / "smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) * 1_024 for line in lines if line.startswith("Pss:"))


def echo(subject, size):
    frame = encode(TEXT, b"x" * size)
    back = size + (2 if size < 126 else 4 if size < 65_536 else 10)
    socks = {tls: [subject.connect(tls) for _ in range(CONNECTIONS)] for tls in (False, True)}
    times = (1_500 if size < 10_000 else 400) // CONNECTIONS
    took = {False: [], True: []}
    for number in range(ROUNDS):
        for tls in (False, True) if number % 2 else (True, False):
            before = subject.cpu_us()
            for _ in range(times):
                for sock in socks[tls]:
                    sock.sendall(frame)
                for sock in socks[tls]:
                    left = back
                    while left:
                        left -= len(sock.recv(left))
            took[tls].append((subject.cpu_us() - before) / (times * CONNECTIONS))
    for sock in [*socks[False], *socks[True]]:
        sock.close()
    ratios = [tls / plain for plain, tls in zip(took[False], took[True], strict=True)]
    print(f"| {size} | {shown(took[False])} | {shown(took[True])} | {shown(ratios)} |", flush=True)


def idle(subject):
    for tls in (False, True) * 3:
        time.sleep(SETTLED_S)
        before = subject.memory()
        socks = [subject.connect(tls) for _ in range(IDLE)]
        time.sleep(SETTLED_S)
        each = (subject.memory() - before) // IDLE
        print(f"{'TLS' if tls else 'plain'}: {each} bytes for an idle connection", flush=True)
        for sock in socks:
            sock.close()
        time.sleep(RETURNED_S)


def shown(values):
    return f"{statistics.median(values):.2f} ({min(values):.2f}..{max(values):.2f})"


def main():
    with tempfile.TemporaryDirectory() as directory:
        subject = Subject(directory)
        print("| bytes of an echo | plain, us of server CPU | TLS, us | ratio |\n|---|---|---|---|")
        for size in (32, 1_024, 16_384, 65_536):
            echo(subject, size)
        idle(subject)
        subject.server.stop()


if __name__ == "__main__":
    main()
