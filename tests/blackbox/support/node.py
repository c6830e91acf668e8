"""Runs the tests of `node/`, by Node's own runner."""

import os
import subprocess
from pathlib import Path

NODE = Path(__file__).parent.parent / "node"


def run_node(server, *files, **environment):
    """All of them, or those in `files`, against a server. They have to pass."""
    done = subprocess.run(
        ["node", "--test", "--test-reporter=spec", *files],
        cwd=NODE,
        env={**os.environ, "CLARION_URL": server.ws(""), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
