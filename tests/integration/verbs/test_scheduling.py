"""Modules are scattered and stacked by the rules of the examples, with the real scheduler."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.corner import Sandbox, isolated
from tests.everything import EXAMPLES, Everything, condition, manifest, pod_spec
from tests.programs import eventually
from tests.servers.cluster import ADMIN, programs
from tests.servers.kubeapi import Json
from tests.servers.process import Server

ZONE = "topology.kubernetes.io/zone"

pytestmark = [pytest.mark.timeout(400), pytest.mark.mosquitto]


@pytest.fixture
def sandbox(everything: Everything, request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    minor = everything.cluster.minor
    if minor < 31:
        pytest.skip(f"kubernetes 1.{minor}: matchLabelKeys came with 1.31")
    with isolated(everything, request.node.name.replace("_", "-")[:40].rstrip("-")) as own:
        yield own


def placed(sandbox: Sandbox, count: int) -> list[str]:
    """Return the Nodes of all Pods, once so many have one."""

    def nodes() -> list[str]:
        return [pod["spec"]["nodeName"] for pod in sandbox.pods() if "nodeName" in pod["spec"]]

    eventually(lambda: len(nodes()) == count, within=30, what=f"{count} Pods with a Node")
    return nodes()


def test_scatter_has_as_many_copies_in_each_zone(sandbox: Sandbox) -> None:
    """By zones that the test gives to Nodes: the example's machines are a label, too."""
    zones = {"zone-1": sandbox.bases("m", count=4).nodes, "zone-2": sandbox.bases("n").nodes}
    zone_of = {node: zone for zone, nodes in zones.items() for node in nodes}
    for node, zone in zone_of.items():
        sandbox.api.patch(f"/api/v1/nodes/{node}", {"metadata": {"labels": {ZONE: zone}}})
    deployment = sandbox.manifest("scatter.yaml")
    deployment["spec"]["replicas"] = 4
    (constraint,) = pod_spec(deployment)["topologySpreadConstraints"]
    assert constraint["topologyKey"] == "base.koupleless.io/host-name"
    constraint["topologyKey"] = ZONE
    sandbox.apply(deployment)
    assert Counter(zone_of[node] for node in placed(sandbox, 3)) == {"zone-1": 2, "zone-2": 1}

    def refused() -> bool:
        waiting = [pod for pod in sandbox.pods() if "nodeName" not in pod["spec"]]
        return any("topology spread" in condition(pod, "PodScheduled").get("message", "") for pod in waiting)

    eventually(refused, within=20, what="the fourth refused, as it would make a difference of two")


def test_stack_joins_a_base_that_has_modules(sandbox: Sandbox) -> None:
    sandbox.bases("a", count=4)
    sandbox.pod("biz2", module="biz2")
    (first,) = placed(sandbox, 1)
    sandbox.apply(sandbox.manifest("stack.yaml"))
    assert placed(sandbox, 2) == [first] * 2


@pytest.fixture
def most_allocated(sandbox: Sandbox, tmp_path: Path) -> Iterator[None]:
    """The second scheduler of the example."""
    config: Json = yaml.safe_load((EXAMPLES / "scheduler" / "most-allocated.yaml").read_text())
    config["clientConnection"] = {"kubeconfig": str(sandbox.everything.cluster.kubeconfig(ADMIN))}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    command = [str(programs()["kube-scheduler"]), f"--config={tmp_path / 'config.yaml'}", "--secure-port=0"]
    server = Server("most-allocated", command, tmp_path / "most-allocated.log")
    server.start()
    yield
    server.stop()


@pytest.mark.usefixtures("most_allocated")
def test_the_profile_fills_one_base_after_the_other(sandbox: Sandbox) -> None:
    sandbox.bases("a", "--metaspace-max", "268435456", count=3)
    for number in range(4):
        pod = manifest("biz1.yaml", cluster=sandbox.cluster, name=f"p{number}", module=f"biz{number}")
        pod["spec"]["schedulerName"] = "most-allocated"
        pod["spec"]["containers"][0]["resources"] = {"requests": {"memory": "40Mi"}}
        sandbox.apply(pod)
        placed(sandbox, number + 1)
    assert len(set(placed(sandbox, 4))) == 1
