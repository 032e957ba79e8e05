"""Over MQTT: base up, Pod in and out, a gateway killed, the broker away, both tunnels at once."""

import signal
import time
from dataclasses import dataclass

import pytest

from tests.integration.main_job.conftest import Stage, condition, idle_stage, programs
from tests.programs import MqttGateway, SimulatedBase, eventually, throughout
from tests.servers.mosquitto import Mosquitto

pytestmark = pytest.mark.timeout(400)

__all__ = ["idle_stage", "programs"]


@dataclass
class MqttStage:
    """The stage with a broker and two MQTT gateways; the HTTP gateway of the stage is not started."""

    stage: Stage
    broker: Mosquitto
    gateways: list[MqttGateway]

    def base(self, identity: str, *arguments: str, tunnel: str = "mqtt", interval: str = "2") -> SimulatedBase:
        """Start a base on MQTT, or on both tunnels."""
        return SimulatedBase(
            self.stage.programs,
            self.stage.gateway.url,
            identity,
            *("--tunnel", tunnel, "--broker", "127.0.0.1", "--mqtt-port", str(self.broker.port), "--env", "dev"),
            *("--heartbeat-interval", interval, "--heartbeats-survive", "--reconnect-longest", "5"),
            *arguments,
        ).start()


@pytest.fixture
def mqtt(idle_stage: Stage, mosquitto: Mosquitto) -> MqttStage:
    idle_stage.control_plane.start()
    gateways = [
        MqttGateway(idle_stage.programs, idle_stage.control_plane.address, mosquitto.port, name, LOG_LEVEL="debug")
        for name in ("mqtt-1", "mqtt-2")
    ]
    for gateway in gateways:
        gateway.start()
    return MqttStage(idle_stage, mosquitto, gateways)


def transition(stage: Stage, name: str) -> str:
    return str(condition(stage.pod(name), "Ready").get("lastTransitionTime", ""))


def wait_gone(stage: Stage, name: str) -> None:
    eventually(lambda: stage.pod(name) is None, within=60, what=f"Pod {name} gone")


def test_a_base_and_a_pod_with_one_of_two_gateways_killed_in_the_middle(mqtt: MqttStage) -> None:
    stage = mqtt.stage
    base = mqtt.base("b1")
    node = stage.wait_node_ready("b1")
    assert node["metadata"]["labels"]["base.koupleless.io/name"] == "simulated-base"
    stage.create_pod("biz1")
    stage.wait_pod_ready("biz1")
    assert base.commands("installBiz") == [
        {"bizName": "biz1", "bizVersion": "0.0.1", "bizUrl": "https://repo.example/biz1-0.0.1.jar"}
    ]
    since = transition(stage, "biz1")
    mqtt.gateways[0].server.stop(signal.SIGKILL)
    stage.create_pod("biz2", module="biz2")
    stage.wait_pod_ready("biz2", within=60)
    mqtt.gateways[0].start()
    mqtt.gateways[1].server.stop(signal.SIGKILL)
    stage.create_pod("biz3", module="biz3")
    stage.wait_pod_ready("biz3", within=60)
    assert transition(stage, "biz1") == since
    assert [body["bizName"] for body in base.commands("installBiz")] == ["biz1", "biz2", "biz3"]
    for name in ("biz1", "biz2", "biz3"):
        stage.delete_pod(name)
    for name in ("biz1", "biz2", "biz3"):
        wait_gone(stage, name)
    assert base.modules() == {}
    base.server.stop()
    eventually(lambda: stage.node("b1") is None, within=90, what="Node gone")


def test_a_gateway_killed_while_an_install_runs_loses_nothing(mqtt: MqttStage) -> None:
    stage = mqtt.stage
    base = mqtt.base("b1", "--install-time", "8")
    stage.wait_node_ready("b1")
    stage.create_pod("biz1")
    eventually(lambda: base.commands("installBiz"), within=30, what="the install at the base")
    mqtt.gateways[0].server.stop(signal.SIGKILL)
    mqtt.gateways[1].server.stop(signal.SIGKILL)
    mqtt.gateways[1].start()
    stage.wait_pod_ready("biz1", within=90)
    assert len(base.commands("installBiz")) == 1


def test_a_broker_that_is_away_for_longer_than_a_base_may_be_silent_costs_nothing(mqtt: MqttStage) -> None:
    stage = mqtt.stage
    base = mqtt.base("b1")
    uid = stage.wait_node_ready("b1")["metadata"]["uid"]
    stage.create_pod("biz1")
    stage.wait_pod_ready("biz1")
    since = transition(stage, "biz1")

    def undisturbed() -> bool:
        node = stage.node("b1")
        return (
            node is not None
            and node["metadata"]["uid"] == uid
            and stage.node_ready("b1") == "True"
            and transition(stage, "biz1") == since
            and stage.pod_ready("biz1")
        )

    mqtt.broker.stop()
    eventually(
        lambda: condition(stage.node("b1"), "TunnelAvailable").get("status") == "False",
        within=30,
        what="the Node says that the tunnel is down",
    )
    # Real time: a base that is silent for 60 s is dead, but without a broker silence does not count.
    throughout(undisturbed, seconds=75, what="undisturbed while the broker is away")
    mqtt.broker.start()
    eventually(
        lambda: condition(stage.node("b1"), "TunnelAvailable").get("status") == "True", within=60, what="tunnel up"
    )
    throughout(undisturbed, seconds=30, what="undisturbed after the outage")
    assert len(base.commands("installBiz")) == 1
    stage.create_pod("biz2", module="biz2")
    stage.wait_pod_ready("biz2", within=60)


def test_a_base_over_both_tunnels_is_one_vnode_and_survives_the_loss_of_either(mqtt: MqttStage) -> None:
    stage = mqtt.stage
    stage.gateway.start()
    base = mqtt.base("b1", tunnel="both")
    stage.wait_node_ready("b1")
    stage.create_pod("biz1")
    stage.wait_pod_ready("biz1")
    assert len([n for n in stage.kube.api.items("/api/v1/nodes") if n["metadata"]["name"].startswith("vnode.")]) == 1
    for lose, recover in ((mqtt.broker.stop, mqtt.broker.start), (stage.gateway.server.stop, stage.gateway.start)):
        lose()
        throughout(lambda: stage.node_ready("b1") == "True", seconds=30, what="Node Ready over the other tunnel")
        name = f"biz-{int(time.monotonic())}"
        stage.create_pod(name, module=name)
        stage.wait_pod_ready(name, within=60)
        recover()
        time.sleep(10)
    assert len([c for c in base.commands("installBiz") if c["bizName"] == "biz1"]) == 1
