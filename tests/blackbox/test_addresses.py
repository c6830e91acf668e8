"""Limits of one address, and bans. Clients come from several addresses of loopback."""

import http.client
import json

import pytest

from support.peer import CLOSE, TEXT, Peer, open_socket, read_head
from support.server import PATIENCE_S, wait_until

HANDSHAKE = (
    "GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
ADA, BOB = "127.0.0.2", "127.0.0.3"


def limited(limits, **sections):
    """Settings in which loopback is not exempt."""
    return {"limits": {"exempt": [], **limits}, **sections}


def handshake(server, source, head=HANDSHAKE):
    """Status, headers and problem of one handshake; the connection stays open if it is good."""
    sock = open_socket(server, source=source)
    sock.sendall(head.encode())
    return sock, *answer(sock)


def answer(sock):
    head, rest = read_head(sock)
    lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines[1:])}
    status = int(lines[0].split(" ")[1])
    while len(rest) < int(headers.get("content-length", 0)):
        rest += sock.recv(65536)
    return status, headers, json.loads(rest) if status != 101 else None


def outcome(server, source):
    """The status of a handshake whose connection does not stay."""
    sock, status, _, _ = handshake(server, source)
    sock.close()
    return status


def refused(server, source, head=HANDSHAKE):
    sock, status, headers, problem = handshake(server, source, head)
    sock.close()
    assert status == 429
    assert headers["content-type"] == "application/problem+json"
    assert problem["name"] == "rate_limited"
    assert int(headers["retry-after"]) >= 1
    return problem


def accepted(server, source):
    sock, status, _, _ = handshake(server, source)
    assert status == 101
    return sock


def request(server, source, path="/stats", key=None):
    connection = http.client.HTTPConnection(
        server.host, server.port, timeout=PATIENCE_S, source_address=(source, 0)
    )
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    response.read()
    connection.close()
    return response.status


def test_connections_of_one_address_are_bounded_and_free_their_place(start, peer):
    server = start(limited({"connections_per_ip": 2}))
    first, second = peer(server, source=ADA), peer(server, source=ADA)
    assert refused(server, ADA)["limit"] == 2
    other = peer(server, source=BOB)
    # However a connection ends, its place is free again: exactly one each.
    first.close()
    wait_until(lambda: server.stats()["connections"] == 2, "the end")
    third = peer(server, source=ADA)
    refused(server, ADA)
    second.drop()
    third.frame(TEXT, b"\xff")
    wait_until(lambda: server.stats()["connections"] == 1, "both ends")
    for _ in range(2):
        peer(server, source=ADA)
    refused(server, ADA)
    other.fence()
    assert server.metric('clarion_limits_total{limit="connections_per_ip"}') == 3
    assert server.metric('clarion_handshakes_total{outcome="limited"}') == 3
    assert server.metric("clarion_addresses") == 2


def test_a_handshake_that_comes_to_nothing_keeps_no_place(start):
    server = start(limited({"connections_per_ip": 1}))
    for _ in range(20):
        # Gone before, or while, it is answered and handed over.
        sock = open_socket(server, source=ADA)
        sock.sendall(HANDSHAKE.encode())
        sock.close()
    wait_until(lambda: server.stats()["connections"] == 0, "them to be gone")

    wait_until(lambda: outcome(server, ADA) == 101, "the place to be free")


def test_handshakes_of_one_address_have_a_rate(start):
    server = start(limited({"handshakes_per_s_per_ip": 2}))
    statuses = [outcome(server, ADA) for _ in range(6)]
    assert statuses[:2] == [101, 101]
    assert 429 in statuses
    assert outcome(server, BOB) == 101
    # It comes back.
    wait_until(lambda: outcome(server, ADA) == 101, "the rate to allow one more")


def test_handshakes_of_all_have_a_rate(start):
    server = start({"limits": {"handshakes_per_s": 2}})
    statuses = [outcome(server, f"127.0.0.{n}") for n in range(2, 8)]
    assert statuses[:2] == [101, 101]
    assert 429 in statuses
    wait_until(lambda: outcome(server, ADA) == 101, "the rate to allow one more")


def test_requests_of_one_address_have_a_rate_and_probes_have_none(start):
    server = start(limited({"requests_per_s_per_ip": 3}))
    statuses = [request(server, ADA, "/nothing") for _ in range(6)]
    assert statuses[:3] == [404, 404, 404]
    assert 429 in statuses
    assert all(request(server, ADA, "/healthz") == 200 for _ in range(6))
    assert request(server, BOB, "/nothing") == 404


def test_loopback_is_exempt_unless_it_is_said_otherwise(start, peer):
    server = start({"limits": {"connections_per_ip": 1, "handshakes_per_s_per_ip": 1}})
    for _ in range(5):
        peer(server, source=ADA)
    assert server.metric("clarion_addresses") == 0
    server = start(limited({"connections_per_ip": 1, "exempt": ["127.0.0.2/31"]}))
    for _ in range(3):
        peer(server, source=ADA)
        peer(server, source=BOB)
    peer(server, source="127.0.0.4")
    refused(server, "127.0.0.4")


BAD = HANDSHAKE.replace("Version: 13", "Version: 12")


def strike_by_handshake(server, source):
    handshake(server, source, BAD)[0].close()


def strike_by_key(server, source):
    assert request(server, source, key="a-guess-of-the-api-key") == 401


def strike_by_frame(server, source):
    peer = Peer(server, source=source)
    peer.frame(TEXT, b"\xff")
    assert peer.next_item()[0] in (TEXT, CLOSE)
    wait_until(lambda: peer.close_code == 1007, "the close")
    peer.drop()


@pytest.mark.parametrize("strike", [strike_by_handshake, strike_by_key, strike_by_frame])
def test_an_address_is_banned_for_a_while_after_enough_strikes(start, strike):
    bans = {"after": 3, "within": "60s", "duration": "2s"}
    server = start(limited({}, bans=bans))
    for _ in range(2):
        strike(server, ADA)
    accepted(server, ADA).close()
    strike(server, ADA)
    wait_until(lambda: server.metric("clarion_bans_total") == 1, "the ban")
    assert server.metric("clarion_banned_addresses") == 1
    sock = open_socket(server, source=ADA)
    status, headers, problem = answer(sock)
    sock.close()
    assert (status, problem["status"]) == (429, 429)
    assert headers["retry-after"] in ("1", "2")
    # Nobody else, and not for ever.
    accepted(server, BOB).close()
    wait_until(lambda: server.metric("clarion_banned_addresses") == 0, "the end of the ban")
    accepted(server, ADA).close()
    [line] = [line for line in server.log_lines() if line["message"] == "address banned"]
    assert line["address"] == ADA
    assert server.metric('clarion_limits_total{limit="bans"}') == 1


def test_nobody_is_banned_by_default(start):
    server = start({"limits": {"exempt": []}})
    for _ in range(30):
        strike_by_handshake(server, ADA)
        strike_by_key(server, ADA)
    accepted(server, ADA).close()


def test_a_limit_that_is_met_again_and_again_is_one_line_a_second(start):
    server = start(limited({"connections_per_ip": 1}))
    sock = accepted(server, ADA)
    for _ in range(50):
        refused(server, ADA)
    sock.close()
    lines = [line for line in server.log_lines() if line.get("limit") == "connections_per_ip"]
    assert lines[0]["count"] == 1
    assert lines[0]["peer"] == ADA
    assert len(lines) < 10
