"""Tests of other files once more, over TLS."""

# ruff: noqa: F401, F811 (the fixtures here take the place of those that the tests were made for)

import pytest
from test_frames import (
    test_a_broken_connection_breaks_no_other,
    test_a_broken_frame_ends_the_connection_with_its_code,
    test_a_close_is_answered_with_its_own_code,
    test_a_message_as_large_as_allowed_is_read,
    test_a_message_may_come_in_pieces_with_pings_between,
    test_frames_may_be_cut_anywhere,
    test_what_came_before_a_close_is_carried_out,
)
from test_order import test_every_member_sees_every_room_in_one_order_without_a_hole
from test_resume import test_a_ticket_brings_back_the_session_its_rooms_and_their_positions
from test_session import test_heartbeats_measure_the_round_trip_and_find_the_dead
from test_slow import (
    test_a_slow_member_catches_up_from_the_log_and_delays_nobody,
    test_the_memory_that_a_slow_member_costs_is_bounded,
    test_whoever_stays_behind_for_too_long_is_closed,
)
from test_vectors import test_session

from support.server import Server
from support.tls import Certificate


@pytest.fixture(scope="module")
def secured(tmp_path_factory):
    directory = tmp_path_factory.mktemp("secured")
    settings = {"limits": {"publish_per_s": 0, "commands_per_s": 0, "bytes_per_s": 0}}
    server = Server(directory, settings, echo=True, tls=Certificate(directory))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def server(secured):
    assert secured.process.poll() is None, f"the server died:\n{secured.log()}"
    return secured


@pytest.fixture
def start(start, tmp_path):
    certificate = Certificate(tmp_path)
    return lambda settings=None, **options: start(settings, tls=certificate, **options)
