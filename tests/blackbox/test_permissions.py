"""What settings and tokens let whom do, against the real binary. Protocol, section 3."""

import pytest

from support.session import Refused
from support.tokens import own_token

ROOMS = [
    {"match": "open/**"},
    {"match": "team/**", "join": "users", "publish": "users"},
    {"match": "board/**", "join": "users", "publish": "granted", "history": "everyone"},
    {"match": "news", "publish": "nobody"},
    {"match": "form", "types": ["answer"], "payload_bytes": 16},
]
COMMANDS = ["$join", "m", "$history", "$members"]


def may(session, room):
    """What of the commands is not forbidden in a room."""
    allowed = set()
    for command in COMMANDS:
        try:
            session.request(command, {"limit": 1}, room=room)
        except Refused as refused:
            if refused.error["name"] == "forbidden":
                continue
        allowed.add(command)
    return allowed


@pytest.fixture(scope="module")
def ruled(tmp_path_factory):
    from support.server import Server

    server = Server(tmp_path_factory.mktemp("ruled"), {"rooms": ROOMS})
    server.start()
    yield server
    server.stop()


# [3.may.access] [3.may.list]
def test_settings_and_tokens_decide_together(ruled, connect):
    guest = connect(ruled)
    user = connect(ruled, token=own_token(ruled, "ada"))
    rooms = {"board/**": ["join", "publish"], "news": ["join", "publish"]}
    listed = connect(ruled, token=own_token(ruled, "bob", rooms=rooms))
    everything = set(COMMANDS)
    for room, of_guest, of_user, of_listed in [
        ("open/1", everything, everything, set()),
        ("team/1", set(), everything, set()),
        ("board/1", {"$history"}, everything - {"m"}, {"$join", "m"}),
        ("news", everything - {"m"}, everything - {"m"}, {"$join"}),
    ]:
        assert may(guest, room) == of_guest, room
        assert may(user, room) == of_user, room
        assert may(listed, room) == of_listed, room
    # One of `$` is opened by the token that names it, and by no other.
    sender = connect(ruled, token=own_token(ruled, "eve", rooms={"$user/*": ["publish"]}))
    sender.publish("$user/ada", "psst")
    (heard,) = user.publications("$user/ada", 1)
    assert heard["metadata"]["from"]["user"] == "eve"
    assert user.refused("m", 1, room="$user/bob")["name"] == "forbidden"


# [3.may.access]
@pytest.mark.parametrize(
    "name",
    [
        "Board/1",
        "board",
        "board/1/",
        "board//1",
        "board/..",
        "board/../board/1",
        "board%2F1",
        "$board/1",
        "b\u043eard/1",
    ],
)
def test_no_odd_name_is_a_way_around(ruled, connect, name):
    listed = connect(ruled, token=own_token(ruled, rooms={"board/*": ["join", "publish"]}))
    for command in ("$join", "m"):
        error = listed.refused(command, {}, room=name)
        assert error["name"] in ("forbidden", "bad_room"), (name, command)


# [3.refresh.grants] [3.refresh.left]
def test_a_refresh_takes_a_session_out_of_what_it_may_no_longer_be_in(ruled, connect):
    session = connect(ruled, token=own_token(ruled, "kim"))
    for room in ("open/a", "open/b"):
        session.join(room)
    rooms = {"open/b": ["join"]}
    session.request(
        "$refresh", {"token": own_token(ruled, "kim", rooms=rooms, limits={"rooms": 1})}
    )
    left = session.push("$left")
    assert (left["metadata"]["room"], left["payload"]) == ("open/a", {"reason": "forbidden"})
    assert session.refused("m", 1, room="open/b")["name"] == "forbidden"


# [3.may.content]
def test_a_room_takes_what_its_settings_say(ruled, connect):
    session = connect(ruled)
    session.request("answer", "12345678901234", room="form")
    assert session.refused("answer", "123456789012345", room="form")["limit"] == 16
    error = session.refused("question", 1, room="form")
    assert (error["code"], error["name"], error["field"]) == (422, "schema", "type")
