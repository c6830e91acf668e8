"""What README.md and docs/http.md type is sent, and what comes is what they show."""

import re
import signal
import subprocess
from pathlib import Path

from support.server import BINARY, PATIENCE_S

ROOT = Path(__file__).parents[2]


def blocks(path):
    return re.findall(r"```console\n(.*?)```", (ROOT / path).read_text(), re.S)


def matches(shown, text):
    """`…` in what is shown stands for anything."""
    pattern = ".*?".join(re.escape(part) for part in shown.split("…"))
    return re.fullmatch(pattern, text) is not None


def type_commands(server, lines):
    """Types what begins with `$` into a shell, and compares what comes with the line below."""
    functions, command = "", None
    for line in lines:
        if line.startswith("$ "):
            command = line[2:].replace("localhost:8080", server.address)
            if command.startswith("api() "):
                functions = command
        elif line:
            env = {"KEY": server.api_key, "PATH": "/usr/bin:/bin"}
            done = subprocess.run(
                ["bash", "-c", f"{functions}\n{command}"],
                env=env,
                capture_output=True,
                text=True,
                check=True,
            )
            assert matches(line, done.stdout), f"{command}\n{line}\n{done.stdout}"


def test_the_tour(start, peer):
    by_hand, by_curl, by_shell = blocks("README.md")
    server = start()
    session = peer(server, subprotocol=None)
    for line in by_hand.splitlines()[1:]:
        mark, text = line[0], line[2:]
        if mark == ">":
            session.send_text(text)
        else:
            assert mark == "<"
            assert matches(text, got := session.receive().text), f"{text}\n{got}"
    type_commands(server, by_curl.splitlines())
    assert session.push("notice", "tour")["payload"] == "to a room"
    assert session.push("notice", "$all")["payload"] == "to everybody"
    in_a_shell(server, by_shell.splitlines())


def in_a_shell(server, lines):
    """Types a `pub`, and a `sub` that prints one line and is then interrupted."""
    commands = [line[2:].replace("localhost:8080", server.address) for line in lines[:2]]
    publish, subscribe = (
        ["bash", "-c", f"exec {line.replace('target/release/clarion', str(BINARY))}"]
        for line in commands
    )
    env = {"PATH": "/usr/bin:/bin"}
    subprocess.run(publish, env=env, check=True)
    with subprocess.Popen(subscribe, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == lines[2] + "\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 0


def test_the_http_api_by_example(start):
    lines = "\n".join(blocks("docs/http.md")).splitlines()
    assert sum(line.startswith("$ api ") for line in lines) > 15
    type_commands(start(), lines)
