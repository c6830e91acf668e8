"""The checker of crash tests, on histories that break one rule each, and on good ones."""

import copy

import pytest

import checker
import crash

ROOMS = {
    "r": {"durable": True, "size": 100},
    "short": {"durable": True, "size": 3},
    "memory": {"durable": False, "size": 100},
    "$user/u": {"durable": True, "size": 100},
    "$user/v": {"durable": True, "size": 2},
}
# Epochs, by room; the one in memory has another after the crash.
EPOCHS = {"r": "e", "short": "f", "memory": "g", "$user/u": "h", "$user/v": "i"}


class Script:
    """A history, written down in the order in which it happened."""

    def __init__(self):
        self.lines = []

    def add(self, client, event, /, **members):
        at = float(len(self.lines))
        self.lines.append((client, {"at": at, "event": event, **members}))

    # What most lines are

    def sent(self, client, room, key, what, user="u"):
        self.add(client, "sent", room=room, user=user, key=key, what=what)

    def acked(self, client, room, key, offset, user="u", epoch=None, duplicate=False):
        names = {"room": room, "user": user, "key": key, "epoch": epoch or EPOCHS[room]}
        self.add(client, "acked", **names, offset=offset, duplicate=duplicate)

    def published(self, client, room, key, what, offset, **more):
        self.sent(client, room, key, what, user=more.get("user", "u"))
        self.acked(client, room, key, offset, **more)

    def joined(self, client, room, after, offset, from_, recovered, epoch=None):
        self.add(
            client,
            "joined",
            **{"room": room, "after": after, "asked_at": self.lines[-1][1]["at"] + 0.5},
            **{"epoch": epoch or EPOCHS[room], "offset": offset, "from": from_},
            recovered=recovered,
        )

    def saw(self, client, room, key, what, offset, user="u", epoch=None):
        place = {"room": room, "epoch": epoch or EPOCHS[room], "offset": offset}
        self.add(client, "saw", **place, user=user, key=key, what=what)

    def read(self, room, publications, first=1, epoch=None):
        self.add(
            "auditor",
            "read",
            **{"asked_at": self.lines[-1][1]["at"] + 0.5, "room": room, "after": 0},
            **{"epoch": epoch or EPOCHS[room], "first": first, "publications": publications},
            head=publications[-1][0] if publications else 0,
        )

    # Making another history of it

    def index(self, client, event, /, **members):
        """The first line of this kind."""
        for index, (who, line) in enumerate(self.lines):
            wanted = {"event": event, **members}
            if who == client and wanted.items() <= line.items():
                return index
        raise AssertionError(f"no {event} of {client} with {members}")

    def line(self, client, event, /, **members):
        return self.lines[self.index(client, event, **members)][1]

    def drop(self, client, event, /, **members):
        del self.lines[self.index(client, event, **members)]

    def again(self, client, event, /, **members):
        """Repeats a line right behind itself."""
        index = self.index(client, event, **members)
        self.lines.insert(index, copy.deepcopy(self.lines[index]))

    def final(self, room):
        return [line for _, line in self.lines if line["event"] == "read" and line["room"] == room][
            -1
        ]

    def logs(self):
        logs = {}
        for client, line in self.lines:
            logs.setdefault(client, []).append(line)
        return logs

    def broken(self):
        return checker.check(self.logs())


def good():
    """Two lives of a server. `k3` is kept and not answered when it is killed."""
    script = Script()
    add, sent, acked = script.add, script.sent, script.acked
    published, joined, saw = script.published, script.joined, script.saw
    add("crash", "rooms", rooms=ROOMS)
    add("crash", "started")
    add("p", "welcome", client="P", ticket=None, resumed=False)
    add("s", "welcome", client="S", ticket=None, resumed=False)
    for room in ("r", "short", "memory"):
        joined("s", room, None, 0, 1, False)
    published("p", "r", "k1", "w1", 1)
    sent("p", "r", "k2", "w2")
    sent("p", "r", "k3", "w3")
    acked("p", "r", "k2", 2)
    saw("s", "r", "k1", "w1", 1)
    saw("s", "r", "k2", "w2", 2)
    for n in range(1, 6):
        published("p", "short", f"q{n}", f"v{n}", n)
    saw("s", "short", "q1", "v1", 1)
    published("p", "memory", "m1", "u1", 1)
    saw("s", "memory", "m1", "u1", 1)
    published("back", "$user/u", "i1", "t1", 1, user=None)
    published("back", "$user/u", "i2", "t2", 2, user=None)
    script.read("memory", [[1, "u", "m1", "u1"]])
    add("crash", "killed")
    add("p", "lost")
    add("s", "lost")
    add("crash", "started")
    kept = [[1, "u", "k1", "w1"], [2, "u", "k2", "w2"], [3, "u", "k3", "w3"]]
    script.read("r", copy.deepcopy(kept))
    add("p", "welcome", client="P", ticket="P", resumed=True)
    sent("p", "r", "k3", "w3")
    acked("p", "r", "k3", 3, duplicate=True)
    add("s", "welcome", client="S", ticket="S", resumed=True)
    joined("s", "r", ["e", 2], 3, 3, True)
    saw("s", "r", "k3", "w3", 3)
    # Of five the room keeps three; then four come while the member reads too slowly.
    joined("s", "short", ["f", 1], 5, 3, False)
    for n in range(3, 6):
        saw("s", "short", f"q{n}", f"v{n}", n)
    for n in range(6, 10):
        published("p", "short", f"q{n}", f"v{n}", n)
    add("s", "gap", room="short", reason="trimmed", epoch="f", offset=6)
    for n in range(7, 10):
        saw("s", "short", f"q{n}", f"v{n}", n)
    joined("s", "memory", ["g", 1], 0, 1, False, epoch="g2")
    # A key that was used in the log that is gone is free.
    published("p", "memory", "m1", "u1", 1, epoch="g2")
    saw("s", "memory", "m1", "u1", 1, epoch="g2")
    joined("d", "$user/u", None, 2, 1, True)
    saw("d", "$user/u", "i1", "t1", 1, user=None)
    saw("d", "$user/u", "i2", "t2", 2, user=None)
    add("d", "handled", room="$user/u", offset=1)
    add("d", "acking", room="$user/u", offset=1)
    add("d", "kept", room="$user/u", offset=1)
    joined("d2", "$user/u", None, 2, 2, True)
    saw("d2", "$user/u", "i2", "t2", 2, user=None)
    # Of three the inbox keeps two, and none was acknowledged; then the first that is gone is.
    for n in range(1, 4):
        published("back", "$user/v", f"j{n}", f"s{n}", n, user=None)
    joined("v", "$user/v", None, 3, 2, False)
    for n in range(2, 4):
        saw("v", "$user/v", f"j{n}", f"s{n}", n, user=None)
    add("v", "acking", room="$user/v", offset=1)
    add("v", "kept", room="$user/v", offset=1)
    joined("v2", "$user/v", None, 3, 2, True)
    for n in range(2, 4):
        saw("v2", "$user/v", f"j{n}", f"s{n}", n, user=None)
    # A client that says neither its keys nor who it is.
    sent("foreign", "r", None, "w4", user=None)
    saw("s", "r", "their key", "w4", 4, user="v")
    script.read("r", [*kept, [4, "v", "their key", "w4"]])
    script.read("short", [[n, "u", f"q{n}", f"v{n}"] for n in range(7, 10)], first=7)
    script.read("memory", [[1, "u", "m1", "u1"]], epoch="g2")
    script.read("$user/u", [[1, None, "i1", "t1"], [2, None, "i2", "t2"]])
    script.read("$user/v", [[2, None, "j2", "s2"], [3, None, "j3", "s3"]], first=2)
    for client in ("crash", "p", "back", "foreign", "s", "d", "d2", "v", "v2", "auditor"):
        add(client, "done")
    return script


def test_a_good_history_breaks_nothing():
    assert good().broken() == {}


# Each is another good history


def answered_twice(script):
    """A key that was sent twice has two answers, with one place."""
    script.again("p", "acked", key="k1")


def refused_and_sent_again(script):
    """What was refused comes later than what was sent behind it."""
    script.sent("p", "r", "k0", "w0")
    # Before all others.
    script.lines.insert(3, script.lines.pop())
    script.lines.insert(4, ("p", {**script.lines[3][1], "event": "refused", "name": "unavailable"}))
    script.final("r")["publications"].append([5, "u", "k0", "w0"])
    script.final("r")["head"] = 5
    script.saw("s", "r", "k0", "w0", 5)
    script.acked("p", "r", "k0", 5)
    finish(script, "p", "s")


def trimmed_for_what_nobody_has_heard_of(script):
    """The store has 10, whose publisher was not answered, when the room says that its head is 9."""
    index = script.lines.index(("auditor", script.final("short")))
    script.sent("p", "short", "q10", "v10")
    script.lines.insert(index, ("p", {**script.lines.pop()[1], "at": index - 0.75}))
    early = copy.deepcopy(script.final("short"))
    early["publications"].pop(0)
    early["first"] = 8
    script.lines.insert(index + 1, ("auditor", early))
    last = script.final("short")
    last["publications"] = [*early["publications"], [10, "u", "q10", "v10"]]
    last.update(first=8, head=10)
    script.acked("p", "short", "q10", 10)
    script.saw("s", "short", "q10", "v10", 10)
    finish(script, "p", "s")


def joined_what_is_empty(script):
    """A durable log without publications has no epoch that lasts."""
    script.joined("d", "r", None, 0, 1, False, epoch="x")
    script.joined("d", "r", ["x", 0], 4, 5, False)
    finish(script, "d")


def left_early(script):
    """A client that goes for good need not have everything."""
    script.drop("s", "saw", what="w4")
    script.line("s", "done")["event"] = "left"


def finish(script, *clients):
    """Puts their `done` last."""
    for client in clients:
        script.drop(client, "done")
        script.add(client, "done")


@pytest.mark.parametrize(
    "change",
    [
        *(answered_twice, refused_and_sent_again, trimmed_for_what_nobody_has_heard_of),
        *(joined_what_is_empty, left_early),
    ],
)
def test_other_good_histories_break_nothing(change):
    script = good()
    change(script)
    assert script.broken() == {}


# Each breaks the rule in its name, and no other


def acknowledged__lost_at_the_end(script):
    script.published("p", "r", "k9", "w9", 5)
    finish(script, "p")


def acknowledged__lost_in_between(script):
    # Nobody else ever knew of it, and its place is left out of the log that is read last.
    script.line("p", "acked", key="q9")["offset"] = 12
    script.drop("s", "saw", what="v9")
    script.final("short").update(publications=[[n, "u", f"q{n}", f"v{n}"] for n in (6, 7, 8)])
    script.final("short").update(first=6, head=8)


def place__two_answers(script):
    script.published("p", "memory", "m2", "u2", 1, epoch="g2")
    finish(script, "p")


def key__kept_twice(script):
    script.saw("s", "r", "k1", "w1", 5)
    script.final("r")["publications"].append([5, "u", "k1", "w1"])
    script.final("r")["head"] = 5
    finish(script, "s")


def key__two_publications(script):
    # Under another epoch it would be another matter.
    script.published("p", "memory", "m1", "u1", 2, epoch="g2")
    finish(script, "p")


def order__seen_twice(script):
    script.again("s", "saw", what="w2")


def order__seen_again_after_the_crash(script):
    joined = script.line("s", "joined", room="r", recovered=True)
    joined.update({"after": ["e", 1], "from": 2})
    index = script.index("s", "saw", what="w3")
    seen = script.line("s", "saw", what="w2")
    script.lines.insert(index, ("s", {**seen, "at": index - 0.5}))


def order__reordered(script):
    first, second = script.index("s", "saw", what="w1"), script.index("s", "saw", what="w2")
    lines = script.lines
    lines[first], lines[second] = lines[second], lines[first]
    # A client that had joined at 2 would be right to expect it.
    script.line("s", "joined", room="r")["from"] = 2


def hole__left_out(script):
    script.drop("s", "saw", what="v8")


def hole__before_it_joined(script):
    script.drop("d2", "joined")


def hole__behind_the_reply(script):
    script.drop("s", "saw", what="v3")


def recovered__not_from_there(script):
    script.line("s", "joined", room="r", recovered=True)["from"] = 4
    script.drop("s", "saw", what="w3")


def recovered__in_another_log(script):
    script.line("s", "joined", room="memory", epoch="g2")["recovered"] = True


def recovered__without_a_position(script):
    script.line("s", "joined", room="r")["recovered"] = True


def loss__of_what_is_there(script):
    script.line("s", "joined", room="r", recovered=True).update({"recovered": False, "from": 4})
    script.drop("s", "saw", what="w3")


def loss__announced_before_it_was_trimmed(script):
    script.line("s", "gap")["offset"] = 7
    script.drop("s", "saw", what="v7")
    # Seen up to 6: 7 is lost, and the head is 9.
    index = script.index("s", "gap")
    script.saw("s", "short", "q6", "v6", 6)
    script.lines.insert(index, script.lines.pop())


def loss__for_a_reason_that_a_log_does_not_have(script):
    script.line("s", "gap")["reason"] = "slow"


def epoch__changed(script):
    script.line("auditor", "read", room="r")["epoch"] = "x"


def epoch__kept_in_memory(script):
    # It was read before the crash, and is read again after it.
    index = script.index("auditor", "read", room="r")
    read = script.line("auditor", "read", room="memory")
    script.lines.insert(index, ("auditor", {**read, "asked_at": index - 0.5, "at": index}))


def vanished__seen_and_gone(script):
    early = script.line("auditor", "read", room="r")
    early.update(head=1, publications=early["publications"][:1])


def log__has_a_hole(script):
    del script.line("auditor", "read", room="r")["publications"][1]


def log__trimmed_too_much(script):
    early = script.line("auditor", "read", room="r")
    del early["publications"][0]
    early["first"] = 2


def log__ends_before_its_head(script):
    script.line("auditor", "read", room="r")["publications"].pop()


def sequence__turned_round(script):
    first, second = script.line("p", "sent", key="q3"), script.line("p", "sent", key="q4")
    for one, n in ((first, 4), (second, 3)):
        one.update(key=f"q{n}", what=f"v{n}")
    first, second = script.line("p", "acked", key="q3"), script.line("p", "acked", key="q4")
    first.update(key="q4", offset=4)
    second.update(key="q3", offset=3)


def invented__nobody_sent_it(script):
    script.saw("s", "r", "k7", "w7", 5)
    script.final("r")["publications"].append([5, "u", "k7", "w7"])
    script.final("r")["head"] = 5
    finish(script, "s")


def invented__not_in_this_room(script):
    script.saw("s", "r", "q1", "v1", 5)
    script.final("r")["publications"].append([5, "u", "q1", "v1"])
    script.final("r")["head"] = 5
    finish(script, "s")


def session__not_resumed(script):
    script.line("p", "welcome", ticket="P")["resumed"] = False


def session__of_somebody_else(script):
    script.line("p", "welcome", ticket="P")["client"] = "Q"


def inbox__begins_too_early(script):
    script.line("d2", "joined")["from"] = 1
    index = script.index("d2", "saw")
    script.saw("d2", "$user/u", "i1", "t1", 1, user=None)
    script.lines.insert(index, script.lines.pop())


def inbox__begins_too_late(script):
    script.line("d2", "joined")["from"] = 3
    script.drop("d2", "saw")


def inbox__loses_in_silence(script):
    script.line("v", "joined")["recovered"] = True


def inbox__loses_what_is_there(script):
    script.line("v", "joined").update({"from": 3})
    script.drop("v", "saw")


def inbox__says_that_it_lost_what_was_acknowledged(script):
    script.line("v2", "joined")["recovered"] = False


def inbox__forgets_over_a_crash(script):
    # What was acknowledged in the first life counts in the second.
    index = script.index("v2", "joined")
    at = script.lines[index][1]["at"]
    script.lines.insert(index, ("crash", {"at": at - 0.6, "event": "killed"}))
    script.lines.insert(index + 1, ("crash", {"at": at - 0.55, "event": "started"}))
    script.line("v2", "joined").update({"from": 1, "recovered": True})
    first = script.index("v2", "saw")
    script.saw("v2", "$user/v", "j1", "s1", 1, user=None)
    script.lines.insert(first, script.lines.pop())


def handled__later(script):
    index = script.index("d", "handled")
    script.lines[index : index + 2] = reversed(script.lines[index : index + 2])


def handled__out_of_turn(script):
    script.line("d", "handled")["offset"] = 2
    script.line("d", "acking")["offset"] = 2
    script.drop("d", "kept")


def settled__no_answer(script):
    script.sent("p", "r", "k9", "w9")
    finish(script, "p")


def settled__not_all_there_is(script):
    script.drop("s", "saw", what="w4")


def settled__no_end(script):
    script.drop("s", "done")


def settled__not_in_the_log(script):
    script.sent("foreign", "r", None, "w9", user=None)
    finish(script, "foreign")


BREAKING = [
    change for name, change in list(globals().items()) if callable(change) and "__" in name[1:-2]
]


@pytest.mark.parametrize("change", BREAKING, ids=lambda change: change.__name__)
def test_a_broken_history_breaks_its_rule_alone(change):
    script = good()
    change(script)
    assert list(script.broken()) == [change.__name__.split("__")[0]]


def test_each_rule_has_a_history_that_breaks_it():
    tested = {change.__name__.split("__")[0] for change in BREAKING}
    assert tested == {rule.__name__ for rule in checker.RULES} == set(MUTATIONS)


# What was really recorded, with one thing changed


def find(logs, event, wanted=lambda _: True, client=None):
    """The log and the index of the last such event."""
    for name, log in logs.items():
        if client in (None, name):
            for index in reversed(range(len(log))):
                if log[index]["event"] == event and wanted(log[index]):
                    return log, index
    raise AssertionError(f"no {event} was recorded")


def change(event, wanted=lambda _: True, client=None, **changes):
    """Changes the members of an event: each by a function of what it was."""

    def mutate(logs):
        log, index = find(logs, event, wanted, client)
        for member, how in changes.items():
            log[index][member] = how(log[index][member])

    return mutate


def without_an_acked(logs):
    log, index = find(logs, "acked", of("kept/a"))
    read, final = find(logs, "read", lambda read: read["room"] == "kept/a" and read["after"] == 0)
    final = read[final]
    final["publications"] = [one for one in final["publications"] if one[2] != log[index]["key"]]


def answered_elsewhere(logs):
    log, index = find(logs, "acked", of("kept/a"))
    log.insert(index, {**log[index], "offset": log[index]["offset"] + 1})


def seen_twice(logs):
    log, index = find(logs, "saw")
    log.insert(index, log[index])


def overlooked(logs):
    log, index = find(logs, "saw", of("kept/a"), "subscriber0")
    follows = find({"": log[:index]}, "saw", of("kept/a"))[1]
    # Neither the last of its connection nor the last of all.
    assert all(event["event"] == "saw" for event in log[follows:index])
    del log[follows]


def cut_short(logs):
    log, index = find(logs, "read", of("kept/a"))
    log[index]["publications"].pop()
    log[index]["head"] -= 1


def confused(logs):
    log, index = find(logs, "saw", of("kept/a"), "subscriber0")
    _, other = find({"": log[:index]}, "saw", of("kept/a"))
    for member in ("user", "key", "what"):
        log[index][member] = log[other][member]


def exchanged(logs):
    log, index = find(logs, "acked", of("kept/a"), "publisher2")
    _, other = find({"": log[:index]}, "acked", of("kept/a"))
    log[index]["offset"], log[other]["offset"] = log[other]["offset"], log[index]["offset"]


def old_device(logs):
    log, index = find(logs, "saw", of("$user/ada"))
    saw = log[index]
    joined = {"event": "joined", "after": None, "from": 1, "recovered": True}
    logs["device"] = [
        *({**saw, "event": event} for event in ("acking", "kept")),
        {**saw, **joined, "asked_at": saw["at"] + 1, "at": saw["at"] + 2},
    ]


def handled_late(logs):
    log, index = find(logs, "saw", of("$user/ada"))
    events = ("saw", "acking", "handled")
    logs["careful"] = [{**log[index], "event": event} for event in events]


def of(room):
    return lambda event: event["room"] == room


def something(event):
    return event["recovered"] and event["after"] and event["from"] <= event["offset"]


MUTATIONS = {
    "acknowledged": without_an_acked,
    "place": confused,
    "key": answered_elsewhere,
    "order": seen_twice,
    "hole": overlooked,
    "recovered": change("joined", something, **{"from": lambda offset: offset + 1}),
    "loss": change("joined", something, recovered=lambda _: False),
    "epoch": change("acked", of("kept/a"), epoch=lambda _: "another"),
    "vanished": cut_short,
    "log": change("read", of("kept/a"), first=lambda first: first + 1),
    "sequence": exchanged,
    "invented": change("saw", what=lambda _: "nobody.1#00000000"),
    "session": change(
        "welcome", lambda event: event["ticket"], client=None, resumed=lambda _: False
    ),
    "inbox": old_device,
    "handled": handled_late,
    "settled": change("acked", client="backend0", key=lambda _: "another"),
}


@pytest.fixture(scope="session")
def recorded(tmp_path_factory):
    directory = tmp_path_factory.mktemp("recorded")
    status, said = crash.run(3, seed=1, keep=directory)
    assert status == 0, said
    return checker.load(directory / "logs")


@pytest.mark.parametrize("rule", MUTATIONS)
def test_a_recorded_history_is_broken_by_one_change(recorded, rule):
    logs = copy.deepcopy(recorded)
    MUTATIONS[rule](logs)
    assert rule in checker.check(logs)
