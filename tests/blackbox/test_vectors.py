"""The scripted sessions of `spec/vectors/sessions`, with this runner as the clients.

What the steps mean is in `spec/vectors/README.md`.
"""

import copy
import json
import re
import time
from pathlib import Path

import pytest

from support.peer import ConnectionEnded
from support.session import ABSENT, SUBPROTOCOL
from support.tokens import own_token, token

FILES = sorted((Path(__file__).parents[2] / "spec" / "vectors" / "sessions").glob("*.json"))
SESSIONS = {
    f"{path.stem}:{session['name']}": session
    for path in FILES
    for session in json.loads(path.read_text())["sessions"]
}
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@pytest.mark.parametrize("name", SESSIONS)
def test_session(start, peer, name):
    session = SESSIONS[name]
    Run(start(settings(session["settings"])), peer).steps(session["steps"])


def settings(given):
    """As the server's configuration file has them."""
    result = copy.deepcopy(given)
    if "handshake" in result:
        result.setdefault("limits", {})["handshake"] = result.pop("handshake")
    for room in result.get("rooms", []):
        if "size" in room:
            # The vectors count publications; their bytes are not meant to matter.
            room["bytes"] = 256 << 20
    return result


class Run:
    """One session: its connections by name, and what its placeholders stand for."""

    def __init__(self, server, open_peer):
        self.server = server
        self.open_peer = open_peer
        self.peers = {}
        self.bound = {}
        self.count = None

    def steps(self, steps):
        for number, step in enumerate(steps, 1):
            try:
                self.step(step)
            except Exception as error:
                raise AssertionError(f"step {number}, {short(step)}: {error}") from error

    def step(self, step):
        if "repeat" in step:
            for self.count in range(1, step["repeat"] + 1):
                self.steps(step["steps"])
            self.count = None
        elif "server" in step:
            if step["server"] == "restart":
                self.server.stop()
            else:
                self.server.kill()
            self.server.start()
        elif "wait_ms" in step:
            time.sleep(step["wait_ms"] / 1000)
        else:
            [(verb, value)] = [(k, v) for k, v in step.items() if k not in ("at", "do")]
            getattr(self, verb)(step["at"], value)

    # Steps at one connection, by their names in the file

    def connect(self, at, value):
        offered = value["subprotocol"]
        assert offered in (None, SUBPROTOCOL)
        self.peers[at] = self.open_peer(
            self.server, subprotocol=offered, say_hello=False, receive_buffer=65_536
        )

    def send(self, at, envelope):
        self.peers[at].send_text(json.dumps(self.fill(envelope)))

    def receive(self, at, **timeout):
        """The next message, but for `$joined` of a session's own room: every session gets it."""
        while True:
            message = self.peers[at].receive(**timeout)
            own = message["metadata"].get("room", "").startswith("$user/")
            if not (own and message["type"] == "$joined"):
                return message

    def expect(self, at, expected):
        message = self.receive(at)
        assert self.match(expected, message), f"got {short(message)}"

    def expect_all(self, at, expected):
        expected = list(expected)
        for _ in range(len(expected)):
            message = self.receive(at)
            found = [one for one in expected if self.match(one, message)]
            assert found, f"got {short(message)}"
            expected.remove(found[0])

    def expect_run(self, at, run):
        run = self.fill(run)
        room, next_offset = run["room"], run["from"]
        while next_offset <= run["to"]:
            message = self.receive(at)
            metadata = message["metadata"]
            assert metadata.get("room") == room, f"got {short(message)}"
            if message["type"] == "$gap" and message["payload"]["reason"] in run.get("gaps", []):
                assert message["payload"]["offset"] >= next_offset
                next_offset = message["payload"]["offset"] + 1
                continue
            assert not message["type"].startswith("$"), f"got {short(message)}"
            place = (metadata["epoch"], metadata["offset"])
            assert place == (run["epoch"], next_offset), f"wanted {next_offset}, got {place}"
            next_offset += 1

    def skip_until(self, at, expected):
        while not self.match(expected, self.receive(at)):
            pass

    def skip_until_close(self, at, expected):
        assert self.peers[at].closed()[0] == expected["code"]

    def expect_nothing(self, at, _):
        try:
            message = self.receive(at, timeout=0.2)
        except TimeoutError:
            return
        raise AssertionError(f"got {short(message)}")

    def expect_close(self, at, expected):
        peer = self.peers[at]
        try:
            raise AssertionError(f"got {short(self.receive(at))}")
        except ConnectionEnded:
            assert peer.closed()[0] == expected["code"]

    def close(self, at, value):
        self.peers[at].close(value["code"])

    def drop(self, at, _):
        self.peers[at].drop()

    def reading(self, at, value):
        self.peers[at].reading = value

    # Placeholders

    def fill(self, value):
        """`value` with its placeholders replaced by what they stand for."""
        if isinstance(value, dict):
            return {key: self.fill(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.fill(inner) for inner in value]
        if not isinstance(value, str) or not value.startswith("<"):
            return value
        if value == "<n>":
            return self.count
        if value.startswith("<text:"):
            return "x" * int(value[len("<text:") : -1])
        if value == "<token:invalid>":
            return token(headers={}, key="another secret, also of 32 bytes or more")
        if value.startswith("<token:"):
            return own_token(self.server, value[len("<token:") : -1])
        return self.bound[value]

    def match(self, expected, actual):
        """Whether it matches; placeholders are bound only if all of it does."""
        bound = dict(self.bound)
        if self.matches(expected, actual, bound):
            self.bound = bound
            return True
        return False

    def matches(self, expected, actual, bound):
        if isinstance(expected, dict):
            return isinstance(actual, dict) and all(
                self.matches(inner, actual.get(name, ABSENT), bound)
                for name, inner in expected.items()
            )
        if isinstance(expected, list):
            return (
                isinstance(actual, list)
                and len(actual) == len(expected)
                and all(self.matches(e, a, bound) for e, a in zip(expected, actual, strict=True))
            )
        if not isinstance(expected, str) or not expected.startswith("<"):
            return type(actual) is type(expected) and actual == expected
        if expected == "<absent>":
            return actual is ABSENT
        if expected == "<string>":
            return isinstance(actual, str)
        if expected == "<integer>":
            return type(actual) is int
        if expected == "<instant>":
            return isinstance(actual, str) and INSTANT.fullmatch(actual) is not None
        if expected == "<n>" or expected.startswith("<text:"):
            return actual == self.fill(expected)
        # `<client:x>`, `<epoch:x>`, `<ticket:x>`: the first time any value that is nobody else's.
        kind = expected.split(":")[0]
        others = [v for name, v in bound.items() if name != expected and name.startswith(kind)]
        return (
            isinstance(actual, str)
            and bool(actual)
            and actual not in others
            and bound.setdefault(expected, actual) == actual
        )


def short(value):
    text = json.dumps(value, default=str)
    return text if len(text) < 400 else text[:400] + "..."
