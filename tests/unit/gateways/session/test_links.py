"""Links send each message to the right replica, and each kept message ends in one way, in virtual time."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import cast

import pytest
from koupleless.tunnel.v1 import tunnel_pb2 as pb
from structlog.testing import capture_logs

from gateways.mqtt.orders import Outcomes
from gateways.session import links, observed, outboxes
from gateways.session.links import ControlPlaneLinks
from gateways.session.outbox import Outbox
from gateways.session.stream import ReplicaStream
from grpcclient.access import ClientAccess
from mqttclient.receipts import Acknowledgements
from tests.unit.gateways import said
from tests.unit.gateways.session.test_outbox import reports

pytestmark = pytest.mark.looptime


class FakeStream:
    """A stream with the test as its other side. Stands in for ``stream.ReplicaStream``."""

    def __init__(self, links: ControlPlaneLinks, endpoint: str) -> None:
        self._links = links
        self.endpoint = endpoint
        self.replica = ""
        self.outbox: Outbox | None = None

    def wake(self, *, can_wait: bool) -> None:
        """The test takes messages by itself."""

    def leave(self, reason: str) -> bool:
        self.outbox = None
        return True

    async def run(self) -> None:
        await asyncio.get_running_loop().create_future()

    def welcome(self, replica: str, *members: pb.Member) -> bool:
        self.replica = replica
        welcome = pb.Welcome(replica_id=replica, members=members)
        self.outbox = self._links.welcomed(cast("ReplicaStream", self), welcome)
        return self.outbox is not None

    def receive(self, message: pb.ConnectResponse) -> None:
        self._links.received(cast("ReplicaStream", self), message)

    def lose(self, failures: int = 1) -> None:
        self.outbox = None
        self._links.ended(cast("ReplicaStream", self), failures)

    def sent(self) -> list[pb.ConnectRequest]:
        """Take what waits for the replica."""
        assert self.outbox is not None
        return self.outbox.take(asyncio.get_running_loop().time())

    def questions(self) -> list[str]:
        """Take what waits for the replica; return the ids of the baseline questions in it."""
        return [report.baseline_query.query_id for report in reports(self.sent()) if report.HasField("baseline_query")]

    def acknowledge(self) -> None:
        if sent := self.sent():
            self.receive(pb.ConnectResponse(reports_ack=pb.ReportsAck(seq=sent[-1].reports.seq)))


class Scene:
    """Links with fake streams, and the receipts of a broker behind their tunnel."""

    def __init__(self) -> None:
        self.streams: dict[str, FakeStream] = {}
        self.acknowledged: list[int] = []
        self.links = ControlPlaneLinks(pb.Hello(gateway_id="g"), ["cp:1"], ClientAccess("gateway"))
        self.outcomes = Outcomes(self.links.outboxes.report)
        self.broker = Acknowledgements(self.acknowledged.append)

    # The tunnel.

    async def execute(self, order: pb.Order) -> pb.OrderResult:
        self.outcomes.wait(order.order_id, self.broker.received(int(order.order_id)))
        return pb.OrderResult(reply=said.reply())

    def watch(self, watch: pb.Watch) -> None:
        """Nothing is polled here."""

    def unwatch(self, base: str) -> None:
        """Nothing is polled here."""

    def settled(self, kept: pb.Report) -> None:
        self.outcomes.settled(kept)


def now() -> float:
    return asyncio.get_running_loop().time()


def outcomes(messages: list[pb.ConnectRequest]) -> list[str]:
    """Return the orders whose results are in messages; all of them succeeded."""
    results = [report.order_result for report in reports(messages)]
    assert {result.reply.code for result in results} <= {pb.REPLY_CODE_SUCCESS}
    return [result.order_id for result in results]


async def resolve(endpoint: str) -> tuple[str, ...]:
    return (endpoint,)


@asynccontextmanager
async def running_links() -> AsyncIterator[Scene]:
    """Run links. This is no fixture, because fixtures run outside of the virtual time of a test."""
    scene = Scene()

    def stream(endpoint: str, _hello: pb.Hello, _access: ClientAccess, _owner: ControlPlaneLinks) -> FakeStream:
        scene.streams[endpoint] = FakeStream(scene.links, endpoint)
        return scene.streams[endpoint]

    with pytest.MonkeyPatch.context() as patch:
        for module in (links, observed, outboxes):
            patch.setattr(module, "time", SimpleNamespace(monotonic=now, time=now))
        patch.setattr(links, "resolve", resolve)
        patch.setattr(links, "ReplicaStream", cast("Callable[..., ReplicaStream]", stream))
        running = asyncio.create_task(scene.links.run(scene))
        await asyncio.sleep(0.1)
        yield scene
        running.cancel()
        await asyncio.wait([running])


def order(number: int, fence: int = 1) -> pb.ConnectResponse:
    return pb.ConnectResponse(order=said.order(str(number), pb.VERB_INSTALL, "biz", fence=fence))


def claim(fence: int) -> pb.ConnectResponse:
    return pb.ConnectResponse(claim=pb.Claim(base_id="b", fence=fence))


def member(replica: str, address: str) -> pb.Member:
    return pb.Member(replica_id=replica, address=address)


async def test_messages_arrive_again_after_any_outage_of_the_control_plane() -> None:
    """Messages of a broker are acknowledged in order: one that never is would block all later ones."""
    async with running_links() as scene:
        first = scene.streams["cp:1"]
        assert first.welcome("r0")
        first.receive(order(1))
        await asyncio.sleep(0.1)
        first.lose()
        await asyncio.sleep(720.0)
        scene.broker.received(2).settle()
        assert scene.acknowledged == [1, 2]
        assert first.welcome("r0")
        assert outcomes(first.sent()) == ["1"]


async def test_messages_that_are_not_understood_are_refused_each_and_logged_once_in_a_while() -> None:
    async with running_links() as scene:
        stream = scene.streams["cp:1"]
        stream.welcome("a")
        bad = pb.ConnectResponse(order=pb.Order(order_id="7"))
        with capture_logs() as logged:
            for _ in range(3):
                stream.receive(bad)
            await asyncio.sleep(links.LOG_EVERY)
            stream.receive(bad)
        lines = [line for line in logged if line["event"] == "message not understood"]
        assert [line["more"] for line in lines] == [0, 2]
        refused = {report.order_result.refused.reason for report in reports(stream.sent())}
        assert refused == {pb.REFUSAL_REASON_INVALID}


async def test_after_the_gateway_stood_still_something_may_be_missing() -> None:
    async with running_links() as scene:
        stream = scene.streams["cp:1"]
        stream.welcome("r0")
        stream.receive(pb.ConnectResponse(mark=pb.Mark()))
        await asyncio.sleep(5 * links.TICK)
        assert [(message.reports.marked, message.reports.gap) for message in stream.sent()] == [(True, False)]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(links, "time", SimpleNamespace(monotonic=lambda: now() + links.STOOD_STILL))
            await asyncio.sleep(5 * links.TICK)
        assert [message.reports.gap for message in stream.sent()] == [True]


async def test_a_question_is_withdrawn_after_its_timeout() -> None:
    async with running_links() as scene:
        first = scene.streams["cp:1"]
        assert first.welcome("r0")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5.0):
                await scene.links.baseline(said.query("b"))
        assert first.sent() == []


async def test_a_question_is_repeated_to_connected_replicas_and_the_first_answer_counts() -> None:
    async with running_links() as scene:
        first = scene.streams["cp:1"]
        members = member("r0", "cp:1"), member("r1", "cp:2")
        assert first.welcome("r0", *members)
        await asyncio.sleep(0.1)
        second = scene.streams["cp:2"]
        assert second.welcome("r1", *members)
        asking = asyncio.create_task(scene.links.baseline(said.query("b")))
        await asyncio.sleep(0.1)
        asked = first.questions()
        assert len(asked) == 1
        assert second.questions() == asked
        # The replica whose turn it is has ended; its member lease is valid for some seconds more.
        first.lose()
        await asyncio.sleep(links.ASK_AGAIN)
        assert second.questions() == asked
        given = [pb.ModuleRef(name="biz1", version="1", url="https://repo.example/biz1.jar")]
        for modules in (given, []):
            answer = pb.BaselineAnswer(base_id="b", query_id=asked[0], modules=modules)
            second.receive(pb.ConnectResponse(baseline_answer=answer))
        assert await asking == given
        await asyncio.sleep(10.0)
        assert second.questions() == []


async def test_the_next_owner_of_a_base_gets_its_recent_installs() -> None:
    """Its predecessor may have died before it recorded that."""
    async with running_links() as scene:
        first = scene.streams["cp:1"]
        assert first.welcome("r0", member("r0", "cp:1"), member("r1", "cp:2"))
        await asyncio.sleep(0.1)
        second = scene.streams["cp:2"]
        assert second.welcome("r1", member("r0", "cp:1"), member("r1", "cp:2"))
        first.receive(claim(1))
        for number in (1, 2):
            first.receive(order(number))
        await asyncio.sleep(0.1)
        first.acknowledge()
        first.lose()
        second.receive(claim(2))
        assert outcomes(second.sent()) == ["2"], "of each module the last one"
        second.receive(claim(2))
        assert second.sent() == [], "results are sent once in each term"
        await asyncio.sleep(90.0)
        second.receive(claim(3))
        assert second.sent() == []
