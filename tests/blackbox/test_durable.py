"""Rooms whose log survives the process: what was acknowledged is there after kill -9."""

import os
import subprocess

import pytest

from support.server import run, wait_until

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


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_is_unavailable_and_heals(start, connect, tmp_path):
    # Where the first server keeps its data.
    disk = tmp_path / "server0" / "data"
    disk.mkdir(parents=True)
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], capture_output=True, check=False
    )
    if mount.returncode != 0:
        pytest.skip("mounting is not allowed here")
    try:
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
    finally:
        subprocess.run(["umount", "-l", disk], check=False)
