"""Reads what the clients of a crash test wrote down, and says which promise was broken.

    python checker.py DIRECTORY

It shares nothing with the clients but this: a log is a file `NAME.jsonl` of one client, a line of
it is `{"at": seconds, "event": ..., ...}`, and all logs of a directory have one clock.

| event | members | written |
|---|---|---|
| `rooms` | `rooms: {name: {durable, size}}` | by whoever runs the test |
| `killed`, `started` | | the process is gone; its successor is ready |
| `welcome` | `client`, `ticket`, `resumed` | `ticket`: whose ticket was shown, or null |
| `sent` | `room`, `user`, `key`, `what` | before a publication is sent, each time |
| `acked` | `room`, `user`, `key`, `epoch`, `offset`, `duplicate` | |
| `refused` | `room`, `user`, `key`, `name` | it was answered by `$error` |
| `joined` | `room`, `asked_at`, `after`, `epoch`, `offset`, `from`, `recovered` | |
| `saw` | `room`, `epoch`, `offset`, `user`, `key`, `what` | a publication came |
| `gap` | `room`, `reason`, `epoch`, `offset` | |
| `lost` | | the connection ended |
| `acking`, `kept` | `room`, `offset` | before `$ack` is sent; when it was answered |
| `handled` | `room`, `offset` | by a client that acknowledges only what it has handled |
| `read` | `room`, `asked_at`, `after`, `epoch`, `first`, `head`, `publications` | |
| `done` | | last, by each client, when it had all that it waited for |
| `left` | | last, by a client that does not wait for anything |

`what` stands for the payload, and no two publications have the same. `user` and `key` are null
where the writer cannot know them; whoever publishes over HTTP is nobody's user. The `after` of a
join is `[epoch, offset]` or null; of a read it is the offset behind which it begins, and
`publications` are `[[offset, user, key, what], ...]` from there to the head.

What one client saw is judged in its order. What two know is compared by the place, (epoch, offset),
or by the clock, where one had happened before the other was asked.
"""

import json
import sys
from bisect import bisect
from collections import Counter, defaultdict
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple


class Sighting(NamedTuple):
    """Somebody says what is at a place."""

    at: float
    client: str
    room: str
    epoch: str
    offset: int
    user: str | None
    key: str | None
    what: str | None

    @property
    def place(self):
        return self.room, self.epoch, self.offset

    def __str__(self):
        return f"{self.room} {self.epoch}:{self.offset} {self.what} (key {self.key})"


class History:
    """All logs of a run by client, and what the rules ask for."""

    def __init__(self, logs):
        self.logs = logs
        self.rooms = {}
        # What each publication with a key says, and when each was first sent.
        self.sent, self.sent_at = {}, {}
        # What came to members or was read, and what publishers were told.
        self.seen, self.acked = [], []
        self.reads = []
        for client, event in self.events("rooms", "sent", "saw", "read"):
            match event["event"]:
                case "rooms":
                    self.rooms = event["rooms"]
                case "sent":
                    self.sent[event["room"], event["user"], event["key"]] = event["what"]
                    self.sent_at.setdefault((event["room"], event["what"]), event["at"])
                case "saw":
                    self.seen.append(sighting(client, event, event["what"]))
                case "read":
                    self.reads.append(event)
                    for offset, user, key, what in event["publications"]:
                        place = (event["room"], event["epoch"], offset)
                        self.seen.append(Sighting(event["at"], client, *place, user, key, what))
        for client, event in self.events("acked"):
            what = self.sent.get((event["room"], event["user"], event["key"]))
            self.acked.append(sighting(client, event, what))
        # For each log, when what it has was sent, and the highest offset of that up to then.
        sent_at = defaultdict(dict)
        for one in self.seen + self.acked:
            at = self.sent_at.get((one.room, one.what), one.at)
            sent_at[one.room, one.epoch][one.offset] = at
        self.heads = {}
        for log, offsets in sent_at.items():
            steps = sorted((at, offset) for offset, at in offsets.items())
            heads = accumulate((offset for _, offset in steps), max)
            self.heads[log] = ([at for at, _ in steps], list(heads))
        # The last word on each log.
        self.final = {read["room"]: read for read in self.reads if read["after"] == 0}

    def events(self, *kinds):
        """All events of these kinds, each with its client, in the order of each client."""
        for client, log in self.logs.items():
            for event in log:
                if event["event"] in kinds:
                    yield client, event

    def durable(self, room):
        return self.rooms[room]["durable"]

    def head(self, room, epoch, at):
        """The highest offset that can have been in a log then: that of what had been sent.

        A store has, and trims for, what no client has heard of yet.
        """
        times, heads = self.heads.get((room, epoch), ([], []))
        index = bisect(times, at)
        return heads[index - 1] if index else 0


def sighting(client, event, what):
    place = (event["room"], event["epoch"], event["offset"])
    return Sighting(event["at"], client, *place, event["user"], event["key"], what)


# The rules: each yields a sentence for each time that it is broken


def acknowledged(history):
    """What was acknowledged in a durable room is in its log (promise 3)."""
    logs = {room: contents(read) for room, read in history.final.items()}
    for ack in history.acked:
        if not history.durable(ack.room):
            continue
        if ack.room not in logs:
            yield f"{ack.room} was not read to the end"
        elif ack.offset >= history.final[ack.room]["first"]:
            found = logs[ack.room].get(ack.offset)
            if found is None or found[2] != ack.what:
                yield f"{ack.client} was told {ack}, and the log has {found}"


def place(history):
    """An (epoch, offset) never names two publications (promise 1)."""
    names = {}
    for one in history.seen + history.acked:
        other = names.setdefault(one.place, one)
        if one.what != other.what:
            yield f"{other.client} knows {other}, {one.client} knows {one}"


def key(history):
    """A key is one publication, and one publication is not there twice (promise 4)."""
    by_key, by_what = {}, {}
    for one in history.seen + history.acked:
        names = [(by_what, one.what)]
        if one.key is not None:
            names.append((by_key, (one.user, one.key)))
        for known, name in names:
            other = known.setdefault((one.room, one.epoch, name), one)
            if one.offset != other.offset:
                yield f"{name} is {other} and {one}"
                break


def order(history):
    """No offset comes twice to a member, or after a higher one (promises 1 and 2)."""
    for client, log in history.logs.items():
        last = {}
        for event in log:
            if event["event"] == "saw":
                where = (event["room"], event["epoch"])
                if event["offset"] <= last.get(where, 0):
                    yield f"{client} saw {event['offset']} of {where} after {last[where]}"
                last[where] = max(event["offset"], last.get(where, 0))


def hole(history):
    """No offset is left out that was not announced as lost (promises 1 and 2)."""
    for client, log in history.logs.items():
        expected = {}
        for event in log:
            match event["event"]:
                case "lost":
                    expected.clear()
                case "joined":
                    expected[event["room"]] = (event["epoch"], event["from"])
                case "gap":
                    expected[event["room"]] = (event["epoch"], event["offset"] + 1)
                case "saw":
                    epoch, offset = expected.get(event["room"], (None, 0))
                    if event["epoch"] != epoch or event["offset"] > offset:
                        yield f"{client} saw {event}, expected {epoch}:{offset}"
                    expected[event["room"]] = (event["epoch"], event["offset"] + 1)


def recovered(history):
    """`recovered: true` continues behind the position that was given (promise 2).

    Without one it is about what the user of an inbox acknowledged: that is another rule's.
    """
    for client, event in history.events("joined"):
        if event["recovered"] and (event["after"] or not is_inbox(event["room"])):
            epoch, offset = event["after"] or (None, None)
            right = epoch == event["epoch"] and event["from"] == offset + 1 <= event["offset"] + 1
            if not right:
                yield f"{client}: {event}"


def loss(history):
    """What is announced as lost was trimmed, by the room's size, in a room that keeps its log."""
    for client, log in history.logs.items():
        next_ = {}
        for event in log:
            room = event.get("room")
            match event["event"]:
                case "saw":
                    next_[room] = (event["epoch"], event["offset"] + 1)
                    continue
                case "joined" if event["after"] and not event["recovered"]:
                    epoch, offset = event["after"]
                    lost = (epoch, offset + 1)
                case "gap":
                    lost = next_.get(room)
                    if history.durable(room) and event["reason"] != "trimmed":
                        yield f"{client}: {event}"
                case "joined":
                    lost = None
                case _:
                    continue
            next_[room] = (event["epoch"], event.get("from", event.get("offset", 0) + 1))
            # Another epoch is another rule's.
            same = lost is not None and lost[0] == event["epoch"]
            head = history.head(room, event["epoch"], event["at"])
            if same and lost[1] > head - history.rooms[room]["size"]:
                yield f"{client} lost {lost[1]} in {room} with its head at {head}: {event}"


def epoch(history):
    """A durable room keeps its epoch over kill -9; one in memory never does (promise 1).

    What has no publication yet is no log yet, and its epoch is not kept.
    """
    epochs = {}
    for client, event in history.events("acked", "joined", "saw", "gap", "read"):
        if history.durable(event["room"]) and event.get("offset", event.get("head")) > 0:
            known = epochs.setdefault(event["room"], event["epoch"])
            if known != event["epoch"]:
                yield f"{client}: {event['room']} was {known}: {event['epoch']} in {event['event']}"
    killed = sorted(event["at"] for _, event in history.events("killed"))
    lives = defaultdict(set)
    for read in history.reads:
        life = sum(at < read["asked_at"] for at in killed)
        if not history.durable(read["room"]) and read["head"] > 0:
            lives[read["room"], read["epoch"]].add(life)
    for (room, name), found in lives.items():
        if len(found) > 1:
            yield f"{room} in memory is {name} in the lives {sorted(found)} of the server"


def vanished(history):
    """What anybody saw in a durable room is there when the log is read later (promise 3)."""
    seen = [one for one in history.seen if history.durable(one.room)]
    reads = [read for read in history.reads if history.durable(read["room"])]
    steps = sorted(
        [(one.at, 0, one) for one in seen] + [(read["asked_at"], 1, read) for read in reads],
        key=lambda step: step[:2],
    )
    highest = {}
    for _, is_read, what in steps:
        if not is_read:
            if what.offset >= highest.get(what.room, what).offset:
                highest[what.room] = what
        elif (known := highest.get(what["room"])) and known.offset > what["head"]:
            yield f"{known.client} saw {known}, later the head was {what['head']}"


def log(history):
    """A log has every offset from its first to its head, and as many as its size says."""
    for read in history.reads:
        where = f"{read['room']} read at {read['asked_at']}"
        size = history.rooms[read["room"]]["size"]
        head = history.head(read["room"], read["epoch"], read["at"])
        if read["first"] > max(1, head - size + 1):
            yield f"{where} begins at {read['first']} with its head at {head} at most"
        previous = read["after"]
        for offset, *_ in read["publications"]:
            # It is read in pages, and is trimmed meanwhile.
            if offset != previous + 1 and not previous < offset <= read["first"]:
                yield f"{where} has {offset} behind {previous}"
            previous = offset
        if previous != read["head"]:
            yield f"{where} ends with {previous}, its head is {read['head']}"


def sequence(history):
    """What one connection publishes to a room is there in the order it was sent (promise 5)."""
    places = {}
    for one in history.acked:
        places[one.client, one.room, one.key] = (one.epoch, one.offset)
    refused = {(client, event["room"]) for client, event in history.events("refused")}
    for client, log in history.logs.items():
        last, known = {}, set()
        for event in log:
            if event["event"] != "sent" or event["key"] is None:
                continue
            name = (client, event["room"], event["key"])
            if name in known or name not in places or name[:2] in refused:
                continue
            known.add(name)
            epoch, offset = places[name]
            if offset < last.get((event["room"], epoch), 0):
                yield f"{client} has {event['key']} of {event['room']} at {offset}, out of order"
            last[event["room"], epoch] = offset


def invented(history):
    """Nothing is delivered or kept that nobody sent."""
    for one in history.seen:
        if (one.room, one.what) not in history.sent_at:
            yield f"{one.client} knows {one}, which nobody sent"
        # Whoever publishes with a foreign client knows neither its user nor its keys.
        elif history.sent.get((one.room, one.user, one.key), one.what) != one.what:
            yield f"{one.client} knows {one}, which was not sent so"


def session(history):
    """A ticket is good on the server that was started again (promise 8)."""
    for client, event in history.events("welcome"):
        if event["ticket"] and (not event["resumed"] or event["client"] != event["ticket"]):
            yield f"{client}: {event}"


def is_inbox(room):
    return room.startswith("$user/")


def inbox(history):
    """A device without a position begins behind what its user acknowledged (promise 7).

    If some of that was trimmed, it begins behind that, and is told so.
    """
    tried, kept = defaultdict(list), defaultdict(list)
    for _, event in history.events("acking", "kept"):
        into = tried if event["event"] == "acking" else kept
        into[event["room"]].append((event["at"], event["offset"]))
    for client, event in history.events("joined"):
        room = event["room"]
        if not is_inbox(room) or event["after"]:
            continue
        least = max((offset for at, offset in kept[room] if at < event["asked_at"]), default=0)
        most = max((offset for at, offset in tried[room] if at < event["at"]), default=0)
        if not event["recovered"]:
            head = history.head(room, event["epoch"], event["at"])
            least, most = least + 1, head - history.rooms[room]["size"]
        if not least < event["from"] <= most + 1:
            yield f"{client} should go on behind {least}, or up to {most}: {event}"


def handled(history):
    """A client acknowledges nothing that its application has not handled (promise 7)."""
    careful = {client for client, _ in history.events("handled")}
    for client in careful:
        open_ = set()
        for event in history.logs[client]:
            where = event.get("room"), event.get("offset")
            match event["event"]:
                case "saw":
                    open_.add(where)
                case "handled":
                    open_.discard(where)
                case "acking":
                    early = [it for it in open_ if it[0] == where[0] and it[1] <= where[1]]
                    if early:
                        yield f"{client} acknowledges {where}, and has not handled {min(early)}"


def settled(history):
    """Every publication is answered in the end, and every member has all there is."""
    whats = defaultdict(set)
    for read in history.final.values():
        whats[read["room"]] = {what for *_, what in read["publications"]}
    for client, log in history.logs.items():
        if log and log[-1]["event"] == "left":
            continue
        if not log or log[-1]["event"] != "done":
            yield f"{client} did not come to an end"
            continue
        open_, last = {}, {}
        for event in log:
            match event["event"]:
                case "sent" if event["key"] is not None:
                    open_[event["room"], event["key"]] = event["what"]
                case "sent" if event["what"] not in whats[event["room"]]:
                    # By a client that said that it has all answers, but not which.
                    yield f"{client} sent {event['what']}, which {event['room']} does not have"
                case "acked":
                    open_.pop((event["room"], event["key"]), None)
                case "joined":
                    last[event["room"]] = event["from"] - 1
                case "saw" | "gap":
                    last[event["room"]] = event["offset"]
        for room, key in open_:
            yield f"{client} has no answer for {key} in {room}"
        for room, offset in last.items():
            head = history.final[room]["head"] if room in history.final else None
            if offset != head:
                yield f"{client} is at {offset} in {room}, the head is {head}"


RULES = [
    *(acknowledged, place, key, order, hole, recovered, loss, epoch, vanished, log, sequence),
    *(invented, session, inbox, handled, settled),
]


def contents(read):
    return {offset: (user, key, what) for offset, user, key, what in read["publications"]}


def check(logs):
    """What is broken, by the rule's name: at most ten sentences of each."""
    history = History(logs)
    broken = {}
    for rule in RULES:
        sentences = [text for text, _ in zip(rule(history), range(10), strict=False)]
        if sentences:
            broken[rule.__name__] = sentences
    return broken


def summary(logs):
    """How often what happened: a history in which nothing happens breaks no rule."""
    count = Counter(event["event"] for log in logs.values() for event in log)
    for _, event in History(logs).events("acked", "joined", "gap", "welcome"):
        match event["event"]:
            case "acked" if event["duplicate"]:
                count["acked a duplicate"] += 1
            case "joined" if event["after"] or is_inbox(event["room"]):
                new = "" if event["after"] else ", new in its inbox"
                missed = "something" if event["from"] <= event["offset"] else "nothing"
                how = f"recovered {missed}" if event["recovered"] else "not recovered"
                count[how + new] += 1
            case "gap":
                count[f"gap {event['reason']}"] += 1
            case "welcome" if event["resumed"]:
                count["resumed"] += 1
    return dict(sorted(count.items()))


def load(directory):
    logs = {}
    for path in sorted(Path(directory).glob("*.jsonl")):
        with path.open() as file:
            logs[path.stem] = [json.loads(line) for line in file]
    return logs


def main():
    logs = load(sys.argv[1])
    broken = check(logs)
    print(", ".join(f"{count} {what}" for what, count in summary(logs).items()))
    for rule, sentences in broken.items():
        print(f"broken: {rule}", *sentences, sep="\n  ")
    return 1 if broken or not logs else 0


if __name__ == "__main__":
    sys.exit(main())
