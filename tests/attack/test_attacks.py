"""The short form of every attack; `make attack` is longer, and says how slow others got."""

import pytest

import attack
from attacks import ATTACKS


def test_every_attack_says_what_may_come_of_it():
    assert set(attack.EXPECTED) == set(ATTACKS)


@pytest.mark.parametrize("name", list(ATTACKS))
def test_whoever_attacks_gains_nothing_and_nobody_else_loses(server, name):
    result = attack.run(server, name, 1)
    assert attack.judge(name, result["seen"]) == []
    assert result["seen"], "it saw nothing at all"
    assert result["honest"]["sent"] > 0


def test_without_descriptors_the_server_waits_and_serves_again(tmp_path):
    result = attack.starve(tmp_path / "server")
    assert result["strangers"] > 900
    assert result["honest"]["sent"] > 0
    # One that accepts as fast as it fails takes a whole one, or its share of a busy machine.
    assert result["share"] < 0.2, result
    assert (result["late"], result["exit"]) == ("200", 0)
    assert result["errors"] == {"cannot accept connections; trying on"}
