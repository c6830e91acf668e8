"""The process: how it starts, what it says about bad settings, how it ends."""

import os
import re
import signal
import stat
import struct
import time

import pytest

from support.client import Client
from support.peer import CLOSE, TEXT, encode, open_socket
from support.server import Server, run, wait_until

LISTEN = ["--listen", "127.0.0.1:0"]


# Settings


@pytest.mark.parametrize(
    ("args", "env", "names"),
    [
        (["--workers", "0"], {}, "workers"),
        ([], {"CLARION_LIMITS__PUBLISH_PER_S": "many"}, "limits.publish_per_s"),
        ([], {"CLARION_LIMITS__NONSENSE": "1"}, "limits.nonsense"),
        ([], {"CLARION_HEARTBEAT__INTERVAL": "25"}, "heartbeat.interval"),
        ([], {"CLARION_LISTEN": "nowhere"}, "listen"),
        (["--api-key", "short"], {}, "api_key"),
        (["--listen", "0.0.0.0:0"], {}, "listen"),
        (["--listen", "[::]:0"], {}, "listen"),
    ],
)
@pytest.mark.parametrize("command", [["serve"], ["config", "check"]])
def test_a_bad_setting_is_named_in_one_line(tmp_path, command, args, env, names):
    status, out, error = run(*command, *args, "--data-dir", tmp_path / "data", env=env)
    assert status == 2
    assert out == ""
    [line] = error.strip().splitlines()
    assert names in line, line
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("colour = 1", "colour"),
        ("[limits]\nmesage_bytes = 1", "limits.mesage_bytes"),
        ("[limits]\nmessage_bytes = 'x'", "limits.message_bytes"),
        ("[[rooms]]\nmatch = 'a-*'", "rooms"),
        ("store = 'memory'\n[[rooms]]\nmatch = '**'\nlog = 'durable'", "rooms[0].log"),
        ("[[rooms]]\nlog = 'memory'", "rooms"),
        ("limits = 3", "limits"),
        ("this is = not TOML", "line 1"),
    ],
)
def test_a_bad_file_is_named_with_the_setting(tmp_path, text, names):
    path = tmp_path / "clarion.toml"
    path.write_text(text)
    status, _, error = run("config", "check", "--config", path)
    assert status == 2
    [line] = error.strip().splitlines()
    assert names in line, line
    assert "clarion.toml" in line, line


def test_a_missing_file_is_named(tmp_path):
    status, _, error = run("config", "check", "--config", tmp_path / "missing.toml")
    assert status == 2
    assert "missing.toml" in error


def test_good_settings_are_checked_in_silence(tmp_path):
    path = tmp_path / "clarion.toml"
    path.write_text("workers = 1\n[[rooms]]\nmatch = 'chat/**'\nsize = 5\n")
    assert run("config", "check", "--config", path) == (0, "", "")


def test_what_is_printed_can_be_read_again_and_tells_no_secret(tmp_path):
    env = {"CLARION_API_KEY": "a-secret-of-some-length", "CLARION_LIMITS__ROOMS": "7"}
    status, out, error = run("config", "print", "--workers", "3", env=env)
    assert (status, error) == (0, "")
    assert "a-secret" not in out
    assert re.search(r"^workers = 3$", out, re.M)
    assert re.search(r"^rooms = 7$", out, re.M)
    path = tmp_path / "printed.toml"
    path.write_text(out)
    assert run("config", "print", "--config", path)[1] == out


def test_a_flag_wins_over_the_environment_and_that_over_the_file(tmp_path):
    path = tmp_path / "clarion.toml"
    path.write_text("workers = 1\n[limits]\nrooms = 1\npage = 1\n")
    env = {"CLARION_WORKERS": "2", "CLARION_LIMITS__ROOMS": "2"}
    out = run("config", "print", "--config", path, "--workers", "3", env=env)[1]
    assert re.search(r"^workers = 3$", out, re.M)
    assert re.search(r"^rooms = 2$", out, re.M)
    assert re.search(r"^page = 1$", out, re.M)


def test_a_public_address_is_refused_unless_insecure(tmp_path):
    status, _, error = run("serve", "--listen", "0.0.0.0:0", "--data-dir", tmp_path / "data")
    assert status == 2
    assert "insecure" in error
    args = ["--listen", "0.0.0.0:0", "--insecure"]
    assert run("config", "check", *args) == (0, "", "")


def test_an_unknown_flag_is_refused():
    status, _, error = run("serve", "--nonsense")
    assert status == 2
    assert "--nonsense" in error


def test_help_and_version():
    status, out, _ = run("--help")
    assert status == 0
    assert "serve" in out
    status, out, _ = run("--version")
    assert status == 0
    assert re.fullmatch(r"clarion \d+\.\d+\.\d+.*\n", out)


# Start


def test_a_port_in_use_is_said_and_the_exit_is_not_zero(server, tmp_path):
    status, _, error = run("serve", "--listen", server.address, "--data-dir", tmp_path / "data")
    assert status not in (0, 2)
    assert server.address in error


def test_a_data_directory_that_cannot_be_is_said(tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("")
    status, _, error = run("serve", *LISTEN, "--data-dir", blocker / "data")
    assert status != 0
    assert "data" in error


def test_an_api_key_is_made_shown_once_and_kept_private(tmp_path):
    server = Server(tmp_path)
    server.api_key = ""
    server.start()
    key = server.printed_key()
    path = tmp_path / "data" / "api-keys.toml"
    assert key not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert server.log().count(key) == 1
    assert server.get("/stats", key=key)[0] == 200
    server.stop()
    server.start()
    assert server.get("/stats", key=key)[0] == 200
    server.stop()
    assert server.log().count(key) == 1


# [7.secret]
def test_secrets_and_payloads_are_not_logged(start, connect, peer):
    server = start({"log": {"level": "debug"}})
    session = connect(
        server, headers={"Authorization": "Bearer sesame-in-a-header"}, say_hello=False
    )
    session.send("$hello", {"token": "sesame-in-hello"})
    session.closed()
    good = peer(server, path="/ws?token=sesame-in-a-query")
    good.join("general")
    good.publish("general", "sesame-in-a-payload")
    good.frame(TEXT, b"sesame-in-rubbish")
    good.fence()
    server.get("/stats", key="sesame-in-a-key")
    server.get("/clients?token=sesame-in-an-api-query", key=server.api_key)
    ticket = good.welcome["ticket"]
    good.close()
    server.stop()
    log = server.log()
    assert "sesame" not in log
    assert ticket not in log
    assert server.api_key not in log
    # It does say what happened.
    assert good.client in log or "connection" in log


def test_the_log_is_json_when_nobody_watches(start):
    server = start()
    lines = wait_until(server.log_lines, "something to be logged")
    for line in lines:
        assert {"timestamp", "level"} <= set(line), line


# End


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_closes_everybody_with_1001_and_exits_with_0(start, connect, peer, number):
    server = start()
    sessions = [connect(server) for _ in range(5)] + [peer(server) for _ in range(5)]
    silent = peer(server, say_hello=False)
    idle = open_socket(server)
    server.signal(number)
    for session in [*sessions, silent]:
        assert session.closed()[0] == 1001
    assert server.wait() == 0
    idle.close()


def test_what_is_queued_is_flushed_before_the_end(start, peer):
    server = start({"limits": {"publish_per_s": 0, "bytes_per_s": 0, "outbox_bytes": 8 << 20}})
    ada, bob = peer(server), peer(server, receive_buffer=8192)
    bob.join("general")
    bob.reading = False
    for n in range(200):
        ada.publish("general", [n, "x" * 16_000])
    server.signal(signal.SIGTERM)
    assert ada.closed()[0] == 1001
    bob.reading = True
    assert [m["payload"][0] for m in bob.publications("general", 200)] == list(range(200))
    assert bob.closed()[0] == 1001
    assert server.wait() == 0


# [7.refusals]
def test_while_it_ends_nobody_new_comes_in(start, peer):
    server = start({"shutdown": {"deadline": "20s"}, "limits": {"close": "10s"}})
    # Its close frame is not answered, so the server stays for a while.
    stubborn = peer(server)
    stubborn.answers = False
    server.signal(signal.SIGTERM)
    wait_until(lambda: stubborn.close_code == 1001, "the close frame")

    def refused():
        try:
            return server.get("/readyz")[0] == 503
        except OSError:
            return True

    wait_until(refused, "readiness to end")
    with pytest.raises(Exception):  # noqa: B017, PT011 (refused, reset or 503: all are good)
        Client(server)
    stubborn.frame(CLOSE, struct.pack("!H", 1001))
    assert stubborn.closed()[0] == 1001
    assert server.wait() == 0


def test_the_deadline_holds_even_for_those_who_do_not_answer(start, peer):
    server = start({"shutdown": {"deadline": "1s"}, "limits": {"close": "60s"}})
    stubborn = peer(server)
    stubborn.answers = False
    started = time.monotonic()
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert time.monotonic() - started < 5
    stubborn.drop()


def test_a_second_signal_ends_it_at_once(start, peer):
    server = start({"shutdown": {"deadline": "60s"}, "limits": {"close": "60s"}})
    stubborn = peer(server)
    stubborn.answers = False
    server.signal(signal.SIGTERM)
    wait_until(lambda: stubborn.close_code == 1001, "the close frame")
    server.signal(signal.SIGTERM)
    started = time.monotonic()
    server.wait(10)
    assert time.monotonic() - started < 5


def test_an_abandoned_handshake_does_not_hold_up_the_end(start):
    server = start({"shutdown": {"deadline": "2s"}})
    halves = [open_socket(server) for _ in range(3)]
    for half in halves:
        half.sendall(b"GET /ws HTTP/1.1\r\n")
    server.signal(signal.SIGTERM)
    assert server.wait(10) == 0
    for half in halves:
        half.close()


def test_killed_clients_leave_nothing_behind(start, peer):
    server = start({"session": {"ttl": "1s"}})
    for _ in range(3):
        sessions = [peer(server) for _ in range(20)]
        for session in sessions:
            session.join("general")
        for session in sessions:
            session.drop()
    wait_until(lambda: server.stats()["connections"] == 0, "connections to end")
    wait_until(lambda: server.stats()["members"] == 0, "members to leave")
    descriptors = f"/proc/{server.process.pid}/fd"
    wait_until(lambda: len(os.listdir(descriptors)) < 60, "descriptors to be closed")


def test_a_message_cut_in_the_middle_is_forgotten(start, peer):
    server = start()
    session = peer(server)
    session.bytes(encode(TEXT, b'{"type":"m"')[:8])
    session.drop()
    wait_until(lambda: server.stats()["connections"] == 0, "the connection to end")
