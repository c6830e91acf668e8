"""The HTTP API under `/v1`, each route and each refusal. Protocol, section 8."""

import base64
import json
import re
import socket
from urllib.parse import quote

import pytest

from support.curl import problem
from support.server import PATIENCE_S, wait_until

READS = [
    "/v1/history",
    "/v1/members",
    "/v1/rooms",
    "/v1/clients",
    "/v1/groups/users",
    "/v1/revocations",
]
# The smallest good body of each.
WRITES = {
    "/v1/publish": {"type": "m", "metadata": {"room": "a"}},
    "/v1/publish/many": {"publications": []},
    "/v1/disconnect": {"user": "nobody"},
    "/v1/kick": {"room": "a", "user": "nobody"},
    "/v1/join": {"room": "a", "user": "nobody"},
    "/v1/groups/add": {"group": "nobodies", "user": "nobody"},
    "/v1/groups/remove": {"group": "nobodies", "user": "nobody"},
    "/v1/revoke": {"client": "A" * 22},
}
NOBODY = "A" * 22


def ask(curl, path, **parameters):
    """A GET that has to succeed: its answer."""
    query = "&".join(f"{name}={quote(str(value), safe='')}" for name, value in parameters.items())
    of = {"of": parameters.pop("of")} if "of" in parameters else {}
    reply = curl(f"{path}?{query}" if query else path, **of)
    assert reply.status == 200, reply.body
    assert reply.headers["content-type"] == "application/json"
    return reply.json


def do(curl, path, body, **options):
    """A POST that has to succeed: its answer."""
    reply = curl(path, body=body, **options)
    assert reply.status == 200, reply.body
    return reply.json


def envelope(room, payload=None, kind="m", **metadata):
    return {"type": kind, "payload": payload, "metadata": {"room": room, **metadata}}


# What holds for all of them


@pytest.mark.parametrize("path", [*READS, *WRITES, "/openapi.json"])
def test_without_the_key_there_is_nothing(curl, path):
    body = {"body": WRITES[path]} if path in WRITES else {}
    for key in (None, "wrong-key-0123456789"):
        document = problem(curl(path, key=key, **body), 401, name="unauthenticated")
        assert document["title"] == "Unauthorized"
    # Nor does anything else come before that, so nobody learns more without a key.
    problem(curl(path, "-X", "DELETE", key=None), 401)


@pytest.mark.parametrize("path", [*READS, *WRITES, "/openapi.json"])
def test_each_path_has_its_method(curl, path):
    allowed = "POST" if path in WRITES else "GET, HEAD"
    for method in {"GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "FOO"} - set(
        allowed.split(", ")
    ):
        reply = curl(path, "-X", method)
        problem(reply, 405)
        assert reply.headers["allow"] == allowed


@pytest.mark.parametrize("path", ["/v1/rooms", "/v1/clients", "/openapi.json", "/stats"])
def test_head_is_get_without_the_body(server, path):
    request = f"HEAD {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {server.api_key}\r\n\r\n"
    probe = "GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    answers = raw(server, (request + probe).encode())
    head, _, rest = answers.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert int(re.search(rb"content-length: (\d+)", head)[1]) > 0
    assert rest.startswith(b"HTTP/1.1 200 "), "no body is in between"


@pytest.mark.parametrize("path", WRITES)
def test_a_body_is_json_and_says_so(curl, path):
    for content_type in ("text/plain", "application/x-www-form-urlencoded", "application/xml"):
        reply = curl(path, body=WRITES[path], content_type=content_type)
        problem(reply, 415)
        assert reply.headers["accept"] == "application/json"
    problem(curl(path, body=WRITES[path], content_type="application/json; charset=latin1"), 415)
    reply = curl(path, "--header", "Content-Encoding: gzip", body=WRITES[path])
    problem(reply, 415)
    assert reply.headers["accept-encoding"] == "identity"
    for content_type in ("application/json; charset=UTF-8", "APPLICATION/JSON"):
        assert curl(path, body=WRITES[path], content_type=content_type).status == 200
    # One that does not say what it is.
    nothing = ("--header", "Content-Type:")
    assert curl(path, *nothing, body=WRITES[path], content_type=None).status == 200


@pytest.mark.parametrize("path", WRITES)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        b"[]",
        b"null",
        b'"text"',
        b"{} {}",
        b"\xef\xbb\xbf{}",
        b'{"x":"\xff"}',
        b"{",
        b'{"x":1,"x":1}',
        b"\0",
    ],
)
def test_a_body_that_is_no_object_is_400(curl, path, body):
    document = problem(curl(path, body=body), 400)
    assert document["name"] in ("bad_request", "bad_envelope")
    assert not document["temporary"]


@pytest.mark.parametrize("path", WRITES)
def test_deep_and_large_bodies_do_no_harm(curl, path):
    deep = "[" * 100_000 + "]" * 100_000
    reply = curl(path, body=f'{{"x":{deep}}}')
    assert reply.status in (400, 200), reply.body
    assert curl(path, body=deep).status == 400
    assert curl(path, body='{"a":' * 100_000).status == 400
    # Where it is not the protocol's, more may be beside it.
    body = json.dumps({**WRITES[path], "more": {"x": [1, 2]}})
    assert curl(path, body=body).status == 200
    problem(curl(path, body="x" * 2_000_000), 413, name="too_large", field="body", limit=1 << 20)


def test_a_body_that_says_it_is_too_large_is_not_waited_for(server):
    head = (
        "POST /v1/publish HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n"
        f"Authorization: Bearer {server.api_key}\r\nExpect: 100-continue\r\n\r\n"
    )
    answer = raw(server, head.encode())
    assert answer.startswith(b"HTTP/1.1 413 "), answer
    assert b"100 Continue" not in answer


@pytest.mark.parametrize("path", READS)
def test_a_parameter_is_known_and_comes_once(curl, path):
    needed = {"/v1/history": "room=a&", "/v1/members": "room=a&", "/v1/groups/users": "group=a&"}
    start = f"{path}?{needed.get(path, '')}"
    problem(curl(f"{start}colour=red"), 400, name="bad_request", field="query")
    problem(curl(f"{start}limit=1&limit=1"), 400, name="bad_request", field="limit")
    problem(curl(f"{start}%6cimit=1&limit=1"), 400, name="bad_request", field="limit")
    for limit in ("1001", "-1", "x", "", "1.0", "1e1", "99999999999999999999999999", "%00"):
        problem(curl(f"{start}limit={limit}"), 400, name="bad_request", field="limit", limit=1_000)
    assert curl(f"{start}limit=1000").status == 200


@pytest.mark.parametrize(
    "room",
    ["", "a//b", "/a", "a/", "..", "a/./b", "a b", "%", "a%00", "köln", "$", "$x", "a" * 129],
)
def test_what_is_no_room_is_bad_room_everywhere(curl, room):
    encoded = quote(room, safe="")
    for path in ("/v1/history", "/v1/members", "/v1/clients"):
        problem(curl(f"{path}?room={encoded}"), 400, name="bad_room", field="room")
    for path in ("/v1/kick", "/v1/join"):
        body = {"room": room, "user": "ada"}
        problem(curl(path, body=body), 400, name="bad_room", field="room")
    reply = curl("/v1/publish", body=envelope(room))
    document = problem(reply, 400, name="bad_room", field="metadata.room")
    assert document.get("limit") == (128 if len(room) > 128 else None)
    # Half of a percent-encoding is no room either.
    for text in ("%", "%z", "%zz", "%ff", "a%2"):
        problem(curl(f"/v1/history?room={text}"), 400, name="bad_room", field="room")


ODD = [
    "a+b",
    "a.b..c",
    "~",
    "=a=",
    "|:@-_",
    "a/b/c/d/e",
    "...",
    "@" * 128,
    "a" * 63 + "/" + "b" * 64,
]


@pytest.mark.parametrize("name", ODD)
def test_odd_names_are_found_again(start, curl, name):
    server = start()
    do(curl, "/v1/publish", envelope(name, 1), of=server)
    for room in (quote(name, safe=""), "".join(f"%{byte:02x}" for byte in name.encode())):
        page = curl(f"/v1/history?room={room}", of=server).json
        assert [p["metadata"]["room"] for p in page["publications"]] == [name]
        assert curl(f"/v1/members?room={room}", of=server).json["count"] == 0
    rows = curl("/v1/rooms", of=server).json["rooms"]
    assert [(row["room"], row["offset"]) for row in rows] == [(name, 1)]
    # A bare + is a space.
    if "+" in name:
        problem(curl(f"/v1/history?room={name}", of=server), 400, name="bad_room")


# Publishing


def test_publish_to_a_room(connect, curl, room):
    ada, bob = connect(), connect()
    ada.join(room)
    bob.join(room)
    sender = {"user": "back-end", "info": {"name": "Back end"}}
    answer = do(curl, "/v1/publish", envelope(room, {"a": [1]}, "news", **{"from": sender}))
    assert list(answer) == ["room", "offset", "epoch", "time", "members"]
    assert (answer["room"], answer["offset"], answer["members"]) == (room, 1, 2)
    for session in (ada, bob):
        [message] = session.publications(room, 1)
        assert (message["type"], message["payload"]) == ("news", {"a": [1]})
        assert message["metadata"] == {
            "room": room,
            "offset": 1,
            "epoch": answer["epoch"],
            "time": answer["time"],
            "from": sender,
        }


def test_publish_needs_a_room(curl):
    reply = curl("/v1/publish", body={"type": "m", "payload": 1})
    problem(reply, 400, name="bad_room", field="metadata.room")


def test_publish_past_the_log(connect, curl, room):
    session = connect()
    session.join(room)
    answer = do(curl, "/v1/publish", envelope(room, 1, ephemeral=True))
    assert "offset" not in answer
    assert "offset" not in session.push("m", room)["metadata"]
    answer = do(curl, "/v1/publish", envelope(f"unlogged/{room}", 1))
    assert "offset" not in answer
    for metadata in ({"key": "k", "ephemeral": True}, {"key": "k", "room": f"unlogged/{room}"}):
        reply = curl("/v1/publish", body=envelope(**{"room": room, **metadata}))
        problem(reply, 400, name="key_needs_log", field="metadata.key")


def test_a_key_is_one_publication_however_it_comes(curl, room):
    first = do(curl, "/v1/publish", envelope(room, 1, key="k"))
    again = do(curl, "/v1/publish", envelope(room, 2, key="k"))
    [many] = do(curl, "/v1/publish/many", {"publications": [envelope(room, 3, key="k")]})["results"]
    broadcast = do(curl, "/broadcast", envelope(room, 4, key="k"))
    for other in (again, many, broadcast):
        assert other["duplicate"] is True
        assert (other["offset"], other["time"]) == (first["offset"], first["time"])
    assert "duplicate" not in first
    page = ask(curl, "/v1/history", room=room)
    assert [p["payload"] for p in page["publications"]] == [1]
    assert page["publications"][0]["metadata"]["key"] == "k"


@pytest.mark.parametrize(
    ("sender", "field"),
    [
        ("ada", "metadata.from"),
        (None, "metadata.from"),
        ({"user": "a/b"}, "metadata.from.user"),
        ({"user": ""}, "metadata.from.user"),
        ({"user": None}, "metadata.from.user"),
        ({"user": "a" * 97}, "metadata.from.user"),
        ({"client": NOBODY}, "metadata.from.client"),
    ],
)
def test_who_publishes_is_a_user(curl, room, sender, field):
    reply = curl("/v1/publish", body=envelope(room, 1, **{"from": sender}))
    document = problem(reply, 400, name="bad_envelope", field=field)
    assert document.get("limit") == (96 if "a" * 97 in str(sender) else None)


def test_what_is_too_large_for_members_is_413(curl, start):
    server = start({"limits": {"message_bytes": 1_024, "delivery_bytes": 2_048}})
    large = envelope("a", "x" * 2_048)
    problem(curl("/v1/publish", of=server, body=large), 413, name="too_large", limit=2_048)
    body = {"publications": [large, envelope("a")]}
    bad, good = do(curl, "/v1/publish/many", body, of=server)["results"]
    assert (bad["error"]["code"], bad["error"]["name"]) == (413, "too_large")
    assert (bad["error"]["limit"], bad["error"]["temporary"]) == (2_048, False)
    assert good["offset"] == 1


def test_many_are_accepted_or_refused_one_by_one(connect, curl, room):
    session = connect()
    session.join(room)
    other = f"{room}/other"
    items = [
        envelope(room, 1),
        {"type": "m"},
        envelope(other, 2, key="k"),
        "nonsense",
        envelope("a//b"),
        envelope(room, None, "$join"),
        envelope(other, 4, key="k"),
        envelope(room, 5),
        envelope("$all", 6, key="k"),
        envelope(room, 7, ephemeral=True),
        None,
        envelope("$all", 8),
    ]
    results = do(curl, "/v1/publish/many", {"publications": items})["results"]
    assert len(results) == len(items)
    errors = {n: r["error"]["name"] for n, r in enumerate(results) if "error" in r}
    assert errors == {
        1: "bad_room",
        3: "bad_envelope",
        4: "bad_room",
        5: "bad_envelope",
        8: "key_needs_log",
        10: "bad_envelope",
    }
    for n in errors:
        assert list(results[n]) == ["error"]
        assert results[n]["error"]["code"] == 400
        assert results[n]["error"]["temporary"] is False
        assert results[n]["error"]["message"]
    assert results[4]["error"]["field"] == "metadata.room"
    assert [results[n].get("offset") for n in (0, 2, 6, 7, 9, 11)] == [1, 1, 1, 2, None, None]
    assert (results[2].get("duplicate"), results[6].get("duplicate")) == (None, True)
    # What goes past the log may come before what goes through it.
    got = [m["payload"] for m in session.publications(room, 3)]
    assert [payload for payload in got if payload != 7] == [1, 5]
    assert session.push("m", "$all")["payload"] == 8


def test_a_thousand_at_once_keep_their_order(connect, curl, room):
    session = connect()
    rooms = [f"{room}/{n}" for n in range(3)]
    for name in rooms:
        session.join(name)
    items = [envelope(rooms[n % 3], n) for n in range(1_000)]
    results = do(curl, "/v1/publish/many", {"publications": items})["results"]
    assert [r["offset"] for r in results] == [n // 3 + 1 for n in range(1_000)]
    for index, name in enumerate(rooms):
        got = session.publications(name, len(range(index, 1_000, 3)))
        assert [m["payload"] for m in got] == list(range(index, 1_000, 3))


def test_more_than_a_thousand_are_refused_together(curl, room):
    body = {"publications": [envelope(room)] * 1_001}
    problem(curl("/v1/publish/many", body=body), 400, field="publications", limit=1_000)
    assert ask(curl, "/v1/history", room=room)["offset"] == 0
    # Also if there is nothing in them.
    body = '{"publications":[' + ",".join(["0"] * 400_000) + "]}"
    problem(curl("/v1/publish/many", body=body), 400, field="publications", limit=1_000)


@pytest.mark.parametrize("value", [None, {}, "x", 1])
def test_many_are_an_array(curl, value):
    reply = curl("/v1/publish/many", body={"publications": value})
    problem(reply, 400, name="bad_request", field="publications")


# Reading


def test_history_goes_forth_and_back(curl, room):
    items = [envelope(room, n, f"kind{n}") for n in range(1, 8)]
    results = do(curl, "/v1/publish/many", {"publications": items})["results"]
    epoch = results[0]["epoch"]
    newest = ask(curl, "/v1/history", room=room, limit=3)
    assert list(newest) == ["epoch", "offset", "first", "publications", "more"]
    assert (newest["epoch"], newest["offset"], newest["first"]) == (epoch, 7, 1)
    assert [p["payload"] for p in newest["publications"]] == [5, 6, 7]
    assert newest["more"] is True
    first = newest["publications"][0]["metadata"]["offset"]
    older = ask(curl, "/v1/history", room=room, before=first, epoch=epoch, limit=10)
    assert [p["payload"] for p in older["publications"]] == [1, 2, 3, 4]
    assert older["more"] is False
    later = ask(curl, "/v1/history", room=room, after=0, epoch=epoch, limit=2)
    assert [p["type"] for p in later["publications"]] == ["kind1", "kind2"]
    assert later["publications"][0]["metadata"] == {
        "room": room,
        "offset": 1,
        "epoch": epoch,
        "time": results[0]["time"],
    }
    assert later["more"] is True
    assert ask(curl, "/v1/history", room=room)["publications"] == (
        older["publications"] + newest["publications"]
    )
    position = ask(curl, "/v1/history", room=room, limit=0)
    assert (position["offset"], position["publications"]) == (7, [])


def test_history_is_the_bytes_that_were_published(curl, room):
    payload = '{ "n" : 1e400, "z": -0.0, "dup": 1, "dup": 2, "s": "\\ud800\\u0000 </script>" }'
    body = f'{{"type":"m","payload":{payload},"metadata":{{"room":"{room}"}}}}'
    do(curl, "/v1/publish", body)
    assert payload in curl(f"/v1/history?room={quote(room)}").body


def test_history_of_another_log_says_where_the_room_is(curl, room):
    epoch = do(curl, "/v1/publish", envelope(room))["epoch"]
    reply = curl(f"/v1/history?room={quote(room)}&after=0&epoch=other")
    problem(reply, 409, name="epoch_changed", epoch=epoch, offset=1)


def test_history_of_no_log_is_404(curl, room):
    for name in (f"unlogged/{room}", "$all", f"$client/{NOBODY}", f"$user/guest:{NOBODY}"):
        reply = curl(f"/v1/history?room={quote(name)}")
        problem(reply, 404, name="no_history", field="room")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("", "room"),
        ("room=a&after=1", "epoch"),
        ("room=a&after=1&epoch=", "epoch"),
        ("room=a&after=1&epoch=" + "e" * 33, "epoch"),
        ("room=a&after=1&before=3&epoch=e", "before"),
        ("room=a&after=-1&epoch=e", "after"),
        ("room=a&before=9007199254740992&epoch=e", "before"),
    ],
)
def test_history_refuses_what_is_no_place(curl, query, field):
    problem(curl(f"/v1/history?{query}"), 400, field=field)


def test_members_come_in_pages_while_they_come_and_go(connect, curl, room):
    sessions = [connect() for _ in range(7)]
    for session in sessions:
        session.join(room)
    sessions[0].request("$state", {"typing": True}, room=room)
    by_client = {session.client: session for session in sessions}
    seen, after = [], {}
    while True:
        page = ask(curl, "/v1/members", room=room, limit=2, **after)
        assert list(page) == ["members", "count", "users", "next"]
        seen += page["members"]
        if page["next"] is None:
            break
        assert page["next"] == page["members"][-1]["client"]
        after = {"after": page["next"]}
        # One that was seen goes, and the next page is still the next one.
        by_client.pop(page["members"][0]["client"]).close()
        count = len(by_client)
        wait_until(
            lambda count=count: ask(curl, "/v1/members", room=room)["count"] == count, "it to go"
        )
    clients = [session.client for session in sessions]
    in_order = sorted(clients, key=lambda client: base64.urlsafe_b64decode(client + "=="))
    assert [member["client"] for member in seen] == in_order
    for member in seen:
        assert member["user"] == f"guest:{member['client']}"
        assert member.get("state") == (
            {"typing": True} if member["client"] == sessions[0].client else None
        )
    assert ask(curl, "/v1/members", room=f"{room}/nobody") == {
        "members": [],
        "count": 0,
        "users": 0,
        "next": None,
    }


def test_rooms_come_in_pages_while_they_come(start, connect, curl):
    server = start()
    names = sorted(f"{'xyz'[n % 3]}/{n}" for n in range(25))
    body = {"publications": [envelope(name, 1) for name in names]}
    do(curl, "/v1/publish/many", body, of=server)
    seen, after = [], ""
    while True:
        page = curl(f"/v1/rooms?limit=4{after}", of=server).json
        seen += page["rooms"]
        # One that comes before what was seen, and one that comes behind.
        for name in (f"a/{len(seen)}", f"zz/{len(seen)}"):
            do(curl, "/v1/publish", envelope(name), of=server)
        if page["next"] is None or len(seen) > 60:
            break
        assert page["next"] == page["rooms"][-1]["room"]
        after = f"&after={quote(page['next'], safe='')}"
    found = [row["room"] for row in seen]
    assert found == sorted(set(found)), "each once, in order"
    assert [name for name in found if name in set(names)] == names
    assert not [name for name in found if name.startswith("a/")]
    assert {row["room"]: row for row in seen}[names[0]] == {
        "room": names[0],
        "members": 0,
        "users": 0,
        "offset": 1,
        "epoch": seen[0]["epoch"],
    }
    rows = curl("/v1/rooms?pattern=x/*&limit=1000", of=server).json["rooms"]
    assert [row["room"] for row in rows] == [name for name in names if name[0] == "x"]
    assert curl("/v1/rooms?pattern=nothing/**", of=server).json == {"rooms": [], "next": None}
    session = connect(server)
    session.join("x/0")
    [row] = curl("/v1/rooms?pattern=x/0", of=server).json["rooms"]
    assert (row["members"], row["users"]) == (1, 1)


@pytest.mark.parametrize("pattern", ["", "a*", "***", "a//b", "$x/*", "$*", "a" * 129])
def test_rooms_want_a_pattern(curl, pattern):
    problem(curl(f"/v1/rooms?pattern={quote(pattern)}"), 400, field="pattern")


def test_clients_are_there_under_both_names(start, connect, curl):
    server = start()
    session = connect(server)
    old, new = curl("/clients", of=server), curl("/v1/clients", of=server)
    assert [row["client"] for row in new.json["clients"]] == [session.client]
    assert old.json == new.json


def test_clients_come_in_pages_while_they_come_and_go(start, connect, curl):
    server = start()
    sessions = [connect(server) for _ in range(9)]
    clients = [session.client for session in sessions]
    in_order = sorted(clients, key=lambda client: base64.urlsafe_b64decode(client + "=="))
    by_client = {session.client: session for session in sessions}
    seen, after = [], ""
    while True:
        page = curl(f"/v1/clients?limit=2{after}", of=server).json
        seen += [row["client"] for row in page["clients"]]
        if page["next"] is None:
            break
        after = f"&after={page['next']}"
        # Two that were seen go, and a new one comes, before or behind.
        for row in page["clients"]:
            if row["client"] in by_client:
                by_client.pop(row["client"]).close()
        connect(server)
    assert [client for client in seen if client in clients] == in_order
    assert len(set(seen)) == len(seen)


# Sessions


def test_disconnect_one_session(connect, curl):
    ada, bob = connect(), connect()
    assert do(curl, "/v1/disconnect", {"client": ada.client}) == {"sessions": 1}
    assert ada.closed()[0] == 4006
    bob.fence()
    # It is done, so doing it again is no error.
    wait_until(
        lambda: do(curl, "/v1/disconnect", {"client": ada.client}) == {"sessions": 0}, "it to go"
    )


def test_disconnect_a_user(connect, curl):
    ada, bob = connect(), connect()
    assert do(curl, "/v1/disconnect", {"user": f"guest:{ada.client}"}) == {"sessions": 1}
    assert ada.closed()[0] == 4006
    bob.fence()


def test_kick_a_session_out_of_a_room(connect, curl, room):
    ada, bob = connect(), connect()
    for session in (ada, bob):
        session.join(room, members=True)
    assert do(curl, "/v1/kick", {"room": room, "client": ada.client}) == {"sessions": 1}
    assert ada.push("$left", room)["payload"] == {"reason": "kicked"}
    do(curl, "/v1/publish", envelope(room, 1))
    assert bob.publications(room, 1)[0]["payload"] == 1
    ada.nothing_of("m")
    assert ask(curl, "/v1/members", room=room)["count"] == 1
    assert do(curl, "/v1/kick", {"room": room, "client": ada.client}) == {"sessions": 0}
    # It is no ban.
    ada.join(room)
    assert do(curl, "/v1/kick", {"room": room, "user": f"guest:{ada.client}"}) == {"sessions": 1}
    assert ada.push("$left", room)["payload"] == {"reason": "kicked"}


def test_make_a_session_join(connect, curl, room):
    ada, bob = connect(), connect()
    do(curl, "/v1/publish", envelope(room, 0))
    assert do(curl, "/v1/join", {"room": room, "client": ada.client}) == {"sessions": 1}
    joined = ada.push("$joined", room)["payload"]
    assert joined["offset"] == 1
    do(curl, "/v1/publish", envelope(room, 1))
    assert [m["payload"] for m in ada.publications(room, 1)] == [1]
    bob.nothing_of("m")
    assert [m["client"] for m in ask(curl, "/v1/members", room=room)["members"]] == [ada.client]
    # It may leave like one that came by itself.
    ada.request("$leave", room=room)
    user = f"guest:{bob.client}"
    assert do(curl, "/v1/join", {"room": room, "user": user}) == {"sessions": 1}
    bob.push("$joined", room)
    assert do(curl, "/v1/join", {"room": room, "client": NOBODY}) == {"sessions": 0}


def test_what_the_server_joins_is_not_counted_as_the_sessions_own(start, connect, curl):
    server = start({"limits": {"rooms": 1}})
    session = connect(server)
    session.join("a")
    do(curl, "/v1/join", {"room": "b", "client": session.client}, of=server)
    session.push("$joined", "b")
    assert session.refused("$join", room="c")["name"] == "rate_limited"
    # Where it is already it stays, and nobody is told anything.
    body = {"room": "a", "client": session.client}
    assert do(curl, "/v1/join", body, of=server) == {"sessions": 1}
    session.nothing_of("$error")
    assert [m["metadata"]["room"] for m in session.inbox if m["type"] == "$joined"] == [
        f"$user/guest:{session.client}"
    ]


def test_a_user_is_in_so_many_groups(start, curl):
    server = start({"limits": {"rooms": 2}})
    for group in ("a", "b"):
        body = {"group": group, "user": "ada"}
        assert do(curl, "/v1/groups/add", body, of=server) == {"changed": True}
    # What is so already is no more.
    assert do(curl, "/v1/groups/add", body, of=server) == {"changed": False}
    reply = curl("/v1/groups/add", body={"group": "c", "user": "ada"}, of=server)
    problem(reply, 429, name="rate_limited", limit=2, temporary=False)
    do(curl, "/v1/groups/remove", body, of=server)
    do(curl, "/v1/groups/add", {"group": "c", "user": "ada"}, of=server)


def test_a_group_is_a_room_that_the_server_joins(connect, curl, room):
    group = room.replace("/", "-")[:90]
    ada, bob = connect(), connect()
    user = f"guest:{ada.client}"
    body = {"group": group, "user": user}
    assert do(curl, "/v1/groups/add", body) == {"changed": True}
    ada.push("$joined", f"$group/{group}")
    assert do(curl, "/v1/groups/add", body) == {"changed": False}
    assert ask(curl, "/v1/groups/users", group=group) == {"users": [user], "next": None}
    do(curl, "/v1/publish", envelope(f"$group/{group}", 1))
    assert ada.push("m", f"$group/{group}")["payload"] == 1
    bob.nothing_of("m")
    assert do(curl, "/v1/groups/remove", body) == {"changed": True}
    left = ada.push("$left", f"$group/{group}")["payload"]
    assert left == {"reason": "group"}
    do(curl, "/v1/publish", envelope(f"$group/{group}", 2))
    ada.nothing_of("m")
    assert do(curl, "/v1/groups/remove", body) == {"changed": False}
    assert ask(curl, "/v1/groups/users", group=group)["users"] == []


def test_users_of_a_group_come_in_pages(curl, room):
    group = room.replace("/", "-")[:90]
    users = sorted(f"user{n}" for n in range(11))
    for user in reversed(users):
        do(curl, "/v1/groups/add", {"group": group, "user": user})
    seen, after = [], {}
    while True:
        page = ask(curl, "/v1/groups/users", group=group, limit=4, **after)
        seen += page["users"]
        if page["next"] is None:
            break
        after = {"after": page["next"]}
        do(curl, "/v1/groups/remove", {"group": group, "user": page["users"][0]})
    assert seen == users


@pytest.mark.parametrize("path", ["/v1/disconnect", "/v1/kick", "/v1/join"])
@pytest.mark.parametrize(
    ("whom", "field"),
    [
        ({}, "client"),
        ({"client": None}, "client"),
        ({"client": "short"}, "client"),
        ({"client": "A" * 21 + "B"}, "client"),
        ({"client": 1}, "client"),
        ({"user": None}, "user"),
        ({"user": ""}, "user"),
        ({"user": "a/b"}, "user"),
        ({"user": ".."}, "user"),
        ({"user": "ada", "client": NOBODY}, "user"),
    ],
)
def test_it_is_about_a_session_or_a_user(curl, path, whom, field):
    reply = curl(path, body={"room": "a", **whom})
    problem(reply, 400, name="bad_request", field=field)


@pytest.mark.parametrize("path", ["/v1/kick", "/v1/join"])
@pytest.mark.parametrize("room", ["$all", "$user/ada", "$group/staff", f"$client/{NOBODY}"])
def test_what_the_server_joins_nobody_else_does(curl, path, room):
    reply = curl(path, body={"room": room, "user": "ada"})
    problem(reply, 400, name="bad_room", field="room")


@pytest.mark.parametrize("path", ["/v1/groups/add", "/v1/groups/remove"])
def test_a_membership_is_a_group_and_a_user(curl, path):
    for name in ("group", "user"):
        good = {"group": "staff", "user": "ada"}
        for bad in (None, "", "a/b", ".", "a b", 1, ["a"], "a" * 97):
            document = problem(curl(path, body={**good, name: bad}), 400, field=name)
            assert document["name"] == "bad_request"
        good.pop(name)
        problem(curl(path, body=good), 400, field=name)
    problem(curl("/v1/groups/users"), 400, field="group")
    problem(curl("/v1/groups/users?group=a/b"), 400, field="group")


# The page


@pytest.mark.parametrize("path", ["/api", "/api/page.js", "/api/page.css"])
def test_the_page_is_open_and_lets_nothing_in(curl, path):
    reply = curl(path, key=None)
    assert reply.status == 200
    policy = dict(
        rule.strip().split(" ", 1) for rule in reply.headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    assert {policy[name] for name in ("script-src", "style-src", "connect-src")} == {"'self'"}
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["referrer-policy"] == "no-referrer"
    problem(curl(path, "-X", "POST", key=None), 405)


# Garbage


def raw(server, data, half_close=False):
    """Sends bytes, and reads what comes until the server ends the connection."""
    with socket.create_connection((server.host, server.port), timeout=PATIENCE_S) as sock:
        sock.sendall(data)
        if half_close:
            sock.shutdown(socket.SHUT_WR)
        got = b""
        while piece := sock.recv(65_536):
            got += piece
        return got


POST = "POST /v1/publish HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {key}\r\n"
BODY = '{"type":"m","metadata":{"room":"smuggled"}}'
INSIDE = "POST /v1/publish HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n{}\n"


@pytest.mark.parametrize(
    "rest",
    [
        # Two lengths, or none that is one.
        f"Content-Length: 5\r\nContent-Length: {len(BODY)}\r\n\r\n{BODY}",
        f"Content-Length: 5, {len(BODY)}\r\n\r\n{BODY}",
        f"Content-Length: -1\r\n\r\n{BODY}",
        f"Content-Length: +{len(BODY)}\r\n\r\n{BODY}",
        f"Content-Length: 0x2b\r\n\r\n{BODY}",
        f"Content-Length: 99999999999999999999\r\n\r\n{BODY}",
        # Another coding than chunked, or chunked not last.
        f"Transfer-Encoding: gzip\r\n\r\n{BODY}",
        f"Transfer-Encoding: chunked, gzip\r\n\r\n{BODY}",
        f"Transfer-Encoding: xchunked\r\n\r\n{BODY}",
        # Chunks that are none.
        f"Transfer-Encoding: chunked\r\n\r\nzz\r\n{BODY}\r\n0\r\n\r\n",
        f"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n{BODY}\r\n0\r\n\r\n",
        f"Transfer-Encoding: chunked\r\n\r\n-1\r\n{BODY}\r\n0\r\n\r\n",
        # Names and lines that are none.
        f"Content-Length : {len(BODY)}\r\n\r\n{BODY}",
        f"X: a\r\n Content-Length: {len(BODY)}\r\n\r\n{BODY}",
        f"X: a\0b\r\nContent-Length: {len(BODY)}\r\n\r\n{BODY}",
    ],
)
def test_a_body_that_two_could_read_differently_is_never_published(server, curl, rest):
    answer = raw(server, (POST.format(key=server.api_key) + rest + INSIDE).encode())
    statuses = re.findall(rb"HTTP/1.1 (\d+)", answer)
    assert b"200" not in statuses, answer
    assert len(statuses) <= 1, "what comes behind it is not a request"
    assert ask(curl, "/v1/history", room="smuggled")["offset"] == 0


@pytest.mark.parametrize(
    "rest",
    [
        f"Content-Length: {len(BODY) + 1}\r\n\r\n{BODY}",
        f"Transfer-Encoding: chunked\r\n\r\n{len(BODY):x}\r\n{BODY}\r\n",
    ],
)
def test_a_body_that_is_cut_off_is_never_published(server, curl, rest):
    answer = raw(server, (POST.format(key=server.api_key) + rest).encode(), half_close=True)
    assert b" 200 " not in answer
    assert ask(curl, "/v1/history", room="smuggled")["offset"] == 0


def test_chunked_wins_over_a_length_and_ends_the_connection(server):
    """RFC 9112 section 6.3: both may be an attempt at smuggling; the connection must end."""
    chunked = f"{len(BODY):x}\r\n{BODY}\r\n0\r\n\r\n".replace("smuggled", "chunked1")
    head = POST.format(key=server.api_key) + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n"
    answer = raw(server, (head + "\r\n" + chunked + INSIDE).encode())
    statuses = re.findall(rb"HTTP/1.1 (\d+)", answer)
    assert statuses == [b"200"], answer


@pytest.mark.parametrize(
    "path",
    [
        "/v1",
        "/v1/",
        "//v1/rooms",
        "/v1//rooms",
        "/v1/rooms/",
        "/v1/./rooms",
        "/v1/x/../rooms",
        "/V1/rooms",
        "/v1/%72ooms",
        "/v1%2frooms",
        "/v1/rooms%00",
        "/v1/rooms;x=1",
        "/v2/rooms",
        "/openapi",
        "/openapi.json/",
    ],
)
def test_a_path_is_what_it_is(curl, path):
    problem(curl(path), 404)


def test_a_request_that_names_the_server_is_as_good(server):
    line = f"GET http://{server.address}/v1/rooms?limit=1 HTTP/1.1\r\nHost: {server.address}\r\n"
    rest = f"Authorization: Bearer {server.api_key}\r\nConnection: close\r\n\r\n"
    assert raw(server, (line + rest).encode()).startswith(b"HTTP/1.1 200 ")


def test_two_keys_are_none(curl, server):
    reply = curl("/stats", "--header", f"Authorization: Bearer {server.api_key}", key="other-key")
    problem(reply, 401)
    twice = curl("/stats", "--header", f"Authorization: Bearer {server.api_key}")
    assert twice.status in (200, 401)


# The log


def test_nothing_of_a_request_reaches_the_log(start, connect, curl):
    server = start({"log": {"level": "debug", "format": "json"}})
    session = connect(server)
    session.join("general")
    secret = "s3cr3t-" + "x" * 20
    # Whom it was about is on record.
    named = "n4med-" + "x" * 20
    for path in WRITES:
        body = {
            "type": secret,
            "payload": secret,
            "metadata": {"room": "general", "key": secret, "from": {"user": secret}},
            "publications": [envelope("general", secret, secret, key=secret), secret],
            "room": named,
            "user": named,
            "group": named,
            "until": "2099-01-01T00:00:00.000Z",
        }
        assert curl(path, body=body, of=server).status == 200
        # And refused ones.
        curl(path, body=f'{{"{secret}":"{secret}', of=server)
        curl(path, body=json.dumps(secret), of=server)
        curl(path, body=body, of=server, key=secret)
        curl(path, body=body, of=server, content_type=f"text/{secret}")
    for path in READS:
        curl(f"{path}?room={secret}&group={secret}&{secret}={secret}", of=server)
        curl(f"{path}?room={secret}", of=server, key=secret)
    session.push(secret, "general")
    server.stop()
    log = server.log()
    assert "refused" in log, "debug lines are there"
    assert secret not in log
    assert server.api_key not in log
    about = [line for line in server.log_lines() if named in json.dumps(line)]
    assert about
    assert {line["message"] for line in about} == {"audit"}
