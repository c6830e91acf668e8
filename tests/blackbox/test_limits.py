"""Bounds on what clients can make the server hold or do, seen from outside."""

import contextlib
import json

import pytest
from websockets.exceptions import InvalidStatus

from support.server import wait_until

MIB = 1 << 20


# [6.violations]
@pytest.mark.parametrize("text", ["{", '{"type": "$what"}', '{"type": "$join"}'])
def test_whoever_sends_nothing_but_rubbish_is_closed_and_nobody_else_notices(
    start, peer, room, text
):
    server = start({"limits": {"violations_per_min": 20, "commands_per_s": 0}})
    honest = peer(server)
    honest.join(room)
    vandal = peer(server)
    with contextlib.suppress(OSError):
        for _ in range(21):
            vandal.send_text(text)
    assert vandal.closed()[0] == 4004
    honest.publish(room, 1)
    assert honest.publications(room, 1)[0]["payload"] == 1
    assert server.metric('clarion_limits_total{limit="violations_per_min"}') == 1
    assert server.metric('clarion_closes_total{code="4004"}') == 1


# [6.violations]
def test_whoever_is_too_fast_for_long_is_told_to_come_back_later(start, peer, room):
    server = start({"limits": {"violations_per_min": 20, "publish_per_s": 1}})
    fast = peer(server)
    text = json.dumps({"type": "m", "metadata": {"room": room, "id": 1}})
    # It is closed on the way, and learns of that when it likes.
    with contextlib.suppress(OSError):
        for _ in range(40):
            fast.send_text(text)
    assert fast.closed()[0] == 4129


def test_over_the_memory_watermark_nobody_new_comes_in_until_it_falls(start, peer, connect, room):
    # What a server has that does nothing, and half of what the flood below takes.
    idle = start({}).stats()["memory_bytes"]
    server = start(
        {
            "limits": {"memory_bytes": idle + 40 * MIB, "bytes_per_s": 0, "publish_per_s": 0},
            "rooms": [{"match": "**", "age": "2s", "bytes": 256 * MIB}],
        },
        # Freed memory is kept for ten times as long; the allocator's own is a second.
        env={"MIMALLOC_PURGE_DELAY": "10"},
    )
    here = peer(server)
    here.join(room)
    for _ in range(80 * MIB // 60_000):
        here.publish("flood", "x" * 60_000)
    assert server.metric("clarion_log_bytes") > 40 * MIB

    def refused():
        try:
            connect(server).close()
        except InvalidStatus as refusal:
            response = refusal.response
            return response.status_code == 503 and int(response.headers["Retry-After"]) > 0
        return False

    wait_until(refused, "a refusal")
    assert server.metric('clarion_limits_total{limit="memory_bytes"}') >= 1
    # Whoever is there is served.
    here.publish(room, 1)
    assert here.publications(room, 1)[0]["payload"] == 1

    # The flood is too old at last, and its memory goes back to the kernel.
    def returned():
        here.publish("flood", 1)
        return not refused()

    wait_until(returned, "memory to return")


def test_all_logs_together_are_bounded_and_the_largest_gives(start, peer, room):
    server = start(
        {
            "workers": 1,
            "limits": {"log_bytes": 2 * MIB, "bytes_per_s": 0, "publish_per_s": 0},
            "rooms": [{"match": "**", "bytes": 256 * MIB}],
        }
    )
    ada = peer(server)
    for n in range(10):
        ada.publish(room, n)
    for _ in range(200):
        ada.publish("flood", "x" * 60_000)
    assert server.metric("clarion_log_bytes") <= 2 * MIB
    assert server.metric('clarion_limits_total{limit="log_bytes"}') > 100
    page = ada.request("$history", {"limit": 100}, room=room)
    assert [p["payload"] for p in page["publications"]] == list(range(10))
    flood = ada.request("$history", {"limit": 100}, room="flood")
    assert flood["offset"] == 200
    assert flood["first"] > 160
