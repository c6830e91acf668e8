"""Keys that a URL serves, and every way in which it can lie, hang or be gone, with an honest client
beside it. Protocol, section 3."""

import contextlib
import datetime
import http.server
import ipaddress
import json
import ssl
import threading
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.utils import base64url_encode
from websockets.exceptions import InvalidStatus

from support.server import run, wait_until
from support.tokens import PRIVATE, SECRETS, token

WRITERS = {"RS256": RSAAlgorithm, "ES256": ECAlgorithm, "EdDSA": OKPAlgorithm}


def jwk(alg, kid=None, private=None, **members):
    """The public half of a key as a JWK."""
    public = (private or PRIVATE[alg]).public_key()
    key = WRITERS[alg].to_jwk(public, as_dict=True)
    key.pop("key_ops", None)
    return {**key, "kid": kid or alg, "use": "sig", **members}


def key_set(*keys):
    return json.dumps({"keys": list(keys)}).encode()


class KeyServer:
    """A real HTTP server that answers what it is told to, and counts how often it is asked."""

    def __init__(self, context=None):
        self.status, self.headers, self.body = 200, {}, key_set(jwk("ES256"))
        # Cleared, it does not answer.
        self.answers = threading.Event()
        self.answers.set()
        # Set, the body comes byte by byte.
        self.drips = False
        self.asked = 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.asked += 1
                outer.answers.wait(60)
                self.send_response(outer.status)
                length = {"Content-Length": str(len(outer.body))}
                for name, value in {**length, **outer.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                with contextlib.suppress(OSError):
                    for byte in outer.body if outer.drips else ():
                        self.wfile.write(bytes([byte]))
                        time.sleep(0.05)
                    if not outer.drips:
                        self.wfile.write(outer.body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        if context:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.scheme = "https" if context else "http"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"{self.scheme}://127.0.0.1:{self.server.server_address[1]}/keys"

    def close(self):
        self.answers.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def keys():
    server = KeyServer()
    yield server
    server.close()


def settings(keys, **more):
    """Quick enough for a test: asked again after 200 ms, or when a token has an unknown `kid`."""
    auth = {
        "jwks_url": keys.url,
        "jwks_refresh": "1h",
        "jwks_cooldown": "200ms",
        "jwks_timeout": "2s",
        "keys": [{"alg": "HS256", "kid": "HS256", "secret": SECRETS["HS256"]}],
        **more,
    }
    return {"auth": auth}


def honest(server, connect):
    """A client whose key is in the settings: nothing that a URL does may matter to it."""
    session = connect(server, token=token("honest"))
    assert session.request("$ping", 1) == 1


def outcome(server, connect, text):
    """The user, or the name of the error and the close code."""
    session = connect(server, say_hello=False)
    answer = session.ask("$hello", {"token": text})
    message = session.until(lambda m: m["metadata"].get("id") == answer, "the answer to $hello")
    if message["type"] == "$welcome":
        return message["payload"]["user"]
    error = message["payload"]
    assert session.closed()[0] == error["close"]
    return error["name"], error["close"], error["temporary"]


UNKNOWN = ("unauthenticated", 4001, False)
LATER = ("unavailable", 4100, True)


def fetches(server, name):
    return server.metric(f'clarion_jwks_fetches_total{{outcome="{name}"}}')


def failed_once(server):
    wait_until(lambda: fetches(server, "failed") >= 1, "a fetch that failed")


# [3.token.jwks] [3.token.algorithms]
@pytest.mark.parametrize("alg", PRIVATE)
def test_keys_of_a_url_are_good_with_and_without_their_alg(start, connect, keys, alg):
    bare = jwk(alg)
    bare.pop("alg", None)
    keys.body = key_set(jwk("RS256", "enc", use="enc"), {"kty": "new"}, bare)
    without = settings(keys)
    del without["auth"]["keys"]
    server = start(without)
    assert outcome(server, connect, token(alg=alg)) == "ada"
    assert server.metric("clarion_jwks_keys") == 1
    # Whoever has no token is nobody: a URL is a configured key.
    assert outcome(server, connect, "") == UNKNOWN
    keys.body = key_set({**bare, "alg": alg})
    assert outcome(server, connect, token(alg=alg)) == "ada"


# [3.token.jwks]
def test_a_symmetric_key_of_a_url_is_never_used(start, connect, keys):
    secret = "everybody can read this, so it is no secret"
    raw = base64url_encode(secret.encode()).decode()
    keys.body = key_set({"kty": "oct", "kid": "oct", "alg": "HS256", "k": raw}, jwk("ES256"))
    server = start(settings(keys))
    assert outcome(server, connect, token(alg="ES256")) == "ada"
    text = token(key=secret, headers={"kid": "oct"})
    assert outcome(server, connect, text) == UNKNOWN


# [3.token.unavailable]
@pytest.mark.parametrize("own", [{"kid": "HS256"}, {}])
def test_a_rotated_key_is_fetched_when_a_token_names_it(start, connect, keys, own):
    changed = settings(keys)
    # Whatever the key of the settings is called, it is not the one that a token means.
    changed["auth"]["keys"] = [{"alg": "HS256", "secret": SECRETS["HS256"], **own}]
    server = start(changed)
    assert outcome(server, connect, token(alg="ES256")) == "ada"
    fresh = ec.generate_private_key(ec.SECP256R1())
    keys.body = key_set(jwk("ES256", "fresh", fresh))

    def good():
        text = token("bob", "ES256", key=fresh, headers={"kid": "fresh"})
        return outcome(server, connect, text) == "bob"

    wait_until(good, "the new key")
    # The old one is not served any more, so it is not good any more.
    assert outcome(server, connect, token(alg="ES256")) == UNKNOWN
    # Over HTTP, without the protocol, a client waits for keys just as well.
    newer = ed25519.Ed25519PrivateKey.generate()
    keys.body = key_set(jwk("EdDSA", "newer", newer))
    text = token("eve", "EdDSA", key=newer, headers={"kid": "newer"})

    def good_without_protocol():
        # Until the cooldown is over it is 401.
        with contextlib.suppress(InvalidStatus):
            session = connect(server, subprotocol=None, headers={"Authorization": f"Bearer {text}"})
            return session.push("$welcome")["payload"]["user"] == "eve"
        return False

    wait_until(good_without_protocol, "the newer key")


def test_unknown_kids_make_at_most_one_request_in_a_cooldown(start, connect, keys):
    server = start(settings(keys, jwks_cooldown="1h"))
    assert outcome(server, connect, token(alg="ES256")) == "ada"
    for number in range(50):
        text = token(alg="ES256", headers={"kid": f"made-up-{number}"})
        assert outcome(server, connect, text) == UNKNOWN
    assert keys.asked == 1


def test_cache_control_says_when_to_ask_again_within_bounds(start, keys):
    keys.headers = {"Cache-Control": "max-age=0"}
    server = start(settings(keys, jwks_cooldown="300ms"))
    began = time.monotonic()
    wait_until(lambda: keys.asked >= 4, "the fourth request")
    # Three cooldowns at least, however busy the machine is.
    assert time.monotonic() - began > 0.6
    keys.headers = {"Cache-Control": "max-age=31536000"}
    slow = start(settings(keys, jwks_refresh="300ms", jwks_cooldown="100ms"))
    wait_until(lambda: fetches(slow, "ok") >= 3, "requests after the refresh time")
    assert fetches(server, "failed") == 0


LIES = {
    "not_json": {"body": b"<html>sign in</html>"},
    "not_a_set": {"body": b'{"key": []}'},
    "empty": {"body": b'{"keys": []}'},
    "nothing_for_us": {"body": key_set({"kty": "oct", "k": "AAAA"})},
    "huge": {"body": key_set({"kty": "x", "n": "y" * 100_000}, jwk("ES256", "other"))},
    "not_text": {"body": b"\xff\xfe\x00"},
    "error": {"status": 500},
    "gone": {"status": 404},
    "moved": {"status": 302, "headers": {"Location": "/elsewhere"}},
    "cut": {"headers": {"Content-Length": "100000"}},
    "drips": {"drips": True},
    "garbage_head": {"headers": {"X": "y" * 30_000}},
}


@pytest.mark.parametrize("name", LIES)
def test_the_old_keys_stay_when_the_url_lies(start, connect, keys, name):
    good = keys.body
    server = start(settings(keys))
    assert outcome(server, connect, token(alg="ES256")) == "ada"
    for member, value in LIES[name].items():
        setattr(keys, member, value)
    other = token("bob", "RS256")
    # Until the cooldown is over the keys count as current.
    wait_until(lambda: outcome(server, connect, other) == LATER, "a request that fails")
    assert fetches(server, "failed") >= 1
    # Neither who is known nor who has another key hears of it.
    assert outcome(server, connect, token(alg="ES256")) == "ada"
    honest(server, connect)
    lines = [
        line for line in server.log_lines() if line["message"] == "keys for tokens not fetched"
    ]
    assert lines
    assert lines[0]["keys"] == 1
    assert "sign in" not in server.log()
    # And it comes back by itself.
    keys.status, keys.headers, keys.drips = 200, {}, False
    keys.body = good[:-2] + b"," + key_set(jwk("RS256"))[10:]
    wait_until(lambda: outcome(server, connect, other) == "bob", "the keys to come back")


# [3.token.unavailable]
def test_a_url_that_hangs_keeps_nobody_waiting_for_long(start, connect, keys):
    keys.answers.clear()
    server = start(settings(keys, jwks_timeout="700ms"))
    honest(server, connect)
    sessions = [connect(server, say_hello=False) for _ in range(20)]
    for session in sessions:
        session.send("$hello", {"token": token(alg="ES256")}, id=1)
    # They wait for one request together; those who come are served meanwhile.
    honest(server, connect)
    for session in sessions:
        error = session.receive()["payload"]
        assert (error["name"], error["temporary"]) == ("unavailable", True)
        assert session.closed()[0] == 4100
    keys.answers.set()
    wait_until(lambda: outcome(server, connect, token(alg="ES256")) == "ada", "the keys")
    assert server.metric('clarion_tokens_total{outcome="unavailable"}') >= 20


def test_a_server_starts_without_its_url_and_finds_it_later(start, connect, keys):
    keys.status = 503
    server = start(settings(keys))
    failed_once(server)
    assert outcome(server, connect, token(alg="ES256")) == LATER
    honest(server, connect)
    keys.status = 200
    wait_until(lambda: outcome(server, connect, token(alg="ES256")) == "ada", "the keys")


def test_a_key_of_the_url_cannot_pass_for_one_of_the_settings(start, connect, keys):
    evil = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    keys.body = key_set(jwk("RS256", "HS256", evil))
    server = start(settings(keys))
    wait_until(lambda: server.metric("clarion_jwks_keys") == 1, "the keys")
    honest(server, connect)
    # It is a key that the operator trusts, under whatever name.
    text = token("eve", "RS256", key=evil, headers={"kid": "HS256"})
    assert outcome(server, connect, text) == "eve"
    small = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    keys.body = key_set(jwk("RS256", "small", small), jwk("ES256"))
    assert wait_until(
        lambda: outcome(server, connect, token(alg="ES256")) == "ada", "the other key of the set"
    )
    assert server.metric("clarion_jwks_keys") == 1


def authority(directory):
    """A certificate authority of our own, and a server's certificate by it."""
    now = datetime.datetime.now(datetime.UTC)

    def certificate(subject, key, issuer, by, *extensions):
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)]))
            .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(by, hashes.SHA256())

    pem = serialization.Encoding.PEM
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca = certificate("test CA", ca_key, "test CA", ca_key, x509.BasicConstraints(True, None))
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    leaf = certificate("keys", key, "test CA", ca_key, names)
    (directory / "ca.pem").write_bytes(ca.public_bytes(pem))
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (directory / "server.pem").write_bytes(private + leaf.public_bytes(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "server.pem")
    return context, str(directory / "ca.pem")


def test_over_https_only_an_authority_that_the_machine_trusts_is_believed(start, connect, tmp_path):
    context, ca = authority(tmp_path)
    keys = KeyServer(context)
    try:
        server = start(settings(keys), env={"SSL_CERT_FILE": ca})
        assert outcome(server, connect, token(alg="ES256")) == "ada"
        (tmp_path / "other").mkdir()
        _, other = authority(tmp_path / "other")
        server = start(settings(keys), env={"SSL_CERT_FILE": other})
        failed_once(server)
        assert outcome(server, connect, token(alg="ES256")) == LATER
        assert "TLS" in server.log()
    finally:
        keys.close()


@pytest.mark.parametrize(
    "url", ["http://id.example/keys", "id.example", "https://a:b@id.example/", "file:///etc/passwd"]
)
def test_an_address_that_is_not_safe_is_refused(tmp_path, url):
    config = tmp_path / "clarion.toml"
    config.write_text(f'[auth]\njwks_url = "{url}"')
    status, _, error = run("config", "check", "--config", config)
    assert status == 2
    assert "auth.jwks_url" in error


def test_inspect_fetches_the_keys_as_the_server_does(keys, tmp_path):
    config = tmp_path / "clarion.toml"
    config.write_text(f'[auth]\njwks_url = "{keys.url}"')
    status, shown, error = run("token", "inspect", token(alg="ES256"), "--config", config)
    assert status == 0, error
    assert json.loads(shown)["user"] == "ada"
    keys.status = 500
    status, _, error = run("token", "inspect", token(alg="ES256"), "--config", config)
    assert status == 1
    assert "auth.jwks_url" in error
    assert "500" in error
