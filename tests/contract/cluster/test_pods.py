"""Pods through the port of the application, on either cluster."""

import asyncio
from dataclasses import replace

import pytest

from controlplane.app.ports import Conflict, NotFound
from controlplane.cluster.adapter import ApiCluster
from controlplane.cluster.api import (
    PODS,
    ApiServer,
    PatchType,
)
from controlplane.domain.contract import COMPONENT
from controlplane.domain.objects import (
    Condition,
    ContainerStatus,
    PodStatus,
)
from tests.contract.cluster.conftest import eventually
from tests.contract.cluster.specs import NOW, NS, READY, THEN, new_pod


def running(pod_ip: str = "10.0.0.1") -> PodStatus:
    return PodStatus(
        phase="Running",
        pod_ip=pod_ip,
        host_ip=pod_ip,
        start_time=THEN,
        conditions=(replace(READY, reason="", message=""),),
        containers=(
            ContainerStatus(
                "biz1",
                "running",
                True,
                "https://repo.example/biz1.jar",
                started_at=THEN,
                restart_count=1,
                started=True,
            ),
        ),
    )


async def test_a_pod_and_its_status_read_back(cluster: ApiCluster, unique: str) -> None:
    wanted = new_pod(unique)
    pod = await cluster.create_pod(wanted)
    assert pod.containers == wanted.containers
    assert cluster.pods.on_node(wanted.node_name) == (pod,)
    ours, others = list[str](), list[str]()
    cluster.pods.subscribe_node(ours.append, own=True)
    cluster.pods.subscribe_node(others.append, own=False)
    patched = await cluster.patch_pod_status(pod, running())
    # A watch may show it before the reply does.
    assert [*ours, *others] == [pod.node_name]
    assert patched.status == running()
    waiting = replace(
        running("10.0.0.9"),
        reason="Superseded",
        message="words",
        conditions=(
            replace(READY, status="False", reason="ContainersNotReady", message="m", last_transition_time=NOW),
        ),
        containers=(ContainerStatus("biz1", "waiting", False, "https://repo.example/biz1.jar", "Broken", "why"),),
    )
    patched = await cluster.patch_pod_status(patched, waiting)
    assert patched.status == waiting
    patched = await cluster.patch_pod_status(patched, running("10.0.0.9"))
    assert patched.status == running("10.0.0.9")
    assert cluster.pods.get(pod.key) == patched


async def create_foreign(api: ApiServer, name: str, node: str) -> None:
    spec = {"containers": [{"name": "c", "image": "exporter"}], **({"nodeName": node} if node else {})}
    meta = {"name": name, "namespace": NS, "labels": {"app": name}}
    await api.create(PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}, NS)


async def test_pods_that_are_no_modules_are_seen_on_their_node_as_long_as_they_are_pending(
    cluster: ApiCluster, api: ApiServer, unique: str
) -> None:
    module = await cluster.create_pod(new_pod(unique))
    node, name = module.node_name, f"foreign-{unique}"
    await create_foreign(api, name, node)
    await create_foreign(api, f"unbound-{unique}", "")
    await eventually(lambda: cluster.foreign.on_node(node))
    (seen,) = cluster.foreign.on_node(node)
    assert (seen.name, seen.status.terminal) == (name, False)
    assert cluster.foreign.on_node("") == ()
    assert [pod.name for pod in await cluster.foreign_pods(node)] == [name]
    assert await cluster.foreign_pods(f"vnode.other.{unique}") == ()
    assert cluster.pods.on_node(node) == (module,)
    await api.patch(PODS, name, {"metadata": {"labels": {COMPONENT: "module"}}}, namespace=NS)
    await eventually(lambda: not cluster.foreign.on_node(node))


async def test_a_rejected_pod_is_failed_and_its_deletion_needs_no_node(
    cluster: ApiCluster, api: ApiServer, unique: str
) -> None:
    node, name = f"vnode.{unique}.{unique}", f"foreign-{unique}"
    await create_foreign(api, name, node)
    await eventually(lambda: cluster.foreign.on_node(node))
    (pod,) = cluster.foreign.on_node(node)
    await api.patch(PODS, name, {"metadata": {"annotations": {"changed": "since"}}}, namespace=NS)
    with pytest.raises(Conflict):
        await cluster.reject_pod(pod, "NotAModule", "words")
    await eventually(lambda: pod not in cluster.foreign.on_node(node))
    (pod,) = cluster.foreign.on_node(node)
    await cluster.reject_pod(pod, "NotAModule", "words")
    status = (await api.get(PODS, name, NS))["status"]
    assert (status["phase"], status["reason"], status["message"]) == ("Failed", "NotAModule", "words")
    await eventually(lambda: not cluster.foreign.on_node(node))
    await api.delete(PODS, name, namespace=NS)
    with pytest.raises(NotFound):
        await api.get(PODS, name, NS)


async def test_the_watch_reports_the_deletion_of_a_pod(cluster: ApiCluster, unique: str) -> None:
    nodes: list[str] = []
    cluster.pods.subscribe_node(nodes.append)
    ours, others = list[str](), list[str]()
    cluster.pods.subscribe_node(ours.append, own=True)
    cluster.pods.subscribe_node(others.append, own=False)
    pod = await cluster.create_pod(new_pod(unique))
    await cluster.delete_pod(pod)
    await eventually(lambda: (now := cluster.pods.get(pod.key)) is not None and now.deleting)
    leaving = cluster.pods.get(pod.key)
    assert leaving is not None
    assert leaving.deletion_grace_seconds == 30
    with pytest.raises(Conflict):
        await cluster.delete_pod(replace(pod, uid="00000000-0000-0000-0000-000000000000"), 0)
    assert not ours
    assert others
    others.clear()
    await cluster.delete_pod(leaving, 0)
    await eventually(lambda: cluster.pods.get(pod.key) is None)
    assert ours
    assert not others
    assert cluster.pods.on_node(pod.node_name) == ()
    assert set(nodes) == {pod.node_name}
    with pytest.raises(NotFound):
        await cluster.delete_pod(leaving, 0)


async def test_conditions_come_in_the_order_asked_for_and_those_of_others_after_them(
    cluster: ApiCluster, api: ApiServer, unique: str
) -> None:
    async def others(kind: str) -> None:
        patch = {"status": {"conditions": [{"type": kind, "status": "True"}]}}
        await api.patch(PODS, pod.name, patch, namespace=NS, subresource="status", patch_type=PatchType.STRATEGIC)

    pod = await cluster.create_pod(new_pod(unique))
    await others("PodScheduled")
    await others("Initialized")
    ours = tuple(Condition(kind, "True") for kind in ("Ready", "ContainersReady", "Initialized"))
    await cluster.patch_pod_status(pod, replace(running(), conditions=ours))
    after = await api.get(PODS, pod.name, NS)
    assert [each["type"] for each in after["status"]["conditions"]] == [
        "Ready",
        "ContainersReady",
        "Initialized",
        "PodScheduled",
    ]


async def test_a_running_container_is_started_and_has_an_id(cluster: ApiCluster, api: ApiServer, unique: str) -> None:
    pod = await cluster.create_pod(new_pod(unique))
    await cluster.patch_pod_status(pod, running())
    (container,) = (await api.get(PODS, pod.name, NS))["status"]["containerStatuses"]
    assert container["started"] is True
    assert container["containerID"] == running().containers[0].name


async def test_a_status_meant_for_an_earlier_pod_of_the_name_is_refused(cluster: ApiCluster, unique: str) -> None:
    first = await cluster.create_pod(new_pod(unique))
    await cluster.delete_pod(first, 0)
    second = await cluster.create_pod(new_pod(unique))
    assert second.uid != first.uid
    with pytest.raises(Conflict):
        await cluster.patch_pod_status(first, running())


async def test_conditions_of_others_stay_and_are_not_set_back(cluster: ApiCluster, api: ApiServer, unique: str) -> None:
    async def gate(status: str) -> None:
        patch = {"status": {"conditions": [{"type": "example.com/gate", "status": status}]}}
        await api.patch(PODS, pod.name, patch, namespace=NS, subresource="status", patch_type=PatchType.STRATEGIC)

    pod = await cluster.create_pod(new_pod(unique))
    await gate("False")
    await eventually(lambda: (now := cluster.pods.get(pod.key)) is not None and now.status.conditions)
    seen = cluster.pods.get(pod.key)
    assert seen is not None
    await gate("True")
    patched = await cluster.patch_pod_status(
        seen, replace(running(), conditions=(*seen.status.conditions, *running().conditions))
    )
    assert {each.type: each.status for each in patched.status.conditions} == {
        "example.com/gate": "True",
        "Ready": "True",
    }


async def test_a_pod_that_is_no_module_any_more_leaves_the_cache(
    cluster: ApiCluster, api: ApiServer, unique: str
) -> None:
    pod = await cluster.create_pod(new_pod(unique))
    await api.patch(PODS, pod.name, {"metadata": {"labels": {COMPONENT: None}}}, namespace=NS)
    await eventually(lambda: cluster.pods.get(pod.key) is None)


async def test_many_writes_at_once_are_all_read_back(cluster: ApiCluster, unique: str) -> None:
    async def write(number: int) -> None:
        pod = await cluster.create_pod(replace(new_pod(unique), name=f"{unique}-{number}"))
        for ip in ("10.0.0.1", "10.0.0.2"):
            pod = await cluster.patch_pod_status(pod, running(ip))
            seen = cluster.pods.get(pod.key)
            assert seen is not None
            assert int(seen.resource_version) >= int(pod.resource_version)

    await asyncio.gather(*(write(number) for number in range(30)))
    assert {pod.status.pod_ip for pod in cluster.pods.on_node(f"vnode.base.{unique}")} == {"10.0.0.2"}
