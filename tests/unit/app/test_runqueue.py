"""Tasks that are due together go on one after the other, and everything else between."""

import asyncio

import pytest

from controlplane.app.runqueue import RunQueue

pytestmark = pytest.mark.looptime


async def ticks(seen: list[str], count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)
        seen.append("tick")


async def one(queue: RunQueue, seen: list[str], name: str) -> None:
    await queue.turn()
    seen.append(name)


async def test_between_two_tasks_the_loop_turns() -> None:
    queue, seen = RunQueue(), list[str]()
    async with asyncio.TaskGroup() as group:
        for name in "abc":
            group.create_task(one(queue, seen, name))
        group.create_task(ticks(seen, 4))
    assert seen == ["a", "tick", "b", "tick", "c", "tick", "tick"]


async def test_one_alone_waits_for_nothing() -> None:
    queue, seen = RunQueue(), list[str]()
    for name in "ab":
        await one(queue, seen, name)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert seen == ["a", "b"]
    assert not queue._waiting


async def test_one_that_gave_up_holds_up_nobody() -> None:
    queue, seen = RunQueue(), list[str]()
    tasks = [asyncio.create_task(one(queue, seen, name)) for name in "abcd"]
    await asyncio.sleep(0)
    tasks[1].cancel()
    await asyncio.wait(tasks)
    assert seen == ["a", "c", "d"]
    await one(queue, seen, "e")
    assert seen[-1] == "e"
