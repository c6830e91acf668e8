"""Whom Clarion believes about who a client is: what listed proxies say, and nobody else.

No proxy runs here; each byte that one would send is the test's.
"""

import contextlib
import socket
import struct

import pytest

from support.peer import TEXT, encode, open_socket, read_head
from support.server import wait_until

PROXY, STRANGER = "127.0.0.2", "127.0.0.3"
CLIENT = "203.0.113.7"
HEAD = (
    "GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    "Sec-WebSocket-Protocol: clarion.v1.json\r\n"
)
HELLO = encode(TEXT, b'{"type":"$hello","payload":{},"metadata":{"id":"h"}}')
V2 = b"\r\n\r\n\0\r\nQUIT\n"


def come(server, source, before=b"", headers=""):
    """The status of a handshake, and which address the server says that the client has."""
    with open_socket(server, source=source) as sock:
        sock.sendall(before + f"{HEAD}{headers}\r\n".encode() + HELLO)
        # Who is not believed is cut off, maybe with a reset.
        head = b""
        with contextlib.suppress(ConnectionError):
            head, rest = read_head(sock)
        if not head.startswith(b"HTTP/1.1 101 "):
            return head[9:12].decode() or "cut off", None
        while b"$welcome" not in rest:
            rest += sock.recv(65536)
        [row] = server.api("/clients")["clients"]
        address = row["address"].rpartition(":")[0].strip("[]")
    wait_until(lambda: not server.api("/clients")["clients"], "it to be gone")
    return "101", address


def proxied(start, **proxies):
    # Whom a proxy brings does not come over loopback, where guests are let in by themselves.
    trusted = [f"{PROXY}/32", "10.0.0.0/8"]
    return start({"proxies": {"trusted": trusted, **proxies}, "auth": {"guests": "always"}})


def v2(family, addresses, command=0x21):
    return V2 + struct.pack("!BBH", command, family, len(addresses)) + addresses


def ipv4(client):
    ends = socket.inet_aton(client) + socket.inet_aton("127.0.0.1")
    return v2(0x11, ends + struct.pack("!HH", 4711, 443))


def ipv6(client):
    ends = socket.inet_pton(socket.AF_INET6, client) + socket.inet_pton(socket.AF_INET6, "::1")
    return v2(0x21, ends + struct.pack("!HH", 4711, 443))


# [7.proxy.header] [7.proxy.chain]
@pytest.mark.parametrize(
    ("headers", "client"),
    [
        (f"X-Forwarded-For: {CLIENT}\r\n", CLIENT),
        # What the client invented stands before what the proxy has seen.
        (f"X-Forwarded-For: 198.51.100.1, {CLIENT}\r\n", CLIENT),
        # Another proxy of ours in between.
        (f"X-Forwarded-For: {CLIENT}, 10.1.2.3\r\n", CLIENT),
        (f"X-Forwarded-For: 198.51.100.1\r\nX-Forwarded-For: {CLIENT}\r\n", CLIENT),
        ("X-Forwarded-For: 2001:db8::7\r\n", "2001:db8::7"),
        ("", PROXY),
        # Not the header that was set.
        (f"Forwarded: for={CLIENT}\r\n", PROXY),
    ],
)
def test_a_listed_proxy_names_the_client_in_the_header_that_is_set(start, headers, client):
    assert come(proxied(start), PROXY, headers=headers) == ("101", client)


# [7.proxy.header]
@pytest.mark.parametrize(
    ("header", "client"),
    [
        (f"for={CLIENT};proto=https", CLIENT),
        (f'for=198.51.100.1, for="{CLIENT}:8080"', CLIENT),
        ('for="[2001:db8::7]:99"', "2001:db8::7"),
    ],
)
def test_forwarded_is_understood_where_it_is_set(start, header, client):
    server = proxied(start, header="forwarded")
    assert come(server, PROXY, headers=f"Forwarded: {header}\r\n") == ("101", client)


# [7.proxy.trusted]
def test_nobody_else_is_believed(start):
    without = proxied(start)
    for headers in [f"X-Forwarded-For: {CLIENT}\r\n", f"Forwarded: for={CLIENT}\r\n"]:
        assert come(without, STRANGER, headers=headers) == ("101", STRANGER)
    # Nor does a stranger get in with a header of the protocol, whether or not proxies send it.
    for server in [without, proxied(start, protocol=True)]:
        status, _ = come(server, STRANGER, ipv4(CLIENT))
        assert status in ("400", "cut off")
        status, _ = come(server, STRANGER, f"PROXY TCP4 {CLIENT} 127.0.0.1 1 2\r\n".encode())
        assert status in ("400", "cut off")


# [7.proxy.protocol]
@pytest.mark.parametrize(
    ("header", "client"),
    [
        (f"PROXY TCP4 {CLIENT} 127.0.0.1 4711 443\r\n".encode(), CLIENT),
        (b"PROXY TCP6 2001:db8::7 ::1 4711 443\r\n", "2001:db8::7"),
        (ipv4(CLIENT), CLIENT),
        (ipv6("2001:db8::7"), "2001:db8::7"),
        # Of the proxy's own connections it says nothing.
        (b"PROXY UNKNOWN\r\n", PROXY),
        (v2(0, b"", command=0x20), PROXY),
    ],
)
def test_the_proxy_protocol_names_the_client(start, header, client):
    assert come(proxied(start, protocol=True, header="none"), PROXY, header) == ("101", client)


# [7.proxy.malformed]
@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"PROXY TCP4 999.1.1.1 127.0.0.1 1 2\r\n",
        b"PROXY TCP4 " + b"1" * 200,
        V2 + b"\x21\x11\xff\xff",
        V2 + b"\x31\x11\0\0",
    ],
)
def test_a_proxy_that_does_not_say_it_is_cut_off(start, header):
    server = proxied(start, protocol=True)
    # One header was announced longer than it is: it is waited for, and no longer than for a head.
    with open_socket(server, source=PROXY) as sock:
        sock.sendall(header + f"{HEAD}\r\n".encode())
        # By then the server may have cut it off.
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            assert not sock.recv(65536).startswith(b"HTTP/1.1 101 ")
    assert server.api("/clients")["clients"] == []


# [7.proxy.malformed]
@pytest.mark.parametrize("header", ["nonsense", f"{CLIENT}, ", "1.2.3", f"{CLIENT}:99999"])
def test_a_header_that_is_no_address_is_refused(start, header):
    status, _ = come(proxied(start), PROXY, headers=f"X-Forwarded-For: {header}\r\n")
    assert status == "400"


# [7.proxy.client]
def test_limits_count_the_clients_and_not_the_proxy(start):
    server = start(
        {
            "proxies": {"trusted": [f"{PROXY}/32"]},
            "limits": {"exempt": [], "connections_per_ip": 1},
        }
    )
    with contextlib.ExitStack() as stack:
        seen = []
        for client in [CLIENT, "203.0.113.8", CLIENT]:
            sock = stack.enter_context(open_socket(server, source=PROXY))
            sock.sendall(f"{HEAD}X-Forwarded-For: {client}\r\n\r\n".encode())
            seen.append(read_head(sock)[0][9:12])
        assert seen == [b"101", b"101", b"429"]
