"""The first routes of the HTTP API: `/stats`, `/clients`, `/broadcast`, `/metrics`. Section 8."""

import base64
import json
import re

import pytest

from support.curl import problem
from support.server import wait_until

PROTECTED = [("GET", "/stats"), ("GET", "/clients"), ("POST", "/broadcast"), ("GET", "/metrics")]


# [7.refusals]
@pytest.mark.parametrize(("method", "path"), PROTECTED)
@pytest.mark.parametrize("key", [None, "wrong-key-0123456789", "", "blackbox-0123456789abcdeF"])
def test_without_the_key_everything_is_401(curl, method, path, key):
    reply = curl(path, "-X", method, key=key)
    problem(reply, 401)
    assert reply.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("header", ["Basic YTpi", "Bearer", "bearer", "Token x"])
def test_other_ways_to_authorize_are_401(curl, header):
    problem(curl("/stats", "--header", f"Authorization: {header}", key=None), 401)


def test_the_probes_need_no_key(curl):
    for path in ("/healthz", "/readyz"):
        assert curl(path, key=None).status == 200


@pytest.mark.parametrize(("method", "path"), PROTECTED)
def test_other_methods_are_405(curl, method, path):
    other = "DELETE" if method == "GET" else "GET"
    reply = curl(path, "-X", other)
    problem(reply, 405)
    assert method in reply.headers["allow"]


def test_unknown_paths_are_404(curl):
    problem(curl("/v1/nothing"), 404)
    problem(curl("/stats/"), 404)


def test_stats_count(start, connect, curl):
    server = start()
    empty = curl("/stats", of=server).json
    assert (empty["connections"], empty["rooms"], empty["members"]) == (0, 0, 0)
    ada, bob = connect(server), connect(server)
    ada.join("general")
    bob.join("general")
    bob.join("other")
    ada.publish("general", 1)
    ada.refused("m", 1, room="$all")
    stats = curl("/stats", of=server).json
    assert (stats["connections"], stats["rooms"], stats["members"]) == (2, 2, 3)
    # Two hellos, three joins, two publications.
    assert stats["messages"]["in"] == 7
    assert stats["messages"]["out"] >= 7 + 2
    assert stats["bytes"]["in"] > 0
    assert stats["bytes"]["out"] > stats["bytes"]["in"]
    assert stats["errors"]["forbidden"] == 1
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", stats["version"])
    assert stats["node"]
    assert stats["uptime_s"] >= 0
    assert stats["memory_bytes"] > 1 << 20
    assert stats["cpu"] >= 0
    assert [node["node"] for node in stats["nodes"]] == [stats["node"]]
    for session in (ada, bob):
        session.close()
    wait_until(lambda: curl("/stats", of=server).json["connections"] == 0, "both to be gone")


def test_clients_are_listed(start, connect, curl):
    server = start()
    session = connect(server, sdk="blackbox/1.0")
    session.join("general")
    session.join("chat/berlin")
    answer = curl("/clients", of=server).json
    [row] = answer["clients"]
    assert answer["next"] is None
    assert row["client"] == session.client
    assert row["user"] == f"guest:{session.client}"
    assert row["address"].startswith("127.0.0.1:")
    assert len(row["connected_at"]) == 24
    assert sorted(row["rooms"]) == ["chat/berlin", "general"]
    assert row["sdk"] == "blackbox/1.0"
    assert (row["outbox_bytes"], row["lag"]) == (0, 0)
    assert "ticket" not in json.dumps(answer)


# [1.name.http]
def test_clients_come_in_pages_and_by_room_and_user(start, connect, curl):
    server = start()
    sessions = [connect(server) for _ in range(11)]
    for session in sessions[:3]:
        session.join("general")
    seen, after = [], ""
    while True:
        page = curl(f"/clients?limit=4{after}", of=server).json
        assert len(page["clients"]) <= 4
        seen += [row["client"] for row in page["clients"]]
        if page["next"] is None:
            break
        assert page["next"] == seen[-1]
        after = f"&after={page['next']}"
    # In the order of the ids' bytes, which is not that of their text.
    clients = [session.client for session in sessions]
    assert seen == sorted(clients, key=lambda client: base64.urlsafe_b64decode(client + "=="))
    rows = curl("/clients?room=general", of=server).json["clients"]
    assert {row["client"] for row in rows} == {session.client for session in sessions[:3]}
    rows = curl(f"/clients?user=guest:{sessions[5].client}", of=server).json["clients"]
    assert [row["client"] for row in rows] == [sessions[5].client]
    assert curl("/clients?room=nowhere", of=server).json["clients"] == []
    # Nobody is connected under another name.
    assert curl("/clients?user=bob", of=server).json == {"clients": [], "next": None}


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=x",
        "limit=100000",
        "after=x",
        "room=a//b",
        "user=a/b",
        "colour=red",
        "limit=1&limit=1",
    ],
)
def test_clients_refuse_what_they_do_not_know(curl, query):
    problem(curl(f"/clients?{query}"), 400)


def test_broadcast_to_a_room(connect, curl, room):
    ada, bob = connect(), connect()
    ada.join(room)
    bob.join(room)
    envelope = {
        "type": "chat_message",
        "payload": {"user": "ada", "message": "Hello", "timestamp": "2026-01-01T12:00:00Z"},
        "metadata": {"room": room},
    }
    reply = curl("/broadcast", body=envelope)
    assert reply.status == 200
    answer = reply.json
    assert (answer["room"], answer["offset"], answer["members"]) == (room, 1, 2)
    for session in (ada, bob):
        [message] = session.publications(room, 1)
        assert (message["type"], message["payload"]) == (envelope["type"], envelope["payload"])
        assert message["metadata"]["epoch"] == answer["epoch"]
        assert message["metadata"]["time"] == answer["time"]
        # The API speaks for nobody, unless it says for whom.
        assert "from" not in message["metadata"]


# [1.all.publish]
def test_broadcast_without_a_room_goes_to_everybody(start, connect, curl):
    server = start()
    sessions = [connect(server) for _ in range(6)]
    answer = curl("/broadcast", of=server, body={"type": "notice", "payload": "hello"}).json
    assert (answer["room"], answer["members"]) == ("$all", len(sessions))
    assert "offset" not in answer
    for session in sessions:
        message = session.push("notice", "$all")
        assert message["payload"] == "hello"
        assert "offset" not in message["metadata"]


# [1.client.publish]
def test_broadcast_to_one_connection(connect, curl):
    ada, bob = connect(), connect()
    room = f"$client/{ada.client}"
    answer = curl("/broadcast", body={"type": "m", "payload": 1, "metadata": {"room": room}}).json
    assert (answer["room"], answer["members"]) == (room, 1)
    assert ada.push("m", room)["payload"] == 1
    bob.nothing_of("m")
    gone = {"type": "m", "metadata": {"room": "$client/" + "A" * 22}}
    assert curl("/broadcast", body=gone).json["members"] == 0


# [1.user.publish]
def test_broadcast_to_one_user(connect, curl):
    ada, bob = connect(), connect()
    room = f"$user/guest:{ada.client}"
    answer = curl("/broadcast", body={"type": "m", "payload": 1, "metadata": {"room": room}}).json
    assert (answer["room"], answer["members"]) == (room, 1)
    assert ada.push("m", room)["payload"] == 1
    bob.nothing_of("m")


# [5.7.keeps] [1.user.queue]
def test_a_users_room_keeps_what_nobody_was_there_for(curl, room):
    user = "user-" + room.replace("/", "-")[:60]
    body = {"type": "m", "payload": 1, "metadata": {"room": f"$user/{user}"}}
    answer = curl("/broadcast", body=body).json
    assert (answer["offset"], answer["members"]) == (1, 0)


def test_broadcast_may_say_for_whom_it_speaks(connect, curl, room):
    session = connect()
    session.join(room)
    sender = {"user": "ada", "info": {"name": "Ada"}}
    curl("/broadcast", body={"type": "m", "metadata": {"room": room, "from": sender}})
    assert session.publications(room, 1)[0]["metadata"]["from"] == sender
    # A client never may.
    session.publish(room, 1, **{"from": {"user": "root"}})
    message = session.publications(room, 1)[0]
    assert message["metadata"]["from"]["client"] == session.client
    assert message["metadata"]["from"]["user"] == f"guest:{session.client}"


# [5.4.key]
def test_broadcast_with_a_key_is_one_publication(connect, curl, room):
    body = {"type": "m", "payload": 1, "metadata": {"room": room, "key": "k"}}
    first, again = curl("/broadcast", body=body).json, curl("/broadcast", body=body).json
    assert "duplicate" not in first
    assert again["duplicate"] is True
    assert (again["offset"], again["epoch"]) == (first["offset"], first["epoch"])
    # The key is the API's own, not whoever's.
    assert connect().publish(room, 2, key="k")["offset"] == 2


def test_broadcast_keeps_the_bytes_of_a_payload(connect, curl, room):
    session = connect()
    session.join(room)
    payload = '{ "n" : 1e400, "z": -0.0, "dup": 1, "dup": 2 }'
    curl("/broadcast", body=f'{{"payload":{payload},"type":"m","metadata":{{"room":"{room}"}}}}')
    assert session.publications(room, 1)[0].payload_text == payload


# [6.api]
@pytest.mark.parametrize(
    ("body", "name", "field"),
    [
        ("", "bad_envelope", None),
        ("nonsense", "bad_envelope", None),
        ("[]", "bad_envelope", None),
        ('{"payload":1}', "bad_envelope", "type"),
        ('{"type":""}', "bad_envelope", "type"),
        ('{"type":"a","type":"b"}', "bad_envelope", None),
        ('{"type":"a","metadata":{"room":"a//b"}}', "bad_room", "metadata.room"),
        ('{"type":"a","metadata":{"room":"$nobody"}}', "bad_room", "metadata.room"),
        ('{"type":"a","metadata":{"key":""}}', "bad_envelope", "metadata.key"),
        ('{"type":"a","metadata":{"key":"k"}}', "key_needs_log", "metadata.key"),
        ('{"type":"$join","metadata":{"room":"a"}}', "bad_envelope", "type"),
        ('{"type":"$nonsense","metadata":{"room":"a"}}', "unknown_type", "type"),
    ],
)
def test_broadcast_refuses_in_the_protocols_own_words(curl, body, name, field):
    reply = curl("/broadcast", body=body)
    status = 404 if name == "unknown_type" else 400
    document = problem(reply, status, name=name)
    if field:
        assert document["field"] == field


def test_a_body_over_the_limit_is_413(curl, start):
    server = start({"limits": {"http_body_bytes": 10_000}})
    body = {"type": "m", "payload": "x" * 20_000}
    problem(curl("/broadcast", of=server, body=body), 413)
    # One that does not say how long it is.
    reply = curl("/broadcast", "--header", "Transfer-Encoding: chunked", of=server, body=body)
    problem(reply, 413)
