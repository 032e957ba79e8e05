"""The session as a whole, in virtual time: what goes to which replica, and how everything that is kept ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import cast

import pytest

from gateways.arklet.facts import BaselineModule, Metadata, ModuleOrder, Reply, ReplyCode, Verb
from gateways.mqtt.outcomes import Outcomes
from gateways.session import messages as m
from gateways.session import session as sessions
from gateways.session.outbox import Outbox
from gateways.session.stream import Link
from mqttclient.receipts import Acknowledgements

pytestmark = pytest.mark.looptime

ADDRESS = m.Address("10.0.0.1", 0)
SUCCESS = Reply(ReplyCode.SUCCESS)


class FakeLink:
    """A stream whose other side the test plays. Stands in for ``stream.Link``."""

    def __init__(self, session: sessions.Session, endpoint: str) -> None:
        self._session = session
        self.endpoint = endpoint
        self.replica = ""
        self.outbox: Outbox | None = None

    @property
    def connected(self) -> bool:
        return self.outbox is not None

    ending = False

    def wake(self) -> None:
        """The test looks by itself."""

    def say_goodbye(self, reason: str) -> None:
        self.outbox = None

    async def run(self) -> None:
        await asyncio.get_running_loop().create_future()

    def welcome(self, replica: str, *members: m.Member) -> bool:
        self.replica = replica
        self.outbox = self._session.welcomed(cast("Link", self), m.Welcome(replica, members, m.Limits()))
        return self.outbox is not None

    def say(self, message: m.Downward) -> None:
        self._session.received(cast("Link", self), message)

    def lose(self, failures: int = 1) -> None:
        self.outbox = None
        self._session.ended(cast("Link", self), failures)

    def questions(self) -> list[str]:
        """Take what waits for the replica; return the ids of the baseline questions in it."""
        assert self.outbox is not None
        sent = self.outbox.take(asyncio.get_running_loop().time())
        told = [report.fact for envelope in sent if isinstance(envelope.content, tuple) for report in envelope.content]
        return [fact.query_id for fact in told if isinstance(fact, m.BaselineQuery)]

    def acknowledge(self) -> None:
        assert self.outbox is not None
        sent = self.outbox.take(asyncio.get_running_loop().time())
        if sent:
            self.say(m.ReportsAck(sent[-1].seq))


class Scene:
    """A session with links to play, and the receipts of a broker behind its tunnel."""

    def __init__(self) -> None:
        self.links: dict[str, FakeLink] = {}
        self.acknowledged: list[int] = []
        self.session = sessions.Session(m.Hello("g", "1", m.TunnelKind.MQTT, "dev", "0"), ["cp:1"])
        self.outcomes = Outcomes(self.session.report)
        self.broker = Acknowledgements(self.acknowledged.append)

    # The tunnel.

    async def execute(self, order: m.Order) -> m.Outcome:
        self.outcomes.order(order.order_id, self.broker.received(int(order.order_id)))
        return SUCCESS

    def watch(self, watch: m.Watch) -> None:
        """Nothing is polled here."""

    def unwatch(self, base: str) -> None:
        """Nothing is polled here."""

    def settled(self, kept: m.OrderResult | m.Report) -> None:
        self.outcomes.settled(kept)


def now() -> float:
    return asyncio.get_running_loop().time()


async def resolve(endpoint: str) -> tuple[str, ...]:
    return (endpoint,)


@asynccontextmanager
async def playing() -> AsyncIterator[Scene]:
    """A session that runs. No fixture: those are outside of the virtual time of a test."""
    scene = Scene()

    def link(endpoint: str, _hello: m.Hello, _owner: sessions.Session) -> FakeLink:
        scene.links[endpoint] = FakeLink(scene.session, endpoint)
        return scene.links[endpoint]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sessions, "time", SimpleNamespace(monotonic=now, time=now))
        patch.setattr(sessions, "resolve", resolve)
        patch.setattr(sessions, "Link", cast("Callable[..., Link]", link))
        running = asyncio.create_task(scene.session.run(scene))
        await asyncio.sleep(0.1)
        yield scene
        running.cancel()
        await asyncio.wait([running])


def order(number: int, fence: int = 1) -> m.Order:
    return m.Order(str(number), fence, "b", ADDRESS, Verb.INSTALL, (ModuleOrder("biz", "1"),), 60.0)


async def test_a_gateway_hears_again_after_any_outage_of_the_control_plane() -> None:
    """What a broker delivered is acknowledged in order: one that never is would block all that come after it."""
    async with playing() as scene:
        first = scene.links["cp:1"]
        assert first.welcome("r0")
        first.say(order(1))
        await asyncio.sleep(0.1)
        first.lose()
        await asyncio.sleep(720.0)
        scene.broker.received(2).settle()
        assert scene.acknowledged == [1, 2]
        assert first.welcome("r0")
        assert first.outbox is not None
        assert [envelope.content for envelope in first.outbox.take(now())] == [m.OrderResult("1", "b", SUCCESS)]


async def test_a_question_whose_asker_gave_up_is_not_asked() -> None:
    async with playing() as scene:
        first = scene.links["cp:1"]
        assert first.welcome("r0")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5.0):
                await scene.session.baseline(Metadata("b"))
        assert first.outbox is not None
        assert first.outbox.take(now()) == []


async def test_a_question_is_asked_again_of_whoever_there_is_and_the_first_answer_counts() -> None:
    async with playing() as scene:
        first = scene.links["cp:1"]
        members = m.Member("r0", "cp:1"), m.Member("r1", "cp:2")
        assert first.welcome("r0", *members)
        await asyncio.sleep(0.1)
        second = scene.links["cp:2"]
        assert second.welcome("r1", *members)
        asking = asyncio.create_task(scene.session.baseline(Metadata("b")))
        await asyncio.sleep(0.1)
        asked = first.questions()
        assert len(asked) == 1
        assert second.questions() == asked
        # The one whose turn it is is gone: its record says that it lives for some seconds more.
        first.lose()
        await asyncio.sleep(sessions.ASK_AGAIN)
        assert second.questions() == asked
        given = (BaselineModule("biz1", "1", "https://repo.example/biz1.jar"),)
        second.say(m.BaselineAnswer("b", asked[0], given))
        second.say(m.BaselineAnswer("b", asked[0], ()))
        assert await asking == given
        await asyncio.sleep(10.0)
        assert second.questions() == []


async def test_the_next_owner_of_a_base_learns_what_was_installed_lately() -> None:
    """Its predecessor may have died before it recorded that."""
    async with playing() as scene:
        first = scene.links["cp:1"]
        assert first.welcome("r0", m.Member("r0", "cp:1"), m.Member("r1", "cp:2"))
        await asyncio.sleep(0.1)
        second = scene.links["cp:2"]
        assert second.welcome("r1", m.Member("r0", "cp:1"), m.Member("r1", "cp:2"))
        first.say(m.Claim("b", 1))
        for number in (1, 2):
            first.say(order(number))
        await asyncio.sleep(0.1)
        first.acknowledge()
        first.lose()
        second.say(m.Claim("b", 2))
        assert second.outbox is not None
        told = [envelope.content for envelope in second.outbox.take(now())]
        assert told == [m.OrderResult("2", "b", SUCCESS)], "of each module the last one"
        second.say(m.Claim("b", 2))
        assert second.outbox.take(now()) == [], "a term is told once"
        await asyncio.sleep(90.0)
        second.say(m.Claim("b", 3))
        assert second.outbox.take(now()) == []
