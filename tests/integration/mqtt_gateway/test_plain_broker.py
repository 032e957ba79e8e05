"""A broker that takes the filters of shared subscriptions and delivers nothing for them: amqtt."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from tests.fakes.controlplane import FakeControlPlane
from tests.integration.mqtt_gateway.bases import Base
from tests.integration.mqtt_gateway.conftest import broker_up, gateway_running
from tests.servers.process import Port

amqtt = pytest.importorskip("amqtt.broker")


@pytest.fixture
async def plain_broker() -> AsyncIterator[int]:
    port = Port()
    configuration = {
        "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port.number}"}},
        "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    }
    broker = amqtt.Broker(configuration)
    await broker.start()
    try:
        yield port.number
    finally:
        await broker.shutdown()
        port.close()


async def test_every_gateway_gets_everything_and_one_answers_a_baseline(
    plain_broker: int, control_plane: FakeControlPlane
) -> None:
    control_plane.on_baseline = lambda report: pb.BaselineAnswer(
        base_id=report.base_id, query_id=report.baseline_query.query_id
    )
    async with (
        gateway_running(plain_broker, control_plane.address),
        gateway_running(plain_broker, control_plane.address),
    ):
        streams = [await control_plane.stream(number) for number in range(2)]
        for stream in streams:
            await broker_up(stream)
        async with Base(plain_broker, "base-1").running() as base:
            await base.send_heartbeat()
            for stream in streams:
                await stream.report("heartbeat", "base-1")
            answers = 0
            for _ in range(3):
                await base.say("queryBaseline", {"identity": "base-1"})
                await base.command("base/baseline", answers + 1)
                await asyncio.sleep(2)
                answers = len(base.bodies("base/baseline"))
            assert 3 <= answers <= 4, "mostly one for each"
