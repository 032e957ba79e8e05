"""The label of a base's own Pod limits its modules; nobody else's does."""

import asyncio

import pytest

from controlplane.cluster.api import PODS, Json
from tests.unit.app.harness import ADDRESS, Api, Stage

pytestmark = pytest.mark.looptime

LIMIT = "koupleless.alipay.com/max-module-count"
SEEN = 16.0
"""Seconds after which a base was looked at again."""


def base_pod(
    limit: str | None = "5",
    *,
    name: str = "any",
    ip: str = ADDRESS.ip,
    phase: str = "Running",
    host_network: bool = False,
    component: str = "",
) -> Json:
    labels = {"virtual-kubelet.koupleless.io/component": component, **({LIMIT: limit} if limit is not None else {})}
    return {
        "metadata": {"namespace": "apps", "name": name, "labels": labels},
        "spec": {"hostNetwork": host_network, "containers": [{"name": "base", "image": "base"}]},
        "status": {"phase": phase, "podIP": ip, "podIPs": [{"ip": ip}, {"ip": "fd00::7"}]},
    }


def pods(stage: Stage) -> str:
    node = stage.node()
    assert node is not None
    assert node["status"]["capacity"]["pods"] == node["status"]["allocatable"]["pods"]
    return str(node["status"]["capacity"]["pods"])


@pytest.mark.parametrize(
    ("pod", "shown"),
    [
        (base_pod(), "5"),
        (base_pod(name="shop-0", host_network=True), "5"),
        (base_pod(name="neighbour", host_network=True), "65535"),
        (base_pod(ip="10.0.0.8"), "65535"),
        (base_pod(phase="Succeeded"), "65535"),
        (base_pod(component="module"), "65535"),
        (base_pod(None), "65535"),
    ],
    ids=["own address", "host network", "other on the host", "other address", "ended", "a module", "no label"],
)
async def test_the_pod_of_a_base_has_its_address(pod: Json, shown: str) -> None:
    api = Api()
    api.put(PODS, pod)
    async with Stage(api).running() as stage:
        stage.bases.add("b1")
        await asyncio.sleep(5.0)
        assert pods(stage) == shown
        assert "ModuleLimitNotUnderstood" not in stage.reasons()


async def test_the_node_follows_the_label_and_the_pod() -> None:
    async with Stage(Api()).running() as stage:
        stage.bases.add("b1")
        await asyncio.sleep(5.0)
        for limit, shown in (("5", "5"), ("7", "7"), (None, "65535"), ("3", "3")):
            stage.api.put(PODS, base_pod(limit))
            await asyncio.sleep(SEEN)
            assert pods(stage) == shown
        stage.api.put(PODS, base_pod("3", ip="10.0.0.9"))
        await asyncio.sleep(SEEN)
        assert pods(stage) == "65535"
        stage.api.put(PODS, base_pod("3"))
        await asyncio.sleep(SEEN)
        stage.api.remove(PODS, "any", "apps")
        await asyncio.sleep(SEEN)
        assert pods(stage) == "65535"


async def test_a_label_that_says_no_number_has_no_effect_and_is_said_once() -> None:
    async with Stage(Api()).running() as stage:
        stage.bases.add("b1")
        for phase in ("Pending", "Running", "Running"):
            stage.api.put(PODS, base_pod("many", phase=phase))
            await asyncio.sleep(SEEN)
        assert pods(stage) == "65535"
        assert stage.reasons().count("ModuleLimitNotUnderstood") == 1
