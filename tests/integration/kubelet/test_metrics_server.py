"""The real metrics-server, kubectl top and the horizontal Pod autoscaler, over the kubelet API of VNodes."""

import re
from collections.abc import Iterator

import pytest

from tests.integration.kubelet.conftest import MODULES, Stage
from tests.integration.main_job.conftest import module_pod
from tests.programs import eventually
from tests.servers.bundles import METRICS_SERVER
from tests.servers.cluster import KubeCluster
from tests.servers.fixtures import programs_of
from tests.servers.kubeapi import Json
from tests.servers.metricsserver import MetricsServer

DEPLOYMENTS = f"/apis/apps/v1/namespaces/{MODULES}/deployments"
AUTOSCALERS = f"/apis/autoscaling/v2/namespaces/{MODULES}/horizontalpodautoscalers"
OLDEST_MINOR = 31
"""The version of metrics-server that is used runs on Kubernetes from this minor version on."""
ROW = re.compile(r"^(?P<name>\S+) +(?P<cpu>\d+)m +(?:\d+% +)?(?P<memory>\d+)Mi", re.MULTILINE)


@pytest.fixture(scope="module")
def metrics_server(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MetricsServer]:
    if stage.kube.minor < OLDEST_MINOR:
        pytest.skip(f"metrics-server needs Kubernetes 1.{OLDEST_MINOR}")
    with MetricsServer(stage.kube, programs_of(METRICS_SERVER), tmp_path_factory.mktemp("metrics-server")) as server:
        yield server


def top(stage: Stage, *arguments: str) -> dict[str, tuple[int, int]]:
    """Return millicores and MiB by name, as kubectl shows them."""
    done = stage.kubectl("top", *arguments, "--no-headers")
    return {row["name"]: (int(row["cpu"]), int(row["memory"])) for row in ROW.finditer(done.stdout)}


def autoscaler(name: str) -> Json:
    target = {"type": "Utilization", "averageUtilization": 50}
    return {
        "metadata": {"name": name},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicas": 1,
            "maxReplicas": 2,
            "metrics": [{"type": "Resource", "resource": {"name": "memory", "target": target}}],
        },
    }


def deployment(name: str) -> Json:
    pod = module_pod(name, name, "0.0.1")
    pod["spec"]["containers"][0]["resources"] = {"requests": {"memory": "1Mi"}}
    labels = {**pod["metadata"]["labels"], "app": name}
    template = {"metadata": {"labels": labels}, "spec": pod["spec"]}
    return {
        "metadata": {"name": name},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": name}}, "template": template},
    }


def replicas(kube: KubeCluster, name: str) -> int:
    return int(kube.api.get(f"{DEPLOYMENTS}/{name}").get("status", {}).get("readyReplicas", 0))


def test_top_and_autoscaler_know_what_modules_use(stage: Stage, metrics_server: MetricsServer) -> None:
    """A module of a simulated base takes 1.8 MB of metaspace: far more than half of what it requests here."""
    kube = stage.kube
    kube.api.create(DEPLOYMENTS, deployment("scaled"))
    kube.api.create(AUTOSCALERS, autoscaler("scaled"))
    try:
        vnodes = {"vnode.b1.dev", "vnode.b2.dev"}
        eventually(lambda: top(stage, "nodes").keys() >= vnodes, within=120, what="what VNodes use")
        for cpu, memory in (top(stage, "nodes")[name] for name in vnodes):
            assert 60 <= memory <= 80, "65 MB of metaspace, and a few of modules"
            assert cpu > 1000, "a simulated base has a machine of two processors that is busy"
        pods = top(stage, "pods")
        assert {"biz1", "biz2"} <= pods.keys()
        assert all(0 <= memory <= 5 for _, memory in pods.values())
        assert all(cpu > 0 for cpu, _ in pods.values())
        eventually(lambda: replicas(kube, "scaled") == 2, within=120, what="a second replica")
        status = kube.api.get(f"{AUTOSCALERS}/scaled")["status"]
        conditions = {each["type"]: each["status"] for each in status["conditions"]}
        assert conditions["ScalingActive"] == "True", status
    finally:
        kube.api.delete(f"{AUTOSCALERS}/scaled")
        kube.api.delete(f"{DEPLOYMENTS}/scaled")
    wrong = [line for line in metrics_server.log.read_text().splitlines() if "vnode." in line and line[:1] in "EW"]
    assert wrong == [], "metrics-server has no complaint about a VNode"
