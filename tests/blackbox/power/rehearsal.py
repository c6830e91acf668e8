"""Many power losses of one recorded run."""

import random
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from power.claims import Said, broken, kept
from power.disk import MODES, Disk


@dataclass
class Report:
    """What came of them."""

    moments: int
    losses: int = 0
    syncs: int = 0
    places: int = 0
    keys: int = 0
    wrong: list = None

    def __str__(self):
        return (
            f"{self.losses} power losses at {self.moments} moments, after {self.syncs} syncs and "
            f"with up to {self.places} publications and {self.keys} keys told of: "
            f"{len(self.wrong)} broke a promise"
        )


class Rehearsal:
    """A run: its events, and what was said in it, by the number of the event that said it.

    `data` is the data directory below `root`; `losses` is how many are rehearsed, which are drawn
    with `seed` from all moments and ways in which they can happen. `leave_out` drops events, as a
    server would that did not make them.
    """

    def __init__(self, root, data, events, claims, asked, leave_out=None):
        self.root, self.data, self.asked = root, data, asked
        self.claims = {}
        for number, claim in claims:
            self.claims.setdefault(number, []).append(claim)
        self.events = [
            (number, kind, call)
            for number, (kind, call) in enumerate(events)
            if not (leave_out and leave_out(call))
        ]

    def run(self, losses, seed, until=None, visit=None):
        """Rehearses so many, or fewer if `until` is found in what is wrong.

        `visit` is given each directory, before anybody opens it, and what was said.
        """
        rng = random.Random(seed)
        plan, moments = self._plan(losses, rng)
        report = Report(moments, wrong=[])
        disk, said = Disk(self.root), Said()
        with tempfile.TemporaryDirectory(dir=shared_memory()) as scratch:
            scratch = Path(scratch)
            for step, (number, kind, call) in enumerate(self.events):
                for mode in plan.get((step, "before"), ()):
                    self._lose(disk, said, mode, rng, scratch, step, report, visit)
                disk.event(kind, call)
                for claim in self.claims.get(number, ()):
                    if wrong := claim(said):
                        report.wrong.append(f"said at {number}: {wrong}")
                for mode in plan.get((step, "after"), ()):
                    self._lose(disk, said, mode, rng, scratch, step, report, visit)
                if until and any(until in wrong for wrong in report.wrong):
                    break
        report.syncs, report.places, report.keys = disk.syncs, len(said.places), len(said.keys)
        return report

    def _plan(self, losses, rng):
        """At which steps it is lost, and how; and at how many it could be."""
        disk, before, after = Disk(self.root), [], []
        for step, (number, kind, call) in enumerate(self.events):
            syncs = disk.syncs
            changed = disk.event(kind, call)
            if disk.syncs != syncs:
                # The last moment at which it counts that this was not synced yet: whoever was told
                # of something by now has been told too early if it is in here.
                before.append(step)
            if changed or number in self.claims:
                after.append(step)
        plan = {}
        for step in rng.sample(before, min(len(before), losses // 3)):
            plan.setdefault((step, "before"), []).append("none")
        rest = losses - len(plan)
        for _ in range(rest):
            plan.setdefault((rng.choice(after), "after"), []).append(rng.choice(MODES))
        return plan, len(before) + len(after)

    def _lose(self, disk, said, mode, rng, scratch, step, report, visit):
        seed = rng.getrandbits(32)
        directory = scratch / "data"
        image = disk.left(mode, random.Random(seed))
        restore(directory, image, self.data)
        report.losses += 1
        wrong = [
            f"{name} is not as it was"
            for name, content in said.files.items()
            if image.get(f"{self.data}/{name}") != content
        ]
        if visit:
            visit(directory, said)
        wrong += broken(said, kept(directory), self.asked)
        if wrong:
            where = f"step {step}, {mode}, {seed}"
            report.wrong.append(f"{where}: {'; '.join(wrong[:3])} ({len(wrong)} in all)")


def restore(directory, image, data):
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    for path, content in image.items():
        if path.startswith(data + "/"):
            (directory / path.removeprefix(data + "/")).write_bytes(content)


def shared_memory():
    """Where files cost nothing, if there is such a place."""
    place = Path("/dev/shm")
    return place if place.is_dir() else None
