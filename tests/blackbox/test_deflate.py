"""Compression (RFC 7692): what is agreed to, and that every frame keeps to it."""

import itertools
import json
import random
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.sync.client import connect

from support.peer import BINARY, CONTINUATION, PING, PONG, TEXT, encode
from support.server import Server
from support.wire import RSV1, TAIL, Wire, inflate

BITS = range(9, 16)
TAKEOVER = {"deflate": {"server_takeover": True, "client_takeover": True}}
OUT = 'clarion_deflate_messages_total{direction="out"}'


@pytest.fixture(scope="module")
def generous(tmp_path_factory):
    """A server that allows context takeover."""
    server = Server(tmp_path_factory.mktemp("generous"), TAKEOVER, echo=True)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def wire():
    """Opens connections made by hand, and closes them."""
    opened = []

    def wire(*args, **kwargs):
        opened.append(Wire(*args, **kwargs))
        return opened[-1]

    yield wire
    for one in opened:
        one.close()


def far(seed):
    """Text whose parts come again at all distances up to the largest window, so that whoever
    compresses it with too large a window refers too far back."""
    noise = random.Random(seed)
    text = "".join(noise.choices("0123456789abcdef", k=33_000))
    parts = [
        text[-distance : -distance + 60] for distance in (100, 600, 1500, 3000, 7000, 15000, 31000)
    ]
    return (text + "".join(parts)).encode()


def test_the_inflater_of_these_tests_refuses_what_reaches_too_far():
    for bits in range(9, 15):
        deflater = zlib.compressobj(9, wbits=-(bits + 1))
        data = deflater.compress(far(1)) + deflater.flush(zlib.Z_SYNC_FLUSH)
        with pytest.raises(zlib.error, match="too far back"):
            inflate(zlib.decompressobj(wbits=-bits), data)
        assert inflate(zlib.decompressobj(wbits=-(bits + 1)), data) == far(1)


def offers():
    server = [None, *BITS]
    client = [None, "", *BITS]
    for bits, no_takeover in itertools.product(server, [False, True]):
        yield bits, None, no_takeover, False
    for bits, no_takeover in itertools.product(client, [False, True]):
        yield None, bits, False, no_takeover
    yield from [(9, 9, True, True), (12, 10, False, False), (15, 15, False, True)]


# [7.deflate]
@pytest.mark.parametrize("which", ["server", "generous"])
@pytest.mark.parametrize("offer", list(offers()), ids=str)
def test_every_combination_of_parameters_is_kept_to(request, wire, which, offer):
    server_bits, client_bits, server_no_takeover, client_no_takeover = offer
    text = "permessage-deflate"
    if server_bits is not None:
        text += f"; server_max_window_bits={server_bits}"
    if client_bits is not None:
        text += "; client_max_window_bits" + (f"={client_bits}" if client_bits else "")
    text += "; server_no_context_takeover" if server_no_takeover else ""
    text += "; client_no_context_takeover" if client_no_takeover else ""
    one = wire(request.getfixturevalue(which), text)
    assert one.agreed
    assert one.server_bits == (server_bits or 15)
    if server_bits is not None:
        assert f"server_max_window_bits={server_bits}" in one.answer
    if client_bits is None:
        assert "client_max_window_bits" not in one.answer
    allowed = which == "generous"
    assert one.server_takeover == (allowed and not server_no_takeover)
    assert one.client_takeover == (allowed and not client_no_takeover)
    # What a client said of itself need not come back, and is kept to all the same.
    one.client_bits = min(one.client_bits, client_bits or 15)
    for data in (far(1), b"short", far(1), far(2)[:20_000]):
        one.send(data)
        opcode, echo, compressed = one.message()
        assert (opcode, echo) == (TEXT, data)
        assert compressed == (len(data) >= 256)


def test_takeover_makes_what_comes_again_small(generous, wire):
    one = wire(generous, "permessage-deflate")
    text = far(3)[:2_000]
    sizes = []
    for _ in range(2):
        one.send(text)
        _, compressed, _, payload = one.frame()
        assert compressed
        assert one.inflate(payload) == text
        sizes.append(len(payload))
    assert sizes[1] < sizes[0] / 10, sizes


# [7.deflate]
@pytest.mark.parametrize(
    "offer",
    [
        "permessage-deflate; server_max_window_bits=8",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=09",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; client_max_window_bits=7",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        "permessage-deflate; x-unknown",
        "x-webkit-deflate-frame",
    ],
)
def test_what_cannot_be_had_is_declined_and_the_next_offer_taken(server, wire, offer):
    one = wire(server, offer)
    assert one.answer == ""
    one.bytes(encode(TEXT, b"x" * 1_000))
    assert one.message() == (TEXT, b"x" * 1_000, False)
    second = wire(server, f"{offer}, permessage-deflate; server_max_window_bits=10")
    assert second.server_bits == 10
    assert second.answer.count("permessage-deflate") == 1


# [7.deflate]
def test_the_operator_bounds_windows_and_can_turn_it_off(start, wire):
    bounds = {"server_window_bits": 11, "client_window_bits": 10, "client_takeover": True}
    server = start({"deflate": bounds}, echo=True)
    one = wire(server, "permessage-deflate; client_max_window_bits")
    assert (one.server_bits, one.client_bits) == (11, 10)
    one.send(far(4))
    assert one.message() == (TEXT, far(4), True)
    # One that cannot be told keeps its window, and may not keep what is in it.
    assert not wire(server, "permessage-deflate").client_takeover
    off = start({"deflate": {"enabled": False}}, echo=True)
    assert wire(off, "permessage-deflate").answer == ""


def test_the_threshold_is_the_operators(start, wire):
    server = start({"deflate": {"threshold_bytes": 1_000}}, echo=True)
    one = wire(server, "permessage-deflate")
    for size, compressed in [(10, False), (999, False), (1_000, True)]:
        one.send(b"a" * size)
        assert one.message() == (TEXT, b"a" * size, compressed)
    one.send(b"\x00" * 1_000, BINARY)
    assert one.message() == (BINARY, b"\x00" * 1_000, True)


def test_what_does_not_shrink_goes_as_it_is(server, wire):
    one = wire(server, "permessage-deflate")
    noise = random.Random(5).randbytes(2_000)
    one.send(noise, BINARY)
    assert one.message() == (BINARY, noise, False)


def test_fragments_are_one_compressed_message_and_control_frames_stay_plain(server, wire):
    one = wire(server, "permessage-deflate")
    data = one.deflate(far(6))
    cut = [0, 1, 2, 1_000, len(data)]
    for number, (start, end) in enumerate(itertools.pairwise(cut)):
        opcode, rsv = (CONTINUATION, 0) if number else (TEXT, RSV1)
        one.bytes(encode(opcode, data[start:end], fin=end == len(data), rsv=rsv))
        if end < len(data):
            one.bytes(encode(PING, b"p" * 125))
            assert one.frame()[:3] == (True, False, PONG)
    assert one.message() == (TEXT, far(6), True)


@pytest.mark.parametrize("path", ["/ws", "/echo"])
@pytest.mark.parametrize(
    ("frames", "code"),
    [
        (encode(PING, b"", rsv=RSV1), 1002),
        (encode(TEXT, b"a", fin=False) + encode(CONTINUATION, b"b", rsv=RSV1), 1002),
        (encode(TEXT, b"a", rsv=RSV1 | 2), 1002),
        (encode(TEXT, b"\xff" * 20, rsv=RSV1), 1007),
        (encode(TEXT, zlib.compress(b"\xff" * 9, wbits=-15)[:-1] + b"\x00", rsv=RSV1), 1007),
    ],
    ids=["ping", "continuation", "rsv2", "not_deflate", "not_utf8"],
)
def test_what_breaks_a_rule_ends_the_connection(server, wire, frames, code, path):
    one = wire(server, "permessage-deflate", path=path)
    one.bytes(frames)
    assert one.close_code() == code


def test_rsv1_without_agreement_is_1002(server, wire):
    one = wire(server)
    one.bytes(encode(TEXT, b"a", rsv=RSV1))
    assert one.close_code() == 1002


def peak_bytes(server):
    with open(f"/proc/{server.process.pid}/status") as status:
        line = next(line for line in status if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


@pytest.mark.parametrize(("path", "size"), [("/ws", 60 << 20), ("/echo", 1 << 30)])
def test_a_bomb_is_stopped_while_it_is_inflated(start, connect, wire, path, size):
    limits = {"message_bytes": 65_536, "echo_message_bytes": 1 << 20}
    server = start({"limits": limits}, echo=True)
    honest = connect(server)
    deflater = zlib.compressobj(9, wbits=-15)
    bomb = b"".join(deflater.compress(bytes(1 << 20)) for _ in range(size >> 20))
    bomb += deflater.flush(zlib.Z_SYNC_FLUSH)
    one = wire(server, "permessage-deflate", path=path)
    one.send(b"x" * 1_000)
    if path == "/echo":
        one.message()
    before = peak_bytes(server)
    for _ in range(3):
        victim = wire(server, "permessage-deflate", path=path)
        victim.bytes(encode(BINARY, bomb[: -len(TAIL)], rsv=RSV1))
        assert victim.close_code() == 1009
        assert honest.request("$ping", "still there?") == "still there?"
    # Twice the limit at most, what was read of the bomb itself, and change.
    assert peak_bytes(server) - before < 8 << 20
    assert server.metric('clarion_closes_total{code="1009"}') == 3


def test_a_publication_is_compressed_once_for_all_who_take_it(start, peer, room):
    server = start({"limits": {"publish_per_s": 0}})
    publisher, plain = peer(server), peer(server)
    plain.request("$join", room=room)
    takers = [Library(server, room) for _ in range(10)]
    others = [Library(server, room, server_max_window_bits=bits) for bits in (9, 12)]
    before = server.metric(OUT)
    payload = {"text": "all work and no play makes Jack a dull boy; " * 30}
    for number in range(20):
        publisher.request("m", {**payload, "n": number}, room=room)
    for member in [*takers, *others]:
        assert member.numbers(20) == list(range(20))
    heard = plain.publications(room, 20)
    assert [message["payload"]["n"] for message in heard] == list(range(20))
    assert server.metric(OUT) - before == 20
    for member in takers:
        assert member.close() < 20 * 400
    for member in others:
        assert member.close() > 20 * 1_300


def test_many_kinds_of_member_in_one_room_all_hear_everything(start, room):
    server = start({**TAKEOVER, "limits": {"publish_per_s": 0}})
    kinds = [
        {},
        {"server_no_context_takeover": True},
        {"server_max_window_bits": 10, "client_max_window_bits": 9},
        {"client_no_context_takeover": True, "server_no_context_takeover": True},
    ]
    members = [Library(server, room, **kinds[n % len(kinds)]) for n in range(12)]

    def publish(member):
        for n in range(10):
            member.publish({"n": n, "by": id(member), "text": "over and over " * 40})

    with ThreadPoolExecutor() as pool:
        list(pool.map(publish, members))
    logs = [member.payloads(120) for member in members]
    assert all(log == logs[0] for log in logs)
    for member in members:
        member.close()


class Library:
    """A member of a room with the `websockets` library, which compresses as its maker likes."""

    def __init__(self, server, room, **parameters):
        self.room, self.got = room, []
        extension = ClientPerMessageDeflateFactory(
            **{"client_max_window_bits": True, **parameters}, compress_settings={"level": 1}
        )
        # It wants to be a context manager; a test has several at once.
        self.stack = ExitStack()
        connection = connect(
            server.ws("/ws"),
            subprotocols=["clarion.v1.json"],
            extensions=[extension],
            compression=None,
            proxy=None,
            max_queue=None,
        )
        self.socket = self.stack.enter_context(connection)
        self.size = 0
        self.socket.send('{"type": "$hello"}')
        self.send("$join", None, id=1)
        self.until(lambda message: message["metadata"].get("id") == 1)
        self.count_bytes()

    def count_bytes(self):
        receive = self.socket.protocol.receive_data

        def counting(data):
            self.size += len(data)
            receive(data)

        self.socket.protocol.receive_data = counting

    def send(self, kind, payload, **metadata):
        metadata["room"] = self.room
        self.socket.send(json.dumps({"type": kind, "payload": payload, "metadata": metadata}))

    def publish(self, payload):
        self.send("m", payload)

    def until(self, wanted):
        while True:
            message = json.loads(self.socket.recv(timeout=20))
            assert message["type"] != "$error", message
            if wanted(message):
                return message

    def payloads(self, count):
        """The payloads of the next publications."""
        return [self.until(lambda m: m["type"] == "m")["payload"] for _ in range(count)]

    def numbers(self, count):
        return [payload["n"] for payload in self.payloads(count)]

    def close(self):
        self.stack.close()
        return self.size
