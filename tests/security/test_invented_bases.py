"""Thousands of invented bases cost good ones nothing: Pods become Ready, no replica fences itself, memory stays."""

import asyncio
import re
import threading
import time
from collections import Counter

import pytest

from tests.integration.main_job.conftest import NODES, Stage, module_pod
from tests.programs import ControlPlane, HttpGateway, MqttGateway, Programs, SimulatedBase, ask, eventually
from tests.security.attackers import invented
from tests.servers.cluster import KubeCluster
from tests.servers.mosquitto import Mosquitto

pytestmark = pytest.mark.timeout(300)

INVENTED = 3_000
READY_WITHIN = 30.0
"""Seconds, on a machine that runs other tests too; alone it takes one or two."""


@pytest.fixture
def stage(kube: KubeCluster, programs: Programs) -> Stage:
    control_plane = ControlPlane(programs, **kube.environ())
    return Stage(kube, programs, control_plane.start(), HttpGateway(programs, control_plane.address).start())


def metric(control_plane: ControlPlane, name: str) -> float:
    """Return the sum over a metric of the control plane."""
    _, text = ask(f"http://127.0.0.1:{control_plane.metrics}/metrics")
    return sum(float(line.split()[-1]) for line in text.splitlines() if re.match(rf"{name}(\{{|\s)", line))


def resident(control_plane: ControlPlane) -> float:
    """Return the memory of the control plane in MB."""
    return metric(control_plane, "process_resident_memory_bytes") / 1e6


def pod_ready_in(stage: Stage, name: str, base: str) -> float:
    """Create a Pod on a base and return the seconds until it is Ready."""
    pod = module_pod(name, name, "0.0.1")
    pod["spec"]["nodeName"] = f"vnode.{base}.dev"
    began = time.monotonic()
    stage.kube.api.create("/api/v1/namespaces/default/pods", pod)
    stage.wait_pod_ready(name, within=60)
    return time.monotonic() - began


def assert_nothing_happened(stage: Stage, before: float) -> None:
    """Wait until the last of the attack is gone, and fail if it cost anything lasting."""
    assert metric(stage.control_plane, "koupleless_self_fenced_total") == 0
    nodes = {node["metadata"]["name"] for node in stage.kube.api.items(NODES)}
    assert not {name for name in nodes if "invented" in name}
    after = resident(stage.control_plane)
    print(f"memory {before:.0f} MB before, {after:.0f} MB after")
    assert after < before + 64


def test_over_http(stage: Stage) -> None:
    SimulatedBase(stage.programs, stage.gateway.url, "known").start()
    stage.wait_node_ready("known")
    before = resident(stage.control_plane)
    taken: list[Counter[str]] = []
    attack = threading.Thread(
        target=lambda: taken.append(asyncio.run(invented.over_http(stage.gateway.port, INVENTED)))
    )
    attack.start()
    time.sleep(1.0)
    seconds = [pod_ready_in(stage, "biz1", "known")]
    began = time.monotonic()
    SimulatedBase(stage.programs, stage.gateway.url, "newcomer").start()
    stage.wait_node_ready("newcomer", within=60)
    newcomer = time.monotonic() - began
    attack.join()
    seconds.append(pod_ready_in(stage, "biz2", "known"))
    assert taken[0]["HTTP/1.1 200 OK"] > INVENTED / 2
    print(f"{taken[0]} invented; Pods Ready after {seconds} s, a new base after {newcomer:.1f} s")
    assert max(*seconds, newcomer) < READY_WITHIN
    assert_nothing_happened(stage, before)


def test_over_mqtt(stage: Stage, mosquitto: Mosquitto) -> None:
    MqttGateway(stage.programs, stage.control_plane.address, mosquitto.port).start()
    broker = ("--broker", "127.0.0.1", "--mqtt-port", str(mosquitto.port), "--tunnel", "mqtt", "--env", "dev")
    SimulatedBase(stage.programs, stage.gateway.url, "known", *broker).start()
    stage.wait_node_ready("known")
    before = resident(stage.control_plane)
    attack = threading.Thread(target=lambda: invented.over_mqtt(mosquitto.port, INVENTED))
    attack.start()
    time.sleep(1.0)
    seconds = [pod_ready_in(stage, "biz1", "known")]
    attack.join()
    seconds.append(pod_ready_in(stage, "biz2", "known"))
    eventually(lambda: stage.control_plane.readiness()[0] == 200, within=1, what="the control plane is ready")
    print(f"Pods Ready after {seconds} s")
    assert max(seconds) < READY_WITHIN
    assert_nothing_happened(stage, before)
