"""TLS: versions and ciphers, certificates that change, and what a peer may do to a session."""

import contextlib
import os
import signal
import socket
import ssl
import subprocess
from pathlib import Path

import pytest

from support.node import run_node
from support.peer import TEXT, decode, encode, open_socket, read_head
from support.server import PATIENCE_S, Server, run, wait_until
from support.tls import Certificate, context

HANDSHAKE = (
    b"GET /echo HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
RSA = ["-newkey", "rsa:2048", "-nodes"]
# What a test has opened, and need not close.
OPEN = []


@pytest.fixture(scope="module")
def secured(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tls")
    server = Server(directory, echo=True, tls=Certificate(directory))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def server(secured):
    assert secured.process.poll() is None, f"the server died:\n{secured.log()}"
    return secured


@pytest.fixture
def alone(start, tmp_path):
    """A server of the test's own: the counts of another's may still be on their way."""
    return start(tls=Certificate(tmp_path), echo=True)


@pytest.fixture(autouse=True)
def closed_in_the_end(start):  # noqa: ARG001 (connections end before servers do)
    yield
    while OPEN:
        OPEN.pop().close()


class Records:
    """A TLS client whose records are the test's to cut, to hold back, and to count."""

    def __init__(self, server, trust=None):
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        trust = trust or context(server.tls)
        self.session = trust.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        self.socket = open_plain(server)
        self.until(self.session.do_handshake)
        self.flush()

    def until(self, step):
        """Repeats `step`, with what comes in between, until it has what it needs."""
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                self.flush()
                data = self.socket.recv(65536)
                if not data:
                    self.incoming.write_eof()
                self.incoming.write(data)

    def encrypt(self, data):
        """One record."""
        self.session.write(data)
        return self.outgoing.read()

    def send(self, data):
        self.socket.sendall(self.encrypt(data))

    def flush(self):
        self.socket.sendall(self.outgoing.read())

    def receive(self):
        return self.until(lambda: self.session.read(65536))

    def upgrade(self):
        self.send(HANDSHAKE)
        assert self.receive().startswith(b"HTTP/1.1 101 ")

    def message(self):
        buffer = bytearray()
        while (frame := decode(buffer)) is None:
            data = self.receive()
            assert data, "the server ended the connection"
            buffer += data
        return frame[2]


def echoes(server, text=b"still here"):
    """Whether a new connection is served."""
    records = Records(server)
    records.upgrade()
    records.send(encode(TEXT, text))
    good = records.message() == text
    records.socket.close()
    return good


def shown(server):
    """The certificate that a new connection is shown."""
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection((server.host, server.tls_port), PATIENCE_S) as sock,
        trust.wrap_socket(sock) as secure,
    ):
        return secure.getpeercert(binary_form=True)


def handshakes(server, outcome):
    return server.metric(f'clarion_tls_handshakes_total{{outcome="{outcome}"}}')


def reloads(server, outcome):
    return server.metric(f'clarion_tls_reloads_total{{outcome="{outcome}"}}')


# Versions and ciphers


# [7.tls.versions]
@pytest.mark.parametrize(
    ("version", "good"), [("tls1", False), ("tls1_1", False), ("tls1_2", True), ("tls1_3", True)]
)
def test_openssl_agrees_on_tls_1_2_and_1_3_only(server, version, good):
    where = ["-connect", f"{server.host}:{server.tls_port}", "-CAfile", server.tls.cert]
    # Old versions are beneath OpenSSL's own level, and it would refuse them before we do.
    done = subprocess.run(
        ["openssl", "s_client", *where, f"-{version}", "-cipher", "ALL:@SECLEVEL=0"],
        input=b"",
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
    )
    output = (done.stdout + done.stderr).decode()
    assert ("Verify return code: 0 (ok)" in output and done.returncode == 0) == good, output
    assert good or "alert" in output, output


# [7.tls.versions]
@pytest.mark.parametrize(("kind", "new_key"), [("ECDSA", None), ("RSA", RSA)])
def test_every_cipher_of_tls_1_2_has_forward_secrecy_and_authenticates(
    start, tmp_path, kind, new_key
):
    server = start(tls=Certificate(tmp_path, new_key=new_key) if new_key else Certificate(tmp_path))
    everything = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    everything.set_ciphers("ALL:COMPLEMENTOFALL:eNULL:@SECLEVEL=0")
    names = {c["name"] for c in everything.get_ciphers() if c["protocol"] != "TLSv1.3"}
    assert {"AES128-SHA", "ECDHE-RSA-AES128-SHA", "NULL-SHA", "ADH-AES128-SHA"} <= names
    accepted = set()
    for name in names:
        trust = context(server.tls, maximum_version=ssl.TLSVersion.TLSv1_2)
        trust.set_ciphers(f"{name}:@SECLEVEL=0")
        with contextlib.suppress(ssl.SSLError), open_plain(server) as sock:
            trust.wrap_socket(sock, server_hostname="localhost").close()
            accepted.add(name)
    assert accepted == {
        f"ECDHE-{kind}-AES128-GCM-SHA256",
        f"ECDHE-{kind}-AES256-GCM-SHA384",
        f"ECDHE-{kind}-CHACHA20-POLY1305",
    }


def open_plain(server):
    """A bare socket to the port where TLS is spoken."""
    sock = socket.create_connection((server.host, server.tls_port), PATIENCE_S)
    OPEN.append(sock)
    return sock


# [7.tls.alpn]
def test_alpn_is_http_1_1_and_nothing_else(server):
    trust = context(server.tls)
    trust.set_alpn_protocols(["h2", "http/1.1"])
    with open_plain(server) as sock, trust.wrap_socket(sock, server_hostname="localhost") as secure:
        assert secure.selected_alpn_protocol() == "http/1.1"
    trust = context(server.tls)
    trust.set_alpn_protocols(["h2"])
    with open_plain(server) as sock, pytest.raises(ssl.SSLError):
        trust.wrap_socket(sock, server_hostname="localhost")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_is_resumed_with_its_ticket(server, version):
    trust = context(server.tls, minimum_version=version, maximum_version=version)
    request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    session = None
    for resumed in (False, True):
        with open_plain(server) as sock:
            secure = trust.wrap_socket(sock, server_hostname="localhost", session=session)
            secure.sendall(request)
            # With 1.3 tickets come behind the handshake.
            assert secure.recv(65536).startswith(b"HTTP/1.1 200 ")
            session = secure.session
            assert secure.session_reused == resumed
            secure.close()


# Who speaks it


# [7.tls.same]
def test_curl_and_npm_ws_are_served(server):
    url = f"https://localhost:{server.tls_port}/stats"
    command = ["curl", "--silent", "--show-error", "--cacert", server.tls.cert]
    command += ["--header", f"Authorization: Bearer {server.api_key}", url]
    done = subprocess.run(command, capture_output=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr
    assert b'"connections"' in done.stdout
    run_node(server, NODE_EXTRA_CA_CERTS=str(server.tls.cert))


# [7.tls.mismatch]
def test_http_without_tls_is_told_so(alone):
    with open_plain(alone) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        head, body = read_head(sock)
        while more := sock.recv(65536):
            body += more
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"use https or wss" in body
    wait_until(lambda: handshakes(alone, "plain") == 1, "it to be counted")
    assert echoes(alone)


# [7.tls.mismatch]
def test_other_bytes_without_tls_get_an_alert(alone):
    with open_plain(alone) as sock:
        sock.sendall(b"\x00" * 64)
        data = b""
        while more := sock.recv(65536):
            data += more
    assert data[:1] == b"\x15", data
    wait_until(lambda: handshakes(alone, "failed") == 1, "it to be counted")


def test_tls_where_there_is_none_is_refused_and_breaks_nobody(server):
    with (
        socket.create_connection((server.host, server.port), PATIENCE_S) as sock,
        pytest.raises(ssl.SSLError),
    ):
        context(server.tls).wrap_socket(sock, server_hostname="localhost")
    assert server.get("/healthz")[0] == 200


@pytest.mark.parametrize("hsts", ["0s", "365d"])
def test_browsers_are_told_to_stay_with_https_if_the_operator_wants_it(start, tmp_path, hsts):
    server = start({"tls": {"hsts": hsts}}, tls=Certificate(tmp_path))
    expected = f"max-age={365 * 86400}" if hsts != "0s" else None
    for path in ("/", "/healthz", "/nothing"):
        assert server.exchange("GET", path)[1].get("strict-transport-security") is None
        records = Records(server)
        records.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        lines = records.receive().partition(b"\r\n\r\n")[0].decode().lower().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:])
        assert headers.get("strict-transport-security") == expected
        records.socket.close()


# Certificates


# [7.tls.reload]
@pytest.mark.parametrize("told", [False, True])
def test_a_new_certificate_is_taken_and_nobody_is_dropped(start, tmp_path, told):
    certificate = Certificate(tmp_path)
    server = start(tls=certificate, echo=True)
    old = Records(server)
    old.upgrade()
    assert shown(server) == certificate.der
    Certificate(tmp_path)
    assert reloads(server, "taken") == 0
    if told:
        server.signal(signal.SIGHUP)
    wait_until(lambda: reloads(server, "taken") == 1, "the new certificate to be taken")
    assert shown(server) == certificate.der
    assert echoes(server)
    old.send(encode(TEXT, b"as before"))
    assert old.message() == b"as before"
    assert reloads(server, "refused") == 0


# [7.tls.reload]
@pytest.mark.parametrize("what", ["mismatch", "nonsense", "missing", "expired", "pipe"])
def test_what_is_no_good_is_not_taken_until_it_is(start, tmp_path, what):
    certificate = Certificate(tmp_path)
    server = start(tls=certificate, echo=True)
    before, key = shown(server), certificate.key.read_text()
    names = "tls.key" if what == "mismatch" else "tls.cert"
    if what == "mismatch":
        certificate.key.write_text(Certificate(tmp_path, "other").key.read_text())
    elif what == "nonsense":
        certificate.cert.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n")
    elif what == "missing":
        certificate.cert.rename(tmp_path / "away.pem")
    elif what == "pipe":
        # Nobody ever writes to it.
        certificate.cert.unlink()
        os.mkfifo(certificate.cert)
    else:
        certificate.expire()
    wait_until(lambda: reloads(server, "refused") == 1, "the new certificate to be refused")
    [line] = [line for line in server.log_lines() if "certificate is not taken" in line["message"]]
    assert names in line["error"], line
    assert what != "expired" or "has expired" in line["error"], line
    assert key.split("\n")[1] not in server.log()
    assert shown(server) == before
    certificate.cert.unlink(missing_ok=True)
    Certificate(tmp_path)
    wait_until(lambda: reloads(server, "taken") == 1, "the good certificate to be taken")
    assert shown(server) == certificate.der != before
    assert echoes(server)


def test_the_metric_tells_when_the_certificate_expires(server):
    date = subprocess.run(
        ["openssl", "x509", "-noout", "-enddate", "-in", server.tls.cert],
        capture_output=True,
        text=True,
        check=True,
    )
    expected = ssl.cert_time_to_seconds(date.stdout.strip().removeprefix("notAfter="))
    assert server.metric("clarion_tls_certificate_expiry_seconds") == expected


@pytest.mark.parametrize(
    ("damage", "names"),
    [
        (lambda c: c.cert.unlink(), "tls.cert"),
        (lambda c: c.key.unlink(), "tls.key"),
        (lambda c: c.cert.write_text(""), "tls.cert"),
        (lambda c: c.key.write_text(c.cert.read_text()), "tls.key"),
        (lambda c: c.key.write_text(Certificate(c.key.parent, "b").key.read_text()), "tls.key"),
    ],
)
def test_a_server_does_not_start_with_a_bad_certificate(tmp_path, damage, names):
    certificate = Certificate(tmp_path)
    damage(certificate)
    server = Server(tmp_path / "server", tls=certificate)
    with pytest.raises(AssertionError, match="the server ended with 1"):
        server.start()
    [line] = [line for line in server.log().splitlines() if line.startswith("clarion: ")]
    assert names in line, line
    server.process = None


def test_an_expired_certificate_is_warned_of_and_shown(start, tmp_path):
    certificate = Certificate(tmp_path)
    certificate.expire()
    server = start(tls=certificate)
    assert shown(server) == certificate.der
    assert any("has expired" in line["message"] for line in server.log_lines())


def test_with_tls_an_address_may_be_public(tmp_path):
    certificate = Certificate(tmp_path)
    tls = ["--tls-cert", certificate.cert, "--tls-key", certificate.key]
    assert run("config", "check", "--tls-listen", "0.0.0.0:443", *tls) == (0, "", "")
    status, _, error = run("config", "check", "--tls-listen", "0.0.0.0:443")
    assert (status, "tls.cert" in error) == (2, True)
    status, _, error = run("config", "check", "--listen", "0.0.0.0:80", *tls)
    assert (status, "tls.listen" in error) == (2, True)


# What a peer may do


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_records_of_one_byte_are_read(server, version):
    trust = context(server.tls, minimum_version=version, maximum_version=version)
    records = Records(server, trust)
    records.upgrade()
    text = os.urandom(600).hex().encode()
    frame = encode(TEXT, text)
    records.socket.sendall(b"".join(records.encrypt(frame[n : n + 1]) for n in range(len(frame))))
    assert records.message() == text


def test_a_record_may_come_a_byte_at_a_time(server):
    records = Records(server)
    records.upgrade()
    records.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in records.encrypt(encode(TEXT, b"slowly")):
        records.socket.sendall(bytes([byte]))
    assert records.message() == b"slowly"


def test_frames_glued_to_the_handshake_are_read(server):
    for cut in (False, True):
        records = Records(server)
        frames = b"".join(encode(TEXT, b"%d" % n) for n in range(200))
        if cut:
            records.socket.sendall(records.encrypt(HANDSHAKE) + records.encrypt(frames))
        else:
            records.send(HANDSHAKE + frames)
        data = bytearray()
        while b"\r\n\r\n" not in data:
            data += records.receive()
        del data[: data.index(b"\r\n\r\n") + 4]
        for n in range(200):
            while (frame := decode(data)) is None:
                data += records.receive()
            assert frame[2] == b"%d" % n


def test_a_message_of_a_mebibyte_comes_back_whole(server):
    records = Records(server)
    records.upgrade()
    text = os.urandom(1 << 19).hex().encode()
    records.send(encode(TEXT, text))
    assert records.message() == text


@pytest.mark.parametrize("how", ["reset", "end"])
def test_a_peer_that_dies_within_a_record_breaks_no_other(alone, how):
    def echo_count():
        return alone.metric('clarion_connections{state="echo"}')

    honest, records = Records(alone), Records(alone)
    honest.upgrade()
    records.upgrade()
    wait_until(lambda: echo_count() == 2, "both connections to be open")
    half = records.encrypt(encode(TEXT, b"x" * 5000))[:2500]
    records.socket.sendall(half)
    if how == "reset":
        records.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    records.socket.close()
    wait_until(lambda: echo_count() == 1, "the dead connection to be forgotten")
    honest.send(encode(TEXT, b"honest"))
    assert honest.message() == b"honest"
    honest.socket.close()
    wait_until(lambda: echo_count() == 0, "the other to be forgotten")


# [7.tls.close]
def test_a_record_that_was_tampered_with_ends_the_connection_with_an_alert(server):
    records = Records(server)
    records.upgrade()
    record = bytearray(records.encrypt(encode(TEXT, b"hello")))
    record[-1] ^= 1
    records.socket.sendall(record)
    with pytest.raises(ssl.SSLError, match="(?i)alert"):
        records.receive()
    assert echoes(server)


# [7.tls.close]
def test_both_ends_say_goodbye(server):
    records = Records(server)
    records.upgrade()
    records.send(encode(8, b"\x03\xe8"))
    assert records.message() == b"\x03\xe8"
    # A clean end is an empty read; without the alert it would be an error.
    assert records.receive() == b""
    # The peer's alert alone ends the connection, too, though TCP stays open.
    records = Records(server)
    records.upgrade()
    with contextlib.suppress(ssl.SSLWantReadError):
        records.session.unwrap()
    records.flush()
    records.until(records.session.unwrap)
    assert records.socket.recv(1) == b""


class Interactive:
    """`openssl s_client`, which can ask for new keys and for another handshake."""

    def __init__(self, server, version):
        command = ["openssl", "s_client", "-connect", f"{server.host}:{server.tls_port}"]
        self.process = subprocess.Popen(
            [*command, f"-{version}", "-CAfile", str(server.tls.cert)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        OPEN.append(self)
        os.set_blocking(self.process.stdout.fileno(), False)
        self.output = b""
        self.wait_for(b"Verify return code: 0 (ok)")

    def read(self):
        self.output += self.process.stdout.read() or b""
        return self.output

    def wait_for(self, text, count=1):
        wait_until(
            lambda: self.read().count(text) >= count or self.process.poll() is not None,
            f"{text} in {self.output}",
        )

    def type(self, text):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(text)
            self.process.stdin.flush()

    def close(self):
        self.process.kill()
        with contextlib.suppress(BrokenPipeError):
            self.process.communicate()

    def ended(self):
        wait_until(lambda: self.process.poll() is not None, "s_client to end")
        return self.read()


# [7.tls.renegotiation]
@pytest.mark.parametrize("upgraded", [False, True])
def test_renegotiation_is_not_to_be_had(server, upgraded):
    client = Interactive(server, "tls1_2")
    if upgraded:
        client.type(HANDSHAKE)
        client.wait_for(b"101 Switching Protocols")
    client.type(b"R\n")
    client.wait_for(b"RENEGOTIATING")
    output = client.ended()
    assert b"no renegotiation" in output, output
    assert echoes(server)


def test_a_flood_of_key_updates_ends_the_connection(server):
    client = Interactive(server, "tls1_3")
    client.type(HANDSHAKE)
    client.wait_for(b"101 Switching Protocols")
    for count in range(1, 60):
        client.type(b"K\n")
        client.wait_for(b"KEYUPDATE", count)
        if client.process.poll() is not None:
            break
    assert client.ended().endswith(b"closed\n"), client.output
    assert 32 <= client.output.count(b"KEYUPDATE") < 60
    assert echoes(server)


# [7.tls.time]
def test_a_handshake_that_stalls_is_cut_off_and_counted(start, tmp_path):
    limits = {"limits": {"handshake": "500ms"}}
    server = start(limits, tls=Certificate(tmp_path), echo=True)
    hello = ssl.MemoryBIO()
    session = context(server.tls).wrap_bio(ssl.MemoryBIO(), hello, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        session.do_handshake()
    # One says nothing, the others half of a hello.
    stalled = [open_plain(server) for _ in range(4)]
    half = hello.read()[:100]
    for sock in stalled[1:]:
        sock.sendall(half)
    wait_until(lambda: handshakes(server, "timeout") == 3, "the handshakes to be cut off")
    assert [sock.recv(1) for sock in stalled] == [b""] * 4
    assert echoes(server)


def test_more_handshakes_than_allowed_are_not_begun(start, tmp_path):
    limits = {"limits": {"handshake": "30s", "http_connections": 4}}
    server = start(limits, tls=Certificate(tmp_path), echo=True)
    # Whoever asked whether it is ready is one of the four until the server has seen its end.
    wait_until(lambda: not connections(server.port), "the question at the start to be over")
    waiting = [open_plain(server) for _ in range(4)]
    # A handshake of whoever is one too many would cost what the limit is to save.
    with open_plain(server) as sock, pytest.raises((ssl.SSLError, ConnectionError)):
        context(server.tls).wrap_socket(sock, server_hostname="localhost")
    waiting.pop().close()
    wait_until(lambda: can_shake_hands(server), "a place to be free")
    assert server.log().count("http_connections") >= 1


def connections(port):
    """Connections to a port of this machine that its server has not closed."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    established, close_wait = "01", "08"
    return [
        line
        for line in lines
        if int(line[1].rpartition(":")[2], 16) == port and line[3] in (established, close_wait)
    ]


def can_shake_hands(server):
    with contextlib.suppress(ssl.SSLError, ConnectionError):
        return echoes(server)
    return False


def test_open_socket_speaks_tls(server):
    # What the other tests over TLS rest on.
    with open_socket(server) as sock:
        assert isinstance(sock.socket, ssl.SSLSocket)
