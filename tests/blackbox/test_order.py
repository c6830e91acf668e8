"""Promises 1, 2 and 5, with publishers and members on both workers at once."""

import functools
import json
import os
import threading
from collections import defaultdict
from pathlib import Path

import pytest

PUBLISHERS, EACH, MEMBERS, ROOMS = 6, 150, 8, 3
# So that all of it is more than the kernel holds for a member that does not read.
TEXT = "x" * 2_500


# Bounds so small that mailboxes and outboxes are full all the time: members fall back to the log,
# and who publishes is not read for a while.
CRAMPED = {"mailbox_bytes": 65_536, "outbox_bytes": 4_096, "commands": 4}


# [5.1.order] [5.2.seam] [5.5]
@pytest.mark.parametrize("limits", [{}, CRAMPED], ids=["roomy", "cramped"])
def test_every_member_sees_every_room_in_one_order_without_a_hole(start, peer, room, limits):
    size = {"match": "**", "size": 10_000, "bytes": 64 << 20}
    server = start(
        {
            "limits": {"publish_per_s": 0, "commands_per_s": 0, "bytes_per_s": 0, **limits},
            "rooms": [size],
        }
    )
    peer = functools.partial(peer, server)
    rooms = [f"{room}/{n}" for n in range(ROOMS)]
    deaf = peer(receive_buffer=8192)
    members = [deaf, *(peer() for _ in range(MEMBERS))]
    for member in members:
        for name in rooms:
            member.join(name)
    deaf.reading = False
    publishers = [peer() for _ in range(PUBLISHERS)]
    failures = []

    def publish(number, session):
        try:
            ids = []
            for n in range(EACH):
                for name in rooms:
                    ids.append(session.ask("m", [number, n, TEXT], room=name))
            for id in ids:
                session.answer(id)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=publish, args=item) for item in enumerate(publishers)]
    for thread in threads:
        thread.start()
    # Some come late, in the middle of it, and want everything from the beginning.
    late = [peer() for _ in range(4)]
    for session in late:
        for name in rooms:
            session.join(name, last=100_000)
    for thread in threads:
        thread.join()
    assert not failures, failures[0]
    deaf.reading = True

    total = PUBLISHERS * EACH
    orders = defaultdict(list)
    for session in [*members, *late]:
        by_room = {name: [] for name in rooms}
        while any(len(messages) < total for messages in by_room.values()):
            message = session.receive()
            if message["type"] == "m":
                by_room[message["metadata"]["room"]].append(message)
        for name, messages in by_room.items():
            offsets = [m["metadata"]["offset"] for m in messages]
            assert offsets == list(range(1, total + 1)), f"{name}: {offsets[:20]}..."
            assert len({m["metadata"]["epoch"] for m in messages}) == 1
            by_publisher = defaultdict(list)
            for message in messages:
                number, n, _ = message["payload"]
                by_publisher[number].append(n)
            for number in range(PUBLISHERS):
                assert by_publisher[number] == list(range(EACH)), f"{name}: of {number}"
            orders[name].append(json.dumps([m["payload"][:2] for m in messages]))
    for name, seen in orders.items():
        assert len(set(seen)) == 1, f"{name} has several orders"
    if limits:
        assert server.metric("clarion_fell_behind_total") > 0, "it was not cramped"


def test_connections_are_on_both_workers(peer, server):
    """The test above would prove little if all connections were on one worker."""
    before = polled(server)
    sessions = [peer() for _ in range(16)]
    after = polled(server)
    assert sessions
    grown = [after[epoll] - before.get(epoll, set()) for epoll in after]
    assert len([sockets for sockets in grown if len(sockets) > 1]) == 2, grown


def polled(server):
    """Which descriptors each epoll instance of the server waits for: workers have one each."""
    process = Path(f"/proc/{server.process.pid}")
    result = {}
    for link in (process / "fd").iterdir():
        if "eventpoll" in os.readlink(link):
            info = (process / "fdinfo" / link.name).read_text()
            targets = [line.split()[1] for line in info.splitlines() if line.startswith("tfd:")]
            result[link.name] = set(targets)
    return result


# [5.5] [1.unlogged]
def test_unlogged_publications_of_one_connection_keep_their_order(peer, room):
    room = f"unlogged/{room}"
    members = [peer() for _ in range(4)]
    for member in members:
        member.join(room)
    publishers = [peer() for _ in range(3)]
    for n in range(200):
        for number, session in enumerate(publishers):
            session.send("m", [number, n], room=room)
    for member in members:
        payloads = [m["payload"] for m in member.publications(room, 600)]
        for number in range(len(publishers)):
            assert [n for who, n in payloads if who == number] == list(range(200))


# [3.order]
def test_commands_for_one_room_run_in_order(peer, room):
    session = peer()
    for n in range(50):
        session.send("$join", {}, room=room, id=f"j{n}")
        session.send("m", n, room=room, id=f"p{n}")
        session.send("$leave", room=room, id=f"l{n}")
    for n in range(50):
        assert session.answer(f"j{n}")["offset"] == n
        assert session.answer(f"p{n}")["offset"] == n + 1
        assert session.answer(f"l{n}") == {}
    # What was published before the leave was delivered before it.
    assert [m["payload"] for m in session.publications(room, 50)] == list(range(50))
