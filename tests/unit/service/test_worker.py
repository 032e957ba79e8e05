"""Blocking work: its result, its failure, its deadline; one thread at most."""

import asyncio
import threading

import pytest

from service.worker import StillBusy, Worker


async def test_results_and_failures_are_handed_on() -> None:
    worker = Worker("w")
    assert await worker.call(lambda: 3, within=5) == 3

    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await worker.call(fail, within=5)
    assert await worker.call(lambda: 4, within=5) == 4


async def test_work_that_hangs_is_given_up_and_blocks_only_its_worker() -> None:
    worker, end = Worker("hanging"), threading.Event()
    with pytest.raises(TimeoutError):
        await worker.call(end.wait, within=0.01)
    for _ in range(3):
        with pytest.raises(StillBusy):
            await worker.call(lambda: 1, within=0.01)
    (thread,) = (thread for thread in threading.enumerate() if thread.name == "hanging")
    assert thread.daemon
    assert await Worker("other").call(lambda: 1, within=5) == 1
    end.set()
    thread.join(5)
    await asyncio.sleep(0)
    assert await worker.call(lambda: 2, within=5) == 2
