"""The gate limits the rate and the number of our requests; urgent ones go first."""

import asyncio

import pytest

from controlplane.app.ports import Transient
from controlplane.kube.gate import URGENT, Gate

pytestmark = pytest.mark.looptime


def _now() -> float:
    return asyncio.get_running_loop().time()


async def _pass(gate: Gate, log: list[str], name: str, *, urgent: bool = False, hold: float = 0.0) -> None:
    async with gate.passage(urgent=urgent):
        log.append(name)
        await asyncio.sleep(hold)


async def test_a_burst_passes_at_once_and_the_rest_at_the_rate() -> None:
    gate = Gate(rate=10, burst=5)
    async with asyncio.TaskGroup() as group:
        for number in range(15):
            group.create_task(_pass(gate, [], str(number)))
    assert _now() == pytest.approx(1.0, abs=0.05)


async def test_tokens_do_not_pile_up_beyond_the_burst() -> None:
    gate = Gate(rate=10, burst=5)
    await asyncio.sleep(3600)
    began = _now()
    for number in range(6):
        await _pass(gate, [], str(number))
    assert _now() - began == pytest.approx(0.1, abs=0.01)


async def test_urgent_requests_overtake_those_that_wait() -> None:
    gate = Gate(rate=1, burst=1)
    log: list[str] = []
    async with asyncio.TaskGroup() as group:
        for number in range(4):
            group.create_task(_pass(gate, log, f"normal {number}"))
        await asyncio.sleep(0.5)
        group.create_task(_pass(gate, log, "urgent", urgent=True))
    assert log == ["normal 0", "urgent", "normal 1", "normal 2", "normal 3"]


async def test_urgent_requests_take_nothing_from_the_rate_of_others() -> None:
    """The renewals of a large fleet alone may be more than the rate."""
    gate = Gate(rate=10, burst=1, patience=2.0)

    async def renew() -> None:
        while True:
            await _pass(gate, [], "urgent", urgent=True)
            await asyncio.sleep(0.01)

    renewing = asyncio.create_task(renew())
    await asyncio.sleep(60)
    began = _now()
    for number in range(11):
        await _pass(gate, [], str(number))
    assert _now() - began == pytest.approx(1.0, abs=0.01)
    renewing.cancel()


async def test_urgent_requests_have_places_of_their_own() -> None:
    gate = Gate(rate=1000, burst=1000, concurrent=2)
    log: list[str] = []
    async with asyncio.TaskGroup() as group:
        for number in range(4):
            group.create_task(_pass(gate, log, f"normal {number}", hold=10))
        await asyncio.sleep(1)
        assert len(log) == 2
        for _ in range(URGENT + 1):
            group.create_task(_pass(gate, log, "urgent", urgent=True, hold=1))
        await asyncio.sleep(0.5)
        assert log.count("urgent") == URGENT
    assert len(log) == 4 + URGENT + 1


async def test_patience_and_queue_are_bounded() -> None:
    gate = Gate(concurrent=1, queue=1, patience=5.0)
    holder = asyncio.create_task(_pass(gate, [], "first", hold=100))
    await asyncio.sleep(0)
    waiting = asyncio.create_task(_pass(gate, [], "second"))
    await asyncio.sleep(1)
    with pytest.raises(Transient, match="more than 1 requests wait"):
        await _pass(gate, [], "third")
    with pytest.raises(Transient, match=r"waited 5 s for our own limit of 1 requests under way"):
        await waiting
    assert _now() == pytest.approx(5.0, abs=0.01)
    holder.cancel()


async def test_a_request_that_would_wait_too_long_is_refused_at_once_and_takes_no_token() -> None:
    gate = Gate(rate=1, burst=1, patience=2.5)
    log: list[str] = []
    async with asyncio.TaskGroup() as group:
        for number in range(3):
            group.create_task(_pass(gate, log, str(number)))
        await asyncio.sleep(0)
        for _ in range(100):
            with pytest.raises(Transient, match=r"more than 2\.5 s to wait for our own limit of 1/s"):
                await _pass(gate, log, "refused")
        assert _now() == 0.0
        await asyncio.sleep(1)
        group.create_task(_pass(gate, log, "3"))
    assert log == ["0", "1", "2", "3"]
    assert _now() == pytest.approx(3.0, abs=0.01)


async def test_a_cancelled_request_gives_its_place_back() -> None:
    gate = Gate(rate=1000, burst=1000, concurrent=1)
    log: list[str] = []
    holder = asyncio.create_task(_pass(gate, log, "holder", hold=100))
    await asyncio.sleep(0.01)
    waiter = asyncio.create_task(_pass(gate, log, "waiter"))
    await asyncio.sleep(0.01)
    waiter.cancel()
    holder.cancel()
    await asyncio.wait([waiter, holder])
    await _pass(gate, log, "next")
    assert log == ["holder", "next"]


async def test_a_request_cancelled_in_the_instant_of_its_admission_gives_its_place_back() -> None:
    gate = Gate(rate=1000, burst=1000, concurrent=1)
    log: list[str] = []
    for _ in range(3):
        waiter = asyncio.create_task(_pass(gate, log, "waiter"))
        async with gate.passage():
            await asyncio.sleep(0.01)
        # The place has gone to the waiter, which has not run yet.
        waiter.cancel()
        await asyncio.wait([waiter])
    await _pass(gate, log, "next")
    assert log == ["next"]
