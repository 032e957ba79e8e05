"""The controllers of the embedded cluster schedule, roll out and clean up as those of Kubernetes."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import pytest

from controlplane.app.ports import ClusterError
from controlplane.cluster.api import (
    DAEMON_SETS,
    DEPLOYMENTS,
    EVENTS,
    NODES,
    PODS,
    Json,
    PatchType,
    Resource,
)
from controlplane.domain.times import rfc3339
from controlplane.embedded.api.store import EmbeddedApiServer
from controlplane.embedded.cluster import EmbeddedCluster
from tests.unit.embedded.manifests import container, deployment, pod, vnode, workload

# The in-memory store works without a thread, so virtual time is exact here.
pytestmark = pytest.mark.looptime


class Agent:
    """Acts as the Nodes' agents: bound Pods become Ready, deleted Pods end; broken names images that fail."""

    def __init__(self, store: EmbeddedApiServer) -> None:
        self._store = store
        self.broken: set[str] = set()
        self.order: list[tuple[str, str]] = []

    async def run(self) -> None:
        async for event in self._store.watch(PODS, resource_version="1"):
            if event.type in ("ADDED", "MODIFIED"):
                with suppress(ClusterError):
                    await self._serve(event.object)

    async def _serve(self, pod: Json) -> None:
        metadata, spec = pod["metadata"], pod["spec"]
        if "deletionTimestamp" in metadata:
            self.order.append(("end", spec["containers"][0]["image"]))
            await self._store.delete(PODS, metadata["name"], namespace=metadata["namespace"], grace_seconds=0)
        elif spec.get("nodeName") and pod["status"]["phase"] == "Pending":
            if self.broken & {c["image"] for c in spec["containers"]}:
                return
            self.order.append(("ready", spec["containers"][0]["image"]))
            ready = {"type": "Ready", "status": "True", "lastTransitionTime": rfc3339(0)}
            status = {"status": {"phase": "Running", "conditions": [ready]}}
            await self._store.patch(
                PODS,
                metadata["name"],
                status,
                namespace=metadata["namespace"],
                subresource="status",
                patch_type=PatchType.STRATEGIC,
            )


@pytest.fixture
async def agent(store: EmbeddedApiServer) -> AsyncIterator[Agent]:
    made = Agent(store)
    tasks = [
        asyncio.ensure_future(EmbeddedCluster(store, orphan_quarantine=5.0).run()),
        asyncio.ensure_future(made.run()),
    ]
    yield made
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(outcome, asyncio.CancelledError)


async def objects(store: EmbeddedApiServer, resource: Resource = PODS) -> list[Json]:
    return list((await store.list(resource)).items)


async def until(store: EmbeddedApiServer, holds: Callable[[list[Json]], bool], resource: Resource = PODS) -> list[Json]:
    async with asyncio.timeout(60):
        while not holds(found := await objects(store, resource)):  # noqa: ASYNC110 - virtual time, any change counts
            await asyncio.sleep(0.05)
    return found


def ready(count: int) -> Callable[[list[Json]], bool]:
    def holds(pods: list[Json]) -> bool:
        return len(pods) == count and all(p["status"]["phase"] == "Running" for p in pods)

    return holds


def running(count: int, version: str) -> Callable[[list[Json]], bool]:
    image = container(version=version)["image"]

    def holds(pods: list[Json]) -> bool:
        return ready(count)(pods) and all(p["spec"]["containers"][0]["image"] == image for p in pods)

    return holds


def places(pods: list[Json]) -> list[str]:
    return sorted(p["spec"].get("nodeName", "") for p in pods)


async def nodes(store: EmbeddedApiServer, *names: str) -> None:
    for name in names:
        await store.create(NODES, vnode(name))


def condition(obj: Json, type_: str) -> Json:
    found: Json = next(c for c in obj["status"]["conditions"] if c["type"] == type_)
    return found


async def test_a_pod_waits_for_a_node_and_says_why(store: EmbeddedApiServer, agent: Agent) -> None:
    await store.apply(pod("single"))
    await store.apply(pod("group", container("biz1"), container("biz2")))
    pods = await until(store, lambda found: all(p["status"].get("conditions") for p in found))
    assert condition(pods[0], "PodScheduled")["reason"] == "Unschedulable"
    assert condition(pods[0], "PodScheduled")["message"] == "no nodes available to schedule pods"
    await nodes(store, "n1", "n2")
    pods = await until(store, ready(2))
    assert places(pods) == ["n1", "n2"]
    scheduled = condition(pods[0], "PodScheduled")
    assert scheduled["status"] == "True"
    assert "reason" not in scheduled
    reasons = Counter(e["reason"] for e in await objects(store, EVENTS))
    assert reasons == {"FailedScheduling": 2, "Scheduled": 2}


async def test_the_event_of_a_placed_pod_names_rules_that_were_not_looked_at(
    store: EmbeddedApiServer, agent: Agent
) -> None:
    await nodes(store, "n1")
    constraint = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
    preferred = {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm": {}}]}
    obj = pod("p", {**container(), "resources": {"requests": {"memory": "1Mi"}}})
    obj["spec"]["topologySpreadConstraints"] = [constraint]
    obj["spec"]["affinity"]["podAffinity"] = preferred
    await store.apply(obj)
    await until(store, ready(1))
    (event,) = await objects(store, EVENTS)
    assert event["message"] == (
        "Successfully assigned default/p to n1; the embedded scheduler does not go by topologySpreadConstraints, "
        "affinity.podAffinity.preferredDuringSchedulingIgnoredDuringExecution, resources.requests"
    )


async def test_a_deployment_spreads_over_bases_and_reports_its_state(store: EmbeddedApiServer, agent: Agent) -> None:
    await nodes(store, "n1", "n2", "n3")
    await store.apply(deployment("d", 3, apart=True))
    assert places(await until(store, ready(3))) == ["n1", "n2", "n3"]
    (found,) = await until(store, lambda d: d[0]["status"].get("availableReplicas") == 3, DEPLOYMENTS)
    assert found["status"]["readyReplicas"] == found["status"]["updatedReplicas"] == 3
    assert found["status"]["observedGeneration"] == found["metadata"]["generation"]
    assert "unavailableReplicas" not in found["status"]
    assert condition(found, "Available")["status"] == "True"
    assert condition(found, "Progressing")["reason"] == "NewReplicaSetAvailable"
    version = found["metadata"]["resourceVersion"]
    await asyncio.sleep(120)
    assert (await objects(store, DEPLOYMENTS))[0]["metadata"]["resourceVersion"] == version


async def test_a_deployment_scales_up_and_down(store: EmbeddedApiServer, agent: Agent) -> None:
    await nodes(store, "n1", "n2")
    await store.apply(deployment("d", 4))
    await until(store, ready(4))
    await store.patch(DEPLOYMENTS, "d", {"spec": {"replicas": 1}}, namespace="default")
    await until(store, ready(1))
    await store.patch(DEPLOYMENTS, "d", {"spec": {"replicas": 0}}, namespace="default")
    await until(store, ready(0))


async def test_a_rolling_update_installs_before_it_uninstalls(store: EmbeddedApiServer, agent: Agent) -> None:
    await nodes(store, "n1", "n2")
    await store.apply(deployment("d", 2))
    await until(store, ready(2))
    agent.order.clear()
    await store.apply(deployment("d", 2, version="0.0.2"))
    await until(store, running(2, "0.0.2"))
    assert [what for what, _ in agent.order] == ["ready", "end", "ready", "end"]
    (found,) = await until(store, lambda d: d[0]["status"].get("updatedReplicas") == 2, DEPLOYMENTS)
    pods = await objects(store)
    assert {p["metadata"]["ownerReferences"][0]["uid"] for p in pods} == {found["metadata"]["uid"]}
    second = {p["metadata"]["labels"]["pod-template-hash"] for p in pods}
    await store.apply(deployment("d", 2))
    pods = await until(store, running(2, "0.0.1"))
    first = {p["metadata"]["labels"]["pod-template-hash"] for p in pods}
    assert len(first) == len(second) == 1
    assert first != second


async def test_a_broken_version_leaves_the_old_one_running(store: EmbeddedApiServer, agent: Agent) -> None:
    await nodes(store, "n1", "n2")
    await store.apply(deployment("d", 2, progressDeadlineSeconds=30))
    await until(store, ready(2))
    agent.broken.add(container(version="bad")["image"])
    await store.apply(deployment("d", 2, version="bad", progressDeadlineSeconds=30))
    (found,) = await until(store, lambda d: d[0]["status"].get("replicas") == 3, DEPLOYMENTS)
    assert found["status"]["availableReplicas"] == 2
    assert condition(found, "Available")["status"] == "True"
    assert sum(p["status"]["phase"] == "Running" for p in await objects(store)) == 2


async def test_recreate_ends_the_old_before_the_new_comes(store: EmbeddedApiServer, agent: Agent) -> None:
    await nodes(store, "n1", "n2")
    await store.apply(deployment("d", 2, strategy={"type": "Recreate"}))
    await until(store, ready(2))
    agent.order.clear()
    await store.apply(deployment("d", 2, version="0.0.2", strategy={"type": "Recreate"}))
    await until(store, running(2, "0.0.2"))
    assert [what for what, _ in agent.order] == ["end", "end", "ready", "ready"]


async def test_a_lost_pod_of_the_former_version_is_replaced_as_it_was_while_the_new_one_fails(
    store: EmbeddedApiServer, agent: Agent
) -> None:
    await nodes(store, "n1", "n2", "n3")
    await store.apply(deployment("d", 1))
    (old,) = await until(store, ready(1))
    agent.broken.add(container(version="bad")["image"])
    await store.apply(deployment("d", 1, version="bad"))
    await until(store, lambda pods: len(pods) == 2)
    await store.delete(NODES, old["spec"]["nodeName"])
    name = old["metadata"]["name"]
    pods = await until(store, lambda pods: name not in {p["metadata"]["name"] for p in pods})
    images = sorted(p["spec"]["containers"][0]["image"] for p in pods)
    assert images == sorted(container(version=version)["image"] for version in ("0.0.1", "bad"))
    await until(store, lambda pods: sum(p["status"]["phase"] == "Running" for p in pods) == 1)
    agent.broken.clear()
    await store.apply(deployment("d", 1, version="good"))
    await until(store, running(1, "good"))


async def test_a_paused_deployment_stays_as_it_is(store: EmbeddedApiServer, agent: Agent) -> None:
    await nodes(store, "n1", "n2")
    await store.apply(deployment("d", 2, paused=True))
    await asyncio.sleep(5)
    assert await objects(store) == []
    await store.apply(deployment("d", 2))
    await until(store, ready(2))
    await store.apply(deployment("d", 3, paused=True))
    pods = await until(store, running(3, "0.0.1"))
    for lost in pods:
        await store.delete(PODS, lost["metadata"]["name"], namespace="default")
    await until(store, lambda now: running(3, "0.0.1")(now) and now[0]["metadata"]["uid"] != pods[0]["metadata"]["uid"])
    await store.apply(deployment("d", 1, version="0.0.2", paused=True))
    await store.delete(NODES, "n1")
    await asyncio.sleep(20)
    pods = await until(store, running(3, "0.0.1"))
    assert set(places(pods)) == {"n2"}
    await store.apply(deployment("d", 1, version="0.0.2"))
    await until(store, running(1, "0.0.2"))


async def test_deleting_a_deployment_takes_its_pods_along(store: EmbeddedApiServer, agent: Agent) -> None:
    await nodes(store, "n1")
    await store.apply(deployment("d", 3))
    await until(store, ready(3))
    await store.delete(DEPLOYMENTS, "d", namespace="default")
    await until(store, ready(0))


async def test_another_deployment_of_the_name_does_not_take_the_pods_over(
    store: EmbeddedApiServer, agent: Agent
) -> None:
    await nodes(store, "n1")
    await store.apply(deployment("d", 2))
    before = {p["metadata"]["name"] for p in await until(store, ready(2))}
    await store.delete(DEPLOYMENTS, "d", namespace="default")
    await store.apply(deployment("d", 2))
    pods = await until(store, lambda pods: ready(2)(pods) and not before & {p["metadata"]["name"] for p in pods})
    assert len(pods) == 2


async def test_pods_whose_owner_was_deleted_unseen_are_deleted(store: EmbeddedApiServer) -> None:
    created = (await store.apply(deployment("d", 1)))[0]
    orphan = pod("orphan")
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d", "uid": created["metadata"]["uid"]}
    orphan["metadata"]["ownerReferences"] = [{**owner, "controller": True}]
    await store.create(PODS, orphan, "default")
    await store.apply(pod("own"))
    await store.delete(DEPLOYMENTS, "d", namespace="default")
    cluster = asyncio.ensure_future(EmbeddedCluster(store).run())
    (left,) = await until(store, lambda pods: len(pods) == 1)
    assert left["metadata"]["name"] == "own"
    cluster.cancel()
    with suppress(asyncio.CancelledError):
        await cluster


async def test_a_lost_pod_is_replaced(store: EmbeddedApiServer, agent: Agent) -> None:
    await nodes(store, "n1", "n2")
    await store.apply(deployment("d", 2))
    (first, _) = await until(store, ready(2))
    name = first["metadata"]["name"]
    await store.delete(PODS, name, namespace="default")
    pods = await until(store, lambda p: ready(2)(p) and name not in {x["metadata"]["name"] for x in p})
    assert len(pods) == 2


async def test_a_daemon_set_follows_the_nodes_and_its_template(store: EmbeddedApiServer, agent: Agent) -> None:
    await nodes(store, "n1", "n2")
    await store.create(NODES, vnode("elsewhere", cluster="other"))
    await store.apply(workload("DaemonSet", "ds"))
    assert places(await until(store, ready(2))) == ["n1", "n2"]
    await nodes(store, "n3")
    assert places(await until(store, ready(3))) == ["n1", "n2", "n3"]
    agent.order.clear()
    await store.apply(workload("DaemonSet", "ds", version="0.0.2"))
    await until(store, running(3, "0.0.2"))
    assert [what for what, _ in agent.order] == ["end", "ready"] * 3
    (found,) = await until(store, lambda d: d[0]["status"].get("updatedNumberScheduled") == 3, DAEMON_SETS)
    assert found["status"]["desiredNumberScheduled"] == found["status"]["numberReady"] == 3
    await store.patch(NODES, "n3", {"metadata": {"labels": {"base.koupleless.io/cluster-name": "other"}}})
    assert places(await until(store, ready(2))) == ["n1", "n2"]


async def test_pods_outlive_their_node_only_for_a_while(store: EmbeddedApiServer, agent: Agent) -> None:
    await nodes(store, "n1")
    await store.apply(pod("a"))
    await until(store, ready(1))
    await store.delete(NODES, "n1")
    await asyncio.sleep(3)
    await nodes(store, "n1")
    await asyncio.sleep(10)
    assert len(await objects(store)) == 1
    await store.delete(NODES, "n1")
    await asyncio.sleep(3)
    assert len(await objects(store)) == 1
    await asyncio.sleep(3)
    assert await objects(store) == []


async def test_a_no_execute_taint_evicts_pods_that_do_not_tolerate_it(store: EmbeddedApiServer, agent: Agent) -> None:
    await nodes(store, "n1")
    await store.apply(pod("a"))
    tolerant = pod("tolerant")
    tolerant["spec"]["tolerations"] = [{"operator": "Exists"}]
    await store.apply(tolerant)
    await until(store, ready(2))
    taint = {"spec": {"taints": [{"key": "maintenance", "effect": "NoExecute"}]}}
    await store.patch(NODES, "n1", taint, patch_type=PatchType.STRATEGIC)
    (left,) = await until(store, ready(1))
    assert left["metadata"]["name"] == "tolerant"


async def test_controllers_continue_where_others_stopped() -> None:
    store = await EmbeddedApiServer.open(":memory:")
    await nodes(store, "n1", "n2")
    await store.apply(deployment("d", 2))
    for _ in range(6):
        # Cut off at arbitrary points, a new set of controllers must reach the same end.
        cluster = asyncio.ensure_future(EmbeddedCluster(store).run())
        for _ in range(7):
            await asyncio.sleep(0)
        cluster.cancel()
        with suppress(asyncio.CancelledError):
            await cluster
    cluster = asyncio.ensure_future(EmbeddedCluster(store).run())
    await until(store, lambda p: places(p) == ["n1", "n2"])
    await asyncio.sleep(5)
    assert len(await objects(store)) == 2
    cluster.cancel()
    with suppress(asyncio.CancelledError):
        await cluster
    await store.close()
