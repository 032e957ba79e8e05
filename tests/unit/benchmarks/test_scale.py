"""How cost grows: what is fitted, and what several replicas use together."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import exposition
from benchmarks.idle import Rest
from benchmarks.lean_bases import address, answers, complete
from benchmarks.scale import STAND_IN, Point, exponent, figures, growth, ours, shared
from benchmarks.usage import Usage

SIZES = (500, 1000, 2000, 5000, 10_000)


@given(st.floats(0.1, 3.0), st.floats(1e-6, 1e3))
def test_the_exponent_of_a_power_is_found(power: float, factor: float) -> None:
    points = [(size, factor * size**power) for size in SIZES]
    assert exponent(points) == pytest.approx(power, abs=1e-6)


def test_an_exponent_of_too_little_is_nan() -> None:
    for points in ([], [(500, 1.0)], [(500, 1.0), (500, 2.0)], [(500, 0.0), (1000, 1.0)]):
        assert math.isnan(exponent(points))


def point(bases: int, cpu: float, *, busy: float = 0.1) -> Point:
    cores = {"control plane": cpu, "gateway": cpu, "bases": 0.1, STAND_IN: busy}
    rest = Rest(60.0, cores, exposition.parse(""))
    return Point(bases, {"control plane": cpu, "gateway": cpu}, rest, shared(cores), 1e4 * bases)


def test_cost_is_that_of_one_base() -> None:
    found = {figure.name: figure for figure in figures(point(1000, 0.08))}
    assert found["1000 bases: CPU of control plane per base and minute"].ratio == pytest.approx(1)
    assert found["  gateway per base onboarded"].value == pytest.approx(0.08)
    assert found["  memory of control plane per VNode"].value == pytest.approx(10)
    assert "  processes that may be at their limit" not in found


def test_a_process_at_its_limit_is_named() -> None:
    assert any(figure.note == f"{STAND_IN} 0.95" for figure in figures(point(1000, 0.08, busy=0.95)))


def test_growth_needs_two_sizes() -> None:
    assert growth([point(500, 0.1)]) == growth([point(500, 0.1), point(500, 0.2)]) == []
    found = {figure.name: figure.value for figure in growth([point(500, 0.1), point(1000, 0.4)])}
    assert found["exponent: CPU of gateway at rest"] == pytest.approx(2)
    assert found["exponent: memory of control plane"] == pytest.approx(1)


def test_replicas_count_together() -> None:
    used = {name: Usage(1.0, 10) for name in ("control plane", "cp-1", "cp-2", "gateway", "bases")}
    assert ours(used) == {"control plane": Usage(3.0, 30), "gateway": Usage(1.0, 10)}


def test_each_lean_base_has_a_loopback_address_of_its_own() -> None:
    found = {address(number) for number in range(1, 70_001)}
    assert len(found) == 70_000
    assert address(1) == "127.1.0.1"
    assert address(65_536) == "127.2.0.0"


async def test_lean_bases_answer_what_is_asked_all_the_time() -> None:
    found = await answers()
    assert found.keys() == {"health", "queryAllBiz"}
    assert all(b'"code":"SUCCESS"' in answer for answer in found.values())


def test_a_command_is_complete_with_its_body() -> None:
    request = b"POST /queryAllBiz HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
    assert complete(request) == "queryAllBiz"
    assert all(complete(request[:end]) is None for end in range(len(request)))
