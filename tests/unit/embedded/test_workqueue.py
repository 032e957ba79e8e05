"""A work queue holds each key once, and spaces out its passes."""

import asyncio

import pytest

from controlplane.embedded.cluster import WorkQueue


@pytest.mark.looptime
async def test_a_key_waits_once_and_cools_down_between_passes() -> None:
    queue: WorkQueue[str] = WorkQueue(cooling=1.0)
    loop = asyncio.get_running_loop()
    for _ in range(3):
        queue.add("a")
    queue.add("b")
    began = loop.time()
    assert [await queue.get(), await queue.get()] == ["a", "b"]
    for _ in range(3):
        queue.add("a")
    queue.add("c", 1.5)
    assert [await queue.get(), loop.time() - began] == ["a", pytest.approx(1.0)]
    assert [await queue.get(), loop.time() - began] == ["c", pytest.approx(1.5)]


@pytest.mark.looptime
async def test_the_earlier_of_two_timers_counts() -> None:
    queue: WorkQueue[str] = WorkQueue(cooling=0.0)
    began = asyncio.get_running_loop().time()
    queue.add("a", 5.0)
    queue.add("a", 2.0)
    queue.add("a", 9.0)
    assert await queue.get() == "a"
    assert asyncio.get_running_loop().time() - began == pytest.approx(2.0)
