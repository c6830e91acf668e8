"""Revocation against the real binary: clients, users and tokens, at once and after a restart.
Protocol, sections 3 and 8."""

import contextlib
import itertools
import sqlite3
import threading
import time
from datetime import UTC, datetime

import pytest
from websockets.exceptions import WebSocketException

from support.client import Client
from support.curl import call, problem
from support.server import PATIENCE_S, wait_until
from support.tokens import own_token

HOUR_S = 3_600


def instant(s):
    """Unix seconds as the protocol writes them."""
    return datetime.fromtimestamp(s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def soon(s=HOUR_S):
    return instant(time.time() + s)


def revoke(server, **subject):
    until = {} if "client" in subject else {"until": soon()}
    return server.api("/v1/revoke", {**until, **subject})


def listed(server):
    return server.api("/v1/revocations")["revocations"]


def turned_away(session, code=4001):
    """The session hears why it ends, and ends."""
    assert session.closed()[0] == code
    error = next(message for message in session.inbox if message["type"] == "$error")
    members = {name: error["payload"][name] for name in ("code", "name", "close")}
    assert members == {"code": 401, "name": "unauthenticated", "close": code}


def old_token(server, user="ada", **claims):
    """A token that cannot be newer than what is revoked now, whose clock ever that is by."""
    return own_token(server, user, iat=int(time.time()) - 60, **claims)


def refused(connect, server, **hello):
    session = connect(server, say_hello=False)
    session.send("$hello", hello)
    turned_away(session)


def works(session):
    session.fence()


# Each kind, over live sockets with others beside


# [3.revoked.kinds] [3.revoked.client] [3.revoked.ticket] [3.revoked.closed]
def test_a_client_is_revoked_and_others_of_the_user_stay(start, connect):
    server = start()
    ada, other = (connect(server, token=own_token(server)) for _ in range(2))
    answer = revoke(server, client=ada.client)
    assert answer["sessions"] == 1
    turned_away(ada)
    works(other)
    ticket = ada.welcome["ticket"]
    again = connect(server, ticket=ticket, token=own_token(server))
    assert (again.welcome["resumed"], again.client != ada.client) == (False, True)
    other.drop()
    assert connect(server, ticket=other.welcome["ticket"]).welcome["resumed"]


# [3.revoked.kinds] [3.revoked.user] [3.revoked.ticket] [3.revoked.refused] [3.revoked.closed]
def test_a_user_is_revoked_on_all_devices_and_a_newer_token_is_good(start, connect):
    server = start()
    old = old_token(server)
    devices = [connect(server, token=old) for _ in range(6)]
    bob = connect(server, token=own_token(server, "bob"))
    guest = connect(server)
    assert revoke(server, user="ada")["sessions"] == 6
    for device in devices:
        turned_away(device)
        refused(connect, server, token=old, ticket=device.welcome["ticket"])
        again = connect(server, ticket=device.welcome["ticket"])
        assert (again.welcome["resumed"], again.welcome["user"] != "ada") == (False, True)
    refused(connect, server, token=own_token(server, iat=None))
    newer = own_token(server, iat=int(time.time()) + 2)
    works(connect(server, token=newer))
    works(bob)
    works(guest)


# [3.revoked.renew]
def test_who_comes_back_with_a_token_of_the_same_second_is_sent_for_another(start, connect):
    server = start()
    ada = connect(server, token=own_token(server))
    answer = revoke(server, user="ada")
    turned_away(ada)

    def comes_in():
        # A back end says in which second it made a token.
        session = connect(server, say_hello=False)
        session.send("$hello", {"token": own_token(server)})
        if session.receive()["type"] == "$welcome":
            return True
        assert session.closed()[0] == 4102
        return False

    wait_until(comes_in, "a token that is newer")
    assert instant(time.time()) > answer["at"]


# [3.revoked.kinds] [3.revoked.token] [3.revoked.ticket] [3.revoked.refused] [3.revoked.closed]
def test_a_token_is_revoked_and_others_of_the_user_stay(start, connect):
    server = start()
    first, second = (own_token(server, jti=jti) for jti in ("t1 é:", "t2"))
    ada, other = connect(server, token=first), connect(server, token=second)
    assert revoke(server, jti="t1 é:")["sessions"] == 1
    turned_away(ada)
    refused(connect, server, token=first)
    refused(connect, server, token=first, ticket=ada.welcome["ticket"])
    again = connect(server, token=second, ticket=ada.welcome["ticket"])
    assert (again.welcome["user"], again.welcome["resumed"]) == ("ada", False)
    works(other)


# [3.revoked.refused]
@pytest.mark.parametrize("subprotocol", ["clarion.v1.json", None])
def test_a_void_token_of_the_handshake_is_refused_where_the_client_can_hear_it(
    start, connect, subprotocol
):
    server = start()
    headers = {"Authorization": f"Bearer {old_token(server)}"}
    revoke(server, user="ada")
    session = connect(server, say_hello=False, subprotocol=subprotocol, headers=headers)
    if subprotocol:
        session.send("$hello", {})
    turned_away(session)


# [3.revoked.refresh]
def test_a_void_token_refreshes_nothing_and_an_older_one_is_left_behind(start, connect):
    server = start()
    ada = connect(server, token=own_token(server, jti="t1"))
    assert revoke(server, jti="t2")["sessions"] == 0
    error = ada.refused("$refresh", {"token": own_token(server, jti="t2")})
    assert (error["name"], error["field"]) == ("unauthenticated", "payload.token")
    ada.request("$refresh", {"token": own_token(server, jti="t3")})
    assert revoke(server, jti="t1")["sessions"] == 0
    works(ada)
    assert revoke(server, jti="t3")["sessions"] == 1
    turned_away(ada)


# [3.revoked.closed]
def test_presence_of_a_revoked_session_ends_with_its_connection(start, connect, room):
    server = start()
    ada = connect(server, token=own_token(server))
    ada.join(room)
    bob = connect(server, token=own_token(server, "bob"))
    bob.join(room, members=True)
    revoke(server, user="ada")
    turned_away(ada)
    left = bob.push("$members", room)["payload"]["left"]
    assert [member["user"] for member in left] == ["ada"]


# At once


# [3.revoked.at-once]
@pytest.mark.parametrize("kind", ["user", "jti", "client"])
def test_nobody_comes_in_after_the_answer_however_many_are_coming(start, kind):
    """Sixteen clients shake hands all the time while they are revoked."""
    server = start({"limits": {"handshake": "20s"}})
    text = own_token(server, jti="t")
    seed = Client(server, token=text)
    hello = {"ticket": seed.welcome["ticket"]} if kind == "client" else {"token": text}
    subject = {"user": "ada", "jti": "t", "client": seed.client}[kind]
    started, answered, stop = itertools.count(), threading.Event(), threading.Event()
    late, failures, alive = [], [], []

    def come():
        try:
            while not stop.is_set():
                after = answered.is_set()
                next(started)
                session = Client(server, say_hello=False)
                session.send("$hello", hello)
                said = session.receive()
                resumed = said["type"] == "$welcome" and (
                    kind != "client" or said["payload"]["resumed"]
                )
                if resumed and after:
                    late.append(said)
                if resumed:
                    alive.append(session)
                else:
                    with contextlib.suppress(OSError):
                        session.drop()
        except Exception as error:  # noqa: BLE001 (the test says it)
            failures.append(error)

    threads = [threading.Thread(target=come) for _ in range(16)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(alive) >= 40, "some to be in")
    revoke(server, **{kind: subject})
    answered.set()
    since = next(started)
    wait_until(lambda: next(started) > since + 100, "more to have come")
    stop.set()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert (late, failures) == ([], [])
    # Who was welcomed before is closed; by a newer one of the session, or since it was revoked.
    for session in [seed, *alive]:
        try:
            code = session.closed()[0]
        except WebSocketException as error:
            raise AssertionError(f"still in: {error}") from error
        assert code == 4001 or (kind == "client" and code == 4005)


# For how long


# [3.revoked.kept]
def test_what_was_answered_holds_after_kill_9(start, connect):
    server = start()
    old = old_token(server)
    ada = connect(server, token=old)
    cleo = connect(server, token=own_token(server, "cleo"))
    bob = connect(server, token=own_token(server, "bob", jti="t1"))
    for subject in ({"user": "ada"}, {"client": cleo.client}, {"jti": "t1"}):
        revoke(server, **subject)
    before = listed(server)
    server.kill()
    server.start()
    assert listed(server) == before
    refused(connect, server, token=old)
    refused(connect, server, token=own_token(server, "bob", jti="t1"))
    for session in (ada, bob, cleo):
        again = connect(server, ticket=session.welcome["ticket"])
        assert not again.welcome["resumed"]
    works(connect(server, token=own_token(server, iat=int(time.time()) + 2)))
    works(connect(server, token=own_token(server, "bob", jti="t2")))
    works(connect(server, token=own_token(server, "cleo")))


# [3.revoked.kept]
def test_many_at_once_are_all_kept(start, connect):
    server = start()
    subjects = [f"u{n}" for n in range(64)]
    threads = [
        threading.Thread(target=lambda user=user: revoke(server, user=user)) for user in subjects
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    server.kill()
    server.start()
    assert sorted(row["user"] for row in listed(server)) == sorted(subjects)
    refused(connect, server, token=old_token(server, "u7"))


# [3.revoked.kept]
def test_what_the_store_did_not_keep_is_said_and_holds_until_the_end(start, connect):
    server = start()
    old = old_token(server)
    ada, bob = connect(server, token=old), connect(server, token=own_token(server, "bob"))
    body = {"user": "ada", "until": soon()}
    with contextlib.closing(sqlite3.connect(server.directory / "data" / "clarion.db")) as other:
        # Whoever writes to the file keeps the server from it.
        other.execute("BEGIN IMMEDIATE")
        reply = call(server, "/v1/revoke", key=server.api_key, body=body)
        problem(reply, 503, name="unavailable", temporary=True)
        assert "retry-after" in reply.headers
        turned_away(ada)
        refused(connect, server, token=old)
        works(bob)
        # No room is durable, so the server is none the worse for whoever comes.
        assert server.get("/readyz")[0] == 200
        other.rollback()
    wait_until(lambda: server.request("POST", "/v1/revoke", server.api_key, body)[0] == 200, "it")
    server.kill()
    server.start()
    refused(connect, server, token=old)
    assert [row["user"] for row in listed(server)] == ["ada"]


# [3.revoked.kept]
def test_without_a_store_it_ends_with_the_process(start, connect):
    server = start({"store": "memory"})
    text = old_token(server)
    revoke(server, user="ada")
    refused(connect, server, token=text)
    server.stop()
    server.start()
    assert listed(server) == []
    works(connect(server, token=text))


# [3.revoked.over]
def test_it_is_forgotten_when_it_is_over(start, connect):
    server = start({"auth": {"leeway": "0s"}})
    text = old_token(server)
    server.api("/v1/revoke", {"user": "ada", "until": soon(2)})
    server.api("/v1/revoke", {"user": "bob", "until": soon()})
    refused(connect, server, token=text)
    wait_until(lambda: [row["user"] for row in listed(server)] == ["bob"], "the end of it")
    works(connect(server, token=text))
    server.kill()
    server.start()
    assert [row["user"] for row in listed(server)] == ["bob"]


def test_a_token_is_void_for_its_leeway_too(start, connect):
    server = start({"auth": {"leeway": "10m"}})
    # By itself it is over, and the leeway keeps it good.
    now = int(time.time())
    text = own_token(server, jti="t", iat=now - 100, exp=now - 1)
    works(connect(server, token=text))
    answer = server.api("/v1/revoke", {"jti": "t", "until": soon(0.5)})
    assert answer["until"] > instant(now + 590)
    wait_until(lambda: time.time() > now + 2, "its end")
    refused(connect, server, token=text)


# What is asked, and by whom


def test_bodies_that_break_a_rule_are_refused_by_name(start):
    server = start()
    until = soon()
    for body, members in [
        ({}, {"field": "client"}),
        ({"until": until}, {"field": "client"}),
        ({"user": "ada"}, {"field": "until"}),
        ({"jti": "t"}, {"field": "until"}),
        ({"user": "ada", "jti": "t", "until": until}, {"field": "jti"}),
        ({"client": "A" * 22, "user": "ada"}, {"field": "user"}),
        ({"client": "ada"}, {"field": "client"}),
        ({"user": "a/b", "until": until}, {"field": "user"}),
        ({"user": "x" * 97, "until": until}, {"field": "user", "limit": 96}),
        ({"jti": "", "until": until}, {"field": "jti"}),
        ({"jti": "x" * 129, "until": until}, {"field": "jti", "limit": 128}),
        ({"user": "ada", "until": instant(1)}, {"field": "until"}),
        ({"user": "ada", "until": 4_102_444_800}, {"field": "until"}),
        ({"user": "ada", "until": "tomorrow"}, {"field": "until"}),
        ({"user": "ada", "until": None}, {"field": "until"}),
        ("user", {"field": "body"}),
    ]:
        reply = call(server, "/v1/revoke", key=server.api_key, body=body)
        problem(reply, 400, name="bad_request", temporary=False, **members)
    for query in ("after=ada", "after=role:x", "after=client:ada", "user=ada"):
        problem(call(server, f"/v1/revocations?{query}", key=server.api_key), 400)
    assert listed(server) == []


def test_they_are_listed_a_page_at_a_time_and_audited(start):
    server = start()
    client = "A" * 22
    revoke(server, jti="user:x y")
    revoke(server, user="ada")
    answer = revoke(server, client=client)
    rows, query = [], "limit=1"
    for _ in range(3):
        page = server.api(f"/v1/revocations?{query}")
        rows += page["revocations"]
        assert len(rows) < 3 or page["next"] is None
        query = f"limit=1&after={page['next']}".replace(" ", "+")
    assert [{**row, "at": None, "until": None} for row in rows] == [
        {"client": client, "at": None, "until": None},
        {"user": "ada", "at": None, "until": None},
        {"jti": "user:x y", "at": None, "until": None},
    ]
    assert (rows[0]["at"], rows[0]["until"]) == (answer["at"], answer["until"])
    # A client's is as long as any ticket, at least.
    assert answer["until"] > soon(60)
    audited = [line for line in server.log_lines() if line.get("action") == "revoke"]
    told = [(line.get("jti"), line.get("user"), line.get("client")) for line in audited]
    assert told == [("user:x y", None, None), (None, "ada", None), (None, None, client)]
    assert all((line["status"], line["affected"]) == (200, 0) for line in audited)


# [3.revoked.limit]
def test_one_too_many_is_refused_and_does_not_hold(start, connect):
    server = start({"limits": {"revocations": 2}})
    ada = connect(server, token=own_token(server))
    revoke(server, user="bob")
    revoke(server, jti="t")
    body = {"user": "ada", "until": soon()}
    reply = call(server, "/v1/revoke", key=server.api_key, body=body)
    problem(reply, 503, name="unavailable", limit=2, temporary=True)
    works(ada)
    works(connect(server, token=own_token(server)))
    revoke(server, user="bob")
    assert server.metric("clarion_revocations") == 2
    assert server.metric('clarion_limits_total{limit="revocations"}') == 1
    # Those of before a restart hold, also over it.
    server.settings = {"limits": {"revocations": 1}}
    server.kill()
    server.start()
    assert len(listed(server)) == 2
    refused(connect, server, token=old_token(server, "bob"))
