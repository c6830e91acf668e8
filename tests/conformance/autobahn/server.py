#!/usr/bin/env python3
"""Puts `clarion serve --echo` through Autobahn and compares the verdicts with expected.json.

  server.py                    everything that applies
  server.py --groups 1 2 7     some groups

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

from support.server import Server  # noqa: E402

# What run.py counts as a pass, besides OK.
PASSES = ("NON-STRICT", "INFORMATIONAL")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--groups", nargs="+", metavar="GROUP", help="only these")
    parser.add_argument("--jobs", default="2", help="engine processes at once (2)")
    parser.add_argument("--out", type=Path, default=ROOT / ".cache" / "autobahn-server")
    args = parser.parse_args()
    expected = json.loads((HERE / "expected.json").read_text())

    with tempfile.TemporaryDirectory(prefix="clarion-autobahn-") as directory:
        # Cases of group 9 send for minutes on a slow machine; nobody is silent for that long.
        server = Server(directory, echo=True).start()
        try:
            report = run(server, args, expected["excluded"])
        finally:
            server.stop()
    return judge(report, expected)


def run(server, args, excluded):
    command = [sys.executable, HERE / "run.py", "server", server.ws("/echo")]
    command += ["--out", args.out, "--jobs", args.jobs]
    command += ["--cases", *args.groups] if args.groups else ["--exclude", *excluded]
    venvs = os.environ.get("WS_AUTOBAHN_VENVS", str(ROOT / ".cache" / "autobahn"))
    done = subprocess.run(command, env={**os.environ, "WS_AUTOBAHN_VENVS": venvs}, check=False)
    if done.returncode not in (0, 1):
        sys.exit(done.returncode)
    return json.loads((args.out / "report.json").read_text())


def judge(report, expected):
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
    line = f"autobahn: {report['selected'] - len(wrong)} passed, {len(wrong)} failed"
    print(line)
    # `make test` shows it again when everything is done.
    results = ROOT / ".cache" / "results"
    results.mkdir(parents=True, exist_ok=True)
    (results / "autobahn").write_text(line + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
