"""A work queue holds each key once, and spaces out its passes."""

import asyncio

import pytest
import uvloop

from controlplane.cluster.api import PODS
from controlplane.embedded.api.resources import ObjectKey
from controlplane.embedded.cluster import WorkQueue

A, B, C = (ObjectKey(PODS, "default", name) for name in "abc")


@pytest.mark.looptime
async def test_a_key_waits_once_and_cools_down_between_passes() -> None:
    queue = WorkQueue(cooling=1.0)
    loop = asyncio.get_running_loop()
    for _ in range(3):
        queue.add(A)
    queue.add(B)
    began = loop.time()
    assert [await queue.get(), await queue.get()] == [A, B]
    for _ in range(3):
        queue.add(A)
    queue.add(C, 1.5)
    assert [await queue.get(), loop.time() - began] == [A, pytest.approx(1.0)]
    assert [await queue.get(), loop.time() - began] == [C, pytest.approx(1.5)]


@pytest.mark.looptime
async def test_the_earlier_of_two_timers_counts() -> None:
    queue = WorkQueue(cooling=0.0)
    began = asyncio.get_running_loop().time()
    queue.add(A, 5.0)
    queue.add(A, 2.0)
    queue.add(A, 9.0)
    assert await queue.get() == A
    assert asyncio.get_running_loop().time() - began == pytest.approx(2.0)


def test_a_key_that_is_due_at_once_is_marked_again() -> None:
    """On the event loop of the programs: a timer of uvloop that is due at once does not know when."""

    async def marks() -> list[ObjectKey]:
        queue = WorkQueue(cooling=0.0)
        for _ in range(3):
            queue.add(A)
        queue.add(B)
        return [await queue.get(), await queue.get()]

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(marks()) == [A, B]
