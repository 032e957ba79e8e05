"""What somebody else keeps changing is put right at once, then less and less often, and that is said."""

import asyncio
from collections.abc import Callable

import pytest
from prometheus_client import REGISTRY

from controlplane.app.policy import Policy
from controlplane.cluster.api import DEPLOYMENTS, NODES, PODS, Json, Resource
from controlplane.domain.facts import Reply, ReplyCode, Verb
from tests.unit.app.harness import Api, Stage
from tests.unit.app.workloads.test_followers import put_deployment as put_peer
from tests.unit.app.workloads.test_releases import put_deployment as put_batched

pytestmark = pytest.mark.looptime

POLICY = Policy(replica="replica-0", env="dev", version="test", peers_follow=True)
LASTS = 300.0
AT_MOST = 12
"""Writes in that time: the first two at once, then after 1, 2, 4, 8, 16, 32, 60 s and so on."""


def conditions(obj: Json) -> None:
    for condition in obj["status"]["conditions"]:
        condition["status"] = "Unknown"


def phase(pod: Json) -> None:
    pod["status"]["phase"] = "Pending"


def containers(pod: Json) -> None:
    pod["status"]["containerStatuses"] = [{"name": "biz1", "state": {"waiting": {"reason": "Odd"}}}]


def capacity(node: Json) -> None:
    node["status"]["capacity"]["pods"] = "1"


def labels(node: Json) -> None:
    node["metadata"]["labels"]["base.koupleless.io/name"] = "other"


def taints(node: Json) -> None:
    node["spec"]["taints"] = []


def replicas(deployment: Json) -> None:
    deployment["spec"]["replicas"] = 7


def released(deployment: Json) -> None:
    del deployment["status"]["conditions"][1:]


def state(deployment: Json) -> None:
    deployment["metadata"]["annotations"].pop("module.koupleless.io/release", None)


async def keep_changing(api: Api, resource: Resource, name: str, change: Callable[[Json], None]) -> None:
    """Be a program that changes an object as soon as somebody else wrote it."""
    namespace, _, short = name.partition("/")
    obj = api.named(resource, short, namespace)
    assert obj is not None
    events = api.watch(resource, resource_version=obj["metadata"]["resourceVersion"])
    while True:
        change(obj)
        own = api.put(resource, obj)["metadata"]["resourceVersion"]
        async for event in events:
            meta = event.object["metadata"]
            if meta["name"] == short and int(meta["resourceVersion"]) > int(own):
                obj = event.object
                break


async def installed(stage: Stage, attempts: int) -> None:
    """Wait until so many installs were tried."""
    for _ in range(6000):
        if len(stage.bases.installs) >= attempts:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"no {attempts} installs within 600 s")


@pytest.mark.parametrize(
    ("what", "resource", "name", "change"),
    [
        ("pod-status", PODS, "default/p", conditions),
        ("pod-status", PODS, "default/p", phase),
        ("pod-status", PODS, "default/p", containers),
        ("node-status", NODES, "/vnode.b1.dev", conditions),
        ("node-status", NODES, "/vnode.b1.dev", capacity),
        ("node-metadata", NODES, "/vnode.b1.dev", labels),
        ("node-metadata", NODES, "/vnode.b1.dev", taints),
        ("deployment-scale", DEPLOYMENTS, "default/peer", replicas),
        ("deployment-release", DEPLOYMENTS, "default/biz1", released),
        ("deployment-release", DEPLOYMENTS, "default/biz1", state),
    ],
)
async def test_two_programs_that_disagree_do_not_use_up_the_api_server(
    what: str, resource: Resource, name: str, change: Callable[[Json], None]
) -> None:
    api = Api()
    put_peer(api, "peer")
    put_batched(api)
    async with Stage(api, POLICY).running() as stage:
        stage.bases.add("b1")
        stage.put_pod("p")
        await asyncio.sleep(5.0)
        stage.api.calls.clear()
        before = REGISTRY.get_sample_value("koupleless_repairs_total", {"what": what}) or 0.0
        neighbour = asyncio.create_task(keep_changing(api, resource, name, change))
        await asyncio.sleep(LASTS)
        neighbour.cancel()
        writes = [call for call in api.made("patch") if (call.resource, call.subject) == (resource, name)]
        assert 5 <= len(writes) <= AT_MOST
        repairs = (REGISTRY.get_sample_value("koupleless_repairs_total", {"what": what}) or 0.0) - before
        assert len(writes) - 2 <= repairs <= len(writes)
        assert stage.reasons().count("ChangedByOthers") == 1
        calls = len(api.calls)
        await asyncio.sleep(100.0)
        left = [call for call in api.calls[calls:] if (call.resource, call.subject) == (resource, name)]
        assert len([call for call in left if call.verb == "patch"]) == 1, "it is right in the end"


async def test_a_module_that_fails_again_and_again_is_news_each_time() -> None:
    async with Stage(Api(), POLICY).running() as stage:
        stage.bases.add("b1")
        stage.bases.answer[Verb.INSTALL] = Reply(ReplyCode.INTERNAL_ERROR, message="port in use")
        stage.put_pod("p")
        for attempts in range(1, 8):
            await installed(stage, attempts)
            await asyncio.sleep(0.5)
            pod = stage.pod("p")
            assert pod is not None
            assert pod["status"]["containerStatuses"][0]["restartCount"] == attempts
        assert "ChangedByOthers" not in stage.reasons()


async def test_a_node_that_is_removed_again_and_again_comes_back_less_and_less_often() -> None:
    async with Stage(Api(), POLICY).running() as stage:
        stage.bases.add("b1")
        await asyncio.sleep(5.0)
        stage.api.calls.clear()
        for _ in range(600):
            if (node := stage.node()) is not None:
                stage.api.remove(NODES, node["metadata"]["name"])
            await asyncio.sleep(0.5)
        created = [call for call in stage.api.made("create") if call.resource == NODES]
        assert 5 <= len(created) <= AT_MOST
        await asyncio.sleep(75.0)
        assert stage.node() is not None


async def test_a_node_of_that_name_without_our_labels_is_tried_less_and_less_often() -> None:
    async with Stage(Api(), POLICY).running() as stage:
        stage.api.put(NODES, {"metadata": {"name": "vnode.b1.dev"}, "spec": {}, "status": {}})
        stage.bases.add("b1")
        await asyncio.sleep(300.0)
        created = [call for call in stage.api.made("create") if call.resource == NODES]
        assert 5 <= len(created) <= 16
