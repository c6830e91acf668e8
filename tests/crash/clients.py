"""What runs against the server that is killed: each client writes down what it sent and saw.

They are on the `websockets` library, which we did not write, and know of the protocol what is in
`spec/protocol.md`. They judge nothing; `checker.py` does, from their logs.
"""

import asyncio
import contextlib
import http.client
import json
import signal
import socket
import time
import zlib
from collections import OrderedDict
from itertools import count
from pathlib import Path

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage

from support.server import BINARY, PATIENCE_S, environment
from support.session import SUBPROTOCOL

# How long a client waits before it tries again; a server that is killed is back at once.
AGAIN_S = 0.01


class Journal:
    """A client's log: JSON lines, with the time of one clock."""

    def __init__(self, directory, name):
        self.name = name
        self.file = (directory / f"{name}.jsonl").open("w")

    def write(self, event, **members):
        self.file.write(json.dumps({"at": now(), "event": event, **members}) + "\n")

    def close(self):
        self.file.close()


def now():
    return time.monotonic()


def payload_of(name, number, rng):
    """A payload that no other publication has, as JSON text: most are short, some are long."""
    size = rng.choice([0, 20, 200, 200, 2_000])
    return json.dumps({"by": name, "n": number, "pad": "x" * size})


def what(payload_text):
    """What stands for a payload in the logs: its publisher, its number, and all its bytes."""
    content = json.loads(payload_text)
    if not isinstance(content, dict) or "by" not in content:
        return payload_text
    return f"{content['by']}.{content['n']}#{zlib.crc32(payload_text.encode()):08x}"


class Member:
    """A session that comes back, with its ticket, whenever its connection ends.

    A subclass has `talk()`, which goes on until the connection ends, and `is_done()`.
    """

    def __init__(self, world, name):
        self.world = world
        self.journal = world.journal(name)
        self.rng = world.rng_for(name)
        self.name = name
        self.client, self.user, self.ticket = None, None, None
        self.socket = None
        self.ids = count(1)

    async def run(self):
        while not self.is_done():
            self.socket = await self.open()
            with contextlib.suppress(ConnectionClosed):
                await self.talk()
                await self.socket.close()
            self.journal.write("lost")
        self.journal.write("done")

    async def open(self):
        while True:
            try:
                return await self.connect()
            except (OSError, EOFError, InvalidHandshake, InvalidMessage):
                await asyncio.sleep(AGAIN_S)

    async def connect(self, **options):
        # It reads whatever there is, unless told otherwise.
        return await connect(
            self.world.server.ws(),
            **{"subprotocols": [SUBPROTOCOL], "compression": None, "proxy": None},
            **{"max_size": None, "max_queue": None, "ping_interval": None, **options},
            **{"open_timeout": PATIENCE_S, "close_timeout": PATIENCE_S},
        )

    async def send(self, kind, payload_text, **metadata):
        kind, metadata = json.dumps(kind), json.dumps(metadata)
        await self.socket.send(f'{{"type":{kind},"payload":{payload_text},"metadata":{metadata}}}')

    async def hello(self, resume=True, **payload):
        """Says who it is; the `$welcome` comes before anything else."""
        shown = self.client if resume and self.ticket else None
        if shown:
            payload["ticket"] = self.ticket
        await self.send("$hello", json.dumps(payload), id="hello")
        message, _ = await self.receive()
        assert message["type"] == "$welcome", message
        welcome = message["payload"]
        self.client, self.user, self.ticket = (
            welcome[member] for member in ("client", "user", "ticket")
        )
        resumed = welcome["resumed"]
        self.journal.write("welcome", client=self.client, ticket=shown, resumed=resumed)

    async def receive(self):
        """The next message, and its payload as it came."""
        text = await self.socket.recv()
        message = json.loads(text)
        start = text.index('"payload":') + len('"payload":')
        return message, text[start : text.rindex(',"metadata":')]


class Publisher(Member):
    """Publishes with keys, `window` at a time, and sends again what was not answered.

    Now and then a key is sent twice at once. It is done when the world says that it is enough and
    all is answered.
    """

    def __init__(self, world, name, rooms, window):
        super().__init__(world, name)
        self.rooms, self.window = rooms, window
        self.number = count(1)
        # By key: its room and payload, in the order of their first sending.
        self.open_ = OrderedDict()
        self.asked = {}

    def is_done(self):
        return self.world.enough and not self.open_

    async def talk(self):
        self.asked = {}
        await self.hello()
        for key in list(self.open_):
            await self.publish(key)
        while not self.is_done():
            while len(self.open_) < self.window and not self.world.enough:
                number = next(self.number)
                key = f"{self.name}-{number}"
                room = self.rng.choice(self.rooms)
                self.open_[key] = (room, payload_of(self.name, number, self.rng))
                await self.publish(key)
                if self.rng.random() < 0.03:
                    await self.publish(key)
            if self.open_:
                await self.take_answer()

    async def publish(self, key):
        room, payload = self.open_[key]
        id = next(self.ids)
        self.asked[id] = (room, key)
        self.journal.write("sent", room=room, user=self.user, key=key, what=what(payload))
        await self.send("m", payload, room=room, key=key, id=id)

    async def take_answer(self):
        message, _ = await self.receive()
        if (id := message["metadata"].get("id")) not in self.asked:
            return
        room, key = self.asked.pop(id)
        answer = message["payload"]
        names = {"room": room, "user": self.user, "key": key}
        if message["type"] == "$error":
            self.journal.write("refused", **names, name=answer["name"])
            if key in self.open_:
                await asyncio.sleep(AGAIN_S)
                await self.publish(key)
            return
        self.open_.pop(key, None)
        duplicate = answer.get("duplicate", False)
        position = {"epoch": answer["epoch"], "offset": answer["offset"]}
        self.journal.write("acked", **names, **position, duplicate=duplicate)
        self.world.count("acked")


class BackEnd:
    """Publishes over HTTP, one at a time, with keys, and asks again what was not answered."""

    def __init__(self, world, name, rooms):
        self.world = world
        self.journal = world.journal(name)
        self.rng = world.rng_for(name)
        self.name, self.rooms = name, rooms
        self.ended = False

    async def run(self):
        for number in count(1):
            if self.world.enough:
                break
            await self.publish(number)
        self.journal.write("done")
        self.ended = True

    def is_done(self):
        return self.ended

    async def publish(self, number):
        room, key = self.rng.choice(self.rooms), f"{self.name}-{number}"
        payload = payload_of(self.name, number, self.rng)
        # Written as it is delivered: http.client is given an object, not a text.
        names = {"room": room, "user": None, "key": key}
        body = {"type": "m", "payload": json.loads(payload), "metadata": {"room": room, "key": key}}
        while True:
            self.journal.write("sent", **names, what=what(payload))
            try:
                status, answer = await self.world.api("POST", "/v1/publish", body)
            except (OSError, http.client.HTTPException):
                await asyncio.sleep(AGAIN_S)
                continue
            if status == 200:
                break
            self.journal.write("refused", **names, name=answer)
            await asyncio.sleep(AGAIN_S)
        answer = json.loads(answer)
        duplicate = answer.get("duplicate", False)
        position = {"epoch": answer["epoch"], "offset": answer["offset"]}
        self.journal.write("acked", **names, **position, duplicate=duplicate)
        self.world.count("acked")


class Subscriber(Member):
    """Is in rooms, and comes back to them from the positions that it saw.

    Mostly with its ticket and all rooms in `$hello`; sometimes as somebody new who joins each. It
    drops its connection itself now and then. An `idler` stays away for a while whenever its
    connection ends, so that small rooms forget what it has not seen. It is done when it has all
    there is, which the world says in the end.
    """

    def __init__(self, world, name, rooms, last=None, idler=False):
        super().__init__(world, name)
        self.rooms, self.last, self.idler = rooms, last, idler
        self.positions = {}
        # Room by id of its `$join`, and the moment at which each room was asked for.
        self.asked, self.asked_at = {}, {}

    def is_done(self):
        return self.world.heads is not None and all(
            self.positions.get(room) == self.world.heads[room] for room in self.rooms
        )

    async def end(self):
        await self.socket.close()

    async def open(self):
        if self.idler and self.client:
            await self.world.more("acked", self.rng.randrange(2_000))
        return await super().open()

    async def talk(self):
        self.asked = {}
        self.asked_at = dict.fromkeys(self.rooms, now())
        self.given = dict(self.positions)
        await self.enter({room: self.wanted(room) for room in self.rooms})
        left = self.rng.choice([None, self.rng.randrange(2_000)])
        while True:
            await self.take()
            left = left and left - 1
            if left == 0:
                self.socket.transport.abort()

    async def enter(self, wanted):
        if self.rng.random() < 0.8:
            await self.hello(rooms=wanted)
            return
        await self.hello(resume=False)
        for room, payload in wanted.items():
            id = next(self.ids)
            self.asked[id] = room
            await self.send("$join", json.dumps(payload), room=room, id=id)

    def wanted(self, room):
        wanted = {}
        if room in self.positions:
            epoch, offset = self.positions[room]
            wanted["after"] = {"epoch": epoch, "offset": offset}
        if self.last is not None:
            wanted["last"] = self.last
        return wanted

    async def take(self):
        message, payload_text = await self.receive()
        kind, payload, metadata = message["type"], message["payload"], message["metadata"]
        room = metadata.get("room")
        if kind == "$reply" and metadata.get("id") in self.asked:
            self.answered(self.asked.pop(metadata["id"]), payload)
        elif kind == "$joined" and room in self.rooms:
            self.joined(room, payload)
        elif kind == "$gap":
            epoch, offset = payload["epoch"], payload["offset"]
            reason = payload["reason"]
            self.journal.write("gap", room=room, reason=reason, epoch=epoch, offset=offset)
            self.world.count("gap")
            self.positions[room] = (epoch, offset)
        elif kind == "$error":
            raise AssertionError(f"{self.name} was told {message}")
        elif not kind.startswith("$"):
            epoch, offset = metadata["epoch"], metadata["offset"]
            user = metadata.get("from", {}).get("user")
            names = {"room": room, "epoch": epoch, "offset": offset, "user": user}
            self.journal.write("saw", **names, key=metadata.get("key"), what=what(payload_text))
            self.positions[room] = (epoch, offset)

    def answered(self, asked, payload):
        self.joined(asked, payload)

    def joined(self, room, payload):
        self.journal.write(
            "joined",
            room=room,
            after=self.given.get(room),
            asked_at=self.asked_at[room],
            **{name: payload[name] for name in ("epoch", "offset", "from", "recovered")},
        )
        self.positions[room] = (payload["epoch"], payload["from"] - 1)
        self.world.count("joined")


class Sluggard(Subscriber):
    """Reads more slowly than is published, so that it falls back to the log, until that is over."""

    async def connect(self, **options):
        server = self.world.server
        sock = socket.socket()
        try:
            # Before connecting, or the window is larger already.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, (server.host, server.port))
            return await super().connect(sock=sock, max_queue=1, **options)
        except Exception:
            sock.close()
            raise

    async def take(self):
        await super().take()
        if not self.world.enough:
            await asyncio.sleep(AGAIN_S)


class Device(Subscriber):
    """One of a user, in whose inbox it acknowledges some of what it sees.

    A `forgetful` one comes back each time as a new device, which has no position: to the checker it
    is another client.
    """

    def __init__(self, world, name, token, inbox, forgetful=False):
        super().__init__(world, name, [inbox])
        self.token, self.inbox = token, inbox
        self.forgetful = forgetful
        self.devices = count(1)

    async def enter(self, wanted):
        if self.forgetful and self.client:
            self.journal.write("left")
            self.journal.close()
            self.journal = self.world.journal(f"{self.name}-{next(self.devices)}")
            self.positions, self.given, wanted = {}, {}, {}
        resume = not self.forgetful and self.rng.random() < 0.8
        await self.hello(resume=resume, token=self.token, rooms=wanted)

    async def take(self):
        before = self.positions.get(self.inbox)
        await super().take()
        position = self.positions.get(self.inbox)
        if position != before and position[1] > 0 and self.rng.random() < 0.1:
            epoch, offset = position
            id = next(self.ids)
            self.asked[id] = offset
            self.journal.write("acking", room=self.inbox, offset=offset)
            payload = json.dumps({"epoch": epoch, "offset": offset})
            await self.send("$ack", payload, room=self.inbox, id=id)

    def answered(self, asked, _payload):
        self.journal.write("kept", room=self.inbox, offset=asked)


class RustSubscriber:
    """`clarion sub`, the Rust client: comes back by itself, and prints what it is given.

    It does not print from where it goes on, and need not: in rooms that keep everything it has to
    print everything from the first on, whatever happens.
    """

    def __init__(self, world, name, rooms):
        self.world, self.rooms = world, rooms
        self.journal = world.journal(name)
        self.positions = {}
        self.process = None

    async def run(self):
        options = ("--json", "--last", "1000")
        url = self.world.server.ws()
        self.process = await clarion(self.world, "sub", url, *self.rooms, *options)
        while line := (await self.process.stdout.readline()).decode():
            message = json.loads(line)
            metadata = message["metadata"]
            room, epoch, offset = (metadata[name] for name in ("room", "epoch", "offset"))
            if room not in self.positions:
                answer = {"epoch": epoch, "offset": offset, "from": 1, "recovered": False}
                self.journal.write("joined", room=room, asked_at=now(), after=None, **answer)
            place = {"room": room, "epoch": epoch, "offset": offset}
            names = {"user": metadata["from"].get("user") if "from" in metadata else None}
            payload = line[line.index('"payload":') + 10 : line.rindex(',"metadata":')]
            self.journal.write("saw", **place, **names, key=metadata.get("key"), what=what(payload))
            self.positions[room] = (epoch, offset)
        assert await self.process.wait() == 0
        self.journal.write("done")

    is_done = Subscriber.is_done

    async def end(self):
        self.process.send_signal(signal.SIGINT)


class TypeScript:
    """A client of `typescript.mjs`, which writes what the log has."""

    def __init__(self, world, role, name, rooms, token=""):
        self.world, self.role, self.name, self.rooms = world, role, name, rooms
        self.token = token
        self.journal = world.journal(name)
        self.positions = {}
        self.process = None
        self.ended = False

    async def run(self):
        script = Path(__file__).with_name("typescript.mjs")
        command = ["node", script, self.role, self.world.server.ws(), self.name, *self.rooms]
        self.process = await started(self.world, command, TOKEN=self.token)
        while line := (await self.process.stdout.readline()).decode():
            self.journal.file.write(line)
            event = json.loads(line)
            match event["event"]:
                case "acked":
                    self.world.count("acked")
                case "joined":
                    self.positions[event["room"]] = (event["epoch"], event["from"] - 1)
                case "saw" | "gap":
                    self.positions[event["room"]] = (event["epoch"], event["offset"])
                case "done":
                    self.ended = True
        assert await self.process.wait() == 0

    def enough(self):
        self.process.stdin.write(b"enough\n")

    def is_done(self):
        return self.ended if self.role == "publish" else Subscriber.is_done(self)

    async def end(self):
        if self.role == "subscribe":
            self.journal.write("done")
        self.process.stdin.close()


class RustPublisher:
    """`clarion pub`, the Rust client: sends lines, and ends with 0 if all were acknowledged."""

    def __init__(self, world, name, room):
        self.world, self.name, self.room = world, name, room
        self.journal = world.journal(name)
        self.rng = world.rng_for(name)
        self.process = None

    async def run(self):
        self.process = await clarion(self.world, "pub", self.world.server.ws(), self.room, "m", "-")
        for number in count(1):
            if self.world.enough:
                break
            payload = payload_of(self.name, number, self.rng)
            self.journal.write("sent", room=self.room, user=None, key=None, what=what(payload))
            self.process.stdin.write(f"{payload}\n".encode())
            await self.process.stdin.drain()
            await self.world.more("acked", 2)
        self.process.stdin.close()
        assert await self.process.wait() == 0
        self.journal.write("done")

    def is_done(self):
        return self.process.returncode is not None


async def clarion(world, *args):
    """A command of the binary."""
    return await started(world, [BINARY, *args])


async def started(world, command, **env):
    """A process with pipes; what it says on its standard error is added to a file."""
    pipe = asyncio.subprocess.PIPE
    with (world.directory / "clients.log").open("ab") as said:
        return await asyncio.create_subprocess_exec(
            *command, env=environment(env), stdin=pipe, stdout=pipe, stderr=said
        )


class Auditor:
    """Reads the logs over HTTP: after each restart what is new, in the end everything."""

    def __init__(self, world, rooms):
        self.world, self.rooms = world, rooms
        self.journal = world.journal("auditor")
        self.positions = {}

    async def read(self, whole=False):
        """Reads all rooms: their heads by name."""
        return {room: await self.read_one(room, whole) for room in self.rooms}

    async def read_one(self, room, whole):
        asked_at = now()
        page = await self.history(room, limit=0)
        epoch, after = self.positions.get(room, (page["epoch"], 0))
        if whole or epoch != page["epoch"]:
            epoch, after = page["epoch"], 0
        # A log without publications is not there yet, and has no epoch that lasts.
        publications, offset, more = [], after, page["offset"] > after
        while more:
            page = await self.history(room, after=offset, epoch=epoch, limit=1000)
            for message in page["publications"]:
                metadata = message["metadata"]
                offset = metadata["offset"]
                text = json.dumps(message["payload"])
                user = metadata.get("from", {}).get("user")
                publications.append([offset, user, metadata.get("key"), what(text)])
            more = page["more"]
        self.positions[room] = (epoch, offset)
        self.journal.write(
            "read",
            asked_at=asked_at,
            **{"room": room, "epoch": epoch, "after": after, "publications": publications},
            **{"first": page["first"], "head": page["offset"]},
        )
        return epoch, page["offset"]

    async def history(self, room, **query):
        query = "&".join(f"{name}={value}" for name, value in query.items())
        room = room.replace("$", "%24")
        path = f"/v1/history?room={room}&{query}"
        # A server that is just starting may be busy; one that does not answer at all is a failure.
        status, answer = await self.world.api("GET", path)
        assert status == 200, answer
        return json.loads(answer)
