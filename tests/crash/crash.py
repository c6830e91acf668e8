"""Kills the real binary again and again while clients are at work, and has their logs checked.

    python crash.py [--rounds 200] [--seed N] [--keep DIRECTORY]

What is killed when follows from the seed; what happens in between does not, since it is a real
process on a real machine. Ends with 0 if `checker.py` finds nothing. The logs stay if it does.
"""

import argparse
import asyncio
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "blackbox"))

from clients import (
    Auditor,
    BackEnd,
    Device,
    Journal,
    Publisher,
    RustPublisher,
    RustSubscriber,
    Sluggard,
    Subscriber,
    TypeScript,
)
from support.server import PATIENCE_S, Server
from support.server import run as run_binary

ROOMS = {
    "kept/a": {"durable": True, "size": 1_000_000},
    "kept/b": {"durable": True, "size": 1_000_000},
    "short/a": {"durable": True, "size": 40},
    "$user/ada": {"durable": True, "size": 1_000_000},
    "$user/bob": {"durable": True, "size": 40},
    "memory/a": {"durable": False, "size": 1_000_000},
}
PLAIN = [room for room in ROOMS if not room.startswith("$")]
INBOXES = [room for room in ROOMS if room.startswith("$")]
KEPT = {"log": "durable", "size": 1_000_000, "bytes": 1 << 30}
SETTINGS = {
    "limits": {
        **{"publish_per_s": 0, "commands_per_s": 0, "bytes_per_s": 0, "page": 1_000},
        # So little that members fall behind and read the log, and small rooms outrun them.
        "outbox_bytes": 8_192,
    },
    # Whoever stays away may be late on a busy machine.
    "session": {"ttl": "1h"},
    "rooms": [
        {"match": "kept/**", **KEPT},
        {"match": "$user/bob", "log": "durable", "size": 40},
        {"match": "$user/*", **KEPT},
        {"match": "short/**", "log": "durable", "size": 40},
        {"match": "memory/**", "size": 1_000_000, "bytes": 1 << 30},
    ],
}


class World:
    """The server, what its clients have in common, and what they have done so far."""

    def __init__(self, directory, seed):
        self.directory, self.seed = directory, seed
        self.logs = directory / "logs"
        self.logs.mkdir(parents=True)
        self.secret = directory / "secret"
        self.secret.write_text("a secret of tests, of 32 bytes or more")
        self.secret.chmod(0o600)
        auth = {"guests": "always", "keys": [{"alg": "HS256", "secret_file": str(self.secret)}]}
        self.server = Server(directory / "server", {**SETTINGS, "auth": auth})
        self.counts = Counter()
        # Publishers answer for what they sent, and begin nothing new.
        self.enough = False
        # The heads that members wait for, when nothing more comes.
        self.heads = None

    def token(self, user):
        """A token that outlives the run."""
        status, token, error = run_binary(
            *("token", "create", "--user", user, "--ttl", "1d", "--secret-file", self.secret)
        )
        assert status == 0, error
        return token.strip()

    def journal(self, name):
        return Journal(self.logs, name)

    def rng_for(self, name):
        return random.Random(f"{self.seed} {name}")

    async def api(self, method, path, body=None):
        """A call of the HTTP API: status and text."""
        server = self.server
        return await asyncio.to_thread(server.request, method, path, server.api_key, body)

    def count(self, event):
        self.counts[event] += 1

    async def more(self, event, count):
        """Returns when `event` happened so many times more, or no more will."""
        goal = self.counts[event] + count
        await self.until(lambda: self.counts[event] >= goal or self.enough, f"{count} {event}")

    async def until(self, condition, what):
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, f"waited {PATIENCE_S} s in vain for {what}"
            await asyncio.sleep(0.001)


class Crash:
    """A run: `rounds` times the server is killed and started again."""

    def __init__(self, directory, seed, rounds):
        self.rounds = rounds
        self.world = world = World(directory, seed)
        self.rng = world.rng_for("crash")
        self.journal = world.journal("crash")
        self.auditor = Auditor(world, ROOMS)
        ada, bob = world.token("ada"), world.token("bob")
        self.publishers = [
            *(Publisher(world, f"publisher{n}", PLAIN, 4**n) for n in range(3)),
            BackEnd(world, "backend0", INBOXES),
            BackEnd(world, "backend1", list(ROOMS)),
            RustPublisher(world, "rust-publisher", "kept/a"),
            TypeScript(world, "publish", "typescript-publisher", PLAIN),
        ]
        self.subscribers = [
            Subscriber(world, "subscriber0", PLAIN),
            Subscriber(world, "subscriber1", PLAIN[:2], last=10),
            RustSubscriber(world, "rust-subscriber", PLAIN[:2]),
            TypeScript(world, "subscribe", "typescript-subscriber", PLAIN),
            TypeScript(world, "subscribe", "typescript-device", ["$user/ada"], ada),
            Device(world, "device0", ada, "$user/ada"),
            Device(world, "device1", ada, "$user/ada", forgetful=True),
            Device(world, "device2", bob, "$user/bob"),
            Device(world, "device3", bob, "$user/bob", forgetful=True),
            Sluggard(world, "sluggard", ["short/a"]),
            Subscriber(world, "idler0", PLAIN, idler=True),
            Subscriber(world, "idler1", PLAIN[1:], last=20, idler=True),
        ]

    async def run(self):
        self.journal.write("rooms", rooms=ROOMS)
        await self.start()
        # A log that is empty is not there yet, and has no position to come back to.
        first = BackEnd(self.world, "first", [])
        for number, room in enumerate(ROOMS):
            first.rooms = [room]
            await first.publish(number)
        first.journal.write("done")
        first.journal.close()
        clients = [*self.publishers, *self.subscribers]
        async with asyncio.TaskGroup() as tasks:
            for client in clients:
                tasks.create_task(client.run())
            await self.processes_connected()
            for _ in range(self.rounds):
                await self.round()
            await self.end()
        for client in [self, self.auditor, *clients]:
            client.journal.close()
        self.world.server.stop()

    async def processes_connected(self):
        """Until all that are processes are here.

        It takes them a while to start, and commands of the binary give up where their first try
        fails. Only they say what they are.
        """
        connected = 0
        while connected < 5:
            _, answer = await self.world.api("GET", "/clients")
            connected = sum("sdk" in client for client in json.loads(answer)["clients"])

    async def round(self):
        world = self.world
        kinds = {"working": 7, "joining": 2, "starting": 1, "outrunning": 0.5}
        [kind] = self.rng.choices(list(kinds), kinds.values())
        match kind:
            case "working":
                await self.auditor.read()
                await world.more("acked", self.rng.randint(1, self.rng.choice([20, 200, 2_000])))
            case "joining":
                await world.more("joined", self.rng.randint(1, 8))
            case "outrunning":
                # Long enough for a slow reader to lose what a small room forgets.
                await world.more("gap", 1)
            case "starting":
                self.kill()
                world.server.spawn()
                await asyncio.sleep(self.rng.random() * 0.02)
        self.kill()
        await self.start()

    def kill(self):
        self.world.server.kill()
        self.journal.write("killed")

    async def start(self):
        await asyncio.to_thread(self.world.server.start)
        self.journal.write("started")

    async def end(self):
        """Lets everybody finish what is under way, and reads everything once more."""
        world = self.world
        world.enough = True
        for client in self.publishers + self.subscribers:
            if isinstance(client, TypeScript):
                client.enough()
        await world.until(lambda: all(p.is_done() for p in self.publishers), "all answers")
        world.heads = await self.auditor.read(whole=True)
        await world.until(lambda: all(s.is_done() for s in self.subscribers), "all members")
        for subscriber in self.subscribers:
            await subscriber.end()
        for publisher in self.publishers:
            if isinstance(publisher, TypeScript):
                await publisher.end()
        self.auditor.journal.write("done")
        self.journal.write("done")


def run(rounds, seed, keep=None):
    """Runs and checks: the exit status, and what is to be said."""
    directory = Path(keep or tempfile.mkdtemp(prefix="clarion-crash-"))
    begun = time.monotonic()
    crash = Crash(directory, seed, rounds)
    try:
        asyncio.run(crash.run())
    finally:
        # It has ended in order, unless the run has not.
        crash.world.server.kill()
    took = time.monotonic() - begun
    checker = Path(__file__).with_name("checker.py")
    checked = subprocess.run(
        [sys.executable, checker, crash.world.logs], capture_output=True, text=True, check=False
    )
    acked = crash.world.counts["acked"]
    verdict = "all promises kept" if checked.returncode == 0 else f"BROKEN, logs in {directory}"
    line = f"crash: killed {rounds} times in {took:.0f} s, {acked} publications acknowledged"
    if checked.returncode == 0 and not keep:
        shutil.rmtree(directory)
    said = checked.stdout + checked.stderr
    return checked.returncode, f"{said}{line}, {verdict} (seed {seed})"


def main():
    arguments = argparse.ArgumentParser(description="Kill the server again and again.")
    arguments.add_argument("--rounds", type=int, default=200)
    arguments.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    arguments.add_argument("--keep", help="a directory for the server's data and the logs")
    options = arguments.parse_args()
    status, said = run(options.rounds, options.seed, options.keep)
    print(said)
    return status


if __name__ == "__main__":
    sys.exit(main())
