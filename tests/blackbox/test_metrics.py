"""What an operator sees: /metrics, read with Prometheus' own parsers."""

import re
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
from prometheus_client.parser import text_string_to_metric_families as parse_text

from support.peer import TEXT
from support.server import wait_until

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"
OPEN_METRICS = "application/openmetrics-text"


def scrape(server, accept="text/plain"):
    """Content type and body of one scrape."""
    headers = {"Accept": accept}
    status, answer, body = server.exchange("GET", "/metrics", server.api_key, headers=headers)
    assert status == 200, body
    return answer["content-type"], body


def samples(server):
    """Every sample by name and labels."""
    families = parse_text(scrape(server)[1])
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def value(server, name, /, **labels):
    return samples(server).get((name, frozenset(labels.items())), 0)


@pytest.fixture
def driven(start, connect, peer):
    """A server that something of everything has happened to."""
    server = start({"limits": {"rooms": 1, "http_body_bytes": 2000}}, echo=True)
    session = connect(server)
    session.join("general")
    session.publish("general", 1)
    session.refused("$leave", room="nowhere")
    session.refused("$join", room="one-too-many")
    peer(server, path="/echo", subprotocol=None).frame(TEXT, b"hello")
    peer(server).frame(TEXT, b"x" * 100_000)
    server.get("/nothing/here")
    server.request("POST", "/broadcast", key=server.api_key, body={"type": "x" * 3000})
    server.api("/broadcast", {"type": "news", "metadata": {"room": "general"}})
    wait_until(lambda: value(server, "clarion_closes_total", code="1009"), "a close")
    return server


def documented():
    """Name, type, unit and labels of every row of the table."""
    rows = re.findall(
        r"^\| `(\w+)` \| (\w+) \| (\w+) \|([^|]*)\|", OPERATIONS.read_text(), re.MULTILINE
    )
    return {
        name: (kind, unit, {label.strip() for label in labels.split(",")} - {""})
        for name, kind, unit, labels in rows
    }


def test_every_metric_is_documented_and_every_documented_metric_is_there(driven):
    kind, body = scrape(driven)
    assert kind == "text/plain; version=0.0.4; charset=utf-8"
    table = documented()
    found = {}
    for family in parse_text(body):
        # The parser takes `_total` off a counter.
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        found[name] = (family.type, table.get(name, (None, None))[1], labels)
        assert family.documentation, name
    assert set(found) == set(table)
    # Where nothing has happened there is no sample, and so no label.
    empty = {name for name, (_, _, labels) in found.items() if not labels and table[name][2]}
    assert not empty
    assert found == table


def test_openmetrics_says_the_same_for_those_who_ask_for_it(driven):
    kind, body = scrape(driven, f"{OPEN_METRICS};version=1.0.0,text/plain;q=0.5")
    assert kind == f"{OPEN_METRICS}; version=1.0.0; charset=utf-8"
    assert body.endswith("# EOF\n")
    families = {family.name: family for family in parse_open(body)}
    table = documented()
    assert {name.removesuffix("_total") for name in table} == set(families)
    assert families["clarion_bytes"].unit == "bytes"
    assert families["clarion_turn_seconds"].unit == "seconds"
    assert families["clarion_bytes"].type == "counter"


def test_what_happened_is_counted(driven):
    found = samples(driven)

    def count(name, /, **labels):
        return found.get((name, frozenset(labels.items())), 0)

    assert count("clarion_connections", state="open") == 1
    assert count("clarion_connections", state="echo") == 1
    assert count("clarion_worker_connections", worker="0") >= 1
    assert count("clarion_worker_connections", worker="1") >= 1
    assert count("clarion_handshakes_total", outcome="accepted") == 3
    assert count("clarion_errors_total", name="not_joined") == 1
    assert count("clarion_limits_total", limit="rooms") == 1
    assert count("clarion_limits_total", limit="message_bytes") == 1
    assert count("clarion_limits_total", limit="http_body_bytes") == 1
    assert count("clarion_http_requests_total", route="other", status="404") == 1
    assert count("clarion_http_requests_total", route="/broadcast", status="200") == 1
    assert count("clarion_http_requests_total", route="/broadcast", status="413") == 1
    assert count("clarion_publications_total") == 2
    assert count("clarion_deliveries_total") == 2
    # Two batches of one publication each, to the one worker that has a member.
    assert count("clarion_delivery_seconds_count") == 2
    assert 0 < count("clarion_delivery_seconds_sum") < 60
    assert count("clarion_store_seconds_count", operation="append") == 2
    assert count("clarion_store_seconds_count", operation="read") >= 1
    assert count("clarion_turn_seconds_count") > 10
    assert count("clarion_workers_silent") == 0
    assert count("process_open_fds") > 10
    assert count("process_max_fds") >= count("process_open_fds")
    assert count("process_resident_memory_bytes") > 1 << 20


def test_labels_do_not_grow_with_what_peers_send(start, peer):
    server = start()
    for number in range(20):
        server.get(f"/path/{number}")
    for code in (3000, 4500, 4999):
        peer(server).close(code)
    wait_until(lambda: value(server, "clarion_closes_total", code="other") == 3, "the closes")
    found = samples(server)
    routes = {dict(labels)["route"] for name, labels in found if "http_requests" in name}
    assert routes <= {"other", "/readyz", "/metrics"}


def test_a_connection_is_counted_in_the_state_it_is_in(start, peer):
    server = start({"limits": {"close": "20s"}})

    def states():
        found = samples(server)
        of = {
            dict(labels)["state"]: n
            for (name, labels), n in found.items()
            if "_connections" in name and dict(labels).get("state")
        }
        return of["greeting"], of["open"], of["closing"]

    greeting = peer(server, say_hello=False)
    assert states() == (1, 0, 0)
    opened = peer(server)
    assert states() == (1, 1, 0)
    opened.answers = False
    opened.frame(TEXT, b"\xff")
    wait_until(lambda: states()[1] == 0, "the close")
    greeting.hello()
    wait_until(lambda: states()[:2] == (0, 1), "the session")
    greeting.drop()
    opened.drop()
    wait_until(lambda: states() == (0, 0, 0), "the end of both")


def test_a_slow_reader_shows_in_the_outbox(start, peer):
    server = start({"limits": {"publish_per_s": 0, "outbox_bytes": 65536}})
    ada, bob = peer(server), peer(server, receive_buffer=4096)
    bob.join("general")
    bob.reading = False
    for n in range(100):
        ada.publish("general", [n, "x" * 20_000])
    wait_until(lambda: value(server, "clarion_members_behind") == 1, "him to be behind")
    assert value(server, "clarion_outbox_bytes") > 10_000
    assert value(server, "clarion_outbox_peak_bytes") > 10_000
    assert value(server, "clarion_lag_publications") > 0
    assert value(server, "clarion_fell_behind_total") >= 1
    assert value(server, "clarion_limits_total", limit="outbox_bytes") >= 1
    bob.reading = True
    assert len(bob.publications("general", 100)) == 100
    wait_until(lambda: value(server, "clarion_members_behind") == 0, "him to catch up")
    wait_until(lambda: value(server, "clarion_outbox_bytes") == 0, "the outbox to drain")
