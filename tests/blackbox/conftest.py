"""Servers for the tests, their logs for whoever reads a failure, and the closing line."""

import contextlib
import itertools
from pathlib import Path

import pytest

from support.client import Client
from support.curl import call
from support.peer import Peer
from support.server import BINARY, Server


def pytest_configure():
    if not BINARY.exists():
        pytest.exit(f"there is no {BINARY}: `make test-blackbox` builds it", returncode=2)


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    """The server of all tests that do not need one of their own."""
    settings = {
        "limits": {"publish_per_s": 0, "commands_per_s": 0, "bytes_per_s": 0},
        "rooms": [{"match": "unlogged/**", "log": "none"}, {"match": "short/**", "size": 10}],
    }
    server = Server(tmp_path_factory.mktemp("shared"), settings, echo=True)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def server(shared):
    """The shared server, checked to be alive."""
    assert shared.process.poll() is None, f"the server died:\n{shared.log()}"
    return shared


@pytest.fixture
def start(tmp_path):
    """Starts servers with settings of their own, and ends them."""
    servers = []

    def start(settings=None, **options):
        directory = tmp_path / f"server{len(servers)}"
        server = Server(directory, settings, **options)
        servers.append(server)
        return server.start()

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def connect(request, start):  # noqa: ARG001 (connections end before servers do)
    """Opens connections with the `websockets` library, and closes them."""
    yield from opening(Client, request)


@pytest.fixture
def peer(request, start):  # noqa: ARG001
    """Opens connections by hand, and closes them."""
    yield from opening(Peer, request)


def opening(kind, request):
    sessions = []

    def open_one(server=None, **options):
        server = server or request.getfixturevalue("server")
        session = kind(server, **options)
        sessions.append(session)
        return session

    yield open_one
    for session in sessions:
        with contextlib.suppress(Exception):
            session.drop()


@pytest.fixture
def curl(server):
    """Calls the server with curl: `curl("/stats", "-X", "POST", key=None)`."""

    def curl(path, *options, of=server, key=server.api_key, **request):
        return call(of, path, *options, key=key, **request)

    return curl


ROOMS = itertools.count(1)


@pytest.fixture
def room(request):
    """A room that no other test uses, and whose name says which test does."""
    name = "".join(c if c.isalnum() else "-" for c in request.node.name)
    return f"{name[:80]}/{next(ROOMS)}"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    """Shows the end of the servers' logs with a failure."""
    report = (yield).get_result()
    if not report.failed:
        return
    for value in getattr(item, "funcargs", {}).values():
        if isinstance(value, Server):
            report.sections.append(
                ("server log, last lines", "\n".join(value.log().splitlines()[-30:]))
            )


def pytest_terminal_summary(terminalreporter):
    """One line that people and machines can read: what passed and what did not."""
    stats = terminalreporter.stats
    passed = len(stats.get("passed", []))
    failed = len(stats.get("failed", [])) + len(stats.get("error", []))
    skipped = len(stats.get("skipped", []))
    line = f"blackbox: {passed} passed, {failed} failed"
    line += f", {skipped} skipped" if skipped else ""
    terminalreporter.write_line(line)
    # `make test` shows it again when everything is done.
    results = Path(__file__).parents[2] / ".cache" / "results"
    results.mkdir(parents=True, exist_ok=True)
    (results / "blackbox").write_text(line + "\n")
