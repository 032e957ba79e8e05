"""The pool of a Java base: 5 threads, 100 waiting, then 10 threads, then the caller."""

import asyncio

import pytest

from simulatedbase.life import Life
from simulatedbase.mqtt.tunnel import CORE, MOST, WAITING, Pool
from simulatedbase.profile import Faults, Profile

pytestmark = pytest.mark.looptime


class Jobs:
    """Jobs that take a second each; running and done hold their numbers."""

    def __init__(self) -> None:
        self.life = Life(Profile(), Faults())
        self.pool = Pool(self.life)
        self.running: set[int] = set()
        self.done: list[int] = []

    def submit(self, number: int) -> asyncio.Task[None] | None:
        async def job() -> None:
            self.running.add(number)
            try:
                await asyncio.sleep(1.0)
            finally:
                self.running.remove(number)
            self.done.append(number)

        return self.pool.submit(job)


async def test_five_run_side_by_side_and_more_wait() -> None:
    jobs = Jobs()
    for number in range(CORE + 2):
        assert jobs.submit(number) is None
    await asyncio.sleep(0.5)
    assert jobs.running == set(range(CORE))
    await asyncio.sleep(1.0)
    assert jobs.running == {CORE, CORE + 1}
    await asyncio.sleep(1.0)
    assert len(jobs.done) == CORE + 2
    assert not jobs.life.tasks


async def test_full_queue_makes_more_threads_then_the_caller_runs() -> None:
    jobs = Jobs()
    for number in range(MOST + WAITING):
        assert jobs.submit(number) is None
    own = jobs.submit(1000)
    assert own is not None
    await asyncio.sleep(0.5)
    newest = set(range(CORE + WAITING, MOST + WAITING))
    assert jobs.running == set(range(CORE)) | newest | {1000}
    await own
    await asyncio.sleep(20.0)
    assert sorted(jobs.done) == [*range(MOST + WAITING), 1000]


async def test_cancelled_jobs_free_their_threads() -> None:
    jobs = Jobs()
    for number in range(CORE):
        jobs.submit(number)
    await asyncio.sleep(0.5)
    for task in list(jobs.life.tasks):
        task.cancel()
    await asyncio.sleep(0.1)
    assert not jobs.running
    for number in range(100, 100 + CORE + 1):
        jobs.submit(number)
    await asyncio.sleep(0.5)
    assert jobs.running == set(range(100, 100 + CORE)), "as many as before, and no more"
    await asyncio.sleep(2.0)
    assert sorted(jobs.done) == list(range(100, 100 + CORE + 1))
