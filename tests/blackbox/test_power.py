"""Power loss: what was told of a durable room is on the disk, not merely on its way there."""

import bisect
import contextlib
import http.client
import json
import os
import random
import shutil
import threading
import urllib.parse

import pytest

from power import strace
from power.claims import Asked, compact, replies
from power.rehearsal import Rehearsal
from support.client import Client
from support.server import PATIENCE_S, Server

# How many power losses are rehearsed of a healthy run, and of what it does; `make power` has more.
LOSSES = int(os.environ.get("CLARION_POWER_LOSSES", "800"))
ROUNDS = int(os.environ.get("CLARION_POWER_ROUNDS", "12"))
# On how many of them a server is started.
VISITS = LOSSES // 200
SEED = int(os.environ.get("CLARION_POWER_SEED", "1"))
SETTINGS = {
    "rooms": [
        {"match": "kept/**", "log": "durable"},
        {"match": "short/**", "log": "durable", "size": 10},
    ],
    "limits": {"publish_per_s": 0, "commands_per_s": 0, "bytes_per_s": 0},
}
ROOMS = ["kept/a", "kept/b", "kept/c", "short/a", "short/b"]


@pytest.fixture(scope="module", autouse=True)
def recorder():
    if reason := strace.missing():
        assert not os.environ.get("CI"), reason
        pytest.skip(f"power loss cannot be rehearsed here: {reason}")


class Load:
    """Publishers on sockets of both kinds, each of which asks for several things at once."""

    def __init__(self, server, asked, rng):
        self.server, self.asked, self.rng = server, asked, rng
        self.calls = [http.client.HTTPConnection(server.host, server.port) for _ in range(2)]
        self.clients = [Client(server) for _ in range(3)]
        for room in ROOMS[1::2]:
            self.clients[0].join(room)

    def close(self):
        for call in self.calls:
            call.close()
        for client in self.clients:
            # The server may be gone.
            with contextlib.suppress(OSError):
                client.drop()

    def payload(self):
        size = self.rng.choice([20, 200, 200, 2_000, 9_000])
        return f"{self.number()} {'x' * self.rng.randrange(size)}"

    def number(self):
        """Another one each time, over all loads."""
        return len(self.asked.payloads)

    def round(self):
        """Everything that is asked for in it has been answered when it returns."""
        asked = self.ask()
        self.same_key_twice_at_once()
        for client, request in asked:
            client.answer(request)

    def ask(self):
        asked = []
        for client in self.clients:
            for _ in range(self.rng.randrange(1, 10)):
                room, payload, key = self.rng.choice(ROOMS), self.payload(), None
                if self.rng.random() < 0.4:
                    # Often the same as before: its own, in this room.
                    key = f"w{client.client}-{self.rng.randrange(12)}"
                request = f"load-{self.number()}"
                self.asked.commands[request] = self.asked.note(room, compact(payload), key)
                more = {} if key is None else {"key": key}
                client.ask("m", payload, room=room, id=request, **more)
                asked.append((client, request))
        return asked

    def same_key_twice_at_once(self):
        """Two calls of the API, with one key and different payloads: one of them comes first."""
        room, key = self.rng.choice(ROOMS[:2]), f"h{self.number()}"
        threads = []
        for call in self.calls:
            payload = self.payload()
            body = {"type": "m", "payload": payload, "metadata": {"room": room, "key": key}}
            if call.sock is None:
                call.connect()
            asked = self.asked.note(room, compact(payload), key)
            self.asked.calls[call.sock.getsockname()[1]].append(asked)
            threads.append(threading.Thread(target=self.publish, args=(call, body)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)

    def publish(self, call, body):
        headers = {
            "Authorization": f"Bearer {self.server.api_key}",
            "Content-Type": "application/json",
        }
        call.request("POST", "/v1/publish", json.dumps(body), headers)
        call.getresponse().read()


class Recorded(Server):
    """A server every call of which to the kernel is written down, over several starts."""

    def __init__(self, directory, settings):
        super().__init__(directory, settings)
        self.traces = []

    def spawn(self):
        trace = self.directory / f"trace{len(self.traces)}"
        self.wrapper = strace.wrapper(trace)
        super().spawn()
        self.traces.append((trace, self.process.pid))

    def events(self):
        """What all of its processes did; they have ended."""
        return [event for trace, pid in self.traces for event in strace.read(trace, pid)]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A healthy run: a first start, load, an orderly end, a second start, load, and `kill -9`."""
    directory = tmp_path_factory.mktemp("power")
    server, asked, rng = Recorded(directory, SETTINGS), Asked(), random.Random(SEED)
    for last in (False, True):
        server.start()
        load = Load(server, asked, rng)
        for _ in range(ROUNDS):
            load.round()
        if last:
            load.ask()
            server.kill()
        load.close()
        if not last:
            server.stop()
    for name in ["ticket-key", "token-key"]:
        asked.files[name] = (directory / "data" / name).read_bytes()
    events = server.events()
    claims = list(replies(events, server.port, asked))
    assert len(claims) > 10 * ROUNDS
    return directory, events, claims, asked


# [5.3] [5.4.key]
def test_what_was_told_survives_power_loss(recorded, tmp_path):
    directory, *run = recorded
    visits = Visits(tmp_path, LOSSES // VISITS)
    report = Rehearsal(directory, "data", *run).run(LOSSES, SEED, visit=visits.visit)
    print(report, *report.wrong[:5], sep="\n")
    assert report.wrong == []
    assert report.syncs > 2 * ROUNDS
    assert visits.publications > 0
    assert visits.duplicates > 0


class Visits:
    """Starts a server on some of what was left, and asks it for what had been told."""

    def __init__(self, directory, every):
        self.directory, self.every = directory, every
        self.count = self.publications = self.duplicates = 0

    def visit(self, left, said):
        self.count += 1
        if self.count % self.every:
            return
        server = Server(self.directory / str(self.count), SETTINGS)
        shutil.copytree(left, server.directory / "data")
        server.start()
        for room in ROOMS:
            self.read(server, room, said)
        for (room, key), offset in said.keys.items():
            # Those of the API, which are not of a session that is gone.
            if key.startswith("h") and self.duplicates < self.count // self.every * 5:
                again = {"type": "m", "payload": "again", "metadata": {"room": room, "key": key}}
                answer = server.api("/v1/publish", again)
                assert (answer["offset"], answer.get("duplicate")) == (offset, True)
                self.duplicates += 1
        server.stop()

    def read(self, server, room, said):
        query = {"room": room, "limit": 1000}
        page = server.api(f"/v1/history?{urllib.parse.urlencode(query)}")
        found = {each["metadata"]["offset"]: each for each in page["publications"]}
        for (of, offset), (epoch, payloads) in said.places.items():
            if of != room:
                continue
            assert page["epoch"] == epoch
            assert page["offset"] >= offset
            if offset >= page["first"]:
                # Pages end by bytes, so the oldest of them may not be in it.
                assert offset < min(found) or compact(found[offset]["payload"]) in payloads
                self.publications += 1


@pytest.mark.parametrize(
    ("left_out", "found"),
    [("data", "ends with"), ("write-ahead log", "ends with"), ("names", "ticket-key")],
)
def test_a_server_that_does_not_sync_is_found_out(recorded, left_out, found):
    """As with `synchronous=OFF`, and with less: publications are lost that somebody was told of."""

    def leave_out(call):
        if call.name not in ("fsync", "fdatasync"):
            return False
        if left_out == "write-ahead log":
            return call.file().endswith("-wal")
        return os.path.isdir(call.file()) == (left_out == "names")

    directory, *run = recorded
    report = Rehearsal(directory, "data", *run, leave_out).run(LOSSES, SEED, until=found)
    print(report, *report.wrong[-5:], sep="\n")
    assert any(found in wrong for wrong in report.wrong)


def test_a_server_that_acknowledges_before_it_commits_is_found_out(recorded):
    """The same run, but what was told after a commit was told as soon as it began to be written."""
    directory, events, claims, asked = recorded
    report = Rehearsal(directory, "data", events, list(hurried(events, claims)), asked)
    report = report.run(LOSSES, SEED, until="ends with")
    print(report, *report.wrong[-5:], sep="\n")
    assert any("ends with" in wrong for wrong in report.wrong)


def hurried(events, claims):
    """Each claim as early as the first write of the commit that came before it."""
    commits, begun = [], None
    for number, (kind, call) in enumerate(events):
        if not (call.file() or "").endswith("-wal"):
            continue
        if call.name.startswith("pwrite") and kind == "begin" and begun is None:
            begun = number
        elif call.name in ("fsync", "fdatasync") and kind == "end" and begun is not None:
            commits.append((number, begun))
            begun = None
    for number, claim in claims:
        place = bisect.bisect(commits, (number,)) - 1
        yield (commits[place][1] if place >= 0 else number), claim
