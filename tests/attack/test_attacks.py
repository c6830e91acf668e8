"""The short form of every attack; `make attack` is longer, and says how slow others got."""

import pytest
from attacks import ATTACKS

import attack


def test_every_attack_says_what_may_come_of_it():
    assert set(attack.EXPECTED) == set(ATTACKS)


@pytest.mark.parametrize("name", list(ATTACKS))
def test_whoever_attacks_gains_nothing_and_nobody_else_loses(server, name):
    result = attack.run(server, name, 1)
    assert attack.judge(name, result["seen"]) == []
    assert result["seen"], "it saw nothing at all"
    assert result["honest"]["sent"] > 0
