"""What a hostile or broken client does on a connection. `doorstep.py` has what it does before.

Each attack says what became of it, and judges nothing. It runs in a process of its own, so that an
honest client beside it is slowed down by the server and by nothing else:

    python attacks.py ping_flood 127.0.0.1 8080 1
"""

import base64
import contextlib
import json
import os
import struct
import sys
import time
import zlib
from collections import Counter

import doorstep  # noqa: F401 (its attacks are in the list)
from hostile import ATTACKS, PATIENCE_S, Hostile, attack, ends, hostiles, named, text
from support.peer import BINARY, CLOSE, CONTINUATION, PING, TEXT, encode
from support.tokens import token

# Frames


@attack
def ping_flood(target, scale):
    """Pings as fast as they go, whose Pongs nobody reads."""
    connections = hostiles(target, 4, receive_buffer=4096)
    pings = encode(PING, b"x" * 125) * 500
    for connection in connections:
        connection.socket.settimeout(5)
    for _ in range(20 * scale):
        for connection in connections:
            connection.send(pings)
    return ends(connections)


@attack
def close_flood(target, scale):
    """Connections that are opened to be closed."""
    seen = Counter()
    for _ in range(150 * scale):
        connection = Hostile(target)
        connection.frame(CLOSE, struct.pack("!H", 1000))
        seen[connection.end()] += 1
    return seen


@attack
def empty_fragments(target, scale):
    """A message that goes on for ever and says nothing."""
    seen = Counter()
    for _ in range(5 * scale):
        connection = Hostile(target)
        connection.frame(TEXT, fin=False)
        connection.send(encode(CONTINUATION, fin=False) * 5_000)
        seen[connection.end()] += 1
    return seen


@attack
def one_byte_frames(target, scale):
    """Messages in as many frames as may be, and in one more."""
    seen = Counter()
    rest = 1024 - len(text("m", "", room="attack/bytes", id=1))
    whole = text("m", "x" * rest, room="attack/bytes", id=1)
    for _ in range(5 * scale):
        connection = Hostile(target)
        connection.answers(1)
        pieces = [whole[n : n + 1] for n in range(len(whole))]
        for over in (False, True):
            parts = [*pieces, b" "] if over else pieces
            frames = [encode(TEXT, parts[0], fin=False)]
            frames += [encode(CONTINUATION, part, fin=False) for part in parts[1:-1]]
            frames.append(encode(CONTINUATION, parts[-1]))
            connection.send(b"".join(frames))
            if not over:
                seen.update(named(connection.answers(1)))
        seen[connection.end()] += 1
    return seen


@attack
def largest_messages(target, scale):
    """Messages of exactly the limit, and of one byte more."""
    seen, limit = Counter(), 65_536
    rest = limit - len(text("m", "", room="attack/large", id=1))
    for _ in range(5 * scale):
        connection = Hostile(target)
        connection.answers(1)
        connection.say("m", "x" * rest, room="attack/large", id=1)
        seen.update(named(connection.answers(1)))
        connection.say("m", "x" * (rest + 1), room="attack/large", id=1)
        seen[connection.end()] += 1
    return seen


@attack
def announced_giants(target, scale):
    """Frames that say they are as long as a frame can be."""
    seen = Counter()
    for n in range(20 * scale):
        connection = Hostile(target)
        connection.frame(BINARY if n % 2 else TEXT, b"x" * 100, length_size=9, length=(1 << 62) + n)
        seen[connection.end()] += 1
    return seen


def deflated(data):
    squeezer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (squeezer.compress(data) + squeezer.flush(zlib.Z_SYNC_FLUSH))[:-4]


@attack
def bombs(target, scale):
    """A message of 60 KB that inflates to 60 MB."""
    seen, bomb = Counter(), deflated(b" " * 60_000_000)
    for _ in range(5 * scale):
        connection = Hostile(target, deflate=True)
        connection.frame(TEXT, bomb, rsv=4)
        seen[connection.end()] += 1
    return seen


@attack
def small_bombs(target, scale):
    """Messages that inflate to just what a message may have: a thousand times what they cost."""
    seen = Counter()
    bomb = encode(TEXT, deflated(b" " * 65_500 + b"{}"), rsv=4)
    connections = hostiles(target, 4, deflate=True)
    for connection in connections:
        connection.socket.settimeout(1)
        connection.send(bomb * 1_000 * scale)
    for connection in connections:
        seen.update(set(named(connection.answers(1_000, timeout=1))))
        connection.drop()
    return seen


# Messages


@attack
def broken_messages(target, scale):
    """JSON that is none, or too much of it."""
    broken = [
        b"[" * 60_000,
        b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        b'{"type":"m","type":"m"}',
        b'{"type":"\\ud800"}',
        b'{"type":"m","metadata":{"room":"a","id":' + b"9" * 60_000 + b"}}",
        b'{"type":"m","metadata":{"room":"a/../b","id":1}}',
        b'{"type":"$join","payload":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
        b'{"type":"m","metadata":{"room":"\\u0000"}}',
        b"\xef\xbb\xbf{}",
        b"null",
        b"",
    ]
    seen = Counter()
    for n in range(4 * scale):
        connection = Hostile(target)
        connection.answers(1)
        for k in range(2_000):
            connection.frame(TEXT, broken[(n + k) % len(broken)])
            if connection.ended:
                break
        seen[connection.end()] += 1
    return seen


# Who somebody is


def secret(sub="eve", **claims):
    """A token as the operator's back end makes them, so that it is bad in one way only."""
    return token(sub, **{"aud": "chat", **claims})


@attack
def bad_tokens(target, scale):
    """Tokens that are bad in one way each, in `$hello` and in the handshake."""
    now = int(time.time())
    head, body, signature = secret().split(".")
    none = base64.urlsafe_b64encode(b'{"alg":"none","kid":"HS256"}').decode().rstrip("=")
    bad = [
        f"{none}.{body}.",
        f"{none}.{body}.{signature}",
        f"{head}.{body}.",
        f"{head}.{body}.{signature[::-1]}",
        secret(alg="HS512", headers={"kid": "HS256"}),
        secret(key="x" * 32),
        secret(headers={"kid": "../../dev/null"}),
        secret(headers={"kid": "HS256\n' OR 1=1"}),
        secret(exp=now - 3_600),
        secret(exp=None),
        secret(nbf=now + 3_600),
        secret(aud="other"),
        secret("guest:ada"),
        secret("../ada"),
        secret(info={"x": "y" * 9_000}),
        "",
        "a.b.c",
        "." * 30_000,
    ]
    seen = Counter()
    for text_of_token in bad * scale:
        connection = Hostile(target, hello=False)
        connection.say("$hello", {"token": text_of_token})
        seen.update(named(connection.answers(9)))
        seen[connection.ended or "open"] += 1
        connection.drop()
        if len(text_of_token) < 15_000:
            more = f"Authorization: Bearer {text_of_token}\r\n"
            connection = Hostile(target, hello=False, more=more, subprotocol=False)
            seen[connection.ended or "open"] += 1
            connection.drop()
    return seen


@attack
def stolen_tickets(target, scale):
    """A ticket that is used by several, by somebody else, altered, and when its time is over."""
    seen = Counter()

    def use(ticket, **hello):
        connection = Hostile(target, hello=False)
        connection.say("$hello", {"ticket": ticket, **hello})
        welcome, *_ = connection.answers(1)
        return connection, welcome["payload"]

    for _ in range(scale):
        owner, welcome = use("", token=secret("owner"))
        ticket, used = welcome["ticket"], [owner]
        for _ in range(20):
            connection, welcome = use(ticket)
            seen[f"{welcome['user']} resumed {welcome['resumed']}"] += 1
            used.append(connection)
        # Each one shut the one before it out, the owner first: nobody listens unnoticed.
        seen.update(connection.end() for connection in used[:-1])
        for altered in (ticket[:-1], ticket[1:], ticket.swapcase(), ticket + "A", ticket * 2):
            connection, welcome = use(altered, token=secret("thief"))
            seen[f"{welcome['user']} resumed {welcome['resumed']}"] += 1
            connection.drop()
        connection, welcome = use(ticket, token=secret("thief"))
        seen[f"{welcome['user']} resumed {welcome['resumed']}"] += 1
        connection.drop()
        used[-1].drop()
        deadline = time.monotonic() + PATIENCE_S
        while welcome["resumed"] or welcome["user"] == "owner":
            assert time.monotonic() < deadline, "the ticket never expires"
            time.sleep(0.5)
            connection, welcome = use(ticket, token=secret("thief"))
            connection.drop()
    return seen


@attack
def odd_rooms(target, scale):
    """Names that might be taken for the one room that a token opens, and are not."""
    names = [
        "Board/1",
        "BOARD/1",
        "board",
        "board/",
        "board/1/",
        "board//1",
        "/board/1",
        "board/..",
    ]
    names += [
        "board/./1",
        "board/x/../1",
        "../board/1",
        "board%2F1",
        "board%2f1",
        "board\\1",
        "$all",
    ]
    names += ["$board/1", "$user/owner", "$user/../owner", "$group/staff", "$client/x", "board/1\0"]
    names += [
        "board/1\n",
        " board/1",
        "board/1 ",
        "board/*",
        "**",
        "*",
        "bo\u00e4rd/1",
        "b\u043eard/1",
    ]
    names += ["board\uff0f1", "board/\u0661", "board/1\u200b", "\u202eboard/1", "bo\u0430rd/1"]
    names += ["board/" + "1" * 200, "", "secret/1?board/1", "board;/1", "board/1#", "ſecret/1"]
    seen = Counter()
    listed = secret(rooms={"board/2": ["join", "publish", "history", "members", "state"]})
    for name in names * scale:
        connection = Hostile(target, hello=False)
        connection.say("$hello", {"token": listed})
        connection.answers(2)
        for n, kind in enumerate(["$join", "m", "$history", "$members", "$state"]):
            connection.say(kind, {"limit": 1}, room=name, id=n)
        seen.update(named(connection.answers(5)))
        connection.drop()
    return seen


@attack
def forged_tickets(target, scale):
    """Tickets that were never issued, and tokens that nobody signed."""
    seen = Counter()
    for n in range(8 * scale):
        for bad in (
            {"ticket": base64.urlsafe_b64encode(os.urandom(90)).decode().rstrip("=")},
            {"ticket": "x" * (n % 40 * 700)},
        ):
            connection = Hostile(target, hello=False)
            connection.say("$hello", bad)
            welcome = connection.answers(1)
            if welcome and welcome[0]["type"] == "$welcome":
                assert welcome[0]["payload"]["resumed"] is False
            seen.update(named(welcome))
            connection.drop()
        header = base64.urlsafe_b64encode(b'{"alg":"none"}').decode().rstrip("=")
        claims = base64.urlsafe_b64encode(b'{"sub":"root","exp":9999999999}').decode().rstrip("=")
        connection = Hostile(target, hello=False)
        connection.say("$hello", {"token": f"{header}.{claims}."})
        seen[connection.end()] += 1
    return seen


# What is asked for


def pipelined(target, scale, commands, count=4, rounds=20, reads=False, **options):
    """Many commands at once from several connections, over and over."""
    connections = hostiles(target, count, **options)
    block = b"".join(encode(TEXT, command) for command in commands)
    for connection in connections:
        connection.socket.settimeout(0.5)
    for _ in range(rounds * scale):
        for connection in connections:
            connection.send(block)
            if reads and connection.ended is None:
                with contextlib.suppress(OSError):
                    connection.socket.settimeout(0.01)
                    connection.socket.recv(1 << 20)
                    connection.socket.settimeout(0.5)
    for connection in connections:
        connection.ended = None
        connection.socket.settimeout(PATIENCE_S)
    return ends(connections)


@attack
def history_flood(target, scale):
    """Pages of history, as large as they come, which nobody reads."""
    connection = Hostile(target)
    for _ in range(50):
        connection.say("m", "x" * 60_000, room="attack/history", id=1)
    connection.answers(50)
    connection.drop()
    asks = [text("$history", {"limit": 1000}, room="attack/history", id=n) for n in range(100)]
    return pipelined(target, scale, asks, receive_buffer=4096)


@attack
def join_flood(target, scale):
    """In and out of rooms, without end."""
    commands = []
    for n in range(100):
        commands.append(text("$join", {"members": True}, room=f"attack/join/{n}", id=n))
        commands.append(text("$leave", room=f"attack/join/{n}", id=n))
    return pipelined(target, scale, commands)


@attack
def state_flood(target, scale):
    """Presence that changes all the time, in a room that is told."""
    commands = [text("$join", {"members": True}, room="attack/state")]
    commands += [text("$state", "x" * 1_000, room="attack/state", id=n) for n in range(100)]
    return pipelined(target, scale, commands)


@attack
def key_flood(target, scale):
    """Publications with a key each, to rooms that are new each time."""
    commands = [
        text("m", "x", room=f"attack/keys/{os.urandom(6).hex()}", key="k" * 60, id=n)
        for n in range(200)
    ]
    return pipelined(target, scale, commands)


@attack
def many_rooms(target, scale):
    """A `$hello` that wants as many rooms as fit into a message."""
    seen = Counter()
    rooms = {f"attack/{n}": {"last": 100, "members": True} for n in range(1_000)}
    for _ in range(5 * scale):
        connection = Hostile(target, hello=False)
        connection.say("$hello", {"rooms": rooms})
        seen.update(set(named(connection.answers(1_001))))
        connection.drop()
    return seen


@attack
def vanishing(target, scale):
    """Sessions that join what they may and are gone without a word."""
    seen = Counter()
    for n in range(60 * scale):
        connection = Hostile(target, hello=False)
        rooms = {f"attack/vanish/{n}/{k}": {"members": True} for k in range(100)}
        connection.say("$hello", {"rooms": rooms})
        seen.update(set(named(connection.answers(101))))
        connection.drop()
    return seen


@attack
def deaf_members(target, scale):
    """Members of a busy room who never read."""
    connections = hostiles(target, 8, hello=False, receive_buffer=4096)
    for connection in connections:
        connection.say("$hello", {"rooms": {"attack/deaf": {}}})
    speaker = Hostile(target)
    for _ in range(10 * scale):
        for n in range(20):
            speaker.say("m", os.urandom(20_000).hex(), room="attack/deaf", id=n)
        speaker.answers(20)
    speaker.drop()
    for connection in connections:
        connection.drop()
    return Counter(connection.ended or "open" for connection in connections)


# Slowness


@attack
def slow_frames(target, scale):
    """Frames that come by the byte."""
    connections = hostiles(target, 100)
    # Nothing is wrong with what has come of it, so that nobody is closed for that.
    frame = encode(TEXT, b"{" * 60_000)
    for connection in connections:
        connection.send(frame[:100])
    for n in range(100, 100 + 20 * scale):
        for connection in connections:
            connection.send(frame[n : n + 1])
        time.sleep(0.02)
    for connection in connections:
        connection.drop()
    return Counter(connection.ended or "open" for connection in connections)


def main(name, host, port, scale):
    print(json.dumps(ATTACKS[name]((host, int(port)), int(scale))))


if __name__ == "__main__":
    main(*sys.argv[1:])
