"""Attacks a server and looks at what becomes of it, of an honest client beside, and of its memory.

python attack.py --scale 10 [NAME ...]
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from attacks import ATTACKS

from support.server import Server, environment, wait_until

HERE = Path(__file__).parent
MIB = 1 << 20
# What a server may keep of an attack: pages that are half used, and tables that do not shrink.
SLACK = 12 * MIB
SETTINGS = {
    "limits": {
        # So that an attack ends; everything else is as it is by default.
        "handshake": "2s",
        "slow_grace": "1s",
        "violations_per_min": 200,
        "close": "1s",
        "http_connections": 250,
    },
    "session": {"ttl": "2s"},
    "rooms": [{"match": "**", "age": "3s", "key_window": "3s"}],
}
# Freed memory goes back at once, so that what is left is what is held.
ENV = {"MIMALLOC_PURGE_DELAY": "0"}

# What each attacker may have seen; more than this is news. `open`: nothing was wrong with it.
# `lost`: closed while it went on sending, so that the kernel answered with a reset and the reason
# is gone.
EXPECTED = {
    "ping_flood": {"closed 4108", "lost"},
    "close_flood": {"closed 1000"},
    "empty_fragments": {"closed 1009"},
    "one_byte_frames": {"$reply", "closed 1009"},
    "largest_messages": {"$reply", "closed 1009"},
    "announced_giants": {"closed 1009"},
    "bombs": {"closed 1009"},
    "small_bombs": {"$welcome", "$joined", "error bad_envelope", "error rate_limited"},
    "broken_messages": {"closed 4004", "closed 4129", "closed 1007", "lost"},
    "forged_tickets": {
        "$welcome",
        "$joined",
        "closed 4001",
        "closed 1009",
        "error bad_envelope",
        "error bad_request",
    },
    "history_flood": {"closed 4108", "closed 4129", "lost"},
    "join_flood": {"closed 4129", "closed 4108", "lost"},
    "state_flood": {"closed 4129", "closed 4108", "lost"},
    "key_flood": {"closed 4129", "closed 4108", "lost"},
    "many_rooms": {"$welcome", "$joined", "error rate_limited", "error forbidden", "closed 1009"},
    "vanishing": {"$welcome", "$joined"},
    "deaf_members": {"open"},
    "slow_frames": {"open"},
    "slow_heads": {"http 408", "http 503", "http none"},
    "garbage": {"http 400", "http none"},
    "guessed_keys": {"http 401"},
}


class Honest:
    """The honest client, in a process of its own."""

    def __init__(self, server):
        self.process = python("honest.py", server, stdin=subprocess.PIPE)
        assert self.process.stdout.readline() == "ready\n", self.process.stderr.read()

    def report(self):
        out, error = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, f"the honest client was not served:\n{error[-3000:]}"
        return json.loads(out)


def python(program, server, *args, **options):
    arguments = args if program == "attacks.py" else ()
    name, *rest = arguments or (None,)
    return subprocess.Popen(
        [
            sys.executable,
            HERE / program,
            *([name] if name else []),
            server.host,
            str(server.port),
            *rest,
        ],
        env=environment({"PYTHONPATH": f"{HERE}:{HERE.parent / 'blackbox'}"}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def start(directory):
    server = Server(directory, SETTINGS, env=ENV).start()
    # What is made once, by the first who comes, is no leak.
    quiet(server, 40)
    return server


def quiet(server, count):
    """How an honest client fares when nobody attacks."""
    honest = Honest(server)
    before = server.metric("clarion_publications_total")
    wait_until(
        lambda: server.metric("clarion_publications_total") >= before + count, "publications", 120
    )
    return honest.report()


def run(server, name, scale):
    """One attack: what the attacker saw, how the honest client fared, and how memory went."""
    idle = memory(server)
    honest = Honest(server)
    attacker = python("attacks.py", server, name, str(scale))
    peak = idle
    while attacker.poll() is None:
        peak = max(peak, memory(server))
        try:
            attacker.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
    out, error = attacker.communicate()
    assert attacker.returncode == 0, f"the attacker failed:\n{error[-3000:]}"
    report = honest.report()
    wait_until(lambda: memory(server) <= idle + SLACK, f"memory to return after {name}", 60)
    return {
        "seen": json.loads(out),
        "honest": report,
        "peak_mib": round((peak - idle) / MIB, 1),
        "left_mib": round((memory(server) - idle) / MIB, 1),
    }


def memory(server):
    return server.metric("process_resident_memory_bytes")


def judge(name, seen):
    """What the attacker saw that it should not have."""
    return sorted(set(seen) - EXPECTED[name])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=int, default=10)
    parser.add_argument("names", nargs="*", default=list(ATTACKS))
    args = parser.parse_args()
    bad = 0
    with tempfile.TemporaryDirectory() as directory:
        server = start(Path(directory) / "server")
        try:
            print("| attack | the attacker saw | p99 quiet | p99 attacked, of | MiB: peak, left |")
            print("|---|---|---|---|---|")
            for name in args.names:
                calm = quiet(server, 200)
                result = run(server, name, args.scale)
                seen = ", ".join(f"{what} ({n})" for what, n in sorted(result["seen"].items()))
                print(
                    f"| {name} | {seen} | {calm['p99_ms']} ms |"
                    f" {result['honest']['p99_ms']} ms, {result['honest']['sent']} |"
                    f" {result['peak_mib']}, {result['left_mib']} |",
                    flush=True,
                )
                if unexpected := judge(name, result["seen"]):
                    bad += 1
                    print(f"  unexpected: {unexpected}", file=sys.stderr)
        finally:
            server.stop()
    print(f"attacks: {len(args.names) - bad} passed, {bad} failed")
    return bad > 0


if __name__ == "__main__":
    sys.exit(main())
