"""API keys: made, scoped, rotated and revoked while the server runs, and who did what with them."""

import json
import re
import stat

import pytest

from support.curl import call, problem
from support.disk import fill, needs_root, small_disk
from support.server import Server, run, wait_until

READS = [
    "/stats",
    "/clients",
    "/metrics",
    "/openapi.json",
    "/v1/history?room=a",
    "/v1/members?room=a",
    "/v1/rooms",
    "/v1/clients",
    "/v1/groups/users?group=a",
    "/v1/revocations",
]
PUBLISHES = {
    "/broadcast": {"type": "m"},
    "/v1/publish": {"type": "m", "metadata": {"room": "a"}},
    "/v1/publish/many": {"publications": []},
}
ACTIONS = {
    "/v1/disconnect": {"user": "nobody"},
    "/v1/kick": {"room": "a", "user": "nobody"},
    "/v1/join": {"room": "a", "user": "nobody"},
    "/v1/groups/add": {"group": "a", "user": "nobody"},
    "/v1/groups/remove": {"group": "a", "user": "nobody"},
    "/v1/revoke": {"client": "A" * 22},
}
EVERYTHING = {**dict.fromkeys(READS), **PUBLISHES, **ACTIONS}


def key(server, *command, status=0):
    """`clarion key` on the server's data directory: what it prints, or its error."""
    done, out, error = run("key", *command, "--data-dir", server.directory / "data")
    assert done == status, (out, error)
    return out.strip() if status == 0 else error


def make(server, name, scopes):
    """A key that the server has taken."""
    secret = key(server, "create", "--name", name, "--scope", scopes)
    wait_until(lambda: server.get("/stats", key=secret)[0] != 401, "the key to be taken")
    return secret


def status(server, path, secret):
    body = EVERYTHING.get(path)
    return call(server, path, key=secret, **({} if body is None else {"body": body})).status


def audited(server):
    return [line for line in server.log_lines() if line.get("message") == "audit"]


def test_a_key_is_shown_once_and_kept_as_a_digest(start):
    server = start()
    secret = make(server, "backend", "publish,read")
    assert re.fullmatch(r"clk_[A-Za-z0-9_-]{43}", secret)
    kept = server.directory / "data" / "api-keys.toml"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert secret[4:] not in kept.read_text()
    listed = key(server, "list")
    assert re.fullmatch(r"backend +publish,read +\S+Z", listed)
    assert "there is a key" in key(
        server, "create", "--name", "backend", "--scope", "read", status=1
    )
    assert "A-Z" in key(server, "create", "--name", "a b\n", "--scope", "read", status=1)
    key(server, "create", "--name", "x", "--scope", "everything", status=2)
    assert "no key" in key(server, "rotate", "nobody", status=1)
    assert secret not in server.log()


@pytest.mark.parametrize(
    ("scopes", "allowed"),
    [
        ("publish", [*PUBLISHES]),
        ("read", READS),
        ("publish,read", [*READS, *PUBLISHES]),
        ("admin", [*EVERYTHING]),
    ],
)
def test_a_key_does_what_its_scopes_say_and_nothing_else(start, scopes, allowed):
    server = start()
    secret = make(server, "some", scopes)
    for path in EVERYTHING:
        assert status(server, path, secret) == (200 if path in allowed else 403), path
    assert status(server, "/healthz", None) == 200
    if scopes == "read":
        body = {"body": ACTIONS["/v1/kick"]}
        reply = call(server, "/v1/kick", key=secret, **body)
        assert "`admin`" in problem(reply, 403, name="forbidden", temporary=False)["detail"]
        assert 'scope="admin"' in reply.headers["www-authenticate"]
        # What is asked in vain comes before whether it was well asked.
        problem(call(server, "/v1/kick", "-X", "DELETE", key=secret), 403)


def test_the_document_says_which_scope_a_path_needs(curl):
    paths = curl("/openapi.json").json["paths"]
    for wanted, group in (("read", READS), ("publish", PUBLISHES), ("admin", ACTIONS)):
        for path in group:
            [operation] = paths[path.split("?")[0]].values()
            assert operation["security"] == [{"key": [wanted]}], path
            assert "403" in operation["responses"]


def test_a_key_is_rotated_and_revoked_while_the_server_runs(start):
    server = start()
    first = make(server, "backend", "publish,read")
    envelope = {"type": "m", "metadata": {"room": "orders", "key": "order-1"}}

    def publish(secret):
        return call(server, "/v1/publish", key=secret, body=envelope)

    assert "duplicate" not in publish(first).json
    second = key(server, "rotate", "backend", "--overlap", "1h")
    wait_until(lambda: publish(second).status == 200, "the new secret")
    # The idempotency key is the name's.
    assert publish(second).json["duplicate"]
    assert publish(first).json["duplicate"]
    assert "the one before until" in key(server, "list")
    third = key(server, "rotate", "backend")
    wait_until(lambda: publish(third).status == 200, "the third secret")
    assert (publish(first).status, publish(second).status) == (401, 401)
    assert publish(third).json["duplicate"]
    key(server, "revoke", "backend")
    wait_until(lambda: publish(third).status == 401, "the end of the key")
    # Another key, though of the same right, has keys of its own.
    other = make(server, "other", "publish,read")
    assert "duplicate" not in publish(other).json
    actions = [(line["action"], line["name"]) for line in audited(server)]
    assert actions == [
        ("key_added", "backend"),
        ("key_changed", "backend"),
        ("key_changed", "backend"),
        ("key_revoked", "backend"),
        ("key_added", "other"),
    ]
    assert not any(secret in server.log() for secret in (first, second, third, other))


@pytest.mark.parametrize("damage", ["nonsense", "", None])
def test_a_broken_file_changes_nothing_but_is_told(start, damage):
    server = start()
    secret = make(server, "backend", "read")
    path = server.directory / "data" / "api-keys.toml"
    good = path.read_text()
    if damage is None:
        path.unlink()
    else:
        path.write_text(damage)

    def failing():
        return server.metric("clarion_api_keys_failing")

    if damage == "":
        # An empty file is one without keys.
        wait_until(lambda: status(server, "/stats", secret) == 401, "the end of the key")
        assert failing() == 0
        return
    wait_until(failing, "the metric")
    assert status(server, "/stats", secret) == 200
    [line] = [line for line in server.log_lines() if "cannot be read" in line["message"]]
    assert "api-keys.toml" in line["why"]
    path.write_text(good)
    wait_until(lambda: failing() == 0, "it to be read again")
    assert status(server, "/stats", secret) == 200


def test_each_key_has_a_rate_and_its_uses_are_counted(start):
    server = start({"limits": {"requests_per_s_per_key": 5}})
    secret = key(server, "create", "--name", "greedy", "--scope", "read")
    wait_until(lambda: status(server, "/stats", secret) == 200, "the key")
    reply = wait_until(
        lambda: (it := call(server, "/v1/rooms", key=secret)).status == 429 and it, "the limit"
    )
    document = problem(reply, 429, name="rate_limited", limit=5, temporary=True)
    assert int(reply.headers["retry-after"]) * 1000 == document["retry_after_ms"]
    # Others are served, and the key again after a while.
    assert status(server, "/v1/rooms", server.api_key) == 200
    wait_until(lambda: status(server, "/v1/rooms", secret) == 200, "the rate to be paid for")
    wait_until(lambda: status(server, "/v1/kick", secret) == 403, "a refusal")

    def uses(name, outcome):
        labels = f'{{key="{name}",outcome="{outcome}"}}'
        return wait_until(
            lambda: server.metric(f"clarion_api_key_requests_total{labels}"), f"{name} {outcome}"
        )

    assert uses("greedy", "allowed") >= 2
    assert uses("greedy", "limited") >= 1
    assert uses("greedy", "forbidden") == 1
    assert uses("default", "allowed") >= 1
    limit = 'clarion_limits_total{limit="requests_per_s_per_key"}'
    assert wait_until(lambda: server.metric(limit), "the limit's count") >= 1


@pytest.mark.parametrize("format", ["json", "human"])
def test_who_did_what_is_on_record_in_log_and_file(start, connect, tmp_path, format):
    path = tmp_path / "audit.jsonl"
    settings = {
        "log": {"level": "error", "format": format},
        "audit": {"file": str(path)},
        "origins": {"allowed": []},
    }
    server = start(settings)
    session = connect(server)
    session.join("general")
    user = session.welcome["user"]
    reader = make(server, "reader", "read")
    server.api("/v1/kick", {"room": "general", "user": user, "reason": "sesame"})
    server.api("/v1/groups/add", {"group": "staff", "user": "ada"})
    status(server, "/v1/disconnect", reader)
    # What does not belong there: lines of its own, what moves a cursor, what is endless.
    odd = 'x\n{"message":"audit","key":"forged"}\r\x1b[2J\u202e' + "y" * 500
    call(server, "/v1/kick", key=server.api_key, body={"room": "a", "user": odd})
    call(server, "/v1/kick", key=server.api_key, body="sesame")
    server.api("/stats")
    lines = path.read_text().splitlines()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    records = [json.loads(line) for line in lines]
    assert all(re.fullmatch(r"\S{23}Z", record.pop("time")) for record in records)
    assert all(
        record.pop("address").startswith("127.0.0.1:") for record in records if "key" in record
    )
    by = {"key": "default"}
    assert records == [
        {"action": "key_added", "name": "reader"},
        {**by, "action": "kick", "room": "general", "user": user, "status": 200, "affected": 1},
        {
            **by,
            "action": "groups/add",
            "group": "staff",
            "user": "ada",
            "status": 200,
            "affected": 1,
        },
        {"key": "reader", "action": "disconnect", "status": 403},
        {**by, "action": "kick", "room": "a", "user": records[4]["user"], "status": 400},
        {**by, "action": "kick", "status": 400},
    ]
    # What turns the direction of a line is not shown; what JSON escapes is kept.
    assert odd.replace("\u202e", "\ufffd").startswith(records[4]["user"])
    assert len(records[4]["user"].encode()) <= 128
    wait_until(lambda: server.log().count("groups/add") == 1, "the log")
    wait_until(lambda: server.log().count("status") >= 5, "all of the log")
    log = [line for line in server.log().splitlines() if "audit" in line]
    assert len(log) == len(records)
    for line in [*log, *lines]:
        assert not re.search(r"[\x00-\x1f\x7f]", line), line
    if format == "json":
        told = [json.loads(line) for line in log]
        for line, record in zip(told, records, strict=True):
            assert {name: line.get(name) for name in record} == record
    for text in (server.log(), path.read_text()):
        assert "sesame" not in text
        assert reader not in text
        assert server.api_key not in text


@needs_root
def test_a_line_that_a_full_disk_cut_short_takes_no_other_with_it(start, tmp_path):
    disk = tmp_path / "disk"
    with small_disk(disk):
        path, filler = disk / "audit.jsonl", disk / "filler"
        server = start({"audit": {"file": str(path)}})

        def kick(room):
            server.api("/v1/kick", {"room": room, "user": "nobody"})
            return server.metric("clarion_audit_failures_total")

        kick("first")
        fill(filler)
        # What is in its last page fits.
        wait_until(lambda: kick("many") > 0, "the disk to be full")
        filler.unlink()
        assert kick("last") == 1
        lines = path.read_text().splitlines()
        assert [json.loads(lines[at])["room"] for at in (0, -1)] == ["first", "last"]
        torn = [line for line in lines if not line.endswith("}")]
        assert len(torn) == 1
        server.kill()


def test_an_audit_file_that_cannot_be_is_said_at_start(tmp_path):
    status, _, error = run(
        *("serve", "--listen", "127.0.0.1:0", "--data-dir", tmp_path / "data"),
        env={"CLARION_AUDIT__FILE": str(tmp_path / "no" / "audit")},
    )
    assert status == 1
    assert error.startswith("clarion: audit.file: ")


def test_the_key_of_an_older_version_stays_good(tmp_path):
    server = Server(tmp_path)
    server.api_key = ""
    (tmp_path / "data").mkdir(mode=0o700)
    plain = tmp_path / "data" / "api-key"
    plain.write_text("a-key-of-an-older-version\n")
    plain.chmod(0o600)
    server.start()
    assert "API key" not in server.log()
    assert status(server, "/v1/kick", "a-key-of-an-older-version") == 200
    server.stop()
    assert "delete the file" in server.log()
    plain.unlink()
    server.start()
    assert status(server, "/v1/kick", "a-key-of-an-older-version") == 200
    server.stop()


def test_without_a_server_keys_are_made_for_the_one_to_come(tmp_path):
    server = Server(tmp_path)
    server.api_key = ""
    secret = key(server, "create", "--name", "first", "--scope", "admin")
    server.start()
    assert "made now" not in server.log()
    assert status(server, "/stats", secret) == 200
    server.stop()


def test_a_first_start_that_fails_makes_no_key_that_nobody_sees(start, tmp_path):
    busy = start()
    server = Server(tmp_path / "second")
    data = tmp_path / "second" / "data"
    status, out, _ = run("serve", "--listen", busy.address, "--data-dir", data)
    assert (status, out) == (1, "")
    server.api_key = ""
    server.start()
    secret = server.printed_key()
    assert server.get("/stats", key=secret)[0] == 200
    server.stop()
