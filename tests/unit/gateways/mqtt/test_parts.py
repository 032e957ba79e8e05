"""Baselines are sent, outcomes kept until they are reported, and settings read."""

import asyncio

import pytest
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from gateways.mqtt.baselines import KEEP, MOST, Baselines
from gateways.mqtt.orders import Outcomes
from gateways.mqtt.settings import MqttGatewaySettings
from gateways.session.links import Unavailable
from gateways.session.orders import of_order, refused
from mqttclient.failures import Lost
from mqttclient.receipts import Acknowledgements
from service.settings import read
from tests.unit.gateways import said

pytestmark = pytest.mark.looptime

MODULE = pb.ModuleRef(name="biz", version="1", url="http://repo/biz.jar")
FAILED = pb.BatchInstallResult(reply=said.reply("FAILED"))


def batch() -> pb.Report:
    return pb.Report(base_id="a", batch_install_result=FAILED)


class Scene:
    """A control plane that knows the baseline from some time on, and a broker that may lose it."""

    def __init__(self, *, known_at: float = 0.0, shared: bool = True, lost: bool = False) -> None:
        self.known_at = known_at
        self.lost = lost
        self.sent: list[tuple[str, bytes]] = []
        self.baselines = Baselines(
            "dev",
            self.baseline,
            self.publish,
            shared=lambda: shared,
            everybody_receives=lambda: None,
            chance=lambda: 0.5,
        )

    def report(self, report: pb.Report) -> bool:
        raise AssertionError("nothing is reported here")

    async def baseline(self, query: pb.Report) -> list[pb.ModuleRef]:
        if asyncio.get_running_loop().time() < self.known_at:
            raise Unavailable("nobody is there")
        return [MODULE]

    def publish(self, topic: str, payload: bytes, *, qos: int = 1) -> asyncio.Future[None]:
        self.sent.append((topic, payload))
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.lost:
            future.set_exception(Lost("gone"))
        else:
            future.set_result(None)
        return future


async def test_a_baseline_question_is_kept_until_it_can_be_answered() -> None:
    scene = Scene(known_at=20)
    assert scene.baselines.ask(said.query("a"))
    assert scene.baselines.ask(said.query("a"))
    await asyncio.sleep(22)
    assert [topic for topic, _ in scene.sent] == ["koupleless_dev/a/base/baseline"]
    assert not scene.baselines._tasks


async def test_a_baseline_question_expires() -> None:
    scene = Scene(known_at=10_000)
    scene.baselines.ask(said.query("a"))
    await asyncio.sleep(KEEP + 1)
    assert not scene.baselines._tasks


async def test_a_baseline_that_may_have_arrived_is_not_sent_again() -> None:
    scene = Scene(lost=True)
    scene.baselines.ask(said.query("a"))
    await asyncio.sleep(KEEP)
    assert len(scene.sent) == 1


async def test_a_faster_gateway_cancels_our_answer_unless_questions_are_shared() -> None:
    for shared, answers in ((False, 0), (True, 1)):
        scene = Scene(shared=shared)
        scene.baselines.ask(said.query("a"))
        await asyncio.sleep(0)
        scene.baselines.overheard("a")
        await asyncio.sleep(10)
        assert len(scene.sent) == answers


async def test_baseline_questions_are_bounded() -> None:
    scene = Scene(known_at=10_000)
    for number in range(MOST):
        assert scene.baselines.ask(said.query(f"base-{number}"))
    assert not scene.baselines.ask(said.query("one-more"))
    await scene.baselines.close()


class ControlPlane:
    """Takes reports while it is connected."""

    def __init__(self) -> None:
        self.connected = True
        self.reports: list[pb.Report] = []

    def report(self, report: pb.Report) -> bool:
        if self.connected:
            self.reports.append(report)
        return self.connected


async def test_messages_stay_with_the_broker_until_the_control_plane_has_their_reports() -> None:
    control_plane, sent = ControlPlane(), list[int]()
    queue, outcomes = Acknowledgements(sent.append), Outcomes(control_plane.report)
    outcomes.wait("o1", queue.received(1))
    outcomes.batch(batch(), queue.received(2))
    outcomes.batch(batch(), queue.received(3))
    assert sent == []
    outcomes.settled(of_order(said.order("o2"), refused(pb.REFUSAL_REASON_BUSY, "full")))
    outcomes.settled(said.query("a", "q"))
    outcomes.settled(said.result("o1"))
    assert sent == [1]
    outcomes.settled(batch())
    outcomes.settled(batch())
    assert sent == [1, 2, 3]
    assert control_plane.reports == [batch()]


async def test_a_batch_that_could_not_be_reported_is_reported_later() -> None:
    control_plane, sent = ControlPlane(), list[int]()
    control_plane.connected = False
    queue, outcomes = Acknowledgements(sent.append), Outcomes(control_plane.report)
    task = asyncio.create_task(outcomes.keep_reporting())
    outcomes.batch(batch(), queue.received(1))
    await asyncio.sleep(5)
    assert not control_plane.reports
    control_plane.connected = True
    await asyncio.sleep(2)
    assert control_plane.reports == [batch()]
    outcomes.settled(batch())
    assert sent == [1]
    task.cancel()


def test_settings_have_the_names_and_defaults_of_the_original(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MQTT_BROKER", "broker.example")
    monkeypatch.setenv("CLIENT_ID", "one")
    monkeypatch.setenv("ENV", "Prod")
    settings = read(MqttGatewaySettings)
    assert (settings.port, settings.client_id_of(settings.client_id), settings.env, settings.tls) == (
        1883,
        "koupleless@@@one",
        "prod",
        False,
    )
    assert settings.tls_context is None
