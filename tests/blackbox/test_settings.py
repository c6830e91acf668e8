"""The page on settings and the binary agree."""

import re
from pathlib import Path

import tomllib

from support.server import run

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"
# Their defaults depend on the machine.
VARYING = {
    "workers": "one per core",
    "node": "the host's name",
    "limits.memory_bytes": "four fifths of the machine's, or of its control group's",
    "api_key": "made at the first start",
}


def flat(table, prefix=""):
    for name, value in table.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def documented():
    rows = re.findall(r"^\| `([a-z_.]+)` \| (.*?) \|", PAGE.read_text(), re.MULTILINE)
    rooms = {"match", "log", "size", "age", "bytes", "key_window", "presence", "join", "publish"}
    rooms |= {"history", "members", "state", "payload_bytes", "types"}
    keys = {"alg", "kid", "secret", "secret_file", "public_key", "public_key_file"}
    return {name: default for name, default in rows if name not in rooms | keys}


def test_the_page_lists_every_setting_with_its_default():
    status, printed, error = run("config", "print")
    assert status == 0, error
    settings = dict(flat(tomllib.loads(printed)))
    page = documented()
    assert sorted(page) == sorted(settings)
    for name, value in settings.items():
        if name in VARYING:
            assert page[name] == VARYING[name]
        else:
            literal = page[name].removeprefix("`").removesuffix("`")
            assert tomllib.loads(f"value = {literal}")["value"] == value, name
