"""Who a connection speaks for: `$hello`, guests, tokens, `$welcome`. Protocol, section 3."""

import re

from support.server import wait_until
from support.session import ABSENT

CLIENT_ID = re.compile(r"[A-Za-z0-9_-]{22}")


# [3.welcome.once] [4.welcome] [3.session.client]
def test_hello_is_answered_by_welcome_before_anything_else(peer):
    session = peer(say_hello=False)
    session.send("$hello", {"sdk": "blackbox/1"}, id="h")
    # Pipelined: it waits for the outcome.
    session.send("$ping", [1], id="p")
    welcome = session.receive()
    assert welcome["type"] == "$welcome"
    assert welcome["metadata"] == {"id": "h"}
    payload = welcome["payload"]
    assert CLIENT_ID.fullmatch(payload["client"])
    assert payload["user"] == f"guest:{payload['client']}"
    assert len(payload["ticket"]) > 40
    assert payload["ticket_ttl_ms"] == 60_000
    assert payload["resumed"] is False
    assert payload["heartbeat_ms"] == 25_000
    assert set(payload["limits"]) == {
        *("message_bytes", "delivery_bytes", "rooms", "page", "publish_per_s"),
    }
    assert payload["limits"]["message_bytes"] == 65_536
    assert "expires_at" not in payload
    assert session.until(lambda m: m["type"] == "$pong", "$pong")["payload"] == [1]


# [5.7.guest-room] [3.guest.id]
def test_a_guest_is_joined_to_its_own_room(connect):
    session = connect()
    joined = session.push("$joined")
    assert joined["metadata"] == {"room": f"$user/guest:{session.client}"}


# [2.subprotocol] [3.hello.none]
def test_a_client_without_subprotocol_is_a_guest_and_welcomed_unasked(connect, room):
    session = connect(subprotocol=None)
    welcome = session.receive()
    assert welcome["type"] == "$welcome"
    assert welcome["metadata"] == {}
    assert welcome["payload"]["user"].startswith("guest:")
    assert session.publish(room, 1)["offset"] == 1
    # It was settled by the handshake, so this is a second one.
    assert session.refused("$hello", {})["name"] == "already_welcomed"


# [7.paths]
def test_both_paths_serve_the_protocol(connect):
    assert connect(path="/").welcome["client"] != connect(path="/ws").welcome["client"]


# [3.hello.early]
def test_commands_before_hello_are_refused_and_not_carried_out(connect, room):
    session = connect(say_hello=False)
    error = session.refused("m", 1, room=room)
    assert (error["code"], error["name"]) == (401, "unauthenticated")
    session.hello()
    assert session.request("$history", {"limit": 1}, room=room)["offset"] == 0


# [3.hello.again]
def test_a_second_hello_is_refused_and_changes_nothing(connect, room):
    session = connect()
    error = session.refused("$hello", {})
    assert (error["code"], error["name"]) == (409, "already_welcomed")
    assert session.publish(room, 1)["offset"] == 1


# [3.hello.whole]
def test_hello_is_read_whole_or_not_at_all(connect, room):
    session = connect(say_hello=False)
    error = session.refused("$hello", {"rooms": {room: {}, "no room": {}}})
    assert (error["name"], error["field"]) == ("bad_room", "payload.rooms")
    session.hello(rooms={room: {}})
    assert session.push("$joined", room)


# [3.credentials.invalid] [6.upgrade]
def test_a_token_that_nobody_can_verify_is_refused_never_a_guest(peer):
    session = peer(say_hello=False)
    error = session.refused("$hello", {"token": "eyJhbGciOiJub25lIn0.e30."})
    assert (error["code"], error["name"], error["close"]) == (401, "unauthenticated", 4001)
    assert session.closed()[0] == 4001


# [3.hello.time] [3.hello.stays]
def test_whoever_says_nothing_is_closed_after_the_handshake_time(start, peer):
    server = start({"limits": {"handshake": "300ms"}})
    silent = peer(server, say_hello=False)
    assert silent.closed()[0] == 4001
    # Noise is no `$hello`, either.
    noisy = peer(server, say_hello=False)
    noisy.send("$ping", id=1)
    assert noisy.receive()["payload"]["name"] == "unauthenticated"
    assert noisy.closed()[0] == 4001


# [3.hello.none]
def test_where_guests_are_not_allowed_a_client_has_to_say_hello(start, peer):
    server = start({"auth": {"guests": "never"}})
    guest = peer(server, say_hello=False)
    error = guest.refused("$hello", {})
    assert (error["name"], error["close"]) == ("unauthenticated", 4001)
    assert guest.closed()[0] == 4001
    # Without subprotocol it is not turned away at once: it may still say who it is.
    silent = peer(server, subprotocol=None)
    assert silent.refused("m", 1, room="a")["name"] == "unauthenticated"


# [3.ping] [4.pong]
def test_ping_is_answered_with_the_same_payload_and_id(connect):
    session = connect()
    for payload in ({"a": [1, None]}, "text", 0, None):
        assert session.request("$ping", payload) == payload
    session.send("$ping", ABSENT)
    pong = session.until(lambda m: m["type"] == "$pong", "$pong")
    assert pong["payload"] is None
    assert pong["metadata"] == {}


# [6.upgrade]
def test_a_token_of_the_handshake_is_refused_the_same_way(connect):
    session = connect(say_hello=False, headers={"Authorization": "Bearer nonsense"})
    session.send("$hello", {})
    error = session.receive()
    assert error["type"] == "$error"
    assert error["payload"]["close"] == 4001
    assert session.closed()[0] == 4001


# [4.heartbeat]
def test_heartbeats_measure_the_round_trip_and_find_the_dead(start, connect, peer):
    server = start(
        {"heartbeat": {"interval": "100ms", "timeout": "300ms"}, "limits": {"close": "100ms"}}
    )
    alive = connect(server)

    def measured():
        rows = server.api("/clients")["clients"]
        return any(r["client"] == alive.client and r["rtt_ms"] is not None for r in rows)

    wait_until(measured, "a round trip to be measured")
    dead = peer(server)
    dead.answers = False
    assert dead.closed()[0] == 4201
    alive.fence()
