"""`clarion sub` and `clarion pub`, and with them the Rust client, against the real server."""

import json
import signal
import subprocess

import pytest

from support.server import BINARY, PATIENCE_S, environment, run, wait_until
from support.tls import Authority, Certificate

UNLIMITED = {"limits": {"publish_per_s": 0}}


@pytest.fixture
def sub(tmp_path):
    """Starts `clarion sub` and ends it."""
    processes = []

    def start(server, *args):
        process = Sub(server, args, tmp_path / f"sub{len(processes)}")
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.process.kill()
        process.process.wait()


class Sub:
    """A `clarion sub` whose output goes to files, so that it never waits for us."""

    def __init__(self, server, args, path):
        self.out, self.err = path.with_suffix(".out"), path.with_suffix(".err")
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [BINARY, "sub", server.ws(), *args],
                env=environment({}),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )

    def lines(self):
        return self.out.read_text().splitlines()

    def wait_for(self, text, where="err"):
        path = getattr(self, where)
        wait_until(lambda: text in path.read_text(), f"{text} in\n{path.read_text()}")

    def wait_for_lines(self, count):
        wait_until(lambda: len(self.lines()) >= count, f"{count} lines")
        return self.lines()

    def interrupt(self, number=signal.SIGINT):
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)


def publish_lines(server, room, lines, *args):
    done = subprocess.run(
        [BINARY, "pub", server.ws(), room, "note", "-", *args],
        env=environment({}),
        input="".join(f"{line}\n" for line in lines),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    return done.returncode, done.stderr


def test_what_is_published_is_printed(server, sub, room):
    run("pub", server.ws(), room, "note", '{"before": 1}')
    plain = sub(server, room, "--last", "10")
    wire = sub(server, room, "--json", "--last", "10")
    plain.wait_for("joined at")
    wire.wait_for("joined at")
    assert run("pub", server.ws(), room, "note", '{"a":  1.0}')[0] == 0
    assert run("pub", server.ws(), room, "bell", "--ephemeral")[0] == 0
    assert plain.wait_for_lines(3) == [
        f'{room} 1 note {{"before": 1}}',
        f'{room} 2 note {{"a":  1.0}}',
        f"{room} - bell null",
    ]
    envelope = json.loads(wire.wait_for_lines(3)[1])
    assert (envelope["type"], envelope["payload"]) == ("note", {"a": 1})
    assert (envelope["metadata"]["room"], envelope["metadata"]["offset"]) == (room, 2)
    assert envelope["metadata"]["from"]["user"].startswith("guest:")


def test_a_broadcast_is_heard_without_joining(start, sub):
    server = start()
    listener = sub(server, "$all")
    listener.wait_for("connected as")
    server.api("/broadcast", {"type": "notice", "payload": "to everybody"})
    assert listener.wait_for_lines(1) == ['$all - notice "to everybody"']


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_session_in_order(start, sub, room, number):
    server = start()
    listener = sub(server, room)
    listener.wait_for("joined")
    assert server.stats()["connections"] == 1
    assert listener.interrupt(number) == 0
    # 1000 ends the session, so nobody waits for it to come back.
    wait_until(lambda: server.api("/clients")["clients"] == [], "the session to end")


def test_lines_of_standard_input_are_published_in_order(start, sub, room):
    server = start(UNLIMITED)
    listener = sub(server, room)
    listener.wait_for("joined")
    status, said = publish_lines(server, room, range(2_000))
    assert status == 0, said
    assert "2000 of 2000 acknowledged" in said
    lines = listener.wait_for_lines(2_000)
    assert lines == [f"{room} {n + 1} note {n}" for n in range(2_000)]


def test_exit_status_says_whether_all_was_acknowledged(server, room):
    status, said = publish_lines(server, room, ["1", "", "not json", "2"])
    assert status == 1
    assert "line 3 is not JSON" in said
    assert "2 of 3 acknowledged" in said
    assert publish_lines(server, room, ["not json"], "--text")[0] == 0


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["pub", "ws://127.0.0.1:1/ws", "r", "t"], "refused"),
        (["pub", "http://127.0.0.1:1/", "r", "t"], "begins with ws://"),
        (["pub", "{ws}x", "r", "t"], "HTTP 404"),
        (["pub", "{ws}", "bad room", "t"], "bad_room"),
        (["pub", "{ws}", "r", "$t"], "bad_request"),
        (["pub", "{ws}", "r", "t", "hello"], "--text"),
        (["pub", "{ws}", "r", "t", "-", "--key", "k"], "--key"),
        (["sub", "{ws}", "bad room"], "bad_room"),
        (["sub", "{ws}", "r", "--token", "forged"], "unauthenticated"),
    ],
)
def test_what_cannot_work_is_said_at_once(server, args, said):
    status, out, err = run(*(arg.replace("{ws}", server.ws()) for arg in args))
    assert (status, out) == (1, "")
    assert said in err, err


def test_key_is_carried_and_a_guest_is_another_user_each_time(server, sub, room):
    for _ in range(2):
        assert run("pub", server.ws(), room, "note", "1", "--key", "k")[0] == 0
    listener = sub(server, room, "--last", "10", "--json")
    metadata = [json.loads(line)["metadata"] for line in listener.wait_for_lines(2)]
    assert [(it["offset"], it["key"]) for it in metadata] == [(1, "k"), (2, "k")]


def test_server_that_is_killed_in_mid_stream_is_come_back_to(start, sub, room):
    server = start(UNLIMITED)
    listener = sub(server, room, "--json")
    listener.wait_for("joined")
    with subprocess.Popen(
        [BINARY, "pub", server.ws(), room, "note", "-"],
        env=environment({}),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as publisher:
        for n in range(500):
            print(n, file=publisher.stdin, flush=True)
        listener.wait_for_lines(100)
        server.kill()
        server.start()
        for n in range(500, 1_000):
            print(n, file=publisher.stdin, flush=True)
        said = publisher.communicate(timeout=PATIENCE_S)[1]
    assert publisher.returncode == 0, said
    assert "1000 of 1000 acknowledged" in said
    # A room in memory has lost its log, and that is said.
    listener.wait_for("gap (epoch)")
    assert run("pub", server.ws(), room, "last")[0] == 0
    listener.wait_for('"last"', "out")
    logs = {}
    for line in listener.lines():
        publication = json.loads(line)
        metadata = publication["metadata"]
        logs.setdefault(metadata["epoch"], []).append((metadata["offset"], publication["payload"]))
    # In each of the two logs, everything comes once and without a hole.
    assert len(logs) == 2
    for log in logs.values():
        offsets = [offset for offset, _ in log]
        values = [value for _, value in log]
        assert offsets == list(range(offsets[0], offsets[0] + len(log)))
        assert len(set(values)) == len(values)
    assert listener.interrupt() == 0


def test_member_is_recovered_after_its_connection_was_cut(start, sub, room):
    server = start(UNLIMITED)
    listener = sub(server, room)
    listener.wait_for("joined")
    for n in range(3):
        run("pub", server.ws(), room, "note", str(n))
    listener.wait_for_lines(3)
    # Stopped, it misses what follows; the room keeps it.
    listener.process.send_signal(signal.SIGSTOP)
    assert publish_lines(server, room, range(3, 500))[0] == 0
    listener.process.send_signal(signal.SIGCONT)
    lines = listener.wait_for_lines(500)
    assert lines == [f"{room} {n + 1} note {n}" for n in range(500)]


def test_reader_that_has_enough_ends_it(server, room):
    for n in range(3):
        run("pub", server.ws(), room, "note", str(n))
    command = f'"{BINARY}" sub {server.ws()} {room} --last 3 2>/dev/null | head -n 1'
    with subprocess.Popen(
        ["bash", "-c", command], env=environment({}), stdout=subprocess.PIPE, text=True
    ) as shell:
        assert shell.stdout.readline() == f"{room} 1 note 0\n"
        # A pipe without reader is noticed by the next line.
        for n in range(3, 100):
            run("pub", server.ws(), room, "note", str(n))
            if shell.poll() is not None:
                break
        assert shell.wait(PATIENCE_S) == 0


# TLS


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


# [7.tls.same]
def test_over_tls_everything_goes_as_without(start, sub, room, authority):
    server = start(UNLIMITED, tls=authority.sign("server"))
    trust = ["--ca", str(authority.cert)]
    listener = sub(server, room, *trust)
    listener.wait_for("joined")
    # More than fits into a session and a socket at once.
    lines = [json.dumps(f"{n} {'x' * 3_000}") for n in range(300)]
    status, said = publish_lines(server, room, lines, *trust)
    assert status == 0, said
    assert listener.wait_for_lines(300) == [f"{room} {n + 1} note {lines[n]}" for n in range(300)]
    server.kill()
    server.start()
    listener.wait_for("gap (epoch)")
    assert run("pub", server.ws(), room, "last", *trust)[0] == 0
    listener.wait_for("last", "out")
    assert listener.interrupt() == 0
    wait_until(lambda: server.api("/clients")["clients"] == [], "the session to end")
    accepted = server.metric('clarion_tls_handshakes_total{outcome="accepted"}')
    assert (accepted, server.metric('clarion_tls_handshakes_total{outcome="failed"}')) == (2, 0)


def test_authorities_that_the_machine_trusts_are_trusted(start, room, authority):
    server = start(tls=authority.sign("server"))
    trusting = {"SSL_CERT_FILE": str(authority.cert)}
    assert run("pub", server.ws(), room, "note", env=trusting)[0] == 0


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("not trusted", "of no authority that is trusted here"),
        ("another's", "of no authority that is trusted here"),
        ("name", "for another name"),
        ("expired", "has expired"),
        ("authority", "one of an authority (CA:TRUE)"),
        ("plain", "it does not speak TLS here"),
        ("no file", "--ca: "),
        ("no certificate", "certificates to trust: "),
    ],
)
def test_a_server_that_cannot_be_trusted_is_told_nothing(
    start, room, authority, tmp_path, wrong, said
):
    names = "subjectAltName=DNS:example.org" if wrong == "name" else None
    certificate = authority.sign("server", *([names] if names else []))
    ca = authority.cert
    if wrong == "authority":
        certificate = authority
    elif wrong == "another's":
        ca = Authority(tmp_path).cert
    elif wrong == "expired":
        certificate = Certificate(tmp_path, "expired")
        certificate.expire()
        ca = certificate.cert
    elif wrong == "no file":
        ca = tmp_path / "nothing.pem"
    elif wrong == "no certificate":
        ca = authority.key
    server = start(tls=certificate)
    url = server.ws() if wrong != "plain" else f"wss://{server.address}/ws"
    trust = [] if wrong == "not trusted" else ["--ca", ca]
    status, out, err = run("pub", url, room, "note", "1", "--token", "secret", *trust)
    assert (status, out) == (1, "")
    assert said in err, err
    assert "\n" not in err.strip(), err
    assert server.metric('clarion_tls_handshakes_total{outcome="accepted"}') == 0
