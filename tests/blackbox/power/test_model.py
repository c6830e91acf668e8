"""That the model of a disk lets through what can be, and that the checker sees what must not be."""

import random
from dataclasses import replace

import pytest

from power.claims import Asked, Kept, Said, broken
from power.disk import MODES, Disk
from power.strace import Call

ROOT = "/somewhere"


def call(name, *arguments, result=0):
    """One as strace would say it: paths and bytes in its own way, and the rest as it is."""
    coded = [f'"{code(each)}"' if isinstance(each, bytes) else str(each) for each in arguments]
    return Call(name, ", ".join(coded), result)


def code(data):
    return "".join(f"\\x{byte:02x}" for byte in data)


def file(path):
    """A descriptor."""
    return f"3<{code(path.encode())}>"


def written(path, data):
    """A file that is on the disk as soon as its name is."""
    yield call("openat", f"AT_FDCWD<{code(b'/')}>", path.encode(), "O_WRONLY|O_CREAT", result=3)
    yield call("write", file(path), data, len(data), result=len(data))
    yield call("fsync", file(path))


def images(disk, losses=100):
    """Everything that is left by some of so many losses of each mode."""
    rng = random.Random(1)
    left = (disk.left(mode, rng) for mode in MODES for _ in range(losses))
    return {tuple(sorted(image.items())) for image in left}


def test_a_rename_is_on_the_disk_as_a_whole_or_not_at_all():
    name, draft = f"{ROOT}/keys", f"{ROOT}/keys.draft"
    disk = Disk(ROOT)
    for each in [
        *written(name, b"old"),
        call("fsync", file(ROOT)),
        *written(draft, b"new"),
        call("rename", draft.encode(), name.encode()),
    ]:
        disk.event("begin", each)
        disk.event("end", each)
    old, new = (("keys", b"old"),), (("keys", b"new"),)
    assert images(disk) == {old, (*old, ("keys.draft", b"new")), new}
    sync = call("fsync", file(ROOT))
    disk.event("begin", sync)
    disk.event("end", sync)
    assert images(disk) == {new}


# One room, in which two publications were told of, one with a key, and one nobody was told of.
def history():
    asked = Asked()
    for payload, key in [("1", None), ("2", "k"), ("3", None)]:
        asked.note("r", payload, key)
    said = Said(
        places={("r", 1): ("e", {"1"}), ("r", 2): ("e", {"2"})},
        keys={("r", "k"): 2},
        acked={"r": 2},
    )
    found = Kept(
        rooms={"r": ("e", 1, 3, 2)},
        places={("r", 1): ("1", None), ("r", 2): ("2", "k"), ("r", 3): ("3", None)},
        keys={("r", "k"): 2},
    )
    return said, found, asked


def test_a_history_that_is_whole_is_not_broken():
    assert broken(*history()) == []
    said, found, asked = history()
    # More was acknowledged than anybody was told, and it was told of less.
    assert broken(replace(said, acked={"r": 1}, places={}), found, asked) == []


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"rooms": {}}, "r is gone"),
        ({"rooms": {"r": ("f", 1, 3, 2)}}, "r had epoch e and has f"),
        ({"rooms": {"r": ("e", 1, 1, 2)}}, "r had 2 and ends with 1"),
        ({"rooms": {"r": ("e", 1, 3, 1)}}, "r was acknowledged up to 2, and is not"),
        ({"keys": {}}, "key k in r is at None, not 2"),
        ({"keys": {}}, "key k in r is free, and 2 has it"),
        ({"at": (2, ("3", None))}, "r 2 is ('3', None), not {'2'}"),
        ({"at": (3, ("4", None))}, "r 3 is 4, None, which nobody asked for"),
        ({"at": (3, ("2", "k"))}, "key k in r is two publications: 2, 3"),
        ({"at": (1, None)}, "r should have 1 to 3, and has 2"),
        ({"damage": ["a page"]}, "damaged: a page"),
    ],
)
def test_a_history_that_is_broken_is_found_out(change, wrong):
    said, found, asked = history()
    if "at" in change:
        offset, what = change["at"]
        places = {**found.places, ("r", offset): what}
        change = {"places": {place: what for place, what in places.items() if what}}
    assert wrong in broken(said, replace(found, **change), asked)
