"""Two connections are passed to each other: all bytes, none piled up, and the end of one is the end of both."""

import asyncio
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.kubelet.relay import relay

IDLE = 5.0


class End:
    """One end: what it says in pieces, and what it is given; it takes as many writes as it is slow to take."""

    def __init__(self, *says: bytes, ends: bool = False, takes: int = 1 << 30) -> None:
        self.says, self.ends, self.takes = deque(says), ends, takes
        self.got = bytearray()
        self.reads = 0
        self.news = asyncio.Event()

    def say(self, *pieces: bytes, end: bool = False) -> None:
        self.says += pieces
        self.ends |= end
        self.news.set()

    async def read(self) -> bytes:
        self.reads += 1
        while not self.says and not self.ends:
            self.news.clear()
            await self.news.wait()
        return self.says.popleft() if self.says else b""

    async def rest(self) -> bytes:
        rest = b"".join(self.says)
        self.says.clear()
        return rest

    async def write(self, data: bytes) -> None:
        self.got += data
        self.takes -= 1
        if not self.takes:
            await asyncio.Event().wait()

    def write_now(self, data: bytes) -> None:
        self.got += data


@given(st.lists(st.binary(min_size=1, max_size=5)), st.lists(st.binary(min_size=1, max_size=5)))
def test_whatever_either_says_reaches_the_other(left: list[bytes], right: list[bytes]) -> None:
    async def run() -> None:
        one, other = End(*left, ends=True), End(*right)
        await relay(one, other, idle=IDLE)
        assert other.got == b"".join(left)
        assert one.got == b"".join(right)

    asyncio.run(run())


async def test_what_came_before_a_cancellation_is_passed_on() -> None:
    one, other = End(), End()
    under_way = asyncio.create_task(relay(one, other, idle=IDLE))
    await asyncio.sleep(0)
    one.say(b"last words")
    under_way.cancel()
    with pytest.raises(asyncio.CancelledError):
        await under_way
    assert other.got == b"last words"


@pytest.mark.looptime
async def test_who_does_not_take_keeps_the_other_waiting_and_not_us() -> None:
    one, other = End(*[b"x"] * 100), End(takes=3)
    with pytest.raises(TimeoutError):
        await relay(one, other, idle=IDLE)
    assert one.reads == 3


@pytest.mark.looptime
async def test_either_way_keeps_both_open() -> None:
    one, other = End(), End()
    under_way = asyncio.create_task(relay(one, other, idle=IDLE))
    for each in (one, other, one):
        await asyncio.sleep(IDLE * 0.7)
        each.say(b"x")
    began = asyncio.get_running_loop().time()
    with pytest.raises(TimeoutError):
        await under_way
    assert asyncio.get_running_loop().time() - began == pytest.approx(IDLE)


async def test_one_that_breaks_off_is_reported() -> None:
    class Broken(End):
        async def write(self, data: bytes) -> None:
            raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError):
        await relay(End(b"x"), Broken(), idle=IDLE)
