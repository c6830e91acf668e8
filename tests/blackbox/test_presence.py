"""Who is there: snapshots, merged changes, grace, large rooms. Protocol, section 4."""

import base64

from support.server import wait_until

FAST = {"presence": {"interval": "50ms"}, "session": {"ttl": "1s"}}


def clients(entries):
    return {entry["client"] for entry in entries}


def gather(session, room, until):
    """Applies `$members` pushes until the set of known clients is as wanted."""
    known = set()

    def apply(message):
        payload = message["payload"]
        if "all" in payload:
            known.clear()
            known.update(clients(payload["all"]))
        known.update(clients(payload.get("joined", [])))
        known.difference_update(clients(payload.get("left", [])))
        return payload

    while True:
        payload = apply(session.push("$members", room))
        if until(known):
            return payload


# [3.join.members] [4.members] [4.members.snapshot] [4.entry.left]
def test_a_join_brings_the_snapshot_and_changes_follow(start, connect, room):
    server = start(FAST)
    ada, bob = connect(server), connect(server)
    members = ada.join(room, members=True)["members"]
    assert members == {
        "all": [{"client": ada.client, "user": f"guest:{ada.client}"}],
        "count": 1,
        "users": 1,
    }
    assert bob.join(room, members=True)["members"]["count"] == 2
    change = gather(ada, room, lambda known: bob.client in known)
    assert bob.client in clients(change["joined"])
    assert (change["count"], change["users"]) == (2, 2)
    bob.request("$leave", room=room)
    change = ada.push("$members", room)["payload"]
    assert change["left"] == [{"client": bob.client, "user": f"guest:{bob.client}"}]
    assert change["count"] == 1


# [4.members]
def test_whoever_does_not_ask_is_not_told(start, connect, room):
    server = start(FAST)
    ada, bob = connect(server), connect(server)
    assert "members" not in ada.join(room)
    bob.join(room, members=True)
    bob.request("$state", "here", room=room)
    change = bob.push("$members", room)
    assert change
    ada.nothing_of("$members")


# [4.members.merged]
def test_a_crowd_is_told_in_few_messages(start, connect, room):
    server = start({"presence": {"interval": "300ms"}})
    ada = connect(server)
    ada.join(room, members=True)
    crowd = [connect(server) for _ in range(20)]
    ids = [member.ask("$join", {}, room=room) for member in crowd]
    for member, id in zip(crowd, ids, strict=True):
        member.answer(id)
    known, messages = set(), 0
    while len(known) < len(crowd):
        known |= clients(ada.push("$members", room)["payload"]["joined"])
        messages += 1
    assert known >= {member.client for member in crowd}
    assert messages <= 3, f"{messages} messages for {len(crowd)} joins"


# [3.members.pages] [3.members]
def test_members_can_be_asked_for_in_pages(connect, room):
    sessions = [connect() for _ in range(5)]
    for session in sessions:
        session.join(room)
    # In the order of the ids' bytes, which is not that of their text.
    clients = [session.client for session in sessions]
    expected = sorted(clients, key=lambda client: base64.urlsafe_b64decode(client + "=="))
    seen, after = [], {}
    while True:
        page = sessions[0].request("$members", {"limit": 2, **after}, room=room)
        assert (page["count"], page["users"]) == (5, 5)
        seen += [member["client"] for member in page["members"]]
        if not page["more"]:
            break
        after = {"after": seen[-1]}
    assert seen == expected


# [3.state] [3.state.ends] [3.state.size]
def test_state_is_shown_and_ends_with_the_membership(start, connect, room):
    server = start(FAST)
    ada, bob = connect(server), connect(server)
    ada.join(room, members=True)
    bob.join(room)
    state = {"typing": True, "at": [1, 2]}
    assert bob.request("$state", state, room=room) == {}

    def entry():
        page = ada.request("$members", {}, room=room)["members"]
        return next(member for member in page if member["client"] == bob.client)

    assert entry()["state"] == state
    change = ada.until(
        lambda m: m["type"] == "$members" and "state" in str(m["payload"]), "bob's state"
    )
    told = change["payload"]["joined"] + change["payload"]["changed"]
    assert [e["state"] for e in told if e["client"] == bob.client] == [state]
    assert bob.request("$state", None, room=room) == {}
    assert "state" not in entry()
    bob.request("$state", 1, room=room)
    bob.request("$leave", room=room)
    bob.join(room)
    assert "state" not in entry()
    error = bob.refused("$state", "s" * 1023, room=room)
    assert (error["code"], error["name"], error["limit"]) == (413, "too_large", 1024)
    bob.request("$state", "s" * 1022, room=room)


def test_state_and_members_of_a_room_one_is_not_in(connect, room):
    session = connect()
    error = session.refused("$state", 1, room=room)
    assert (error["code"], error["name"]) == (404, "not_joined")
    assert session.request("$members", {}, room=room)["count"] == 0


# [3.session.ended]
def test_closing_with_1000_ends_presence_at_once(start, connect, room):
    server = start({"presence": {"interval": "50ms"}, "session": {"ttl": "60s"}})
    ada, bob = connect(server), connect(server)
    ada.join(room, members=True)
    bob.join(room)
    gather(ada, room, lambda known: bob.client in known)
    bob.close(1000)
    change = ada.push("$members", room)["payload"]
    assert clients(change["left"]) == {bob.client}


# [3.session.grace]
def test_a_killed_client_stays_for_its_grace_and_then_leaves(start, connect, peer, room):
    server = start(FAST)
    ada, bob = connect(server), peer(server)
    ada.join(room, members=True)
    bob.join(room)
    gather(ada, room, lambda known: bob.client in known)
    bob.drop()
    wait_until(lambda: server.stats()["connections"] == 1, "the server to see the end")
    assert ada.request("$members", {}, room=room)["count"] == 2
    change = ada.push("$members", room)["payload"]
    assert clients(change["left"]) == {bob.client}
    assert change["count"] == 1


# [3.resume]
def test_a_session_that_comes_back_in_time_never_left(start, connect, peer, room):
    server = start({"presence": {"interval": "50ms"}, "session": {"ttl": "60s"}})
    ada, bob = connect(server), peer(server)
    ada.join(room, members=True)
    bob.join(room)
    gather(ada, room, lambda known: bob.client in known)
    bob.drop()
    wait_until(lambda: server.stats()["connections"] == 1, "the server to see the end")
    again = peer(server, ticket=bob.welcome["ticket"], rooms={room: {}})
    assert again.client == bob.client
    again.push("$joined", room)
    # Told in order: when this one's change arrives, everything before it has.
    carol = connect(server)
    carol.join(room)
    change = gather(ada, room, lambda known: carol.client in known)
    assert change["count"] == 3
    assert not change["left"]


# [4.members.large] [3.join.members]
def test_in_a_large_room_only_numbers_are_told(start, connect, room):
    server = start({"presence": {"interval": "50ms", "detail_max": 3}})
    sessions = [connect(server) for _ in range(5)]
    ada = sessions[0]
    ada.join(room, members=True)
    for session in sessions[1:4]:
        session.join(room)
    counts = ada.until(
        lambda m: m["type"] == "$members" and m["payload"]["count"] == 4, "the fourth member"
    )
    assert counts["payload"] == {"count": 4, "users": 4}
    snapshot = sessions[4].join(room, members=True)["members"]
    assert snapshot == {"count": 5, "users": 5}
    for session in sessions[3:]:
        session.request("$leave", room=room)
    back = ada.until(lambda m: m["type"] == "$members" and "all" in m["payload"], "the names")
    assert clients(back["payload"]["all"]) == {session.client for session in sessions[:3]}


def test_several_sessions_of_one_page_are_several_members(connect, room):
    first, second = connect(), connect()
    first.join(room)
    second.join(room)
    page = first.request("$members", {}, room=room)
    assert (page["count"], page["users"]) == (2, 2)
