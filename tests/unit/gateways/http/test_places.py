"""One base at a time has an address and port."""

import asyncio
import json

import pytest

from gateways.http.credentials import Caller
from gateways.polling.prober import LIVE
from service.refusals import RequestRefused
from tests.unit.gateways import said
from tests.unit.gateways.http.test_http_tunnel import IP, Scene

pytestmark = pytest.mark.looptime


async def beat(scene: Scene, base: str, port: int = 1238, state: str = "activated") -> str:
    body = {"baseMetadata": {"identity": base}, "localIP": IP, "port": port, "state": state}
    try:
        return (await scene.requests.heartbeat(json.dumps(body).encode(), Caller())).decode()
    except RequestRefused as refusal:
        return refusal.reason


async def test_a_base_keeps_its_place_while_it_lives() -> None:
    scene = Scene()
    assert await beat(scene, "a") == "SUCCESS"
    assert await beat(scene, "b") == "address_in_use"
    assert await beat(scene, "b", port=1239) == "SUCCESS"
    await asyncio.sleep(LIVE - 1)
    assert await beat(scene, "a") == "SUCCESS"
    await asyncio.sleep(LIVE - 1)
    assert await beat(scene, "b") == "address_in_use"
    await asyncio.sleep(2)
    assert await beat(scene, "b") == "SUCCESS"
    assert await beat(scene, "a") == "address_in_use"


async def test_without_a_port_the_place_is_that_of_the_default_port() -> None:
    scene = Scene()
    assert await beat(scene, "a", port=0) == "SUCCESS"
    assert await beat(scene, "b", port=1238) == "address_in_use"


async def test_a_base_that_answers_keeps_its_place_without_heartbeats() -> None:
    scene = Scene()
    assert await beat(scene, "a") == "SUCCESS"
    scene.tunnel.watch(said.watch("a", IP, 1238))
    await asyncio.sleep(3 * LIVE)
    assert await beat(scene, "b") == "address_in_use"
    scene.tunnel.unwatch("a")
    assert await beat(scene, "b") == "SUCCESS"
    await scene.tunnel.prober.close()


async def test_a_goodbye_frees_no_place() -> None:
    """Anybody can send it."""
    scene = Scene()
    assert await beat(scene, "a") == "SUCCESS"
    assert await beat(scene, "a", state="deactivated") == "SUCCESS"
    assert await beat(scene, "b") == "address_in_use"
    await asyncio.sleep(LIVE + 1)
    assert await beat(scene, "b") == "SUCCESS"
