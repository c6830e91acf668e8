"""The protocol's client side, over whatever carries text: what both kinds of client share."""

import json
import time
from collections import deque
from itertools import count

SUBPROTOCOL = "clarion.v1.json"
PATIENCE_S = 20
# Stands for a member that is left out; `None` is JSON's null.
ABSENT = object()


class Refused(Exception):
    """A command was answered with `$error`; `error` is its payload."""

    def __init__(self, error):
        super().__init__(f"{error['code']} {error['name']}: {error}")
        self.error = error


class Message(dict):
    """A message as it was decoded, and `text`, as it came."""

    def __init__(self, text):
        super().__init__(json.loads(text))
        self.text = text

    @property
    def payload_text(self):
        """The bytes of the payload: the server writes type, payload, metadata in this order."""
        start = self.text.index('"payload":') + len('"payload":')
        return self.text[start : self.text.rindex(',"metadata":')]


class Session:
    """Sends commands and sorts what comes: replies by id, everything else in its order.

    A subclass has `send_text`, `read_text(timeout)` and `close()`.
    """

    def __init__(self):
        self.ids = count(1)
        # Read, but not yet asked for.
        self.inbox = deque()
        self.welcome = None

    # Sending

    def send(self, kind, payload=ABSENT, **metadata):
        envelope = {"type": kind, "metadata": metadata}
        if payload is not ABSENT:
            envelope["payload"] = payload
        self.send_text(json.dumps(envelope))

    def request(self, kind, payload=ABSENT, **metadata):
        """Sends a command and waits for its answer: the payload of the `$reply`."""
        return self.answer(self.ask(kind, payload, **metadata))

    def ask(self, kind, payload=ABSENT, **metadata):
        """Sends a command with an id and does not wait: the id."""
        # Not the caller's numbers: a test may choose ids itself.
        id = metadata.pop("id", None) or f"request-{next(self.ids)}"
        self.send(kind, payload, id=id, **metadata)
        return id

    def answer(self, id):
        message = self.until(lambda m: m["metadata"].get("id") == id, f"the answer to {id}")
        if message["type"] == "$error":
            raise Refused(message["payload"])
        assert message["type"] in ("$reply", "$pong", "$welcome"), message
        return message["payload"]

    def refused(self, kind, payload=ABSENT, **metadata):
        """Sends a command that has to fail: the payload of the `$error`."""
        try:
            reply = self.request(kind, payload, **metadata)
        except Refused as refused:
            return refused.error
        raise AssertionError(f"{kind} {payload} worked: {reply}")

    # Receiving

    def receive(self, timeout=PATIENCE_S):
        """The next message."""
        return self.inbox.popleft() if self.inbox else self._read(timeout)

    def until(self, wanted, what, timeout=PATIENCE_S):
        """The next message that is `wanted`; the others stay for later, in their order."""
        for index, message in enumerate(self.inbox):
            if wanted(message):
                del self.inbox[index]
                return message
        deadline = time.monotonic() + timeout
        while True:
            try:
                message = self._read(deadline - time.monotonic())
            except TimeoutError:
                seen = "\n".join(map(str, list(self.inbox)[-20:]))
                raise AssertionError(
                    f"waited in vain for {what}; in between came:\n{seen}"
                ) from None
            if wanted(message):
                return message
            self.inbox.append(message)

    def push(self, kind, room=None, timeout=PATIENCE_S):
        """The next message of this type, in this room."""

        def wanted(message):
            in_room = room is None or message["metadata"].get("room") == room
            return message["type"] == kind and in_room

        return self.until(wanted, f"{kind} in {room}", timeout)

    def publications(self, room, count, timeout=PATIENCE_S):
        """The next so many publications of a room, in the order they came in."""

        def wanted(message):
            return not message["type"].startswith("$") and message["metadata"].get("room") == room

        what = f"{count} publications in {room}"
        return [self.until(wanted, what, timeout) for _ in range(count)]

    def fence(self):
        """Returns when everything is read that the server had queued for this connection."""
        id = self.ask("$ping")
        self.until(lambda m: m["type"] == "$pong" and m["metadata"].get("id") == id, "$pong")

    def nothing_of(self, *kinds):
        """Checks that none of these came up to now."""
        self.fence()
        found = [m for m in self.inbox if m["type"] in kinds]
        assert not found, found

    def _read(self, timeout):
        text = self.read_text(max(timeout, 0))
        message = Message(text)
        # The server always sends all three members, and nothing else.
        assert list(message) == ["type", "payload", "metadata"], text
        return message

    # What nearly every test does

    def hello(self, **payload):
        self.welcome = self.request("$hello", payload)
        self.client = self.welcome["client"]
        return self.welcome

    def join(self, room, **payload):
        return self.request("$join", payload, room=room)

    def publish(self, room, payload=ABSENT, kind="m", **metadata):
        return self.request(kind, payload, room=room, **metadata)
