"""Behind nginx and HAProxy, with the configurations of `docs/proxies`; and the PROXY protocol by hand."""

import contextlib
import json
import socket
import ssl

import pytest

from support.peer import TEXT, Peer, open_socket, read_head
from support.proxies import Haproxy, Nginx, missing
from support.server import PATIENCE_S, Server, wait_until
from support.tls import Certificate, context

ADA, BOB = "127.0.0.2", "127.0.0.3"
LIMITS = {"exempt": [], "connections_per_ip": 1}
NGINX, HAPROXY_1, HAPROXY_2 = "nginx", "haproxy 1", "haproxy 2"
WAYS = [
    (NGINX, "way"),
    (HAPROXY_1, "ends"),
    (HAPROXY_1, "passes"),
    (HAPROXY_2, "ends"),
    (HAPROXY_2, "passes"),
]

behind = pytest.mark.skipif(missing() is not None, reason=str(missing()))


def settings(trusted="127.0.0.1/32", **proxies):
    # Guests are welcome, though a proxy says that they are from elsewhere.
    return {
        "auth": {"guests": "always"},
        "limits": LIMITS,
        "proxies": {"trusted": [trusted], **proxies},
    }


@pytest.fixture(scope="module")
def proxied(tmp_path_factory):
    """Starts each proxy once, with a server behind it: `proxied(HAPROXY_2)`."""
    pairs = {}

    def get(kind):
        if kind not in pairs:
            pairs[kind] = pair(tmp_path_factory.mktemp("proxied"), kind, settings())
        proxy, server = pairs[kind]
        assert proxy.process.poll() is None, proxy.log()
        return proxy, server

    yield get
    for proxy, server in pairs.values():
        proxy.stop()
        server.stop()


def pair(directory, kind, of_server):
    if kind != NGINX:
        of_server["proxies"]["protocol"] = True
    server = Server(directory / "server", of_server, tls=Certificate(directory, "server"))
    server.get_plain = server.get
    server.start()
    certificate = Certificate(directory, "proxy")
    if kind == NGINX:
        return Nginx(directory / "nginx", server, certificate), server
    version = int(kind.split(" ")[1])
    return Haproxy(directory / "haproxy", server, certificate, version), server
