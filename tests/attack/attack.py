"""Attacks a server and looks at what becomes of it, of an honest client beside, and of its memory.

python attack.py --scale 10 [NAME ...]
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from attacks import ATTACKS
from doorstep import handshake
from hostile import Hostile
from support.server import Server, environment, wait_until
from support.tokens import key_settings

HERE = Path(__file__).parent
MIB = 1 << 20
# What a server may keep of an attack: pages that are half used, and tables that are not yet swept.
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
    # A key that the attackers have, too, so that their tokens are bad in one way only.
    "auth": {"keys": key_settings()[:1], "audience": ["chat"], "guests": "loopback"},
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
    "silent_sockets": {"http none", "http 503", "served again"},
    "slow_bodies": {"http 401", "http 408"},
    "slow_answers": {"cut off"},
    "injected_paths": {"http 400", "http 404", "http 431"},
    "forged_lines": {"http 200", "http 400", "http 401", "http 404"},
    "cross_site": {"http 403"},
    "rebound_names": {"error unauthenticated", "closed 4001"},
    "smuggled_requests": {"http 400", "http 403", "http 426", "http 101"},
    "bad_tokens": {"error unauthenticated", "closed 4001", "http 401"},
    "stolen_tickets": {"owner resumed True", "thief resumed False", "closed 4005"},
    "odd_rooms": {"error bad_room", "error forbidden", "error bad_envelope"},
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
    assert not (odd := lines_that_are_none(server)), f"{name} wrote to the log: {odd[:3]}"
    wait_until(lambda: memory(server) <= idle + SLACK, f"memory to return after {name}", 60)
    return {
        "seen": json.loads(out),
        "honest": report,
        "peak_mib": round((peak - idle) / MIB, 1),
        "left_mib": round((memory(server) - idle) / MIB, 1),
    }


def starve(directory):
    """More connections than a server has descriptors for, as with `ulimit -n 1024`.

    What becomes of whoever was there before, of whoever comes meanwhile, and of the server.
    """
    settings = {"rooms": [{"match": "honest/**", "log": "durable"}]}
    wrapper = ["prlimit", "--nofile=1024:1024"]
    server = Server(directory, settings, env=ENV, wrapper=wrapper).start()
    idle, honest, strangers = memory(server), Honest(server), []
    try:
        while "cannot accept connections" not in server.log():
            # The kernel accepts, whatever the server does; nobody waits for an answer.
            strangers.append(Hostile((server.host, server.port), head=False))
            strangers[-1].send(handshake((server.host, server.port)).encode())
        late = Hostile((server.host, server.port), head=False)
        late.send(f"GET /healthz HTTP/1.1\r\nHost: {server.address}\r\n\r\n".encode())
        before, began = cpu_s(server), time.monotonic()
        # A loop that spins shows in any second; there is nothing to wait for.
        time.sleep(2)
        share = (cpu_s(server) - before) / (time.monotonic() - began)
        report = honest.report()
        for stranger in strangers:
            stranger.drop()
        late.read()
        late.drop()
        wait_until(lambda: memory(server) <= idle + SLACK, "memory to return", 60)
        server.signal(signal.SIGTERM)
        return {
            "strangers": len(strangers),
            "share": share,
            "honest": report,
            "late": bytes(late.buffer[9:12]).decode(),
            "exit": server.wait(),
            "errors": {line["message"] for line in server.log_lines() if line["level"] == "ERROR"},
        }
    finally:
        server.kill()


def cpu_s(server):
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(server):
    """Resident memory in bytes, from the kernel: the server may be too busy to say it."""
    fields = Path(f"/proc/{server.process.pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


def lines_that_are_none(server):
    """What stands in the log and is not one whole line of the server's."""
    lines = server.log().split("\n")
    # The first lines are for people.
    start = next(n for n, line in enumerate(lines) if '"message":"started"' in line)
    return [line for line in lines[start:] if line and not is_line(line)]


def is_line(line):
    try:
        said = json.loads(line)
    except ValueError:
        return False
    return (
        line.isprintable()
        and {"timestamp", "level", "message"} <= set(said)
        and said["level"] != "ERROR"
    )


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
