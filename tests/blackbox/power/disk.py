"""A file system that says what could be left of it if the power failed now.

Only what was synced is certain:

- A file has what was written to it before a `fsync` or `fdatasync` of it began, once that has
  returned. Of what came after, any sector of 512 bytes may be there or not; a sector that was
  written several times may stand as after any of them. A file that grew may be as long as that and
  hold zeros or anything at all where nothing arrived.
- A name is in its directory once the directory was synced. Before, each name may be as it was after
  any of the changes made to it since. A rename is there as a whole or not at all.
- What is cut off by `ftruncate` may be there still, and then nothing that was written
  afterwards is.

That is more than most file systems would do, and less than a disk that lies about a sync or damages
what it does not write: nothing survives those. Like SQLite, it takes it for granted that bytes of a
sector that were not written stay as they are.
"""

import os
from collections import defaultdict
from dataclasses import dataclass

SECTOR = 512
PAGE = 4096
# What is left, of all that was not synced: nothing; everything; all up to some call, and of that
# call a part; a few sectors; a few pages.
MODES = ("none", "all", "torn", "sectors", "pages")
# SQLite makes it anew out of the write-ahead log, and never believes what it finds.
IGNORED = "-shm"


class File:
    def __init__(self):
        self.synced = bytearray()
        # Changes since: a call's number, offset and bytes; or number, size and None if it cuts.
        self.pending = []
        self.size = 0

    def write(self, at, data, serial):
        self.pending.append((serial, at, data))
        self.size = max(self.size, at + len(data))

    def truncate(self, size, serial):
        self.pending.append((serial, size, None))
        self.size = size

    def sync(self, ended):
        """All that `ended` says has ended is on the disk."""
        for serial, at, data in self.pending:
            if serial in ended:
                put(self.synced, at, data)
        self.pending = [change for change in self.pending if change[0] not in ended]

    def left(self, mode, rng):
        """The bytes that could be there."""
        image = bytearray(self.synced)
        if not self.pending or mode == "none":
            return image
        if mode == "all":
            for _, at, data in self.pending:
                put(image, at, data)
            return image
        if mode == "torn":
            count = rng.randrange(len(self.pending) + 1)
            for _, at, data in self.pending[:count]:
                put(image, at, data)
            if count < len(self.pending):
                _, at, data = self.pending[count]
                if data:
                    put(image, at, data[: rng.randrange(len(data))])
            return image
        # Up to some truncation, which came, and none of the later ones did.
        cuts = [place for place, change in enumerate(self.pending) if change[2] is None]
        end = rng.choice([*cuts, len(self.pending)])
        unit = SECTOR if mode == "sectors" else PAGE
        share = rng.choice((0.1, 0.5, 0.9))
        garbage = rng.random() < 0.5
        pieces = defaultdict(list)
        size = len(image)
        for _, at, data in self.pending[:end]:
            if data is None:
                flush(image, pieces, share, rng)
                put(image, at, None)
                size = at
                continue
            size = max(size, at + len(data))
            first = 0
            while first < len(data):
                last = min(len(data), first + unit - (at + first) % unit)
                pieces[(at + first) // unit].append((at + first, data[first:last]))
                first = last
        was = len(image)
        # As long as it should be, or as what arrived.
        if rng.random() < 0.5 and size > was:
            image.extend(rng.randbytes(size - was) if garbage else bytes(size - was))
        flush(image, pieces, share, rng)
        return image


def flush(image, pieces, share, rng):
    for changes in pieces.values():
        if rng.random() < share:
            for at, data in changes[: 1 + rng.randrange(len(changes))]:
                put(image, at, data)
    pieces.clear()


def put(image, at, data):
    if data is None:
        del image[at:]
        at, data = max(at, len(image)), b""
    if at > len(image):
        image.extend(bytes(at - len(image)))
    image[at : at + len(data)] = data


class Directory:
    def __init__(self):
        self.names = {}
        self.synced = {}
        # Changes since: a call's number, and what names stand for then, or None.
        self.pending = []

    def set(self, change, serial):
        self.pending.append((serial, change))
        self.names = present({**self.names, **change})

    def sync(self, ended):
        for serial, change in self.pending:
            if serial in ended:
                self.synced.update(change)
        self.pending = [change for change in self.pending if change[0] not in ended]

    def left(self, mode, rng):
        names = dict(self.synced)
        for changes in self.independent() if mode != "none" else ():
            count = len(changes) if mode == "all" else rng.randrange(len(changes) + 1)
            for change in changes[:count]:
                names.update(change)
        return present(names)

    def independent(self):
        """The changes, in lists that have no name in common: a rename ties two names together."""
        apart = []
        for _, change in self.pending:
            tied = [other for other in apart if any(change.keys() & each for each in other)]
            apart = [other for other in apart if other not in tied]
            apart.append([*(each for other in tied for each in other), change])
        return apart


def present(names):
    return {name: node for name, node in names.items() if node is not None}


@dataclass(frozen=True)
class Ended:
    """The numbers of calls that had ended when a sync began."""

    before: int
    under_way: frozenset

    def __contains__(self, serial):
        return serial < self.before and serial not in self.under_way


class Disk:
    """What is below `root`, which is there from the beginning and empty."""

    def __init__(self, root):
        self.root = os.path.realpath(root)
        self.tree = Directory()
        # Calls are numbered as they begin. Those that have not ended, by what they are.
        self.count = 0
        self.serials = {}
        # What each sync that is under way will bring to the disk.
        self.covers = {}
        # Changes of what could be left, for whoever counts.
        self.version = 0
        self.syncs = 0

    # Calls

    def event(self, kind, call):
        """Says whether it changed what could be left."""
        before = self.version
        if kind == "begin":
            self.count += 1
            self.serials[id(call)] = self.count
            self._begin(call, self.count)
        else:
            self._end(call, self.serials.pop(id(call)))
        return self.version != before

    def _begin(self, call, serial):
        act = getattr(self, f"_{call.name}", None)
        if call.name in ("fsync", "fdatasync"):
            self.covers[serial] = Ended(serial, frozenset(self.serials.values()))
        elif act and (call.result is None or call.result >= 0):
            act(call, serial)

    def _end(self, call, serial):
        covered = self.covers.pop(serial, None)
        if covered is None or call.result != 0:
            return
        node = self.node(call.file())
        if node is not None:
            node.sync(covered)
            self.version += 1
            self.syncs += 1

    def _mkdir(self, call, serial):
        # strace says no working directory here; the server is given absolute paths.
        self._set(call.strings()[0].decode(), Directory, serial)

    def _openat(self, call, serial):
        path = os.path.join(call.where() or "/", call.strings()[0].decode())
        if "O_CREAT" in call.text:
            self._set(path, File, serial)
        node = self.node(path)
        if "O_TRUNC" in call.text and isinstance(node, File) and node.size:
            node.truncate(0, serial)
            self.version += 1

    def _linkat(self, call, serial):
        old, new = (name.decode() for name in call.strings())
        base = call.where() or "/"
        node = self.node(os.path.join(base, old))
        self._set(os.path.join(base, new), lambda: node, serial)

    def _rename(self, call, serial):
        old, new = (self._place(name.decode()) for name in call.strings())
        if not (old or new):
            return
        (parent, was), (into, name) = old, new
        assert into is parent, "a rename between directories is not modelled"
        self._change(parent, {was: None, name: parent.names[was]}, serial)

    def _unlink(self, call, serial):
        self._remove(call.strings()[0].decode(), serial)

    def _pwrite64(self, call, serial):
        self._write_at(call, call.number(0), serial)

    def _write(self, call, serial):
        # A key, or another file that is written from its beginning to its end.
        node = self.node(call.file())
        self._write_at(call, node.size if isinstance(node, File) else 0, serial)

    def _ftruncate(self, call, serial):
        node = self.node(call.file())
        if isinstance(node, File):
            node.truncate(call.number(0), serial)
            self.version += 1

    def _mmap(self, call, _):
        shared = "MAP_SHARED" in call.text and "PROT_WRITE" in call.text
        path = call.file(place=-2)
        assert not shared or self.node(path) is None, f"{path} is written without a call"

    def _lseek(self, call, _):
        asks = "0, SEEK_CUR" in call.text
        assert asks or self.node(call.file()) is None, "a file is written from the middle"

    def _unknown(self, call, _):
        touched = [call.file(), *(name.decode(errors="replace") for name in call.strings())]
        assert all(self.node(path) is None for path in touched), f"{call.name} is not modelled"

    _open = _creat = _mkdirat = _unlinkat = _rmdir = _renameat = _renameat2 = _link = _unknown
    _writev = _pwritev = _pwritev2 = _truncate = _fallocate = _sendfile = _unknown
    _copy_file_range = _sync_file_range = _msync = _unknown

    # Names

    def _parts(self, path):
        if path is None or not path.startswith("/") or path.endswith(IGNORED):
            return None
        relative = os.path.relpath(path, self.root)
        return None if relative.startswith("..") else [p for p in relative.split("/") if p != "."]

    def node(self, path):
        parts = self._parts(path)
        if parts is None:
            return None
        node = self.tree
        for part in parts:
            node = node.names.get(part) if isinstance(node, Directory) else None
        return node

    def _place(self, path):
        """The directory that a path's last name is in, and that name."""
        parts = self._parts(path)
        parent = self.node(os.path.dirname(path)) if parts else None
        return (parent, parts[-1]) if parent else None

    def _set(self, path, make, serial):
        place = self._place(path)
        if place and place[1] not in place[0].names:
            self._change(place[0], {place[1]: make()}, serial)

    def _remove(self, path, serial):
        place = self._place(path)
        if place and place[1] in place[0].names:
            self._change(place[0], {place[1]: None}, serial)

    def _change(self, directory, change, serial):
        directory.set(change, serial)
        self.version += 1

    def _write_at(self, call, at, serial):
        node = self.node(call.file())
        if isinstance(node, File):
            data = call.data()
            # A call that never returned may have written all of it.
            node.write(at, data if call.result is None else data[: call.result], serial)
            self.version += 1

    # Power loss

    def left(self, mode, rng):
        """Paths below the root, and the bytes of the files."""
        return dict(leaves(self.tree, "", mode, rng))


def leaves(directory, prefix, mode, rng):
    for name, node in sorted(directory.left(mode, rng).items()):
        path = f"{prefix}{name}"
        if isinstance(node, Directory):
            yield from leaves(node, f"{path}/", mode, rng)
        else:
            yield path, bytes(node.left(mode, rng))
