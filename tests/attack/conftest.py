"""One server for all attacks, as it would be, and the closing line."""

from pathlib import Path

import pytest

import attack


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    server = attack.start(tmp_path_factory.mktemp("attack") / "server")
    yield server
    server.stop()


def pytest_terminal_summary(terminalreporter):
    passed = len(terminalreporter.stats.get("passed", []))
    failed = sum(len(terminalreporter.stats.get(what, [])) for what in ("failed", "error"))
    line = f"attacks: {passed} passed, {failed} failed"
    terminalreporter.write_line(line)
    results = Path(__file__).parents[2] / ".cache" / "results"
    results.mkdir(parents=True, exist_ok=True)
    (results / "attack").write_text(line + "\n")
