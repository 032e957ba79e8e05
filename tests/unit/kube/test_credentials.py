"""Access is renewed beside the requests, which wait only when there is none."""

from __future__ import annotations

import asyncio

import pytest

from controlplane.kube import credentials
from controlplane.kube.access import Access, CannotConnect
from controlplane.kube.credentials import Credentials
from tests.unit.cluster.clock import LoopClock

pytestmark = pytest.mark.looptime


class Given:
    """A source of numbered access; a fetch takes some seconds, or fails."""

    name = "a source"

    def __init__(self, clock: LoopClock, *, lasts: float | None = None, takes: float = 0.0) -> None:
        self._clock = clock
        self.lasts = lasts
        self.takes = takes
        self.problem = ""
        self.fetched: list[bool] = []
        self.at_once = 0

    async def fetch(self, *, renew: bool) -> Access:
        self.fetched.append(renew)
        self.at_once += 1
        try:
            await asyncio.sleep(self.takes)
        finally:
            self.at_once -= 1
        assert self.at_once == 0, "one fetch at a time"
        if self.problem:
            raise CannotConnect(self.problem)
        ends_at = self._clock.wall() + self.lasts if self.lasts is not None else None
        return Access("https://api", f"Bearer {len(self.fetched)}", ends_at=ends_at)


def keeper(*, lasts: float | None = None, takes: float = 0.0) -> tuple[Credentials, Given]:
    clock = LoopClock()
    source = Given(clock, lasts=lasts, takes=takes)
    return Credentials(clock=clock, source=source), source


async def token(kept: Credentials) -> str:
    return (await kept.access()).authorization.removeprefix("Bearer ")


async def test_the_first_access_is_waited_for_by_all_and_fetched_once() -> None:
    kept, source = keeper(takes=20.0)
    assert await asyncio.gather(*(token(kept) for _ in range(5))) == ["1"] * 5
    assert source.fetched == [False]


async def test_the_access_serves_while_the_next_one_takes_its_time() -> None:
    kept, source = keeper(lasts=200.0)
    assert await token(kept) == "1"
    source.takes = 20.0
    loop, longest, seen = asyncio.get_running_loop(), 0.0, set()
    while loop.time() < 1000.0:
        began = loop.time()
        seen.add(await token(kept))
        longest = max(longest, loop.time() - began)
        await asyncio.sleep(2.0)
    assert longest == 0.0, "nobody waited for a fetch"
    assert len(seen) > 5
    await kept.close()


async def test_the_next_access_is_there_long_before_the_present_one_ends() -> None:
    kept, source = keeper(lasts=40.0)
    await token(kept)
    await asyncio.sleep(credentials.RENEWED_AT * 40.0)
    await token(kept)
    await asyncio.sleep(0)
    await asyncio.sleep(0.1)
    assert await token(kept) == "2"
    assert source.fetched == [False, False]


async def test_a_request_after_the_end_waits_for_the_next_access() -> None:
    kept, source = keeper(lasts=40.0)
    await token(kept)
    source.takes = 5.0
    await asyncio.sleep(41.0)
    assert await token(kept) == "2"


async def test_access_that_cannot_be_renewed_serves_until_its_end_then_requests_fail() -> None:
    kept, source = keeper(lasts=300.0)
    await token(kept)
    source.problem = "the plugin fails"
    for _ in range(148):
        await asyncio.sleep(2.0)
        assert await token(kept) == "1"
    assert 5 <= len(source.fetched) <= 12, "with growing pauses"
    await asyncio.sleep(10.0)
    with pytest.raises(CannotConnect, match="a source: the plugin fails"):
        await kept.access()
    source.problem = ""
    await asyncio.sleep(60.0)
    assert int(await token(kept)) > 1


async def test_a_defect_of_a_source_is_an_error_and_not_tried_again_with_each_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept, source = keeper()

    async def defect(*, renew: bool) -> Access:
        source.fetched.append(renew)
        raise KeyError("x")

    monkeypatch.setattr(source, "fetch", defect)
    for _ in range(5):
        with pytest.raises(CannotConnect, match="the fetch itself failed: KeyError"):
            await kept.access()
    assert len(source.fetched) <= 5
    monkeypatch.undo()
    await asyncio.sleep(credentials.FETCH_WITHIN)
    assert await token(kept)


async def test_a_fetch_that_hangs_is_given_up_and_delays_no_request() -> None:
    kept, source = keeper()
    await token(kept)
    source.takes = 10_000.0
    await asyncio.sleep(61.0)
    assert await token(kept) == "1"
    await asyncio.sleep(credentials.FETCH_WITHIN + 1.0)
    assert await token(kept) == "1"
    source.takes = 0.0
    await asyncio.sleep(60.0)
    await token(kept)
    await asyncio.sleep(0.1)
    assert await token(kept) != "1"
    await kept.close()


async def test_a_refused_access_is_replaced_once_for_all_refused_requests() -> None:
    kept, source = keeper(takes=3.0)
    refused = await kept.access()
    await asyncio.gather(*(kept.rejected(refused) for _ in range(5)))
    assert await token(kept) == "2"
    assert source.fetched == [False, True]


async def test_a_request_refused_with_older_access_uses_the_present_one() -> None:
    kept, source = keeper()
    refused = await kept.access()
    await kept.rejected(refused)
    await asyncio.sleep(30.0)
    await kept.rejected(refused)
    assert source.fetched == [False, True]


async def test_refusals_in_a_row_do_not_fetch_in_a_row() -> None:
    kept, source = keeper()
    for _ in range(20):
        await kept.rejected(await kept.access())
        await asyncio.sleep(0.5)
    assert source.fetched == [False, True]


async def test_a_request_that_gives_up_waiting_does_not_end_the_fetch() -> None:
    kept, source = keeper(takes=20.0)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(5.0):
            await kept.access()
    await asyncio.sleep(16.0)
    assert await token(kept) == "1"
    assert source.fetched == [False]


async def test_closing_ends_a_fetch() -> None:
    kept, source = keeper(takes=50.0)
    waiting = asyncio.create_task(kept.access())
    await asyncio.sleep(1.0)
    await kept.close()
    await asyncio.wait({waiting}, timeout=1.0)
    assert waiting.done()
    assert source.at_once == 0


async def test_outside_a_pod_the_service_account_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    kept = Credentials()
    with pytest.raises(CannotConnect, match="service account of this Pod: "):
        await kept.access()
    await kept.close()
