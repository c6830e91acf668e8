"""The OpenAPI document is true: schemathesis asks by it, well and badly, and judges the answers."""

import json
import subprocess
import sys
from pathlib import Path

from support.server import wait_until

CONFIG = Path(__file__).with_name("schemathesis.toml")


def test_the_document_is_openapi(server, curl):
    reply = curl("/openapi.json")
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json"
    spec = reply.json
    assert spec["openapi"].startswith("3.1.")
    assert spec["info"]["version"] == curl("/stats").json["version"]
    text = json.dumps(spec)
    assert server.api_key not in text
    # No shape is spoken of that is not there.
    for name in set(text.split("#/components/schemas/")[1:]):
        assert name.split('"')[0] in spec["components"]["schemas"]
    parameters = {p["name"]: p for p in spec["paths"]["/v1/history"]["get"]["parameters"]}
    assert [name for name, p in parameters.items() if p["required"]] == ["room"]
    assert all(p["description"] for p in parameters.values())
    # Whoever makes a client of it has a name for each call, and it is the only one.
    operations = [o for item in spec["paths"].values() for o in item.values()]
    assert len({o["operationId"] for o in operations}) == len(operations)


def test_what_the_document_says_is_so(start, connect, tmp_path):
    server = start()
    # So that there is somebody to be found.
    session = connect(server)
    session.join("general")
    session.publish("general", {"a": 1})
    command = [Path(sys.executable).with_name("st"), "--config-file", CONFIG, "run"]
    options = ["--phases", "examples,coverage,fuzzing", "--max-examples", "10"]
    steady = ["--seed", "1", "--generation-deterministic"]
    done = subprocess.run(
        [
            *command,
            server.url("/openapi.json"),
            *("--header", f"Authorization: Bearer {server.api_key}"),
            *("--request-timeout", "20", "--no-color", *options, *steady),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8_000:] + done.stderr[-2_000:]
    assert " passed" in done.stdout, done.stdout
    # It was asked to do much, and is as well as before.
    wait_until(lambda: server.stats()["uptime_s"] >= 0, "an answer")
