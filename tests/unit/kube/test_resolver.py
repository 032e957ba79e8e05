"""An address that was found once serves at once; DNS that is slow or fails delays no request."""

import asyncio
import socket

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from controlplane.kube import resolver
from controlplane.kube.resolver import StaleResolver

pytestmark = pytest.mark.looptime


class Dns(AbstractResolver):
    def __init__(self) -> None:
        self.asked = 0
        self.takes = 0.0
        self.fails = False

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked += 1
        address = f"10.0.0.{self.asked}"
        await asyncio.sleep(self.takes)
        if self.fails:
            raise OSError("no such name")
        return [ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)]

    async def close(self) -> None:
        pass


async def address(names: StaleResolver) -> str:
    return (await names.resolve("api", 443))[0]["host"]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver, "FRESH", 0.0)


async def test_the_first_lookup_is_made_once_for_all() -> None:
    dns = Dns()
    dns.takes = 5.0
    names = StaleResolver(dns)
    assert list(await asyncio.gather(address(names), address(names))) == ["10.0.0.1", "10.0.0.1"]
    assert dns.asked == 1


async def test_later_lookups_delay_nothing() -> None:
    dns = Dns()
    names = StaleResolver(dns)
    await address(names)
    dns.takes = 20.0
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert [await address(names) for _ in range(5)] == ["10.0.0.1"] * 5
    assert loop.time() == began
    assert dns.asked == 1
    await asyncio.sleep(21.0)
    assert dns.asked == 2
    assert await address(names) == "10.0.0.2"
    await names.close()


async def test_a_name_that_is_not_found_any_more_keeps_its_address() -> None:
    dns = Dns()
    names = StaleResolver(dns)
    await address(names)
    dns.fails = True
    for _ in range(3):
        assert await address(names) == "10.0.0.1"
        await asyncio.sleep(1.0)


async def test_a_name_that_was_never_found_is_looked_up_again() -> None:
    dns = Dns()
    dns.fails = True
    names = StaleResolver(dns)
    with pytest.raises(OSError, match="no such name"):
        await address(names)
    dns.fails = False
    assert await address(names) == "10.0.0.2"
