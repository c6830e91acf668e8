"""Promise 6: a connection that reads too slowly is not a leak, and costs nobody else anything."""

from support.server import wait_until

SMALL = {"publish_per_s": 0, "commands_per_s": 0, "bytes_per_s": 0, "outbox_bytes": 65_536}
# More than the kernel's buffers and the outbox hold together.
COUNT, TEXT = 1500, "x" * 16_384


def publish_all(session, room, count=COUNT):
    """Publishes with a few under way, and returns when all are acknowledged."""
    ids = []
    for n in range(1, count + 1):
        ids.append(session.ask("m", [n, TEXT], room=room))
        if len(ids) > 16:
            session.answer(ids.pop(0))
    for id in ids:
        session.answer(id)


def slow_peer(peer, server, room, **join):
    session = peer(server, receive_buffer=8192)
    session.join(room, **join)
    session.reading = False
    return session


# [5.6.log]
def test_a_slow_member_catches_up_from_the_log_and_delays_nobody(start, peer, room):
    server = start({"limits": SMALL, "rooms": [{"match": "**", "size": 4000, "bytes": 64 << 20}]})
    ada, bob, carol = peer(server), slow_peer(peer, server, room), peer(server)
    carol.join(room)
    publish_all(ada, room)
    # The quick one has everything, while the slow one has read nothing.
    assert [m["payload"][0] for m in carol.publications(room, COUNT)] == list(range(1, COUNT + 1))
    [row] = [r for r in server.api("/clients")["clients"] if r["client"] == bob.client]
    assert row["lag"] > 0
    assert row["outbox_bytes"] <= SMALL["outbox_bytes"]
    bob.reading = True
    messages = bob.publications(room, COUNT)
    assert [m["metadata"]["offset"] for m in messages] == list(range(1, COUNT + 1))
    assert [m["payload"][0] for m in messages] == list(range(1, COUNT + 1))
    # And is live again.
    ada.publish(room, "live")
    assert bob.publications(room, 1)[0]["payload"] == "live"
    bob.nothing_of("$gap")


# [5.6.drains]
def test_what_the_log_lost_meanwhile_is_announced(start, peer, room):
    server = start({"limits": SMALL, "rooms": [{"match": "**", "size": 50}]})
    ada, bob = peer(server), slow_peer(peer, server, room)
    publish_all(ada, room)
    bob.reading = True
    expected, gaps = 1, 0
    while expected <= COUNT:
        message = bob.receive()
        if message["type"] == "$gap":
            gap = message["payload"]
            assert gap["reason"] == "trimmed"
            assert (gap["from"], gap["to"]) == (expected, gap["offset"])
            expected = gap["offset"] + 1
            gaps += 1
        elif message["type"] == "m":
            assert message["metadata"]["offset"] == expected
            expected += 1
    assert gaps == 1


# [5.6.gap]
def test_in_a_room_without_log_a_slow_member_is_told_that_it_lost_something(start, peer, room):
    server = start({"limits": SMALL, "rooms": [{"match": "**", "log": "none"}]})
    ada, bob = peer(server), slow_peer(peer, server, room)
    publish_all(ada, room)
    bob.reading = True
    numbers = []
    while True:
        message = bob.until(lambda m: m["type"] in ("m", "$gap"), "a gap")
        if message["type"] == "$gap":
            break
        numbers.append(message["payload"][0])
    assert message["payload"] == {"reason": "slow"}
    assert message["metadata"] == {"room": room}
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) < COUNT
    ada.publish(room, "live")
    assert bob.until(lambda m: m["payload"] == "live", "what is live")


# [5.6.closed] [5.6.behind]
def test_whoever_stays_behind_for_too_long_is_closed(start, peer, room):
    server = start({"limits": {**SMALL, "slow_grace": "300ms", "close": "5s"}})
    ada, bob = peer(server), slow_peer(peer, server, room)
    publish_all(ada, room)
    # While it is being closed it is nobody's client any more.
    wait_until(lambda: len(server.api("/clients")["clients"]) == 1, "its session to end")
    bob.reading = True
    assert bob.closed()[0] == 4108
    ada.fence()
    wait_until(lambda: server.metric('clarion_closes_total{code="4108"}') == 1, "the count")


# [5.6.bound]
def test_the_memory_that_a_slow_member_costs_is_bounded(start, peer, room):
    server = start({"limits": SMALL, "rooms": [{"match": "**", "log": "none"}]})
    ada = peer(server)
    slow = [slow_peer(peer, server, room) for _ in range(4)]
    publish_all(ada, room, 200)
    before = server.stats()["memory_bytes"]
    publish_all(ada, room, 1000)
    grown = server.stats()["memory_bytes"] - before
    assert slow
    # 4 members times 16 MB would have been kept.
    assert grown < 8 << 20, f"{grown >> 20} MiB more"
