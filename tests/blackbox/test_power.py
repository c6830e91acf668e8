"""Power loss: what was told of a durable room is on the disk, not merely on its way there."""

import bisect
import contextlib
import http.client
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import urllib.parse
from collections import defaultdict

import pytest

from power import strace
from power.claims import Asked, acknowledged, compact, replies
from power.rehearsal import Rehearsal
from support.client import Client
from support.server import BINARY, PATIENCE_S, Server
from support.tokens import own_token

# How many power losses are rehearsed of a healthy run, and of what it does; `make power` has more.
LOSSES = int(os.environ.get("CLARION_POWER_LOSSES", "800"))
ROUNDS = int(os.environ.get("CLARION_POWER_ROUNDS", "12"))
# On how many of them a server is started.
VISITS = LOSSES // 200
# How many publications the store with the planted bug takes.
LATE_KEYS = 50
SEED = int(os.environ.get("CLARION_POWER_SEED", "1"))
SETTINGS = {
    "rooms": [
        {"match": "kept/**", "log": "durable"},
        {"match": "short/**", "log": "durable", "size": 10},
        {"match": "$user/*", "log": "durable"},
    ],
    "limits": {
        **{"publish_per_s": 0, "commands_per_s": 0, "bytes_per_s": 0},
        # So short that it is copied into the file again and again, while publishers wait.
        "wal_bytes": 256 << 10,
    },
}
INBOX = "$user/ada"
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
        self.device = Client(server, token=own_token(server, INBOX.removeprefix("$user/")))

    def close(self):
        for call in self.calls:
            call.close()
        for client in [*self.clients, self.device]:
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
        self.same_key_twice_at_once(self.rng.choice(ROOMS[:2]))
        self.same_key_twice_at_once(INBOX)
        for client, request in asked:
            client.answer(request)

    def ask(self):
        asked = self.acknowledge()
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

    def acknowledge(self):
        """The device acknowledges something that it has, not always more than before."""
        self.device.fence()
        heard = [each["metadata"] for each in self.device.inbox if each["type"] == "m"]
        if not heard:
            return []
        newest = self.rng.choice(heard[-3:])
        position = {name: newest[name] for name in ("epoch", "offset")}
        request = f"ack-{self.number()}"
        self.asked.acks[request] = (INBOX, position["offset"])
        self.device.ask("$ack", position, room=INBOX, id=request)
        return [(self.device, request)]

    def same_key_twice_at_once(self, room):
        """Two calls of the API, with one key and different payloads: one of them comes first."""
        key = f"h{self.number()}"
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
    assert len(checkpoints(events)) > ROUNDS // 4
    return directory, events, claims, asked


def checkpoints(events):
    """From the first write into the file to the write-ahead log's being begun anew, if somebody was
    answered on the same connection both before and after."""
    answers, first, found = defaultdict(list), None, []
    for number, (kind, call) in enumerate(events):
        file = call.file() or ""
        if kind == "begin" and file.startswith("TCP"):
            answers[file].append(number)
        elif call.name == "pwrite64" and file.endswith("/clarion.db"):
            first = first or number
        elif call.name == "pwrite64" and file.endswith("-wal") and call.number(0) == 0 and first:
            found.append(range(first, number))
            first = None
    return [
        each
        for each in found
        if any(there[0] < each.start and each.stop < there[-1] for there in answers.values())
    ]


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
        for room in [*ROOMS, INBOX]:
            self.read(server, room, said)
        self.begin(server, said)
        for (room, key), offset in said.keys.items():
            # Those of the API, which are not of a session that is gone.
            if key.startswith("h") and self.duplicates < self.count // self.every * 5:
                again = {"type": "m", "payload": "again", "metadata": {"room": room, "key": key}}
                answer = server.api("/v1/publish", again)
                assert (answer["offset"], answer.get("duplicate")) == (offset, True)
                self.duplicates += 1
        server.stop()

    def begin(self, server, said):
        """A device without a position begins behind what its user acknowledged."""
        device = Client(server, token=own_token(server))
        server.api("/v1/publish", {"type": "last", "payload": None, "metadata": {"room": INBOX}})
        device.push("last", INBOX)
        heard = [each["metadata"]["offset"] for each in device.inbox if each["type"] == "m"]
        assert min(heard, default=sys.maxsize) > said.acked.get(INBOX, 0)
        device.drop()

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
    [
        ("files", "ends with"),
        ("clarion.db-wal", "ends with"),
        ("checkpoints", "damaged"),
        ("directories", "ticket-key"),
    ],
)
def test_a_server_that_does_not_sync_is_found_out(recorded, left_out, found):
    """As with `synchronous=OFF`, and with less: publications are lost that somebody was told of."""

    def leave_out(call):
        if call.name not in ("fsync", "fdatasync"):
            return False
        if left_out == "checkpoints":
            return any(call is each for each in copying)
        kind = "directories" if os.path.isdir(call.file()) else "files"
        return left_out in (kind, os.path.basename(call.file()))

    directory, *run = recorded
    copying = [run[0][at][1] for each in checkpoints(run[0]) for at in each]
    report = Rehearsal(directory, "data", *run, leave_out).run(LOSSES, SEED, until=found)
    print(report, *report.wrong[-5:], sep="\n")
    assert any(found in wrong for wrong in report.wrong)


@pytest.mark.parametrize("found", ["ends with", "was acknowledged up to"])
def test_a_server_that_acknowledges_before_it_commits_is_found_out(recorded, found):
    """The same run, but what was told after a commit was told as soon as it began to be written."""
    directory, events, claims, asked = recorded
    report = Rehearsal(directory, "data", events, list(hurried(events, claims)), asked)
    report = report.run(LOSSES, SEED, until=found)
    print(report, *report.wrong[-5:], sep="\n")
    assert any(found in wrong for wrong in report.wrong)


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


def test_keys_that_are_taken_outside_the_transaction_are_found_out(tmp_path):
    """A store with that bug. Somebody who heard nothing publishes again, and it is there twice."""
    asked, data, said = Asked(), tmp_path / "data", tmp_path / "said"
    for number in range(LATE_KEYS):
        asked.commands[number] = asked.note("room", str(number), str(number))
    trace = tmp_path / "trace"
    with said.open("wb") as out:
        process = subprocess.Popen([*strace.wrapper(trace), *late_keys(data)], stdout=out)
    assert process.wait(PATIENCE_S) == 0
    events = strace.read(trace, process.pid)
    claims = list(lines(events, str(said), asked))
    assert len(claims) == LATE_KEYS

    def again(left, _):
        subprocess.run(late_keys(left), check=True, stdout=subprocess.DEVNULL)

    for found, visit in [("is free, and", None), ("is two publications", again)]:
        report = Rehearsal(tmp_path, data.name, events, claims, asked)
        report = report.run(LOSSES, SEED, until=found, visit=visit)
        print(report, *report.wrong[-5:], sep="\n")
        assert any(found in wrong for wrong in report.wrong)


def late_keys(directory):
    program = BINARY.parent / "examples" / "late_keys"
    assert program.exists(), "`make late-keys` builds it"
    return program, directory, str(LATE_KEYS)


def lines(events, path, asked):
    """What was told by lines in a file."""
    for number, (kind, call) in enumerate(events):
        if kind == "begin" and call.name == "write" and call.file() == path:
            reply = json.loads(call.data())
            yield number, acknowledged(asked, asked.commands[reply["id"]], reply)
