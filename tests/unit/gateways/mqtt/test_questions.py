"""Watched bases are asked for modules and health over MQTT, in virtual time."""

import asyncio

import pytest
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from gateways.arklet.payloads import Negative
from gateways.mqtt.clocks import Clocks
from gateways.mqtt.tunnel import MqttTunnel
from mqttclient.failures import NotSent
from tests.unit.gateways import said

pytestmark = pytest.mark.looptime

WATCH = said.watch("a", port=0)
HEALTH = pb.Report(base_id="a", health=said.health(java_version="17"))
AHEAD = 3600.0


class FakeBroker:
    def __init__(self) -> None:
        self.ready = True
        self.sent: list[tuple[float, str, int]] = []

    def publish(self, topic: str, payload: bytes, *, qos: int = 1) -> asyncio.Future[None]:
        if not self.ready:
            raise NotSent("no broker")
        assert payload == b"{}"
        loop = asyncio.get_running_loop()
        self.sent.append((round(loop.time(), 2), topic, qos))
        future: asyncio.Future[None] = loop.create_future()
        future.set_result(None)
        return future


class Scene:
    def __init__(self) -> None:
        self.broker = FakeBroker()
        self.reports: list[pb.Report] = []
        self.clocks = Clocks()
        self.tunnel = MqttTunnel("dev", self.broker.publish, self.report, health_timeout=5, query_timeout=10)
        self.tunnel.prober.chance = lambda: 0.5

    def report(self, report: pb.Report) -> bool:
        assert report.base_id == "a"
        self.reports.append(report)
        return True

    def list_modules(self, *, age: float = 0.0) -> bool:
        now = asyncio.get_running_loop().time()
        stamp = now - age + AHEAD
        report = said.modules("a", said.module("biz"), epoch=0)
        return self.tunnel.listed(report, stamp, self.clocks.made_at("a", stamp, now))

    def asked(self) -> list[float]:
        return [at for at, topic, _ in self.broker.sent if topic == "koupleless_dev/a/queryAllBiz"]

    def epochs(self) -> list[int]:
        return [report.modules.epoch for report in self.reports if report.HasField("modules")]

    def failures(self) -> list[pb.PollFailed]:
        return [report.poll_failed for report in self.reports if report.HasField("poll_failed")]


@pytest.fixture
async def scene() -> Scene:
    return Scene()


async def test_a_base_is_asked_again_until_a_list_is_new_enough(scene: Scene) -> None:
    scene.tunnel.watch(WATCH)
    for _ in range(40):
        await asyncio.sleep(0.1)
        if len(scene.asked()) > len(scene.epochs()):
            scene.list_modules()
    await scene.tunnel.prober.close()
    assert scene.asked()[0] == 0
    assert len(scene.asked()) == 2, "the second confirms the first; then the interval counts"
    assert scene.epochs() == [0, 1]


async def test_a_list_without_a_question_counts_by_when_it_was_made(scene: Scene) -> None:
    scene.tunnel.watch(WATCH)
    await asyncio.sleep(0.1)
    scene.list_modules()
    await asyncio.sleep(0.5)
    scene.list_modules(age=0.45)
    await asyncio.sleep(0.9)
    scene.list_modules()
    await asyncio.sleep(0)
    await scene.tunnel.prober.close()
    assert scene.epochs() == [0, 0, 1]


async def test_an_old_answer_that_comes_after_a_higher_epoch_does_not_count_for_it(scene: Scene) -> None:
    scene.tunnel.watch(WATCH)
    for _ in range(30):
        await asyncio.sleep(0.1)
        scene.list_modules()
    scene.tunnel.watch(said.watch("a", port=0, epoch=2))
    await asyncio.sleep(2)
    # It was under way for so long that it could be taken for the answer to the current question.
    scene.list_modules(age=2.04)
    await asyncio.sleep(0)
    assert scene.epochs()[-1] == 1
    await asyncio.sleep(1.5)
    scene.list_modules()
    await asyncio.sleep(0)
    await scene.tunnel.prober.close()
    assert scene.epochs()[-1] == 2


async def test_an_overtaken_list_is_dropped(scene: Scene) -> None:
    scene.tunnel.watch(WATCH)
    await asyncio.sleep(2)
    assert scene.list_modules()
    await asyncio.sleep(0.1)
    assert not scene.list_modules(age=1)
    assert len(scene.epochs()) == 1
    await scene.tunnel.prober.close()


async def test_silence_is_reported_once_and_a_missing_broker_not_at_all(scene: Scene) -> None:
    scene.tunnel.watch(WATCH)
    await asyncio.sleep(60)
    assert {failed.verb for failed in scene.failures()} == {pb.VERB_HEALTH, pb.VERB_QUERY_MODULES}
    scene.broker.ready = False
    scene.tunnel.interrupt("gone")
    await asyncio.sleep(60)
    assert len(scene.failures()) == 2
    await scene.tunnel.prober.close()


async def test_answers_of_a_base_that_is_not_watched_are_ignored(scene: Scene) -> None:
    assert not scene.tunnel.concerns("a")
    assert scene.list_modules()
    scene.tunnel.answered("a", pb.VERB_HEALTH, HEALTH)
    assert not scene.reports


async def test_a_negative_answer_is_a_failed_poll(scene: Scene) -> None:
    scene.tunnel.watch(WATCH)
    await asyncio.sleep(1)
    scene.tunnel.answered("a", pb.VERB_HEALTH, Negative(said.reply("FAILED", message="not now")))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await scene.tunnel.prober.close()
    (failed,) = scene.failures()
    assert (failed.verb, failed.reason) == (pb.VERB_HEALTH, "FAILED: not now")
    assert (failed.epoch, failed.failure) == (1, pb.POLL_FAILURE_NEGATIVE)
    assert len(scene.reports) == 1


async def test_what_is_asked_again_has_qos_0_and_what_is_asked_once_qos_1(scene: Scene) -> None:
    scene.tunnel.watch(WATCH)
    await asyncio.sleep(0.1)
    await scene.tunnel.prober.close()
    assert {(topic, qos) for _, topic, qos in scene.broker.sent} == {
        ("koupleless_dev/a/queryAllBiz", 0),
        ("koupleless_dev/a/health", 0),
    }
    scene.broker.sent.clear()
    order = pb.Order(base_id="a", verb=pb.VERB_HEALTH)
    order.timeout.FromSeconds(1)
    result = await scene.tunnel.execute(order)
    assert result.unknown.message == "no answer within 0.8 s"
    assert [(topic, qos) for _, topic, qos in scene.broker.sent] == [("koupleless_dev/a/health", 1)]


async def test_two_equal_questions_get_the_same_answer(scene: Scene) -> None:
    both = asyncio.gather(*(scene.tunnel.question("a", pb.VERB_HEALTH, timeout=5, qos=0) for _ in range(2)))
    await asyncio.sleep(1)
    assert scene.tunnel.concerns("a")
    scene.tunnel.answered("a", pb.VERB_HEALTH, HEALTH)
    assert await both == [HEALTH] * 2
    assert not scene.tunnel.concerns("a")
