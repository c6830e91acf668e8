"""The log: what an operator needs, a line for each event, and never a secret or a payload."""

import json

import pytest

from support.peer import TEXT
from support.server import run, wait_until


def lines(server, message):
    return [line for line in server.log_lines() if line.get("message") == message]


def test_the_first_line_has_the_settings_that_are_not_the_defaults(start):
    server = start({"limits": {"rooms": 7}, "rooms": [{"match": "chat/**", "size": 5}]})
    [line] = wait_until(lambda: lines(server, "started"), "the line")
    assert "limits.rooms = 7" in line["settings"]
    assert "chat/**" in line["settings"]
    assert "limits.page" not in line["settings"]
    assert line["workers"] == 2
    assert server.address in line["addresses"]
    assert server.api_key not in server.log()


def test_settings_that_an_operator_should_think_about_are_a_warning(start):
    server = start({"origins": {"allowed": ["*"]}, "bans": {"after": 3}}, echo=True)
    wait_until(lambda: lines(server, "started"), "the start")
    warnings = [line["message"] for line in server.log_lines() if line["level"] == "WARN"]
    assert len(warnings) == 3
    for name in ("origins.allowed", "limits.exempt", "echo"):
        assert any(name in warning for warning in warnings), name


def test_connections_come_and_go_with_code_and_refusals_are_counted(start, peer):
    server = start()
    session = peer(server)
    session.close()
    for _ in range(3):
        server.exchange("GET", "/ws")
    wait_until(lambda: lines(server, "connection closed"), "the close")
    [closed] = lines(server, "connection closed")
    assert closed["code"] == 1000
    [opened] = lines(server, "connection opened")
    assert opened["conn"] == closed["conn"]
    refused = wait_until(lambda: lines(server, "handshakes refused"), "the refusals")
    assert refused[0]["outcome"] == "malformed"


@pytest.mark.parametrize("format", ["json", "human"])
def test_no_secret_and_no_payload_is_logged_whatever_is_done(start, peer, connect, format):
    server = start(
        {
            "log": {"level": "debug", "format": format},
            "limits": {"publish_per_s": 2, "rooms": 2, "exempt": [], "requests_per_s_per_ip": 100},
            "bans": {"after": 1000},
        },
        echo=True,
    )
    session = connect(server, headers={"Authorization": "Bearer sesame-1"}, say_hello=False)
    session.send("$hello", {"token": "sesame-2"})
    session.closed()
    good = peer(server, path="/ws?token=sesame-3")
    good.join("general")
    for n in range(5):
        good.ask("m", f"sesame-4-{n}", room="general")
    good.frame(TEXT, b'{"type":"sesame-5","payload":{}}')
    good.frame(TEXT, b"sesame-6 is no envelope")
    good.fence()
    echo = peer(server, path="/echo", subprotocol=None)
    echo.frame(TEXT, b"sesame-7")
    echo.frame(TEXT, b"sesame-8 \xff")
    echo.closed()
    server.get("/stats", key="sesame-9-is-no-key")
    server.get("/sesame-10?token=sesame-11")
    server.api("/broadcast", {"type": "m", "payload": "sesame-12", "metadata": {"room": "general"}})
    server.request("POST", "/broadcast", key=server.api_key, body={"type": "$sesame-13"})
    server.exchange("GET", "/ws", headers={"Cookie": "token=sesame-14", "Origin": "sesame-15"})
    secrets = ["sesame", good.welcome["ticket"], server.api_key]
    good.close()
    server.stop()
    log = server.log()
    for secret in secrets:
        assert secret not in log, [line for line in log.splitlines() if secret in line]
    assert "connection closed" in log
    assert "request refused" in log
    human = not any(line.startswith("{") for line in log.splitlines())
    assert human == (format == "human")
    if not human:
        for line in log.splitlines():
            if line.startswith("{"):
                json.loads(line)


def test_a_start_that_fails_says_why_in_one_line(server, tmp_path):
    status, _, error = run("serve", "--listen", server.address, "--data-dir", tmp_path / "data")
    assert status == 1
    assert len(error.strip().splitlines()) == 1
