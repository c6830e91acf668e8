"""What a process told others, and whether what a disk holds keeps it.

This is promise 3 of the protocol: whatever somebody was told of a durable room is there after power
loss, at the place it was told for; and promise 4: a key is one publication, and stays used.
"""

import json
import re
import sqlite3
from collections import defaultdict
from dataclasses import dataclass, field

from support import peer

SOCKET = re.compile(r"TCP(?:v6)?:\[(?:.*):(\d+)->(?:.*):(\d+)\]")
DATABASE = "clarion.db"
TEXT = 1


@dataclass
class Asked:
    """What clients asked for. Each payload is asked for once, and is JSON without spaces."""

    # By the id of the command.
    commands: dict = field(default_factory=dict)
    # By the id of a `$ack`: room and offset.
    acks: dict = field(default_factory=dict)
    # By the port of a client's connection, in order: what was published over HTTP.
    calls: dict = field(default_factory=lambda: defaultdict(list))
    # Payload: the room and the key that it was for.
    payloads: dict = field(default_factory=dict)
    by_key: dict = field(default_factory=lambda: defaultdict(set))
    # Files of the data directory that a client's ticket is worth nothing without: their bytes.
    files: dict = field(default_factory=dict)

    def note(self, room, payload, key=None):
        """One publication that is about to be asked for."""
        assert payload not in self.payloads
        self.payloads[payload] = (room, key)
        self.by_key[room, key].add(payload)
        return (room, payload, key)


@dataclass
class Said:
    """What was told up to some moment."""

    # Room and offset: the epoch, and the payloads that may be there.
    places: dict = field(default_factory=dict)
    # Room and key: the offset.
    keys: dict = field(default_factory=dict)
    # Room: what its user acknowledged.
    acked: dict = field(default_factory=dict)
    # Files that others rely on: their bytes.
    files: dict = field(default_factory=dict)

    def place(self, room, epoch, offset, payloads):
        """A publication was told of. Returns what is wrong with that in itself, if anything is."""
        before = self.places.get((room, offset))
        if before:
            same = before[1] & payloads
            if before[0] != epoch or not same:
                return f"{room} {offset} was told as {before} and as {(epoch, payloads)}"
            payloads = same
        self.places[room, offset] = (epoch, payloads)
        return None

    def ack(self, room, offset):
        """That a user has everything up to there was answered. It only moves forward."""
        self.acked[room] = max(offset, self.acked.get(room, 0))


# What was said on sockets


def replies(events, port, asked):
    """What a server that listens on `port` said, and the number of the event with the last byte.

    Each is a function that adds it to what was said before, and returns what is wrong with it, or
    None.
    """
    streams = {}
    for number, (kind, call) in enumerate(events):
        if kind != "begin" or call.name not in ("write", "writev", "sendto", "sendmsg"):
            continue
        found = SOCKET.match(call.file() or "")
        if not found or int(found[1]) != port:
            continue
        stream = streams.setdefault(found[2], Stream(asked, int(found[2])))
        data = call.data()
        stream.buffer += data if call.result is None else data[: max(call.result, 0)]
        for claim in stream.claims():
            yield number, claim


class Stream:
    """One connection, as its server wrote to it."""

    def __init__(self, asked, port):
        self.asked, self.port = asked, port
        self.buffer = bytearray()
        self.upgraded = False

    def claims(self):
        while True:
            if self.upgraded:
                frame = peer.decode(self.buffer)
                if frame is None:
                    return
                if frame[1] == TEXT:
                    yield from self.message(json.loads(frame[2]))
                continue
            head, end, rest = bytes(self.buffer).partition(b"\r\n\r\n")
            if not end:
                return
            if head.startswith(b"HTTP/1.1 101 "):
                self.upgraded, self.buffer = True, bytearray(rest)
                continue
            length = int(peer.header(head, b"content-length") or 0)
            if len(rest) < length:
                return
            self.buffer = bytearray(rest[length:])
            calls = self.asked.calls.get(self.port)
            if calls:
                assert head.startswith(b"HTTP/1.1 200 "), head
                yield acknowledged(self.asked, calls.pop(0), json.loads(rest[:length]))

    def message(self, message):
        payload, metadata = message["payload"], message["metadata"]
        if message["type"] == "$welcome":
            # With a ticket, which is worth nothing without the key that made it.
            yield lambda said: said.files.update(self.asked.files)
        elif message["type"] == "$reply" and metadata.get("id") in self.asked.commands:
            yield acknowledged(self.asked, self.asked.commands[metadata["id"]], payload)
        elif message["type"] == "$reply" and metadata.get("id") in self.asked.acks:
            yield lambda said: said.ack(*self.asked.acks[metadata["id"]])
        elif not message["type"].startswith("$") and "offset" in metadata:
            text = compact(payload)
            place = (metadata["room"], metadata["epoch"], metadata["offset"], {text})
            yield lambda said: said.place(*place)


def acknowledged(asked, what, reply):
    room, payload, key = what
    epoch, offset = reply["epoch"], reply["offset"]
    payloads = asked.by_key[room, key] if reply.get("duplicate") else {payload}

    def claim(said):
        if key is not None and said.keys.setdefault((room, key), offset) != offset:
            return f"key {key} in {room} is at {said.keys[room, key]} and at {offset}"
        return said.place(room, epoch, offset, payloads)

    return claim


def compact(value):
    return json.dumps(value, separators=(",", ":"))


# What is there


@dataclass
class Kept:
    """What a database holds."""

    rooms: dict = field(default_factory=dict)
    places: dict = field(default_factory=dict)
    keys: dict = field(default_factory=dict)
    damage: list = field(default_factory=list)


def kept(directory):
    """Opens a data directory as SQLite would after a crash. What cannot be read is damage."""
    path = directory / DATABASE
    found = Kept()
    if not path.exists():
        return found
    # Alone, it needs no index in shared memory.
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        for (finding,) in connection.execute("PRAGMA quick_check"):
            if finding != "ok":
                found.damage.append(finding)
        if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'rooms'").fetchone():
            return found
        names = {}
        rows = connection.execute("SELECT id, name, epoch, first, head, acked FROM rooms")
        for id, name, *room in rows:
            names[id] = name
            found.rooms[name] = tuple(room)
        rows = connection.execute(
            "SELECT room, offset, CAST(payload AS TEXT), key FROM publications"
        )
        for room, offset, payload, key in rows:
            if offset >= found.rooms[names[room]][1]:
                found.places[names[room], offset] = (payload, key)
        for room, key, offset in connection.execute("SELECT room, key, offset FROM keys"):
            found.keys[names[room], key] = offset
    except sqlite3.DatabaseError as error:
        found.damage.append(str(error))
    except KeyError as error:
        found.damage.append(f"something is of room {error}, which is not there")
    finally:
        connection.close()
    return found


def broken(said, found, asked):
    """What was said and is not kept, and what can never be; an empty list if all is well."""
    wrong = [f"damaged: {finding}" for finding in found.damage]
    for (room, offset), (epoch, payloads) in said.places.items():
        if room not in found.rooms:
            wrong.append(f"{room} is gone")
            continue
        kept_epoch, first, head, _ = found.rooms[room]
        if kept_epoch != epoch:
            wrong.append(f"{room} had epoch {epoch} and has {kept_epoch}")
        elif offset > head:
            wrong.append(f"{room} had {offset} and ends with {head}")
        elif offset >= first and found.places.get((room, offset), ("nothing",))[0] not in payloads:
            wrong.append(f"{room} {offset} is {found.places.get((room, offset))}, not {payloads}")
    for (room, key), offset in said.keys.items():
        if found.keys.get((room, key)) != offset:
            wrong.append(f"key {key} in {room} is at {found.keys.get((room, key))}, not {offset}")
    for room, offset in said.acked.items():
        if room not in found.rooms or found.rooms[room][3] < offset:
            wrong.append(f"{room} was acknowledged up to {offset}, and is not")
    # What nobody was told of may be there or not, but not anyhow.
    used = {}
    for (room, offset), (payload, key) in found.places.items():
        if asked.payloads.get(payload) != (room, key):
            wrong.append(f"{room} {offset} is {payload}, {key}, which nobody asked for")
        if key is None:
            continue
        if used.setdefault((room, key), offset) != offset:
            wrong.append(f"key {key} in {room} is two publications: {used[room, key]}, {offset}")
        if found.keys.get((room, key)) != offset:
            wrong.append(f"key {key} in {room} is free, and {offset} has it")
    for room, (_, first, head, _) in found.rooms.items():
        count = sum(1 for of, _ in found.places if of == room)
        if count != head + 1 - first or any((room, at) not in found.places for at in (first, head)):
            wrong.append(f"{room} should have {first} to {head}, and has {count}")
    return wrong
