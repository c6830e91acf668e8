"""Joining a log while a thousand publications a second arrive: the cut between replay and live."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

SIZE = 500
SETTINGS = {
    "limits": {"publish_per_s": 0, "commands_per_s": 0, "bytes_per_s": 0},
    "rooms": [
        {"match": "durable/*", "log": "durable", "size": SIZE},
        {"match": "memory/*", "size": SIZE},
    ],
}
# Publications a turn, and the pause behind it.
BURST, PAUSE_S = 10, 0.009
JOINERS, JOINS = 6, 8
# How far behind the reply of a join a joiner goes on to read: well into what is live.
LIVE = 150


class Stream:
    """Publishes its number to a room, so that payload and offset are the same, until it is left."""

    def __init__(self, session, room):
        self.session, self.room = session, room
        self.sent = 0
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._publish)

    def _publish(self):
        while not self.ended.wait(PAUSE_S):
            for _ in range(BURST):
                self.publish()

    def publish(self, **metadata):
        self.sent += 1
        self.session.send("m", self.sent, room=self.room, **metadata)
        return metadata.get("id")

    def __enter__(self):
        self.begun, self.before = time.monotonic(), self.sent
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()

    @property
    def per_s(self):
        return (self.sent - self.before) / (time.monotonic() - self.begun)


# [3.join.path] [3.join.both] [3.join.live] [5.2.all] [5.2.seam] [5.1.order]
@pytest.mark.parametrize("kind", ["durable", "memory"])
def test_between_replay_and_live_nothing_is_lost_or_repeated(start, connect, peer, kind):
    server, room = start(SETTINGS), f"{kind}/a"
    stream = Stream(connect(server), room)
    # More than the room keeps, so that some positions are gone.
    ids = [stream.publish(id=n) for n in range(2 * SIZE)]
    epoch = [stream.session.answer(id) for id in ids][0]["epoch"]
    # Connected beforehand: what counts is when they join.
    peers = [[peer(server, say_hello=False) for _ in range(JOINS)] for _ in range(JOINERS)]

    def join_again_and_again(number):
        rng = random.Random(f"{kind} {number}")
        joins = [join(rng, session) for session in peers[number]]
        return [how for hows in joins for how in hows]

    def join(rng, session):
        """Joins from somewhere, reads on, leaves, and comes back behind what it saw."""
        offset = rng.randrange(stream.sent - 2 * SIZE, stream.sent - 2 * BURST)
        options = {"after": {"epoch": epoch, "offset": offset}, "last": rng.randrange(SIZE)}
        for option in rng.choice([[], ["after"], ["last"]]):
            del options[option]
        if rng.random() < 0.5:
            session.hello(rooms={room: options})
            joined = session.push("$joined", room)["payload"]
        else:
            session.hello()
            joined = session.join(room, **options)
        last = follow(session, joined, options)
        session.request("$leave", room=room)
        session.inbox.clear()
        # Not a word more of it until it is back.
        session.nothing_of("m")
        options = {"after": {"epoch": epoch, "offset": last}}
        again = session.join(room, **options)
        follow(session, again, options)
        session.drop()
        return joined["recovered"], again["recovered"]

    def follow(session, joined, options):
        """Reads from the reply of a join to what is live: the last offset."""
        if joined["recovered"]:
            assert joined["from"] == options["after"]["offset"] + 1
        else:
            # At least as many as it asked for: some come between asking and answering. But for
            # what was trimmed: the store may have trimmed for what the room has not heard of yet.
            wanted = joined["offset"] - options.get("last", 0) + 1
            assert joined["from"] <= max(wanted, stream.sent - SIZE + 1)
            assert "last" in options or joined["from"] == wanted
            if "after" in options:
                # It was told so because it is true.
                assert options["after"]["offset"] < stream.sent - SIZE
        expected = range(joined["from"], joined["offset"] + LIVE + 1)
        messages = session.publications(room, len(expected))
        seen = [(m["metadata"]["epoch"], m["metadata"]["offset"], m["payload"]) for m in messages]
        assert seen == [(epoch, offset, offset) for offset in expected]
        return expected[-1]

    with stream, ThreadPoolExecutor(JOINERS) as joiners:
        done = [how for hows in joiners.map(join_again_and_again, range(JOINERS)) for how in hows]
        per_s = stream.per_s
    print(f"{kind}: {len(done)} joins, {done.count(True)} recovered, {per_s:.0f} publications/s")
    assert set(done) == {True, False}
