"""The commands that a base offers are asked for with help, and cached."""

import asyncio
from contextlib import AbstractAsyncContextManager

import pytest
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from gateways.arklet.commands import HELP
from gateways.http.arklet_client import Answer
from gateways.http.responses import Lost, NotSent
from gateways.http.tunnel import HOLDS, Offers
from tests.unit.gateways import said
from tests.unit.gateways.answers import received

ADDRESS = said.address("10.0.0.7")
BATCH = "batchInstallBiz"
OLD = b'{"code":"SUCCESS","data":[{"id":"help","desc":""},{"id":"installBiz","desc":""}]}'
NEW = b'{"code":"SUCCESS","data":[{"id":"batchInstallBiz","desc":""}]}'


class Base:
    """Answers help with ``answer``; calls of ``ArkletClient.answer`` come here."""

    def __init__(self, answer: bytes | Exception) -> None:
        self.answer = answer
        self.asked = 0

    def call(
        self, address: pb.Address, command: str, body: bytes, timeout: float
    ) -> AbstractAsyncContextManager[Answer]:
        return received(self.body(address, command, body))

    async def body(self, address: pb.Address, command: str, body: bytes) -> bytes:
        assert (address, command, body) == (ADDRESS, HELP, b"{}")
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.looptime
@pytest.mark.parametrize(("answer", "expected"), [(OLD, False), (NEW, True)])
async def test_the_answer_to_help_is_cached_for_a_while(answer: bytes, expected: bool) -> None:
    base = Base(answer)
    offers = Offers(base.call, timeout=1.0)
    assert [await offers.has(ADDRESS, BATCH) for _ in range(3)] == [expected] * 3
    assert base.asked == 1
    await asyncio.sleep(HOLDS)
    await offers.has(ADDRESS, BATCH)
    assert base.asked == 2


@pytest.mark.parametrize("failure", [NotSent("refused"), Lost("cut"), b"nonsense", b'{"code":"FAILED"}', b'{"data":7}'])
async def test_a_base_without_a_valid_answer_is_asked_again(failure: bytes | Exception) -> None:
    base = Base(failure)
    offers = Offers(base.call, timeout=1.0)
    assert not await offers.has(ADDRESS, BATCH)
    base.answer = NEW
    assert await offers.has(ADDRESS, BATCH)
