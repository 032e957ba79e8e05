"""A gateway serves on brokers that do not grant all that it asks for, and reports what is missing.

The behaviours are those of real brokers: EMQX (refuses, and from 6.3 ends the connection), RabbitMQ and amqtt (take the
filter for a plain topic), VerneMQ and AWS IoT (end the connection over what a user has no right to, the latter over
more than eight filters too).
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import pytest
from koupleless.tunnel.v1 import tunnel_pb2 as pb
from prometheus_client import REGISTRY

from tests.fakes.controlplane import FakeControlPlane, Stream
from tests.integration.mqtt_gateway.bases import Base
from tests.integration.mqtt_gateway.conftest import Gateway, broker_up, gateway_running
from tests.integration.mqtt_gateway.scripted import FAILURE, Behaviour, End, ScriptedBroker, Silence

GRANTED = 1
NOTE = "shared subscriptions: "


def shares(filters: Sequence[str]) -> bool:
    return any(name.startswith("$share/") for name in filters)


Answer = Callable[[Sequence[str]], Sequence[int]]


def granting(answer: Answer, asked: Callable[[Sequence[str]], bool] = shares) -> Behaviour:
    """Return a behaviour that grants every SUBSCRIBE but those for which asked is true, which get answer."""
    return Behaviour(subscribe=lambda filters: answer(filters) if asked(filters) else [GRANTED] * len(filters))


def refuse(filters: Sequence[str]) -> Sequence[int]:
    return [FAILURE if name.startswith("$share/") else GRANTED for name in filters]


def end(_filters: Sequence[str]) -> Sequence[int]:
    raise End


def silence(_filters: Sequence[str]) -> Sequence[int]:
    raise Silence


def at_probe(ends: bool) -> Callable[[str, bool], bool]:
    def publish(topic: str, _retain: bool) -> bool:
        if not topic.endswith("/gateway/probe"):
            return True
        if ends:
            raise End
        return False

    return publish


def news(filters: Sequence[str]) -> bool:
    return shares(filters) and any("/base/heart" in name for name in filters)


WITHOUT_SHARING: dict[str, tuple[Behaviour, str, int]] = {
    "refuses": (granting(refuse), "refuses to subscribe to $share/", 1),
    "ends the connection": (granting(end), "ended the connection when it was asked to subscribe to $share/", 2),
    "does not answer": (granting(silence), "did not answer within 3 s", 1),
    "leaves out the return code": (granting(lambda _: []), "refuses to subscribe to $share/", 1),
    "takes it for a plain topic": (Behaviour(shares="plain"), "did not come back", 1),
    "drops the message to itself": (Behaviour(publish=at_probe(ends=False)), "did not come back", 1),
    "ends over the message to itself": (
        Behaviour(publish=at_probe(ends=True)),
        "ended the connection when it was asked to publish to koupleless_dev/",
        2,
    ),
    "refuses to share heartbeats": (granting(refuse, news), "refuses to subscribe to $share/", 1),
    "ends over sharing heartbeats": (granting(end, news), "ended the connection when it was asked to subscribe", 2),
}


def failures(cause: str) -> float:
    return REGISTRY.get_sample_value("koupleless_mqtt_connection_failures_total", {"cause": cause}) or 0.0


def heartbeats() -> float:
    return REGISTRY.get_sample_value("koupleless_mqtt_messages_total", {"word": "heart"}) or 0.0


@dataclass
class Scene:
    broker: ScriptedBroker
    control_plane: FakeControlPlane
    gateways: list[Gateway]
    streams: list[Stream]

    async def notes(self, number: int = 0) -> list[str]:
        """Return the notes of a gateway that is ready."""
        status, text = await self.gateways[number].status("readyz")
        first, *lines = text.splitlines()
        assert (status, first) == (200, "ok")
        return lines

    def connects(self) -> list[int]:
        """Return how many connections each gateway made."""
        return [count for name, count in self.broker.connects.items() if name.startswith("koupleless@@@gateway-")]


@asynccontextmanager
async def running(control_plane: FakeControlPlane, behaviour: Behaviour, gateways: int = 1) -> AsyncIterator[Scene]:
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(ScriptedBroker(behaviour).running())
        scene = Scene(broker, control_plane, [], [])
        for number in range(gateways):
            gateway = gateway_running(broker.port, control_plane.address, client_id=f"gateway-{number}")
            scene.gateways.append(await stack.enter_async_context(gateway))
            scene.streams.append(await control_plane.stream(number))
            await broker_up(scene.streams[-1])
        yield scene


async def receives_heartbeat(stream: Stream, base: Base) -> None:
    before = len(stream.reports)
    await base.send_heartbeat()
    await stream.report("heartbeat", base.identity, after=before)


@pytest.mark.parametrize("case", WITHOUT_SHARING)
async def test_without_sharing_every_gateway_gets_every_heartbeat(control_plane: FakeControlPlane, case: str) -> None:
    behaviour, seen, connections = WITHOUT_SHARING[case]
    clashes, shortly = failures("clash"), failures("lost")
    async with running(control_plane, behaviour, gateways=2) as scene:
        async with Base(scene.broker.port, "base-1").running() as base:
            for stream in scene.streams:
                await receives_heartbeat(stream, base)
        for number in range(2):
            (note,) = await scene.notes(number)
            assert note.startswith(NOTE)
            assert seen in note
            assert "every gateway gets the messages of every base, which is harmless" in note
            *_, report = scene.streams[number].matching("tunnel_state")
            assert (report.tunnel_state.up, report.tunnel_state.reason) == (True, note)
        assert scene.connects() == [connections] * 2, "no loop"
    assert (failures("clash"), failures("lost")) == (clashes, shortly), "no clash of client ids is reported"


async def test_with_sharing_one_gateway_gets_a_heartbeat(control_plane: FakeControlPlane) -> None:
    async with running(control_plane, Behaviour(), gateways=2) as scene:
        assert [await scene.notes(number) for number in range(2)] == [[], []]
        async with Base(scene.broker.port, "base-1").running() as base:
            before = heartbeats()
            for _ in range(10):
                await base.send_heartbeat()
            for stream in scene.streams:
                await stream.report("heartbeat", base.identity)
            await asyncio.sleep(0.2)
        assert heartbeats() == before + 10, "both gateways together"
        assert max(map(len, scene.broker.subscribed)) <= 8, "some brokers take no more filters at a time"
        asked = Counter(name for filters in scene.broker.subscribed for name in filters)
        assert max(asked.values()) <= 2, "no part of a gateway subscribes to what another part has subscribed to"


@pytest.mark.parametrize("looks", [10.0, 0.2], ids=["at the start", "later"])
async def test_a_broker_that_delivers_to_every_member_is_detected(
    control_plane: FakeControlPlane, monkeypatch: pytest.MonkeyPatch, looks: float
) -> None:
    """The search for leftovers, which subscribes to commands as well, is under way or over."""
    monkeypatch.setattr("gateways.mqtt.leftovers.LOOK", looks)
    control_plane.on_baseline = lambda report: pb.BaselineAnswer(
        base_id=report.base_id, query_id=report.baseline_query.query_id
    )
    async with running(control_plane, Behaviour(shares="all"), gateways=2) as scene:
        assert await scene.notes() == []
        await asyncio.sleep(0.5)
        for number in range(3):
            async with Base(scene.broker.port, f"base-{number}").running() as base:
                await base.say("queryBaseline", {"identity": base.identity})
                await base.command("base/baseline", 2)
                await asyncio.sleep(0.1)
        for number in range(2):
            (note,) = await scene.notes(number)
            assert note.startswith(NOTE + "several gateways get each baseline question")
            *_, report = scene.streams[number].matching("tunnel_state")
            assert (report.tunnel_state.up, report.tunnel_state.reason) == (True, note)
        async with Base(scene.broker.port, "base-9").running() as base:
            await base.say("queryBaseline", {"identity": base.identity})
            await base.command("base/baseline")
            await asyncio.sleep(2)
            assert 1 <= len(base.bodies("base/baseline")) <= 2, "mostly one from now on"
        assert scene.connects() == [1, 1]


def commands(filters: Sequence[str]) -> bool:
    return any(name.endswith("/installBiz") for name in filters)


def strays(filters: Sequence[str]) -> bool:
    return any("koupleless_default/" in name for name in filters)


EXTRAS = {
    "refuses commands": (granting(lambda f: [FAILURE] * len(f), commands), "another controller retained", 1),
    "ends over commands": (granting(end, commands), "another controller retained", 2),
    "is silent over commands": (granting(silence, commands), "another controller retained", 1),
    "refuses the default environment": (granting(lambda _: [FAILURE], strays), "the environment default", 1),
    "ends over the default environment": (granting(end, strays), "the environment default", 2),
}


@pytest.mark.parametrize("case", EXTRAS)
async def test_a_gateway_serves_without_what_is_optional(control_plane: FakeControlPlane, case: str) -> None:
    behaviour, missing, connections = EXTRAS[case]
    clashes = failures("clash")
    async with running(control_plane, behaviour) as scene:
        async with Base(scene.broker.port, "base-1").running() as base:
            await receives_heartbeat(scene.streams[0], base)
        (note,) = await scene.notes()
        assert missing in note
        assert scene.connects() == [connections]
        assert len([*scene.streams[0].matching("tunnel_state")]) == 2, "down at the start, then up"
    assert failures("clash") == clashes


async def test_removing_what_another_controller_retained_is_given_up_with_a_broker_that_ends_over_it(
    control_plane: FakeControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateways.mqtt.leftovers.LOOK", 0.2)

    def publish(_topic: str, retain: bool) -> bool:
        if retain:
            raise End
        return True

    left = {f"koupleless_dev/base-1/{word}": b"{}" for word in ("installBiz", "uninstallBiz", "health")}
    async with running(control_plane, Behaviour(publish=publish, retained=left)) as scene:
        await asyncio.sleep(0.5)
        async with Base(scene.broker.port, "base-1").running() as base:
            await receives_heartbeat(scene.streams[0], base)
            await broker_up(scene.streams[0], up=False)
            await broker_up(scene.streams[0])
            await receives_heartbeat(scene.streams[0], base)
            await asyncio.sleep(1)
        (note,) = await scene.notes()
        assert "asked to remove what is retained under koupleless_dev/base-1/" in note
        assert scene.connects() == [2]


NEEDED = {
    "refuses": (
        granting(lambda f: [FAILURE] * len(f), lambda _: True),
        "refuses subscriptions (koupleless_dev/+/base/",
    ),
    "ends": (granting(end, lambda _: True), "ended the connection when it was asked to subscribe to koupleless_dev/+/"),
}


@pytest.mark.parametrize("case", NEEDED)
async def test_what_is_needed_is_asked_for_again_at_a_limited_rate(control_plane: FakeControlPlane, case: str) -> None:
    behaviour, said = NEEDED[case]
    clashes = failures("clash")
    async with ScriptedBroker(behaviour).running() as broker:
        async with gateway_running(broker.port, control_plane.address, client_id="gateway-0") as gateway:
            await asyncio.sleep(6)
            status, text = await gateway.status("readyz")
        assert status == 503
        assert said in text
        assert 2 <= broker.connects["koupleless@@@gateway-0"] <= 6
    assert failures("clash") == clashes
