"""Which attacks are measured, and what is made of what was seen."""

import os

import pytest

from benchmarks import usage
from benchmarks.attack import ATTACKS, Seen, _figures
from tests.security.attackers.__main__ import NAMES


def test_every_attack_is_one_of_the_attackers() -> None:
    assert {attack.name for attack in ATTACKS} == {*NAMES}


def test_figures_are_beside_their_targets() -> None:
    seen = Seen(beats=[0.01] * 98 + [0.5, 2.0], pods=[0.1, 12.0], failures=["a", "a", "b"], attacker="done: 5")
    found = {figure.name: figure for figure in _figures(ATTACKS[0], seen, 2048)}
    assert found["row 8, 6,000 invented bases over HTTP"].note == "done: 5"
    assert found["  a heartbeat's answer p99"].value == pytest.approx(500)
    assert found["  a heartbeat's answer p99"].ratio == pytest.approx(0.5)
    assert found["  a good Pod Ready, the slowest"].ratio == pytest.approx(1.2)
    assert (found["  heartbeats and Pods that failed"].value, found["  heartbeats and Pods that failed"].note) == (
        3,
        "a; b",
    )
    assert found["  logged by our programs"].value == 2


def test_the_most_memory_that_a_process_had() -> None:
    resident = usage.of(os.getpid()).resident
    assert usage.peak(os.getpid()) >= resident
