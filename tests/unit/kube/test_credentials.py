"""Access is renewed beside the requests, which wait only when there is none."""

import asyncio
from contextlib import suppress

import pytest

from controlplane.kube import credentials
from controlplane.kube.credentials import Credentials
from kubeaccess.access import Access
from kubeaccess.authorization import CannotConnect
from tests.unit.cluster.clock import LoopClock

pytestmark = pytest.mark.looptime


class Given:
    """A source of numbered access; a fetch takes some seconds, or fails."""

    name = "a source"

    def __init__(self, clock: LoopClock, *, lasts: float | None = None, takes: float = 0.0) -> None:
        self._clock = clock
        self.lasts = lasts
        self.takes = takes
        self.failure: Exception | None = None
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
        if self.failure is not None:
            raise self.failure
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
    source.failure = CannotConnect("the plugin fails")
    for _ in range(148):
        await asyncio.sleep(2.0)
        assert await token(kept) == "1"
    assert 5 <= len(source.fetched) <= 12, "with growing pauses"
    await asyncio.sleep(10.0)
    with pytest.raises(CannotConnect, match="a source: the plugin fails"):
        await kept.access()
    source.failure = None
    await asyncio.sleep(60.0)
    assert int(await token(kept)) > 1


@pytest.mark.parametrize(
    ("failure", "cause"),
    [
        (CannotConnect("the plugin fails"), "a source: the plugin fails"),
        (KeyError("x"), "a source: the fetch itself failed: KeyError"),
    ],
    ids=["failure", "defect"],
)
async def test_without_access_requests_fail_with_the_cause_and_the_source_is_asked_now_and_then(
    failure: Exception, cause: str
) -> None:
    kept, source = keeper()
    source.failure = failure
    asked: list[int] = []
    for _ in range(120):
        with pytest.raises(CannotConnect, match=cause):
            await kept.access()
        asked.append(len(source.fetched))
        await asyncio.sleep(0.5)
    assert asked[0] == 1
    assert asked[9] == 1, "not within five seconds, whatever the number of requests"
    assert 6 <= asked[-1] <= 7, "after five seconds, then every ten or a little more"
    source.failure = None
    await asyncio.sleep(12.0)
    assert await token(kept) == str(asked[-1] + 1)


async def test_access_that_comes_back_after_its_end_is_used_soon() -> None:
    kept, source = keeper(lasts=300.0)
    await token(kept)
    source.failure = CannotConnect("the plugin fails")
    for _ in range(200):
        await asyncio.sleep(2.0)
        with suppress(CannotConnect):
            await kept.access()
    asked = len(source.fetched)
    source.failure = None
    await asyncio.sleep(12.0)
    assert await token(kept) == str(asked + 1)


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
