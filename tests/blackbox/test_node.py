"""The server as npm's `ws` sees it: the tests of node/, run by Node's own runner."""

import os
import subprocess
from pathlib import Path

NODE = Path(__file__).parent / "node"


def test_ws(server):
    done = subprocess.run(
        ["node", "--test", "--test-reporter=spec"],
        cwd=NODE,
        env={**os.environ, "CLARION_URL": server.ws("")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
