"""Retained commands of another controller: looked for once, removed slowly, only for bases that live."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import cast

import pytest
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from gateways.arklet import topics
from gateways.mqtt import leftovers
from gateways.mqtt.extras import FIRST_HOLD
from gateways.mqtt.leftovers import LATER, LOOK, PAUSE, Leftovers
from mqttclient.connection import MqttConnection, MqttMessage
from mqttclient.failures import Lost, NotSent
from tests.unit.gateways import said

pytestmark = pytest.mark.looptime

COMMANDS = topics.commands("dev")
FAILED = pb.BatchInstallResult(reply=said.reply("FAILED"))


def install(base: str) -> str:
    return f"koupleless_dev/{base}/installBiz"


def baseline(base: str) -> str:
    return f"koupleless_dev/{base}/base/baseline"


class FakeConnection:
    """Notes what is asked of the broker; takes tells which filters it takes."""

    def __init__(self, *, takes: bool = True) -> None:
        self.takes = takes
        self.publish: Callable[..., asyncio.Future[None]]
        self.up = True
        self.asked = ""
        self.looks: list[tuple[str, ...]] = []
        self.ends: list[tuple[float, tuple[str, ...]]] = []

    async def subscribe(self, filters: Mapping[str, int], *, within: float = 10.0) -> list[bool]:
        self.looks.append(tuple(filters))
        return [self.takes for _ in filters]

    async def unsubscribe(self, filters: Sequence[str]) -> None:
        self.ends.append((asyncio.get_running_loop().time(), tuple(filters)))

    @contextmanager
    def asking(self, what: str) -> Iterator[None]:
        self.asked = what
        yield


class Scene:
    """A gateway that looks and removes, over one connection at a time."""

    def __init__(self) -> None:
        self.leftovers = Leftovers("dev")
        self.removed: list[tuple[float, str]] = []
        self.refusal: Exception | None = None
        self.acknowledged = True
        self.connection = FakeConnection()

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> asyncio.Future[None]:
        assert (payload, retain) == (b"", True)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if isinstance(self.refusal, NotSent):
            raise self.refusal
        if self.refusal is not None:
            self.connection.up = False
            future.set_exception(self.refusal)
            return future
        self.removed.append((asyncio.get_running_loop().time(), topic))
        if self.acknowledged:
            future.set_result(None)
        return future

    def saw(self, *seen: str, payload: bytes = b"{}", retained: bool = True) -> None:
        for topic in seen:
            base = topics.addressee(topic, "dev")
            assert base is not None
            self.leftovers.saw(MqttMessage(topic, payload, retained), base)

    def lives(self, *bases: str) -> None:
        for base in bases:
            self.leftovers.lives(base)

    def topics(self) -> list[str]:
        return [topic for _, topic in self.removed]

    @asynccontextmanager
    async def connected(self, connection: FakeConnection | None = None) -> AsyncIterator[asyncio.Task[None]]:
        """Give the task that looks and removes, until the connection ends."""
        self.connection = connection or FakeConnection()
        self.connection.publish = self.publish
        given = cast("MqttConnection", self.connection)
        await self.leftovers.begin(given)
        task: asyncio.Task[None] = asyncio.create_task(self.leftovers.clear(given))
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.wait({task})


async def test_what_is_retained_is_looked_for_once() -> None:
    scene = Scene()
    async with scene.connected():
        await asyncio.sleep(LOOK - 0.1)
        assert scene.connection.looks == [COMMANDS]
        assert scene.connection.ends == []
        await asyncio.sleep(0.2)
        assert scene.connection.ends == [(LOOK, COMMANDS)]
    async with scene.connected():
        await asyncio.sleep(LOOK + 0.1)
        assert (scene.connection.looks, scene.connection.ends) == ([], [])


async def test_a_look_that_the_end_of_the_connection_cut_short_is_taken_again() -> None:
    scene = Scene()
    async with scene.connected():
        await asyncio.sleep(LOOK - 0.1)
    async with scene.connected():
        await asyncio.sleep(LOOK + 0.1)
        assert scene.connection.looks == [COMMANDS]
        assert len(scene.connection.ends) == 1


async def test_a_look_that_is_refused_is_noted_and_taken_on_the_next_connection() -> None:
    scene = Scene()
    async with scene.connected(FakeConnection(takes=False)):
        await asyncio.sleep(LOOK + 0.1)
        assert scene.leftovers.looking.note == (
            "commands that another controller retained: the broker refuses to subscribe to "
            f"{', '.join(COMMANDS)}; bases may carry out old commands again when they connect"
        )
    async with scene.connected():
        await asyncio.sleep(LOOK + 0.1)
        assert scene.connection.looks == [COMMANDS]
        assert scene.leftovers.looking.note == ""


async def test_what_lies_ready_is_removed_one_by_one_and_only_for_bases_that_live() -> None:
    scene = Scene()
    async with scene.connected():
        scene.saw(install("a"), baseline("a"), install("b"), install("c"))
        scene.saw(install("a"))
        await asyncio.sleep(LOOK + 1.0)
        assert scene.removed == [], "nobody lives"
        began = asyncio.get_running_loop().time()
        scene.lives("a")
        scene.lives("c")
        scene.lives("a")
        scene.lives("stranger")
        await asyncio.sleep(1.0)
        assert scene.topics() == [baseline("a"), install("a"), install("c")]
        assert [at - began for at, _ in scene.removed] == pytest.approx([0.0, PAUSE, 2 * PAUSE])
        scene.lives("b")
        await asyncio.sleep(1.0)
        assert scene.topics()[3:] == [install("b")]


async def test_the_next_removal_waits_until_the_broker_has_taken_the_last_one() -> None:
    scene = Scene()
    scene.acknowledged = False
    async with scene.connected():
        scene.saw(install("a"), install("b"))
        scene.lives("a", "b")
        await asyncio.sleep(LOOK + 60.0)
        assert scene.topics() == [install("a")]


async def test_nothing_is_removed_before_the_look_is_over() -> None:
    scene = Scene()
    async with scene.connected():
        scene.saw(install("a"))
        scene.lives("a")
        await asyncio.sleep(LOOK - 0.1)
        assert scene.removed == []
        await asyncio.sleep(0.2)
        assert scene.topics() == [install("a")]


async def test_what_is_not_retained_or_gone_again_is_not_removed() -> None:
    scene = Scene()
    async with scene.connected():
        scene.saw(install("a"), retained=False)
        scene.saw(install("b"))
        scene.saw(install("b"), payload=b"", retained=False)
        scene.saw(install("c"), payload=b"")
        scene.lives(*"abc")
        await asyncio.sleep(LOOK + 1.0)
        assert scene.removed == []


async def test_a_removal_that_cannot_be_sent_now_waits_and_the_connection_stays() -> None:
    scene = Scene()
    scene.refusal = NotSent("too many messages wait for the broker")
    async with scene.connected() as task:
        scene.saw(install("a"), install("b"))
        scene.lives("a", "b")
        await asyncio.sleep(LOOK + 0.1)
        assert not task.done()
        scene.refusal = None
        await asyncio.sleep(LATER + 2 * PAUSE)
        assert sorted(scene.topics()) == [install("a"), install("b")]


async def test_what_could_not_be_removed_is_removed_over_the_next_connection() -> None:
    scene = Scene()
    scene.refusal = Lost("gone")
    async with scene.connected() as task:
        scene.saw(install("a"), install("b"))
        scene.lives("a", "b")
        await asyncio.sleep(LOOK + 0.1)
        assert isinstance(task.exception(), Lost)
    scene.refusal = None
    async with scene.connected():
        await asyncio.sleep(FIRST_HOLD + 1.0)
        assert scene.topics() == [install("b"), install("a")]


async def test_a_removal_that_the_end_of_the_connection_cut_short_is_made_again() -> None:
    scene = Scene()
    scene.acknowledged = False
    async with scene.connected():
        scene.saw(install("a"))
        scene.lives("a")
        await asyncio.sleep(LOOK + 0.1)
        assert scene.topics() == [install("a")]
    scene.acknowledged = True
    async with scene.connected():
        await asyncio.sleep(1.0)
        assert scene.topics() == [install("a")] * 2
        await asyncio.sleep(1.0)
        assert scene.topics() == [install("a")] * 2


async def test_a_broker_that_ends_the_connection_over_a_removal_is_left_alone_for_a_while() -> None:
    scene = Scene()
    scene.refusal = Lost("gone")
    async with scene.connected():
        scene.saw(install("a"))
        scene.lives("a")
        await asyncio.sleep(LOOK + 0.1)
    scene.refusal = None
    async with scene.connected():
        await asyncio.sleep(FIRST_HOLD - 1.0)
        assert scene.removed == []
        assert "remove what is retained under" in scene.leftovers.removing.note
        await asyncio.sleep(2.0)
        assert scene.topics() == [install("a")]
        assert scene.leftovers.removing.note == ""


async def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "MAX_BASES", 3)
    monkeypatch.setattr(leftovers, "MAX_TOPICS", 2)
    monkeypatch.setattr(leftovers, "MAX_ECHOES", 1)
    scene = Scene()
    scene.saw(*(install(base) for base in "abcd"))
    scene.saw(baseline("a"))
    async with scene.connected():
        for base in "dcba":
            scene.leftovers.lives(base)
        await asyncio.sleep(LOOK + 1.0)
        assert scene.topics() == [install("c"), install("b")], "d is one base too many, a has no place in the queue"
        scene.saw(baseline("c"), baseline("b"))
        scene.lives("c")
        scene.lives("b")
        await asyncio.sleep(1.0)
    assert [base for base in "abcd" if scene.leftovers.is_echo(base, FAILED)] == ["b"], "the oldest is forgotten"


async def test_bases_whose_leftovers_are_gone_take_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "MAX_BASES", 1)
    scene = Scene()
    scene.saw(install("a"))
    scene.saw(install("a"), payload=b"", retained=False)
    scene.saw(install("b"))
    async with scene.connected():
        scene.lives("b")
        await asyncio.sleep(LOOK + 1.0)
        assert scene.topics() == [install("b")]


async def test_the_answer_to_a_removed_baseline_is_dropped_once_and_no_other() -> None:
    scene = Scene()
    scene.saw(baseline("a"), install("b"))
    async with scene.connected():
        scene.lives("a", "b")
        await asyncio.sleep(LOOK + 1.0)
    module = pb.BatchInstallResult.Item()
    assert not scene.leftovers.is_echo("b", FAILED), "its baseline was not removed"
    assert not scene.leftovers.is_echo("a", pb.BatchInstallResult(reply=said.reply("SUCCESS")))
    assert not scene.leftovers.is_echo("a", pb.BatchInstallResult(reply=said.reply("FAILED"), items=[module]))
    assert scene.leftovers.is_echo("a", FAILED)
    assert not scene.leftovers.is_echo("a", FAILED)
