"""Tokens of a library that is not ours against the real binary: every algorithm, every place that a
token can be in, and every way of being a bad one. Protocol, section 3."""

import json
import re
import subprocess
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import jwt
import pytest
from websockets.exceptions import InvalidStatus

from support.server import BINARY, PATIENCE_S, environment, run
from support.tokens import ALGORITHMS, PRIVATE, SECRETS, key_settings, own_token, public_pem, token

AUTH = {
    "keys": key_settings(),
    "audience": ["chat"],
    "issuer": "https://id.example",
    "query_token": True,
    "cookie": "session",
}


def good(user="ada", alg="HS256", **claims):
    return token(user, alg, **{"aud": "chat", "iss": "https://id.example", **claims})


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    from support.server import Server

    server = Server(tmp_path_factory.mktemp("guarded"), {"auth": AUTH, "log": {"level": "debug"}})
    server.start()
    yield server
    server.stop()


def refused_in_protocol(session, **hello):
    error = session.refused("$hello", hello)
    assert (error["code"], error["name"], error["close"]) == (401, "unauthenticated", 4001)
    assert session.closed()[0] == 4001
    return error["message"]


# Where a token is


def placed(place, text, server):
    """Options of a connection that brings a token in this place."""
    origin = {"Origin": f"http://{server.address}"}
    return {
        "header": {"headers": {"Authorization": f"Bearer {text}"}},
        "query": {"path": f"/ws?token={text}"},
        "cookie": {"headers": {"Cookie": f"a=b; session={text}", **origin}},
    }[place]


# [3.token.algorithms] [3.token.kid]
@pytest.mark.parametrize("alg", ALGORITHMS)
def test_every_algorithm_is_good_in_hello(guarded, connect, alg):
    session = connect(guarded, token=good(alg=alg))
    assert session.welcome["user"] == "ada"


# [3.credentials.order]
@pytest.mark.parametrize("place", ["header", "query", "cookie"])
def test_a_token_of_the_handshake_is_good_with_and_without_the_protocol(guarded, connect, place):
    session = connect(guarded, **placed(place, good("bob", "ES256"), guarded))
    assert session.welcome["user"] == "bob"
    # Without subprotocol the handshake settles it, and nothing is asked for.
    options = placed(place, good("bob", "RS256"), guarded)
    bare = connect(guarded, subprotocol=None, **options)
    assert bare.push("$welcome")["payload"]["user"] == "bob"


# [3.credentials.order]
def test_hello_is_over_header_over_query_over_cookie(guarded, connect):
    everything = {
        "path": f"/ws?token={good('query')}",
        "headers": {
            "Authorization": f"Bearer {good('header')}",
            "Cookie": f"session={good('cookie')}",
            "Origin": f"http://{guarded.address}",
        },
    }
    assert connect(guarded, **everything, token=good("hello")).welcome["user"] == "hello"
    assert connect(guarded, **everything).welcome["user"] == "header"
    del everything["headers"]["Authorization"]
    assert connect(guarded, **everything).welcome["user"] == "query"
    del everything["path"]
    assert connect(guarded, **everything).welcome["user"] == "cookie"


# [3.credentials.order]
def test_a_cookie_counts_only_with_an_allowed_origin(guarded, connect):
    cookie = {"Cookie": f"session={good()}"}
    # A program sends no Origin; it is nobody here.
    assert "guests" in refused_in_protocol(connect(guarded, say_hello=False, headers=cookie))
    with pytest.raises(InvalidStatus) as refused:
        connect(guarded, headers={**cookie, "Origin": "https://evil.example"})
    assert refused.value.response.status_code == 403


# [3.credentials.order]
def test_query_and_cookie_are_off_by_default(start, connect):
    server = start()
    text = own_token(server)
    for place in ("query", "cookie"):
        session = connect(server, **placed(place, text, server))
        assert session.welcome["user"].startswith("guest:"), place


# [3.credentials.invalid] [6.upgrade] [7.refusals]
@pytest.mark.parametrize("place", ["header", "query", "cookie"])
def test_a_bad_token_is_refused_where_the_client_can_hear_it(guarded, connect, place):
    for text in (good(exp=1), "nonsense", ""):
        options = placed(place, text, guarded)
        message = refused_in_protocol(connect(guarded, say_hello=False, **options))
        assert "token" in message
        with pytest.raises(InvalidStatus) as refused:
            connect(guarded, subprotocol=None, **options)
        response = refused.value.response
        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"] == "Bearer"
        problem = json.loads(response.body)
        assert (problem["name"], problem["detail"]) == ("unauthenticated", message)


# [3.credentials.invalid]
def test_a_token_that_is_there_twice_is_refused(guarded, connect):
    text = good()
    for options in (
        {"path": f"/ws?token={text}&token={text}"},
        {"headers": [("Authorization", f"Bearer {text}"), ("Authorization", f"Bearer {text}")]},
    ):
        with pytest.raises(InvalidStatus) as refused:
            connect(guarded, **options)
        assert refused.value.response.status_code == 400


# What is wrong with it


def confused():
    """A token signed with the public key of RS256 taken for a secret."""
    pem = public_pem(PRIVATE["RS256"]).encode()
    # PyJWT will not sign with such a secret, so it is told that it is none.
    plain = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    head, body, _ = jwt.encode(
        {"sub": "ada", "exp": 4_000_000_000}, "x" * 32, "HS256", headers={"kid": "RS256"}
    ).split(".")
    signature = plain.sign(f"{head}.{body}".encode(), pem)
    return f"{head}.{body}.{jwt.utils.base64url_encode(signature).decode()}"


def unsigned():
    claims = {"sub": "ada", "exp": 4_000_000_000, "aud": "chat", "iss": "https://id.example"}
    return jwt.encode(claims, None, "none")


BAD = {
    "none": (unsigned, "alg"),
    "confused": (confused, "alg"),
    "other_algorithm": (
        lambda: good(alg="HS512", key=SECRETS["HS512"], headers={"kid": "HS256"}),
        "alg",
    ),
    "other_key": (lambda: good(key="x" * 32), "signature"),
    "unknown_kid": (lambda: good(headers={"kid": "HS257"}), "kid"),
    "kid_is_a_path": (lambda: good(headers={"kid": "../../dev/null"}), "kid"),
    "expired": (lambda: good(exp=int(time.time()) - 31), "expired"),
    "future": (lambda: good(nbf=int(time.time()) + 300), "nbf"),
    "issued_later": (lambda: good(iat=int(time.time()) + 300), "iat"),
    "no_exp": (lambda: good(exp=None), "exp"),
    "exp_text": (lambda: _raw({"exp": "4000000000"}), "exp"),
    "exp_ms": (lambda: good(exp=int(time.time() * 1000) + 60_000), "exp"),
    "audience": (lambda: good(aud="other"), "aud"),
    "no_audience": (lambda: good(aud=None), "aud"),
    "issuer": (lambda: good(iss="https://evil.example"), "iss"),
    "no_issuer": (lambda: good(iss=None), "iss"),
    "critical": (lambda: good(headers={"kid": "HS256", "crit": ["exp"]}), "crit"),
    "guest": (lambda: good("guest:ada"), "guest:"),
    "no_user": (lambda: _raw({"sub": None}), "sub"),
    "user_is_a_path": (lambda: good("../ada"), "sub"),
    "rooms": (lambda: good(rooms={"chat-*": ["join"]}), "rooms"),
    "groups": (lambda: good(groups=["a/b"]), "groups"),
    "huge": (lambda: good(info={"x": "y" * 9000}), "8192"),
    "encrypted": (lambda: "a.b.c.d.e", "JWE"),
    "two_parts": (lambda: good().rpartition(".")[0], "parts"),
    "no_signature": (lambda: good().rpartition(".")[0] + ".", "signature"),
    "cut": (lambda: good()[:-1], "signature"),
}


def _raw(changes):
    """A token of claims that PyJWT would not write."""
    now = int(time.time())
    claims = {"sub": "ada", "exp": now + 60, "aud": "chat", "iss": "https://id.example"}
    payload = json.dumps({**claims, **changes}).encode()
    return jwt.api_jws.PyJWS().encode(payload, SECRETS["HS256"], "HS256", headers={"kid": "HS256"})


# [3.credentials.invalid] [3.token.key] [3.token.malformed]
@pytest.mark.parametrize("name", BAD)
def test_a_bad_token_is_refused_with_the_reason_and_others_are_served(guarded, connect, name):
    make, reason = BAD[name]
    honest = connect(guarded, token=good("honest"))
    message = refused_in_protocol(connect(guarded, say_hello=False), token=make())
    assert reason in message
    assert honest.request("$ping", 1) == 1


# What it says


# [3.token.info] [3.token.groups] [3.token.time]
def test_what_a_token_says_is_what_others_see(guarded, connect, room):
    exp = int(time.time()) + 600
    text = good(name="Ada", info={"colour": "red"}, groups=["staff"], exp=exp)
    ada = connect(guarded, token=text)
    assert ada.push("$joined", "$group/staff")
    leeway_s = 30
    assert ada.welcome["expires_at"].startswith(time.strftime("%FT%T", time.gmtime(exp + leeway_s)))
    bob = connect(guarded, token=good("bob"))
    bob.join(room)
    ada.join(room)
    ada.publish(room, "hi")
    sender = bob.publications(room, 1)[0]["metadata"]["from"]
    assert (sender["user"], sender["info"]) == ("ada", {"name": "Ada", "colour": "red"})


# [3.refresh]
def test_a_token_is_refreshed_in_place_and_only_by_the_same_users(guarded, connect):
    session = connect(guarded, token=good())
    later = int(time.time()) + 7200
    reply = session.request("$refresh", {"token": good(exp=later, alg="EdDSA")})
    assert reply["expires_at"] > session.welcome["expires_at"]
    assert session.refused("$refresh", {"token": good("bob")})["name"] == "forbidden"
    assert session.refused("$refresh", {"token": good(exp=1)})["name"] == "unauthenticated"
    assert session.request("$ping", 1) == 1


# [3.guest.loopback]
def test_guests_are_off_where_keys_are_set_and_on_where_they_are_not(guarded, start, connect):
    assert "guests" in refused_in_protocol(connect(guarded, say_hello=False))
    server = start({"auth": {"keys": key_settings()[:1], "guests": "loopback"}})
    assert connect(server).welcome["user"].startswith("guest:")
    # On a fresh server guests and the key of its data directory are both good.
    fresh = start()
    assert connect(fresh).welcome["user"].startswith("guest:")
    assert connect(fresh, token=own_token(fresh)).welcome["user"] == "ada"


# [3.guest.loopback]
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Forwarded-For", "192.0.2.1"),
        ("Forwarded", "for=192.0.2.1"),
        ("X-Real-IP", "192.0.2.1"),
        ("Via", "1.1 proxy"),
    ],
)
def test_whoever_comes_through_a_proxy_of_this_machine_is_not_on_it(server, connect, name, value):
    session = connect(server, say_hello=False, headers={name: value})
    assert "guests" in refused_in_protocol(session)
    session = connect(server, headers={name: value}, token=own_token(server))
    assert session.welcome["user"] == "ada"


# The operator


# [7.secret]
def test_neither_tokens_nor_keys_are_logged_or_printed(guarded, connect):
    sent = [good(), good(exp=1), good(headers={"kid": "sesame"})]
    for text in sent:
        for options in (
            {"headers": {"Authorization": f"Bearer {text}"}},
            {"path": f"/ws?token={text}"},
        ):
            connect(guarded, say_hello=False, **options).send("$hello", {})
        connect(guarded, say_hello=False).send("$hello", {"token": text})
    connect(guarded, token=good()).fence()
    log = guarded.log()
    for text in sent:
        for part in text.split("."):
            assert part not in log
    assert "sesame" not in log
    _, printed, _ = run("config", "print", "--config", guarded.directory / "clarion.toml")
    for secret in SECRETS.values():
        assert secret not in log
        assert secret not in printed


def test_outcomes_are_counted(guarded, connect):
    def count(outcome):
        return guarded.metric(f'clarion_tokens_total{{outcome="{outcome}"}}')

    before = {name: count(name) for name in ("accepted", "expired", "signature", "issuer")}
    connect(guarded, token=good())
    for text in (good(exp=1), good(key="x" * 32), good(iss="x")):
        refused_in_protocol(connect(guarded, say_hello=False), token=text)
    for name, value in before.items():
        assert count(name) == value + 1, name


# [3.token.weak]
@pytest.mark.parametrize(
    ("key", "rule"),
    [
        ({"alg": "HS256", "secret": "x" * 31}, "at least 32 bytes"),
        ({"alg": "HS512", "secret": "x" * 63}, "at least 64 bytes"),
        ({"alg": "none", "secret": "x" * 32}, "alg is one of"),
        ({"alg": "RS256", "secret": "x" * 64}, "public key"),
        ({"alg": "HS256", "public_key": public_pem(PRIVATE["RS256"])}, "secret"),
        ({"alg": "ES256", "public_key": public_pem(PRIVATE["RS256"])}, "no public key for this"),
        ({"alg": "RS256", "public_key": "hello"}, "BEGIN PUBLIC KEY"),
        ({"alg": "HS256"}, "exactly one of"),
        ({"alg": "HS256", "secret": "x" * 32, "secret_file": "/x"}, "exactly one of"),
    ],
)
def test_a_key_that_cannot_be_is_refused_by_name(tmp_path, key, rule):
    lines = ["[[auth.keys]]", *(f"{name} = {json.dumps(value)}" for name, value in key.items())]
    config = tmp_path / "clarion.toml"
    config.write_text("\n".join(lines))
    status, _, error = run("config", "check", "--config", config)
    assert status == 2
    assert "auth.keys[0]" in error
    assert rule in error
    assert "x" * 31 not in error


def test_keys_can_be_in_files_that_only_the_server_reads(start, connect, tmp_path):
    secret, public = tmp_path / "secret", tmp_path / "public.pem"
    secret.write_text(SECRETS["HS384"] + "\n")
    secret.chmod(0o644)
    public.write_text(public_pem(PRIVATE["EdDSA"]))
    keys = [
        {"alg": "HS384", "secret_file": str(secret)},
        {"alg": "EdDSA", "public_key_file": str(public)},
    ]
    server = start({"auth": {"keys": keys}})
    for alg in ("HS384", "EdDSA"):
        assert connect(server, token=token(alg=alg)).welcome["user"] == "ada"
    assert "can read this key" in server.log()
    # And one that is not there is named.
    config = tmp_path / "clarion.toml"
    config.write_text('[[auth.keys]]\nalg = "HS256"\nsecret_file = "/nowhere/secret"')
    for command in (("serve", "--data-dir", tmp_path / "d"), ("config", "check")):
        status, _, error = run(*command, "--config", config)
        assert status != 0
        assert "auth.keys[0]" in error
        assert "/nowhere/secret" in error


# `clarion token`


def test_a_fresh_install_makes_tokens_at_once(start, connect):
    server = start()
    data = server.directory / "data"
    assert (data / "token-key").stat().st_mode & 0o777 == 0o600
    status, made, error = run(
        *("token", "create", "--data-dir", data, "--user", "ada", "--name", "Ada Lovelace"),
        *("--group", "staff", "--room", "chat/**=join,publish", "--ttl", "10m"),
    )
    assert status == 0, error
    text = made.strip()
    session = connect(server, token=text)
    assert session.welcome["user"] == "ada"
    assert session.push("$joined", "$group/staff")

    status, shown, error = run("token", "inspect", text, "--data-dir", data)
    assert status == 0, error
    claims = json.loads(shown)
    assert (claims["user"], claims["info"]) == ("ada", {"name": "Ada Lovelace"})
    assert claims["rooms"] == {"chat/**": ["join", "publish"]}
    assert 0 < claims["expires_in_ms"] <= 630_000
    # From the standard input, too; and what is wrong with one is said.
    done = subprocess.run(
        [BINARY, "token", "inspect", "--data-dir", data],
        input=text[:-2],
        env=environment({}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "signature" in done.stderr
    assert text[:-2] not in done.stderr


def test_what_cannot_be_made_is_said(tmp_path):
    create = ("token", "create", "--user", "ada")
    status, _, error = run(*create, "--data-dir", tmp_path)
    assert status == 1
    for hint in ("token-key", "--data-dir", "--secret-file"):
        assert hint in error
    secret = tmp_path / "secret"
    secret.write_text("short")
    assert "at least 32 bytes" in run(*create, "--secret-file", secret)[2]
    secret.write_text("s" * 64)
    for option in (("--user", "guest:x"), ("--group", "a/b"), ("--room", "a-*=join")):
        status, _, error = run("token", "create", "--user", "a", *option, "--secret-file", secret)
        assert status in (1, 2), option
    assert "`rooms`" in error
    status, made, _ = run(*create, "--secret-file", secret, "--alg", "HS512", "--kid", "k")
    assert status == 0
    assert jwt.decode(made.strip(), "s" * 64, ["HS512"])["sub"] == "ada"
    assert jwt.get_unverified_header(made.strip())["kid"] == "k"
    public = tmp_path / "clarion.toml"
    public.write_text(
        f'[[auth.keys]]\nalg = "EdDSA"\npublic_key = """{public_pem(PRIVATE["EdDSA"])}"""'
    )
    assert "public keys only" in run(*create, "--config", public)[2]


def test_a_token_of_the_configured_key_fits_its_audience_and_issuer(guarded, connect):
    config = guarded.directory / "clarion.toml"
    status, made, error = run("token", "create", "--config", config, "--user", "ada")
    assert status == 0, error
    assert connect(guarded, token=made.strip()).welcome["user"] == "ada"


def test_sub_and_pub_show_a_token(guarded, room):
    text = good(name="Ada")
    url = guarded.ws()
    status, _, error = run("pub", url, room, "m", "1", "--token", text)
    assert status == 0, error
    status, _, error = run("pub", url, room, "m", "1", env={"CLARION_TOKEN": text})
    assert status == 0, error
    status, _, error = run("pub", url, room, "m", "1", "--token", good(exp=1))
    assert status != 0
    assert "the token has expired" in error
    assert "guests are not allowed" in run("pub", url, room, "m", "1")[2]


# docs/tokens.md

PAGE = (Path(__file__).parents[2] / "docs" / "tokens.md").read_text()
NODE = Path(__file__).parent / "node"


def example(language):
    """The only example in this language."""
    [code] = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return code


def test_the_example_in_python_makes_good_tokens(start, connect, monkeypatch):
    server = start()
    monkeypatch.chdir(server.directory)
    names = {}
    exec(compile(example("python"), "docs/tokens.md", "exec"), names)  # noqa: S102
    made = names["chat_token"](SimpleNamespace(id="ada", name="Ada"))
    assert connect(server, token=made).welcome["user"] == "ada"


def test_the_example_in_node_makes_good_tokens(start, connect, tmp_path):
    server = start()
    script = tmp_path / "example.mjs"
    # The page's code, with an `app` that asks once.
    app = """
const app = { get: (_, handler) => handler(
  { user: { id: 'ada', name: 'Ada' } },
  { type: () => ({ send: (token) => console.log(token) }) },
) };
"""
    script.write_text(app + example("js"))
    (tmp_path / "node_modules").symlink_to(NODE / "node_modules")
    done = subprocess.run(
        ["node", script], cwd=server.directory, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    session = connect(server, token=done.stdout.strip())
    assert session.welcome["user"] == "ada"


# The TypeScript client

SDK = Path(__file__).parents[2] / "sdks" / "typescript"
# Begins with the first token of its arguments if there is one, fetches the others one after the
# other, and says what it was asked for.
ASKS = """
import { Client } from './client.mjs';
import WebSocket from 'ws';

const [url, token, ...tokens] = process.argv.slice(2);
const say = (line) => console.log(JSON.stringify(line));
const client = new Client(url, {
  WebSocket,
  ...(token && { token }),
  backoff: { initial: 10 },
  getToken: (reason) => {
    say({ reason });
    const token = tokens.shift();
    // Nobody answers.
    return token === '-' ? new Promise(() => {}) : token;
  },
});
client.on('state', ({ state, reason }) => say({ state, reason, user: client.session?.user }));
client.connect();
"""


@pytest.fixture
def typescript(tmp_path):
    """Starts the client in Node with these tokens; gives what it says, line by line."""
    subprocess.run(
        [
            *(SDK / "node_modules/.bin/esbuild", SDK / "src/index.ts", "--bundle"),
            *("--format=esm", "--platform=node", f"--outfile={tmp_path / 'client.mjs'}"),
        ],
        capture_output=True,
        check=True,
    )
    (tmp_path / "asks.mjs").write_text(ASKS)
    (tmp_path / "node_modules").symlink_to(NODE / "node_modules")
    processes = []

    def start(*arguments):
        process = subprocess.Popen(
            ["node", tmp_path / "asks.mjs", *arguments], stdout=subprocess.PIPE, text=True
        )
        # What waits for a line that does not come ends with it.
        timer = threading.Timer(PATIENCE_S, process.kill)
        timer.start()
        processes.append((process, timer))
        return (json.loads(line) for line in process.stdout)

    yield start
    for process, timer in processes:
        timer.cancel()
        process.kill()
        process.wait()
        process.stdout.close()


def reasons(lines, until):
    """What tokens were asked for up to the line that is wanted, that included."""
    found = []
    for line in lines:
        if "reason" in line and "state" not in line:
            found.append(line["reason"])
        if until(line, found):
            return found
    raise AssertionError(f"it ended after {found}")


# [4.refresh] [6.back]
def test_the_typescript_client_fetches_tokens_when_it_needs_them(start, connect, typescript):
    keys = [{"alg": "HS256", "secret": SECRETS["HS256"]}]
    server = start({"auth": {"keys": keys, "leeway": "0s"}})
    now = int(time.time())

    def connected(line, _):
        return line.get("state") == "connected"

    # One that is refused is fetched anew, since it may only be old.
    lines = typescript(server.ws(), token(exp=now - 1), token("ada"))
    assert reasons(lines, connected) == ["expired"]

    # One that ends in a minute is asked for anew while the connection goes on.
    lines = typescript(server.ws(), "", token("bob", exp=now + 62), token("bob", exp=now + 3600))
    asked = reasons(lines, lambda _, found: "refresh" in found)
    assert asked == ["connect", "refresh"]
    [session] = [s for s in server.api("/v1/clients?user=bob")["clients"] if s["user"] == "bob"]
    connect(server, token=token("watcher")).fence()
    [same] = server.api("/v1/clients?user=bob")["clients"]
    assert same["client"] == session["client"]
    assert same["connected_at"] == session["connected_at"]

    # One that ends and brings no other in time costs the connection, which comes back with another.
    short = token("eve", exp=now + 4)
    lines = typescript(server.ws(), "", short, "-", token("eve", exp=now + 3600))
    assert reasons(lines, lambda _, found: "expired" in found)[0] == "connect"
    assert reasons(lines, connected) == []
