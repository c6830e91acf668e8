"""Rooms: join, publish, history, leave. Protocol, sections 1, 3 and 5."""

import json

import pytest

from support.peer import TEXT, encode
from support.session import ABSENT, Refused


# [2.publication] [2.all-three] [2.type.dollar] [3.publish] [3.own] [2.units] [4.reply]
def test_a_publication_is_acknowledged_and_delivered_to_all_members(connect, room):
    ada, bob = connect(), connect()
    first = ada.join(room)
    assert (first["offset"], first["from"], first["recovered"]) == (0, 1, False)
    epoch = first["epoch"]
    assert bob.join(room)["epoch"] == epoch
    reply = ada.publish(room, {"text": "hello"}, kind="chat_message", key="k")
    assert (reply["epoch"], reply["offset"]) == (epoch, 1)
    for session in (ada, bob):
        [message] = session.publications(room, 1)
        assert message["type"] == "chat_message"
        assert message["payload"] == {"text": "hello"}
        metadata = message["metadata"]
        assert metadata["time"] == reply["time"]
        assert len(metadata["time"]) == len("2026-01-01T12:00:00.000Z")
        assert metadata["from"] == {"client": ada.client, "user": f"guest:{ada.client}"}
        assert metadata["key"] == "k"
        assert (metadata["room"], metadata["epoch"], metadata["offset"]) == (room, epoch, 1)


# [3.membership]
def test_publishing_needs_no_membership_and_brings_none(connect, room):
    ada, bob = connect(), connect()
    bob.join(room)
    assert ada.publish(room, 1)["offset"] == 1
    assert bob.publications(room, 1)[0]["payload"] == 1
    ada.nothing_of("m")


# [2.payload.bytes] [2.payload.unchanged]
@pytest.mark.parametrize(
    "payload",
    [
        '{"n":1e400,"big":123456789012345678901234567890,"z":-0.0,"dup":1,"dup":2}',
        "  [1 , 2 ]  ",
        '"\\u0041\\/\\ud83d é😀"',
        "null",
        "[" * 100 + "]" * 100,
        json.dumps("x" * 60_000),
    ],
)
def test_the_bytes_of_a_payload_are_not_touched(peer, room, payload):
    ada, bob = peer(), peer()
    bob.join(room)
    ada.send_text(f'{{"metadata":{{"room":"{room}"}},"payload":{payload},"type":"m"}}')
    [message] = bob.publications(room, 1)
    assert message.payload_text == payload.strip()
    # And so they come out of the log.
    history = bob.request("$history", {"limit": 1}, room=room)
    assert json.dumps(history["publications"][0]["payload"]) == json.dumps(json.loads(payload))


# [2.payload.any]
def test_an_absent_payload_is_null(connect, room):
    session = connect()
    session.join(room)
    session.publish(room, ABSENT)
    assert session.publications(room, 1)[0].payload_text == "null"


# [3.history] [3.history.newest] [3.history.zero] [3.count.more] [3.history.reply]
def test_history_pages_forwards_and_backwards(connect, room):
    session = connect()
    for n in range(1, 26):
        session.publish(room, n)
    epoch = session.request("$history", {"limit": 0}, room=room)["epoch"]

    def page(**payload):
        reply = session.request("$history", payload, room=room)
        assert (reply["epoch"], reply["offset"], reply["first"]) == (epoch, 25, 1)
        return [p["metadata"]["offset"] for p in reply["publications"]], reply["more"]

    assert page(limit=0) == ([], True)
    assert page(limit=3) == ([23, 24, 25], True)
    assert page(limit=1000) == (list(range(1, 26)), False)
    assert page(after={"epoch": epoch, "offset": 0}, limit=2) == ([1, 2], True)
    assert page(after={"epoch": epoch, "offset": 23}, limit=2) == ([24, 25], False)
    assert page(after={"epoch": epoch, "offset": 25}, limit=2) == ([], False)
    assert page(before={"epoch": epoch, "offset": 4}, limit=2) == ([2, 3], True)
    assert page(before={"epoch": epoch, "offset": 3}, limit=2) == ([1, 2], False)


# [3.history.envelope]
def test_history_is_the_whole_envelope_as_it_was_delivered(connect, room):
    ada, bob = connect(), connect()
    bob.join(room)
    ada.publish(room, {"a": 1}, kind="note", key="k")
    [delivered] = bob.publications(room, 1)
    page = bob.request("$history", {"limit": 1}, room=room)
    assert page["publications"] == [delivered]


# [3.history.epoch]
def test_history_of_another_epoch_carries_the_position(connect, room):
    session = connect()
    session.publish(room, 1)
    error = session.refused(
        "$history", {"after": {"epoch": "another", "offset": 0}, "limit": 1}, room=room
    )
    assert (error["code"], error["name"], error["offset"]) == (409, "epoch_changed", 1)
    assert error["epoch"] == session.request("$history", {"limit": 0}, room=room)["epoch"]


# [1.history] [3.join]
def test_join_replays_the_last_and_goes_on_live(connect, room):
    ada, bob = connect(), connect()
    for n in range(1, 6):
        ada.publish(room, n)
    reply = bob.join(room, last=2)
    assert (reply["offset"], reply["from"], reply["recovered"]) == (5, 4, False)
    ada.publish(room, 6)
    assert [p["payload"] for p in bob.publications(room, 3)] == [4, 5, 6]


# [1.recover] [3.join]
def test_join_after_a_position_recovers_everything_since(connect, room):
    ada, bob = connect(), connect()
    for n in range(1, 8):
        epoch = ada.publish(room, n)["epoch"]
    reply = bob.join(room, after={"epoch": epoch, "offset": 3})
    assert (reply["offset"], reply["from"], reply["recovered"]) == (7, 4, True)
    ada.publish(room, 8)
    assert [p["payload"] for p in bob.publications(room, 5)] == [4, 5, 6, 7, 8]


# [3.join.nothing]
def test_join_at_the_head_recovers_with_nothing_to_replay(connect, room):
    ada, bob = connect(), connect()
    epoch = ada.publish(room, 1)["epoch"]
    reply = bob.join(room, after={"epoch": epoch, "offset": 1})
    assert (reply["from"], reply["recovered"]) == (2, True)
    bob.nothing_of("m")


# [3.join.unknown]
@pytest.mark.parametrize("after", [{"epoch": "another", "offset": 1}, {"offset": 99}])
def test_join_after_what_never_was_does_not_recover(connect, room, after):
    ada, bob = connect(), connect()
    epoch = ada.publish(room, 1)["epoch"]
    reply = bob.join(room, after={"epoch": epoch, **after})
    assert (reply["epoch"], reply["offset"], reply["from"]) == (epoch, 1, 2)
    assert reply["recovered"] is False


# [3.join.both]
def test_join_after_what_was_trimmed_says_so(connect, room):
    room = f"short/{room}"
    ada, bob, carol = connect(), connect(), connect()
    for n in range(1, 21):
        epoch = ada.publish(room, n)["epoch"]
    after = {"epoch": epoch, "offset": 5}
    reply = bob.join(room, after=after)
    assert reply["recovered"] is False
    reply = carol.join(room, after=after, last=3)
    assert (reply["recovered"], reply["from"]) == (False, 18)
    assert [p["payload"] for p in carol.publications(room, 3)] == [18, 19, 20]
    assert ada.request("$history", {"limit": 0}, room=room)["first"] == 11


# [3.leave] [3.leave.after]
def test_leave_ends_delivery(connect, room):
    ada, bob = connect(), connect()
    bob.join(room)
    ada.publish(room, 1)
    bob.publications(room, 1)
    assert bob.request("$leave", room=room) == {}
    ada.publish(room, 2)
    # Joining again comes behind it, so this is a fence.
    assert bob.join(room)["offset"] == 2
    bob.nothing_of("m")
    ada.publish(room, 3)
    assert bob.publications(room, 1)[0]["payload"] == 3


# [3.join.twice] [6.names]
def test_joining_twice_and_leaving_a_strangers_room_are_refused(connect, room):
    session = connect()
    session.join(room)
    error = session.refused("$join", {}, room=room)
    assert (error["code"], error["name"]) == (409, "already_joined")
    session.request("$leave", room=room)
    error = session.refused("$leave", room=room)
    assert (error["code"], error["name"]) == (404, "not_joined")


# [3.rooms.limit]
def test_a_connection_can_be_in_so_many_rooms_and_no_more(start, connect):
    server = start({"limits": {"rooms": 3}})
    session = connect(server)
    for n in range(3):
        session.join(f"room/{n}")
    error = session.refused("$join", {}, room="room/3")
    assert (error["code"], error["name"], error["limit"]) == (429, "rate_limited", 3)
    assert error["field"] == "metadata.room"
    session.request("$leave", room="room/0")
    session.join("room/3")


# [5.4.key]
def test_a_repeated_key_is_one_publication(connect, room):
    session = connect()
    session.join(room)
    first = session.publish(room, "once", key="k-1")
    assert "duplicate" not in first
    again = session.publish(room, "once", key="k-1")
    assert again == {**first, "duplicate": True}
    session.publish(room, "other", key="k-2")
    assert [p["payload"] for p in session.publications(room, 2)] == ["once", "other"]


# [5.4.flight]
def test_keys_in_flight_wait_for_the_first(peer, room):
    session = peer()
    # In one write, so that all of them are under way at once.
    ids = list(range(8))
    lines = [
        json.dumps({"type": "m", "payload": n, "metadata": {"room": room, "id": n, "key": "k"}})
        for n in ids
    ]
    session.bytes(b"".join(encode(TEXT, line.encode()) for line in lines))
    replies = [session.answer(n) for n in ids]
    assert {reply["offset"] for reply in replies} == {1}
    assert [reply.get("duplicate", False) for reply in replies] == [False] + [True] * 7


def test_a_key_is_its_users_own(connect, room):
    ada, bob = connect(), connect()
    assert ada.publish(room, 1, key="k")["offset"] == 1
    assert bob.publish(room, 2, key="k")["offset"] == 2
    # And another room's key is another key.
    assert ada.publish(f"{room}/other", 3, key="k").get("duplicate") is None


# [1.unlogged]
def test_ephemeral_publications_have_no_place(connect, room):
    ada, bob = connect(), connect()
    ada.join(room)
    bob.join(room)
    ada.publish(room, 1)
    reply = ada.publish(room, "cursor", ephemeral=True)
    assert list(reply) == ["time"]
    ada.publish(room, 2)
    messages = bob.publications(room, 3)
    assert sorted(str(m["payload"]) for m in messages) == ["1", "2", "cursor"]
    for message in messages:
        logged = message["payload"] != "cursor"
        assert ("offset" in message["metadata"]) is logged
        assert ("epoch" in message["metadata"]) is logged
    assert ada.request("$history", {"limit": 9}, room=room)["offset"] == 2


# [2.metadata.members]
def test_ephemeral_without_echo_goes_to_the_others(connect, room):
    ada, bob = connect(), connect()
    ada.join(room)
    bob.join(room)
    ada.publish(room, "not to me", ephemeral=True, echo=False)
    ada.publish(room, "to all", ephemeral=True)
    assert bob.publications(room, 1)[0]["payload"] == "not to me"
    assert ada.publications(room, 1)[0]["payload"] == "to all"


# [1.unlogged] [1.log.kinds] [3.join.unlogged] [5.4.unlogged] [3.publish]
def test_a_room_without_log_delivers_and_keeps_nothing(connect, room):
    room = f"unlogged/{room}"
    ada, bob = connect(), connect()
    assert bob.join(room) == {}
    assert list(ada.publish(room, 1)) == ["time"]
    [message] = bob.publications(room, 1)
    assert "offset" not in message["metadata"]
    for command, payload, field in [
        ("$history", {"limit": 1}, "metadata.room"),
        ("$join", {"last": 1}, "payload.last"),
        ("$join", {"after": {"epoch": "e", "offset": 0}}, "payload.after"),
    ]:
        error = ada.refused(command, payload, room=room)
        assert (error["code"], error["name"], error["field"]) == (404, "no_history", field)
    error = ada.refused("m", 1, room=room, key="k")
    assert (error["code"], error["name"]) == (400, "key_needs_log")


# [1.special.refused] [1.special.publish] [1.special.join] [1.client.publish]
@pytest.mark.parametrize("name", ["$all", "$user/bob", "$group/staff", "$client/{client}"])
def test_special_rooms_are_not_for_clients(connect, name):
    session = connect()
    name = name.format(client=session.client)
    error = session.refused("m", 1, room=name)
    assert (error["code"], error["name"]) == (403, "forbidden")
    for command in ("$join", "$leave"):
        error = session.refused(command, {}, room=name)
        assert (error["code"], error["name"]) == (400, "bad_room")


# [6.delivery]
def test_a_publication_too_large_to_deliver_is_its_publishers_problem(start, connect, room):
    server = start({"limits": {"delivery_bytes": 4096}})
    ada, bob = connect(server), connect(server)
    bob.join(room)
    error = ada.refused("m", "x" * 5000, room=room)
    assert (error["code"], error["name"]) == (413, "too_large")
    assert (error["field"], error["limit"], error["temporary"]) == ("payload", 4096, False)
    ada.publish(room, "x" * 3000)
    bob.publications(room, 1)


# [6.temporary]
def test_publishing_faster_than_allowed_is_refused_with_a_time(start, connect, room):
    server = start({"limits": {"publish_per_s": 5}})
    session = connect(server)
    assert session.welcome["limits"]["publish_per_s"] == 5
    ids = [session.ask("m", n, room=room) for n in range(20)]
    accepted, refused = 0, []
    for id in ids:
        try:
            session.answer(id)
            accepted += 1
        except Refused as error:
            refused.append(error.error)
    assert 5 <= accepted < 20
    for error in refused:
        assert (error["code"], error["name"], error["limit"]) == (429, "rate_limited", 5)
        assert error["temporary"] is True
        assert 1 <= error["retry_after_ms"] <= 1000
    # The connection is none the worse for it, and other commands are not counted.
    session.fence()
    assert session.request("$history", {"limit": 0}, room=room)["offset"] == accepted


# [4.error]
def test_what_is_refused_without_id_is_named_by_room_key_and_command(connect):
    session = connect()
    session.send("m", 1, room="$all", key="k")
    error = session.push("$error")
    assert error["metadata"] == {"room": "$all", "key": "k"}
    assert error["payload"]["command"] == "m"
    assert error["payload"]["name"] in ("forbidden", "key_needs_log")


# [4.error]
def test_errors_without_id_are_told_once_a_second(connect):
    session = connect()
    for _ in range(50):
        session.send("m", 1, room="$all")
    session.fence()
    errors = [m for m in session.inbox if m["type"] == "$error"]
    assert len(errors) <= 2, f"{len(errors)} errors"


# [1.special.publish] [1.user.publish]
def test_settings_say_who_may_join_and_publish(start, connect):
    rooms = [
        {"match": "secret/**", "join": "nobody", "publish": "nobody"},
        {"match": "news", "publish": "nobody"},
        {"match": "$user/*", "publish": "everyone"},
    ]
    server = start({"rooms": rooms})
    ada, bob = connect(server), connect(server)
    for command in ("$join", "$history", "$members", "$state", "m"):
        error = ada.refused(command, {"limit": 1}, room="secret/plan")
        assert (error["code"], error["name"]) == (403, "forbidden"), command
    ada.join("news")
    assert ada.refused("m", 1, room="news")["name"] == "forbidden"
    assert ada.refused("m", 1, room="$all")["name"] == "forbidden"
    ada.publish(f"$user/{bob.welcome['user']}", "psst")
    (heard,) = bob.publications(f"$user/{bob.welcome['user']}", 1)
    assert heard["payload"] == "psst"
    assert heard["metadata"]["from"]["user"] == ada.welcome["user"]


# [4.rates]
def test_other_commands_have_a_rate_of_their_own(start, connect, room):
    server = start({"limits": {"commands_per_s": 5}})
    session = connect(server)
    ids = [session.ask("$history", {"limit": 0}, room=room) for _ in range(20)]
    refused = []
    for id in ids:
        try:
            session.answer(id)
        except Refused as error:
            refused.append(error.error)
    assert 1 <= len(refused) <= 15
    for error in refused:
        assert (error["code"], error["name"], error["limit"]) == (429, "rate_limited", 5)
        assert 1 <= error["retry_after_ms"] <= 1000
    session.publish(room, 1)


# [4.rates.bytes]
def test_whoever_sends_too_many_bytes_is_read_slowly_and_loses_nothing(start, connect, room):
    server = start({"limits": {"bytes_per_s": 100_000, "publish_per_s": 0}})
    session, other = connect(server), connect(server)
    ids = [session.ask("m", "x" * 20_000, room=room) for _ in range(15)]
    other.fence()
    offsets = [session.answer(id)["offset"] for id in ids]
    assert offsets == list(range(1, 16))
