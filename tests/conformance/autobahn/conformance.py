#!/usr/bin/env python3
"""Puts Clarion through Autobahn and compares the verdicts with expected.json.

  conformance.py server                 all 517 cases against `clarion serve --echo`
  conformance.py client                 all 517 against the client role of crates/websocket
  conformance.py client --part          those that `make test` runs
  conformance.py server --cases 1 6.4   some

Verdicts that are not plainly OK are listed in expected.json, each with its reason; any other fails
the run, and so does one that is listed and no longer comes, so that the list stays true. The
engine and its verdicts are those of run.py, see README.md.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
sys.path.insert(0, str(ROOT / "tests" / "blackbox"))

from support.server import Server, free_port  # noqa: E402

# What run.py counts as a pass, besides OK.
PASSES = ("NON-STRICT", "INFORMATIONAL")
# What a whole run has on beyond the defaults, which are for the part: contexts in both directions,
# and compression of messages of every size.
EVERYTHING = {"server_takeover": True, "client_takeover": True, "threshold_bytes": 0}
# Everything that takes seconds. Of the cases with compression, which send 1,000 messages each, some
# of every kind: small and large messages, each set of parameters.
PART = [
    *("1", "2", "3", "4", "5", "6", "7", "10"),
    *("9.1.4", "9.2.4", "9.3.5", "9.7.1", "9.8.1"),
    *("12.1.1", "12.1.5", "12.2.5", "12.3.3", "12.4.7", "12.5.11"),
    *("13.1.1", "13.2.5", "13.3.3", "13.4.3", "13.5.7", "13.6.5", "13.7.3"),
]
CLIENT = ROOT / "target" / "debug" / "examples" / "autobahn_client"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("role", choices=("server", "client"))
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--cases", nargs="+", metavar="PATTERN", help="only these")
    which.add_argument("--part", action="store_true", help="only what `make test` runs")
    parser.add_argument("--jobs", default="2", help="engine processes at once, for a server (2)")
    parser.add_argument("--client", type=Path, default=CLIENT, help="the program to test as client")
    parser.add_argument("--out", type=Path, help="where the reports go")
    args = parser.parse_args()
    args.out = args.out or ROOT / ".cache" / f"autobahn-{args.role}"
    if args.part:
        args.cases = PART
    report = {"server": test_server, "client": test_client}[args.role](args)
    return judge(args.role, report, json.loads((HERE / "expected.json").read_text())[args.role])


def test_server(args):
    with tempfile.TemporaryDirectory(prefix="clarion-autobahn-") as directory:
        # Cases of group 9 send for minutes on a slow machine; nobody is silent for that long.
        settings = {} if args.part else {"deflate": EVERYTHING}
        server = Server(directory, settings, echo=True).start()
        try:
            return run(args, server.ws("/echo"), "--jobs", args.jobs)
        finally:
            server.stop()


def test_client(args):
    return run(args, "--port", str(free_port()), after=["--", args.client])


def run(args, *words, after=()):
    command = [sys.executable, HERE / "run.py", args.role, *words, "--out", args.out]
    command += ["--no-unimplemented", "--timeout", "3600"]
    command += ["--cases", *args.cases] if args.cases else []
    venvs = os.environ.get("WS_AUTOBAHN_VENVS", str(ROOT / ".cache" / "autobahn"))
    env = {**os.environ, "WS_AUTOBAHN_VENVS": venvs}
    done = subprocess.run([*command, *after], env=env, check=False)
    if done.returncode not in (0, 1):
        sys.exit(done.returncode)
    return json.loads((args.out / "report.json").read_text())


def judge(role, report, expected):
    """Prints what differs from what is expected, and the closing line."""
    wrong = []
    listed = {case: verdict for verdict in PASSES for case in expected.get(verdict, {})}
    listed = {case: verdict for case, verdict in listed.items() if case in report["cases"]}
    for case, result in report["cases"].items():
        wanted, got = listed.get(case, "OK"), result["verdict"]
        if got != wanted:
            wrong.append(case)
            why = result.get("why") or ""
            print(f"{case}: {got}, expected {wanted} {why}", file=sys.stderr)
    wrong += report["missing"]
    line = f"autobahn-{role}: {report['selected'] - len(wrong)} passed, {len(wrong)} failed"
    print(line)
    # `make test` shows it again when everything is done.
    results = ROOT / ".cache" / "results"
    results.mkdir(parents=True, exist_ok=True)
    (results / f"autobahn-{role}").write_text(line + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
