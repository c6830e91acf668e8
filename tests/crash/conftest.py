"""One short run for all tests, and the closing line."""

from pathlib import Path

import pytest

import crash

# So many that everything happens that a run is about; some 10 s.
ROUNDS = 20
LINES = []


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """A run: the directory of its logs, the checker's exit status, and what was said."""
    directory = tmp_path_factory.mktemp("crash")
    status, said = crash.run(ROUNDS, seed=1, keep=directory)
    LINES.append(said.splitlines()[-1])
    return directory / "logs", status, said


def pytest_terminal_summary(terminalreporter):
    results = Path(__file__).parents[2] / ".cache" / "results"
    results.mkdir(parents=True, exist_ok=True)
    (results / "crash").write_text("".join(f"{line}\n" for line in LINES))
    for line in LINES:
        terminalreporter.write_line(line)
