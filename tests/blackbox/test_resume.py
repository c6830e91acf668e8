"""Coming back: tickets, wanted rooms, and who wins. Protocol, sections 3 and 5.8."""

import base64
import contextlib
import threading

import pytest

from support.peer import ConnectionEnded
from support.server import wait_until
from support.tokens import own_token


# [3.resume] [5.8] [3.ticket]
def test_a_ticket_brings_back_the_session_its_rooms_and_their_positions(connect, peer, room):
    first, other = f"{room}/a", f"{room}/b"
    ada, bob = connect(), peer()
    seen = {}
    for name in (first, other):
        bob.join(name)
        ada.publish(name, 1)
        [message] = bob.publications(name, 1)
        seen[name] = {key: message["metadata"][key] for key in ("epoch", "offset")}
    bob.drop()
    for n in (2, 3, 4):
        ada.publish(first, n)
    rooms = {name: {"after": position} for name, position in seen.items()}
    again = peer(ticket=bob.welcome["ticket"], rooms=rooms)
    assert again.welcome["resumed"] is True
    assert (again.client, again.welcome["user"]) == (bob.client, bob.welcome["user"])
    assert again.welcome["ticket"] != bob.welcome["ticket"]
    joined = again.push("$joined", first)["payload"]
    assert (joined["recovered"], joined["from"], joined["offset"]) == (True, 2, 4)
    assert again.push("$joined", other)["payload"]["recovered"] is True
    ada.publish(first, 5)
    ada.publish(other, 2)
    assert [m["payload"] for m in again.publications(first, 4)] == [2, 3, 4, 5]
    assert [m["payload"] for m in again.publications(other, 1)] == [2]


# [3.resume]
def test_the_wanted_rooms_are_the_complete_set(connect, peer, room):
    ada, bob = connect(), peer()
    bob.join(f"{room}/a")
    bob.join(f"{room}/b")
    bob.drop()
    again = peer(ticket=bob.welcome["ticket"], rooms={f"{room}/b": {}})
    again.push("$joined", f"{room}/b")
    ada.publish(f"{room}/a", "no longer wanted")
    ada.publish(f"{room}/b", "wanted")
    assert again.publications(f"{room}/b", 1)[0]["payload"] == "wanted"
    again.nothing_of("m")


# [3.resume.newer]
def test_a_newer_resume_closes_the_older_connection(peer, room):
    old = peer()
    old.join(room)
    new = peer(ticket=old.welcome["ticket"], rooms={room: {}})
    assert new.welcome["resumed"] is True
    assert old.closed()[0] == 4005
    new.push("$joined", room)
    assert new.publish(room, 1)["offset"] == 1
    assert new.publications(room, 1)[0]["payload"] == 1


# [3.resume.newer]
@pytest.mark.parametrize("round", range(5))
def test_of_racing_resumes_one_stays_and_works(connect, peer, room, round):
    origin = connect()
    origin.join(room, members=True)
    ticket = origin.welcome["ticket"]
    sessions = [peer(say_hello=False) for _ in range(6)]
    barrier = threading.Barrier(len(sessions))

    def resume(session):
        barrier.wait()
        # A loser may be closed before it was welcomed.
        with contextlib.suppress(ConnectionEnded):
            session.hello(ticket=ticket, rooms={room: {}})

    threads = [threading.Thread(target=resume, args=(session,)) for session in sessions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert origin.closed()[0] == 4005
    # All but one are told that a newer one took over.
    wait_until(lambda: [s.close_code for s in sessions].count(4005) == 5, "five to be closed")
    [winner] = [session for session in sessions if session.close_code is None]
    witness = connect()
    page = witness.request("$members", {}, room=room)
    assert [member["client"] for member in page["members"]] == [origin.client]
    witness.publish(room, f"to the winner {round}")
    assert winner.publications(room, 1)[0]["payload"] == f"to the winner {round}"


# [3.resume.forged] [3.ticket]
def test_what_is_not_a_ticket_of_ours_is_a_new_session(peer):
    first = peer()
    ticket = first.welcome["ticket"]
    raw = bytearray(base64.urlsafe_b64decode(ticket + "=="))
    raw[5] ^= 1
    forged = base64.urlsafe_b64encode(raw).decode().rstrip("=")
    for bad in ("nonsense", forged, ticket[:-4], ""):
        session = peer(ticket=bad)
        assert session.welcome["resumed"] is False
        assert session.client != first.client
    # Nobody took anything over.
    first.fence()


# [3.ticket]
def test_a_ticket_is_good_until_it_expires(start, connect, peer):
    server = start({"session": {"ttl": "1s"}})
    session = connect(server)
    ticket = session.welcome["ticket"]
    assert session.welcome["ticket_ttl_ms"] == 1000
    assert peer(server, ticket=ticket).welcome["resumed"] is True

    def expired():
        return peer(server, ticket=ticket).welcome["resumed"] is False

    wait_until(expired, "the ticket to expire")


# [3.ticket.stateless] [5.1.epoch]
def test_a_ticket_survives_a_restart_and_the_rooms_have_new_logs(start, peer):
    server = start()
    session = peer(server)
    session.join("general")
    epoch = session.publish("general", 1)["epoch"]
    server.stop()
    server.start()
    after = {"epoch": epoch, "offset": 1}
    again = peer(
        server, ticket=session.welcome["ticket"], rooms={"general": {"after": after, "last": 5}}
    )
    assert again.welcome["resumed"] is True
    assert again.client == session.client
    joined = again.push("$joined", "general")["payload"]
    assert joined["recovered"] is False
    assert joined["epoch"] != epoch
    assert joined["offset"] == 0


def test_joining_the_same_room_by_hello_and_command_is_one_membership(peer, room):
    session = peer(rooms={room: {}})
    session.push("$joined", room)
    assert session.refused("$join", {}, room=room)["name"] == "already_joined"


# [3.join.inbox-lost]
def test_what_came_before_a_device_is_back_after_a_restart_is_not_passed_over(start, connect):
    # An inbox in memory: it begins anew with the process.
    server = start()
    room = "$user/ada"

    def write(payload):
        server.api("/v1/publish", {"type": "m", "payload": payload, "metadata": {"room": room}})

    write("before")
    ada = connect(server, token=own_token(server))
    seen = ada.publications(room, 1)[0]["metadata"]
    server.kill()
    server.start()
    write("meanwhile")
    after = {"epoch": seen["epoch"], "offset": seen["offset"]}
    again = connect(server, token=own_token(server), rooms={room: {"after": after}})
    joined = again.push("$joined", room)["payload"]
    assert (joined["recovered"], joined["from"]) == (False, 1)
    assert again.publications(room, 1)[0]["payload"] == "meanwhile"
