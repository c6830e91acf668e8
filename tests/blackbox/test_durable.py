"""Rooms whose log survives the process: what was acknowledged is there after kill -9."""

import json
import os
import stat
import subprocess

import pytest

from power import strace
from support.disk import fill, needs_root, small_disk
from support.server import BINARY, Server, run, wait_until
from support.tokens import own_token

DURABLE = {"rooms": [{"match": "kept/**", "log": "durable"}], "limits": {"publish_per_s": 0}}


# [1.log.kinds] [3.publish] [5.3]
def test_what_was_acknowledged_survives_kill_9(start, connect):
    server = start(DURABLE)
    ada = connect(server)
    ids = [ada.ask("m", n, room="kept/a", key=f"k{n}") for n in range(200)]
    places = [ada.answer(id) for id in ids]
    assert [place["offset"] for place in places] == list(range(1, 201))
    position = {"epoch": places[0]["epoch"], "offset": 50}
    server.kill()
    server.start()

    bob = connect(server)
    joined = bob.join("kept/a", after=position)
    assert joined["recovered"] is True
    assert (joined["epoch"], joined["offset"]) == (position["epoch"], 200)
    missed = bob.publications("kept/a", 150)
    assert [message["payload"] for message in missed] == list(range(50, 200))
    # The log goes on where it was, with the same epoch.
    after = bob.publish("kept/a", "after")
    assert (after["epoch"], after["offset"]) == (position["epoch"], 201)
    # A room in memory is another log after a restart.
    assert bob.join("other")["offset"] == 0


# [5.1.unmade] [5.2.all] [5.7.resume]
def test_nothing_was_missed_where_nothing_was_published_over_a_restart(start, connect):
    settings = {"rooms": [*DURABLE["rooms"], {"match": "$user/*", "log": "durable"}]}
    server = start(settings)
    token = own_token(server, "ada")
    ada = connect(server, token=token)
    own = ada.push("$joined", "$user/ada")["payload"]
    places = {"kept/empty": ada.join("kept/empty"), "$user/ada": own}
    after = {
        room: {"after": {name: place[name] for name in ("epoch", "offset")}}
        for room, place in places.items()
    }
    server.kill()
    server.start()
    ada = connect(server, token=token, rooms=after)
    for room in places:
        joined = ada.push("$joined", room)["payload"]
        assert joined["recovered"] is True, room
        assert joined["epoch"] == places[room]["epoch"]
        # Nor is the first publication another log's.
        envelope = {"type": "m", "payload": 1, "metadata": {"room": room}}
        assert server.api("/broadcast", envelope)["epoch"] == joined["epoch"]


# [5.4.key]
def test_a_key_is_remembered_over_a_restart(start):
    server = start(DURABLE)
    envelope = {"type": "m", "payload": 1, "metadata": {"room": "kept/a", "key": "once"}}
    first = server.api("/broadcast", envelope)
    server.kill()
    server.start()
    again = server.api("/broadcast", envelope)
    assert (again["offset"], again["epoch"]) == (first["offset"], first["epoch"])
    page = server.api("/v1/history?room=kept/a&limit=10")
    assert len(page["publications"]) == 1


def test_a_killed_server_loses_nothing_acknowledged_while_it_was_busy(start, connect):
    server = start(DURABLE)
    for round_ in range(3):
        ada = connect(server)
        acknowledged = {}
        ids = [ada.ask("m", f"{round_}.{n}", room=f"kept/{round_}") for n in range(500)]
        # In the middle of it.
        for id, n in zip(ids[: 100 + 100 * round_], range(500), strict=False):
            acknowledged[ada.answer(id)["offset"]] = f"{round_}.{n}"
        server.kill()
        server.start()
        bob = connect(server)
        joined = bob.join(f"kept/{round_}", last=1000)
        kept = bob.publications(f"kept/{round_}", joined["offset"])
        found = {message["metadata"]["offset"]: message["payload"] for message in kept}
        assert acknowledged.items() <= found.items()


def test_two_servers_do_not_share_a_data_directory(start):
    server = start(DURABLE)
    config, data = server.directory / "clarion.toml", server.directory / "data"
    status, _, error = run("serve", "--config", config, "--data-dir", data)
    assert status == 1
    assert "clarion.db" in error


def test_a_damaged_file_is_refused_with_the_commands_that_help(start):
    server = start(DURABLE)
    for n in range(50):
        server.api("/broadcast", {"type": "m", "payload": n, "metadata": {"room": "kept/a"}})
    server.stop()
    file = next(server.directory.rglob("clarion.db"))
    status, out, _ = run("store", "check", "--data-dir", file.parent)
    assert status == 0, out
    assert "1 rooms, 50 publications" in out
    bytes_ = bytearray(file.read_bytes())
    bytes_[:4096] = os.urandom(4096)
    file.write_bytes(bytes_)
    config = server.directory / "clarion.toml"
    status, _, error = run("serve", "--config", config, "--data-dir", file.parent)
    assert status == 1
    assert "clarion store check" in error
    status, out, error = run("store", "check", "--data-dir", file.parent)
    assert status == 1, out + error


def test_a_durable_room_needs_a_store_that_survives(tmp_path):
    config = tmp_path / "clarion.toml"
    config.write_text('[[rooms]]\nmatch = "**"\nlog = "durable"\n')
    status, _, error = run("config", "check", "--config", config, "--store", "memory")
    assert status == 2
    assert "rooms[0].log" in error
    assert run("config", "check", "--config", config) == (0, "", "")


@needs_root
def test_a_full_disk_is_unavailable_and_heals(start, connect, tmp_path):
    # Where the first server keeps its data.
    disk = tmp_path / "server0" / "data"
    with small_disk(disk):
        server = start(DURABLE)
        ada = connect(server)
        filler = disk / "filler"
        filler.write_bytes(b"x" * (900 << 10))
        refused = None
        for n in range(200):
            id = ada.ask("m", "x" * 20_000, room="kept/a")
            message = ada.until(lambda m, id=id: m["metadata"].get("id") == id, "an answer")
            if message["type"] == "$error":
                refused = message["payload"]
                break
            kept = n + 1
        assert refused is not None
        assert (refused["name"], refused["temporary"]) == ("unavailable", True)
        wait_until(lambda: server.get("/readyz")[0] == 503, "not ready")
        assert server.metric("clarion_store_failing") == 1
        # Everything else goes on.
        assert ada.publish("memory", 1)["offset"] == 1
        filler.unlink()

        def healed():
            id = ada.ask("m", "small", room="kept/a")
            message = ada.until(lambda m, id=id: m["metadata"].get("id") == id, "an answer")
            return message["type"] == "$reply"

        wait_until(healed, "a publication that is kept")
        wait_until(lambda: server.get("/readyz")[0] == 200, "ready")
        page = ada.request("$history", {"limit": 1}, room="kept/a")
        assert page["offset"] >= kept + 1
        server.stop()


@needs_root
def test_a_first_start_on_a_full_disk_leaves_nothing_in_the_way(tmp_path):
    server = Server(tmp_path)
    disk = tmp_path / "data"
    with small_disk(disk):
        filler = disk / "filler"
        fill(filler)
        with pytest.raises(AssertionError, match="No space left"):
            server.start()
        assert [path.name for path in disk.iterdir() if "draft" in path.name] == []
        filler.unlink()
        server.start()
        server.stop()


def store(server, *command, status=0):
    """`clarion store` on the server's data directory: standard output and standard error."""
    done, out, error = run("store", *command, "--data-dir", server.directory / "data")
    assert done == status, (out, error)
    return out, error


def test_what_a_running_server_exports_is_another_servers_under_new_epochs(
    start, connect, tmp_path
):
    server = start(DURABLE)
    ada = connect(server)
    for n in range(5):
        ada.publish("kept/a", {"n": n, "text": "eins\nzwei"})
    position = {"epoch": ada.join("kept/a")["epoch"], "offset": 2}
    out, error = store(server, "export", "-")
    lines = [json.loads(line) for line in out.splitlines()]
    assert [next(iter(line)) for line in lines] == ["export", "room", *["publication"] * 5, "end"]
    assert error == "1 rooms, 5 publications, 0 keys, 0 revocations, 0 users in groups\n"
    file = tmp_path / "lines"
    store(server, "export", file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "exists" in store(server, "export", file, status=1)[1]
    assert "in use" in store(server, "import", file, status=1)[1]

    for keep in (False, True):
        other = Server(tmp_path / f"other-{keep}", DURABLE)
        store(other, "import", file, *(["--keep-epochs"] if keep else []))
        assert "there already" in store(other, "import", file, status=1)[1]
        other.start()
        bob = connect(other)
        joined = bob.join("kept/a", after=position, last=5)
        assert joined["recovered"] is keep
        assert (joined["epoch"] == position["epoch"]) is keep
        assert joined["offset"] == 5
        got = bob.publications("kept/a", 3 if keep else 5)
        assert got[-1]["payload"] == {"n": 4, "text": "eins\nzwei"}
        assert bob.publish("kept/a", "more")["offset"] == 6
        bob.close()
        other.stop()


def test_a_backup_is_refused_until_it_is_a_store_of_its_own(start, connect, tmp_path):
    server = start(DURABLE)
    ada = connect(server)
    first = ada.publish("kept/a", 1)
    copy = tmp_path / "backup"
    store(server, "backup", copy)
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert f"{copy}: File exists" in store(server, "backup", copy, status=1)[1]
    ada.publish("kept/a", 2)

    other = Server(tmp_path / "other", DURABLE)
    data = tmp_path / "other" / "data"
    data.mkdir(parents=True)
    copy.rename(data / "clarion.db")
    config = tmp_path / "other" / "clarion.toml"
    config.write_text('[[rooms]]\nmatch = "kept/**"\nlog = "durable"\n')
    status, _, error = run(
        *("serve", "--config", config, "--listen", "127.0.0.1:0", "--data-dir", data)
    )
    assert (status, "clarion store check --repair" in error) == (1, True)
    store(other, "check", "--repair")
    other.start()
    bob = connect(other)
    again = bob.publish("kept/a", 3)
    assert again["offset"] == 2
    assert again["epoch"] != first["epoch"]
    bob.close()
    other.stop()


def test_an_import_that_is_killed_leaves_nothing_that_is_taken_for_a_store(start, tmp_path):
    server = start(DURABLE)
    for n in range(3):
        server.api("/v1/publish", {"type": "m", "payload": n, "metadata": {"room": "kept/a"}})
    lines, _ = store(server, "export", "-")
    other = Server(tmp_path / "other", DURABLE)
    data = tmp_path / "other" / "data"
    command = [BINARY, "store", "import", "-", "--data-dir", data]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as half:
        # Without the last line, it waits.
        half.stdin.write("".join(lines.splitlines(keepends=True)[:-1]).encode())
        half.stdin.flush()
        wait_until((data / "clarion.import" / "clarion.db").exists, "the draft")
        half.kill()
    assert not (data / "clarion.db").exists()
    other.start()
    page = other.get("/v1/history?room=kept/a", key=other.api_key)
    assert json.loads(page[1])["publications"] == []
    other.stop()
    for name in data.glob("clarion.db*"):
        name.unlink()
    status, _, error = run("store", "import", tmp_path / "nothing", "--data-dir", data)
    assert (status, "nothing: No such file" in error) == (1, True)
    (tmp_path / "lines").write_text(lines)
    store(other, "import", tmp_path / "lines")
    assert not (data / "clarion.import").exists()
    other.start()
    assert other.api("/v1/history?room=kept/a")["offset"] == 3
    other.stop()


# [4.groups.restart]
def test_who_is_in_a_group_survives_kill_9(start):
    server = start(DURABLE)
    for n in range(30):
        assert server.api("/v1/groups/add", {"group": f"g{n % 3}", "user": f"u{n}"})["changed"]
    assert server.api("/v1/groups/remove", {"group": "g0", "user": "u0"})["changed"]
    server.kill()
    server.start()
    users = {
        name: server.api(f"/v1/groups/users?group={name}")["users"] for name in ("g0", "g1", "g2")
    }
    assert users == {
        f"g{g}": sorted(f"u{n}" for n in range(30) if n % 3 == g and n != 0) for g in range(3)
    }
    assert not server.api("/v1/groups/add", {"group": "g1", "user": "u1"})["changed"]
    assert server.api("/v1/groups/add", {"group": "g0", "user": "u0"})["changed"]
    out, _ = store(server, "export", "-")
    assert sum("group" in json.loads(line) for line in out.splitlines()) == 30


# [4.groups.restart]
def test_without_a_store_groups_end_with_the_process(start):
    server = start({"store": "memory"})
    assert server.api("/v1/groups/add", {"group": "staff", "user": "ada"})["changed"]
    server.stop()
    server.start()
    assert server.api("/v1/groups/users?group=staff")["users"] == []
    assert not (server.directory / "data" / "clarion.db").exists()


@pytest.mark.skipif(strace.missing() is not None, reason=str(strace.missing()))
def test_a_lone_publication_is_one_sync_of_the_disk(start, connect, tmp_path):
    def syncs(count):
        trace = tmp_path / f"{count}.trace"
        server = start(DURABLE, wrapper=strace.wrapper(trace))
        ada = connect(server)
        for n in range(count):
            ada.publish("kept/a", n)
        pid = server.process.pid
        server.kill()
        calls = [call for when, call in strace.read(trace, pid) if when == "begin"]
        return sum(call.name in ("fsync", "fdatasync") for call in calls)

    # What a start and the first publication cost is in both.
    assert syncs(60) - syncs(10) == 50


def test_an_orderly_end_waits_for_the_disk(start, connect):
    server = start(DURABLE)
    ada = connect(server)
    # Many are on their way when it is told to stop.
    for n in range(2_000):
        ada.send("m", n, room="kept/a", id=f"{n}")
    server.stop()
    # SQLite removes its log when it has copied all of it and the last connection is closed.
    files = {path.name for path in (server.directory / "data").iterdir()}
    assert "clarion.db" in files
    assert "clarion.db-wal" not in files
