"""The server behind nginx and HAProxy, which run the files of `docs/proxies`."""

import contextlib
import json
import signal
import socket
import ssl

import pytest
from test_client import Sub

from support.curl import call, problem
from support.node import run_node
from support.peer import open_socket, read_head
from support.proxies import ABSENT, Haproxy, HaproxyByHeader, HaproxyPassing, Nginx
from support.server import Server, wait_until
from support.tls import Authority, context
from support.tokens import SECRETS, token

pytestmark = pytest.mark.skipif(bool(ABSENT), reason=f"no {ABSENT}: see scripts/bootstrap")

ADA, BOB, OPERATOR = "127.0.0.2", "127.0.0.3", "127.0.0.4"
INVENTED = "203.0.113.9"
FORGED = {
    "X-Forwarded-For": f"{INVENTED}, 127.0.0.1",
    "Forwarded": f"for={INVENTED}",
    "X-Real-IP": INVENTED,
}
WAYS = [Nginx, Haproxy, HaproxyByHeader, HaproxyPassing]
# In these, what the proxy answers itself is HTTP.
HTTP_WAYS = [Nginx, Haproxy]


def settings(kind, **others):
    protocol = kind in (Haproxy, HaproxyPassing)
    return {
        "proxies": {"trusted": ["127.0.0.1/32"], "protocol": protocol},
        # Whom a proxy brings does not come over loopback.
        "auth": {"guests": "always", "keys": [{"alg": "HS256", "secret": SECRETS["HS256"]}]},
        **others,
    }


def of(kind):
    return kind.__name__


@contextlib.contextmanager
def running(directory, kind, edits=None, echo=False, **others):
    """A server and a proxy in front of it."""
    authority = Authority(directory)
    options = {"tls": authority.sign("server"), "source": OPERATOR, "echo": echo}
    server = Server(directory / "server", settings(kind, **others), **options)
    with contextlib.ExitStack() as stack:
        stack.callback(server.stop)
        server.start()
        proxy = kind(directory / "proxy", server, authority, edits)
        stack.callback(proxy.stop)
        yield proxy


@pytest.fixture(scope="module", params=WAYS, ids=of)
def way(request, tmp_path_factory):
    """Each way through a proxy, to a server of its own."""
    with running(tmp_path_factory.mktemp("way"), request.param, echo=True) as proxy:
        yield proxy


def test_clients_of_others_are_served(way, connect, room):
    ada, bob = connect(way), connect(way)
    bob.join(room)
    ada.publish(room, {"text": "hello"})
    [heard] = bob.publications(room, 1)
    assert heard["payload"] == {"text": "hello"}
    cert = str(way.tls.cert)
    run_node(way, "ws.test.js", CLARION_PROXIED="1", NODE_EXTRA_CA_CERTS=cert)


# [7.proxy.protocol] [7.proxy.header] [7.proxy.client]
@pytest.mark.parametrize("headers", [{}, FORGED], ids=["", "forged"])
def test_the_address_is_the_clients_whatever_it_says(way, connect, headers):
    ada = connect(way, source=ADA, headers=headers)
    bob = connect(way, source=BOB, headers=headers)
    rows = {row["client"]: row["address"] for row in way.server.api("/v1/clients")["clients"]}
    assert [host(rows[who.client]) for who in (ada, bob)] == [ADA, BOB]


def host(address):
    return address.rpartition(":")[0]


# [7.proxy.header] [7.proxy.client]
def test_each_request_is_its_clients(way):
    def audited():
        lines = [line for line in way.server.log_lines() if line["message"] == "audit"]
        return [host(line["address"]) for line in lines]

    asked = [ADA, BOB, ADA, BOB]
    for address in asked:
        options = ["--cacert", way.tls.cert, "--interface", address]
        for name, value in FORGED.items():
            options += ["--header", f"{name}: {value}"]
        reply = call(way, "/v1/disconnect", *options, key=way.api_key, body={"user": "nobody"})
        assert (reply.status, reply.json) == (200, {"sessions": 0})
    wait_until(lambda: audited() == asked, f"the log to name {asked}")
    problem(call(way, "/v1/clients", "--cacert", way.tls.cert, key=None), 401)


# [7.proxy.trusted]
def test_a_client_cannot_speak_as_a_proxy(way):
    with open_plain(way) as sock:
        sock.sendall(f"PROXY TCP4 {INVENTED} 127.0.0.1 4711 443\r\n".encode())
        with pytest.raises((ssl.SSLError, ConnectionError)):
            context(way.tls).wrap_socket(sock, server_hostname="localhost")
    assert INVENTED not in way.server.log()


def open_plain(way):
    return socket.create_connection((way.host, way.ws_port), timeout=20)


def test_the_origin_is_compared_with_the_name_that_was_asked_for(way):
    def come(origin):
        with open_socket(way, source=ADA) as sock:
            sock.sendall(
                "GET /ws HTTP/1.1\r\nHost: chat.example.org\r\nUpgrade: websocket\r\n"
                "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: {origin}\r\n\r\n".encode()
            )
            return read_head(sock)[0][9:12]

    assert come("https://chat.example.org") == b"101"
    assert come("https://example.org") == b"403"


def test_what_is_as_large_as_allowed_passes(way, connect, room):
    def message(size):
        head = json.dumps({"type": "m", "metadata": {"room": room}, "payload": "x"}).strip('}"')
        return head.ljust(size - 2, "x") + '"}'

    # A token in the handshake, a message in both directions, a body.
    padding = "x" * ((8192 - len(token(headers={}, padding=""))) * 3 // 4 - 1)
    large = token(headers={}, padding=padding)
    assert 8190 <= len(large) <= 8192
    ada = connect(way, headers={"Authorization": f"Bearer {large}"})
    assert ada.welcome["user"] == "ada"
    ada.join(room)
    ada.send_text(message(65536))
    [heard] = ada.publications(room, 1)
    assert len(heard["payload"]) > 65000
    body = json.dumps({"type": "m", "metadata": {"room": room}}).ljust(1 << 20)
    reply = call(way, "/v1/publish", "--cacert", way.tls.cert, key=way.api_key, body=body)
    assert reply.status == 200


# Time


PATIENCE = {
    Nginx: {"proxy_read_timeout 75s": "proxy_read_timeout 2s"},
    **dict.fromkeys(WAYS[1:], {"timeout tunnel 75s": "timeout tunnel 2s"}),
}


# [4.heartbeat]
@pytest.mark.parametrize("kind", WAYS, ids=of)
def test_heartbeats_keep_an_idle_connection_for_longer_than_the_proxy_would(tmp_path, kind, peer):
    heartbeat = {"interval": "250ms", "timeout": "10s"}
    with running(tmp_path, kind, PATIENCE[kind], heartbeat=heartbeat) as way:
        idle = peer(way)
        # One comes after each interval without anything else.
        wait_until(lambda: idle.pings >= 12 or not idle.reader.is_alive(), "heartbeats")
        idle.fence()
        idle.drop()


@pytest.mark.parametrize("kind", WAYS, ids=of)
def test_without_heartbeats_the_proxy_ends_it(tmp_path, kind, peer):
    with running(tmp_path, kind, PATIENCE[kind]) as way:
        idle = peer(way)
        idle.reader.join(20)
        assert (idle.pings, idle.close_code) == (0, None)
        assert not idle.reader.is_alive()


@pytest.mark.parametrize("kind", HTTP_WAYS, ids=of)
def test_a_restart_is_told_by_the_proxy_and_clients_come_back(tmp_path, kind, peer, room):
    durable = [{"match": "**", "log": "durable"}]
    with running(tmp_path, kind, rooms=durable) as way, contextlib.ExitStack() as stack:
        server = way.server

        def status(path):
            return call(way, path, "--cacert", way.tls.cert, key=None).status

        def publish(payload):
            server.api("/v1/publish", {"type": "m", "payload": payload, "metadata": {"room": room}})

        listener = Sub(way, [room, "--ca", str(way.tls.cert)], tmp_path / "sub")
        stack.callback(listener.process.wait)
        stack.callback(listener.process.kill)
        watcher = peer(way)
        listener.wait_for("joined")
        publish(1)
        listener.wait_for_lines(1)
        server.signal(signal.SIGTERM)
        assert watcher.closed()[0] == 1001
        server.stop()
        assert status("/healthz") == (502 if kind is Nginx else 503)
        server.start()
        wait_until(lambda: status("/readyz") == 200, "the proxy to find the server")
        # After a few tries it waits for many seconds.
        wait_until(lambda: server.api("/clients")["clients"], "the client to come back", 60)
        publish(2)
        assert listener.wait_for_lines(2) == [f"{room} 1 m 1", f"{room} 2 m 2"]
