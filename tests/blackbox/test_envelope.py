"""What is no good envelope is answered by `$error`, and the connection stays. Protocol, section 2.

The golden frames of `spec/vectors/frames.json`, sent to the real binary.
"""

import json
from pathlib import Path

import pytest

FRAMES = json.loads((Path(__file__).parents[2] / "spec" / "vectors" / "frames.json").read_text())[
    "frames"
]
TO_SERVER = [frame for frame in FRAMES if frame["direction"] == "to_server"]
BAD = {frame["name"]: frame for frame in TO_SERVER if "error" in frame}
GOOD = {frame["name"]: frame for frame in TO_SERVER if "meaning" in frame}
PUBLICATIONS = {n: f for n, f in GOOD.items() if f["meaning"]["command"] == "publish"}
COMMANDS = {n: f for n, f in GOOD.items() if f["meaning"]["command"] not in ("publish", "$hello")}


# [2.error.address] [2.error.limit]
@pytest.mark.parametrize("name", BAD)
def test_a_bad_frame_is_refused_by_name_field_and_limit(peer, name):
    frame = BAD[name]
    is_hello = frame["salvaged"].get("type") == "$hello"
    session = peer(say_hello=not is_hello)
    session.send_text(frame["text"])
    error = session.push("$error")
    payload, salvaged = error["payload"], frame["salvaged"]
    assert payload["name"] == frame["error"]["name"]
    assert payload.get("field") == frame["error"].get("field")
    if "limit" in frame["error"]:
        assert payload["limit"] == frame["error"]["limit"]
    assert payload["temporary"] is False
    assert payload["message"]
    # Addressed by the id alone, or else by whatever could be read.
    if "id" in salvaged:
        assert error["metadata"] == {"id": salvaged["id"]}
    else:
        assert error["metadata"] == {k: salvaged[k] for k in ("room", "key") if k in salvaged}
        assert payload.get("command") == salvaged.get("type")
    # The connection is as good as before.
    if is_hello:
        session.hello()
    session.fence()


@pytest.mark.parametrize("name", PUBLICATIONS)
def test_a_good_publication_arrives_as_it_was_sent(peer, name):
    frame = PUBLICATIONS[name]
    meaning = frame["meaning"]
    publisher = peer()
    room = meaning["room"]
    if room.startswith("$"):
        publisher.send_text(frame["text"])
        assert publisher.push("$error")["payload"]["name"] == "forbidden"
        return
    member = peer()
    member.join(room)
    publisher.send_text(frame["text"])
    [message] = member.publications(room, 1)
    assert message["type"] == meaning["type"]
    assert message.payload_text == meaning["payload_text"]
    assert message["metadata"].get("key") == meaning.get("key")
    assert message["metadata"]["from"]["client"] == publisher.client
    assert ("offset" in message["metadata"]) is not meaning["ephemeral"]
    if "id" in meaning:
        assert publisher.answer(meaning["id"])


@pytest.mark.parametrize("name", COMMANDS)
def test_a_good_command_is_understood(peer, name):
    """What it does is said elsewhere; here nothing of it may be called malformed."""
    session = peer()
    session.send_text(COMMANDS[name]["text"])
    session.fence()
    refusals = [m["payload"]["name"] for m in session.inbox if m["type"] == "$error"]
    assert not {"bad_envelope", "bad_request", "bad_room", "unknown_type"} & set(refusals), refusals


def test_one_bad_message_does_not_disturb_its_neighbours(peer, room):
    session = peer()
    for n in range(20):
        session.send_text(f'{{"type":"m","payload":{n},"metadata":{{"room":"{room}","id":{n}}}}}')
        session.send_text("{" * n)
    assert [session.answer(n)["offset"] for n in range(20)] == list(range(1, 21))
