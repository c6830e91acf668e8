"""The tour of README.md is true: what it types is sent, and what comes is what it shows."""

import re
import subprocess
from pathlib import Path

README = (Path(__file__).parents[2] / "README.md").read_text()
BLOCKS = re.findall(r"```console\n(.*?)```", README, re.S)


def matches(shown, text):
    """`…` in what is shown stands for anything."""
    pattern = ".*?".join(re.escape(part) for part in shown.split("…"))
    return re.fullmatch(pattern, text) is not None


def test_the_tour(start, peer):
    by_hand, by_curl = BLOCKS
    server = start()
    session = peer(server, subprotocol=None)
    for line in by_hand.splitlines()[1:]:
        mark, text = line[0], line[2:]
        if mark == ">":
            session.send_text(text)
        else:
            assert mark == "<"
            assert matches(text, got := session.receive().text), f"{text}\n{got}"
    command = None
    for line in by_curl.splitlines():
        if line.startswith("$ curl"):
            command = line[2:].replace("localhost:8080", server.address)
        elif not line.startswith("$"):
            env = {"KEY": server.api_key, "PATH": "/usr/bin:/bin"}
            done = subprocess.run(
                ["bash", "-c", command], env=env, capture_output=True, text=True, check=True
            )
            assert matches(line, done.stdout), f"{line}\n{done.stdout}"
    assert session.push("notice", "tour")["payload"] == "to a room"
    assert session.push("notice", "$all")["payload"] == "to everybody"
