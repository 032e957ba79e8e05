"""The port that the application uses, on either cluster; the control plane has only its own rights."""

import asyncio
from dataclasses import replace

import pytest

from controlplane.app.clock import SystemClock
from controlplane.app.ports import AlreadyExists, Conflict, NotFound
from controlplane.cluster.adapter import ApiCluster
from controlplane.cluster.api import (
    EVENTS,
    LEASES,
    NODES,
    PODS,
    ApiServer,
    Json,
    PatchType,
)
from controlplane.domain.contract import (
    COMPONENT,
    COMPONENT_MODULE,
    COMPONENT_REPLICA,
    ENV,
    LEASE_NAMESPACE,
    MAX_MODULE_COUNT,
)
from controlplane.domain.objects import (
    ClusterEvent,
    Lease,
    Node,
    NodeStatus,
    Taint,
)
from tests.contract.cluster.conftest import eventually
from tests.contract.cluster.specs import NS, READY, VIRTUAL, new_pod
from tests.servers.cleaning import SYSTEM_NAMESPACE

NOT_READY = Taint("node.kubernetes.io/not-ready", "", "NoSchedule")


def node_spec(env: str) -> Node:
    return Node(
        name=f"vnode.base.{env}",
        labels={COMPONENT: "vnode", ENV: env, "base.koupleless.io/name": "base"},
        annotations={"base.koupleless.io/address": "10.0.0.1:1238"},
        taints=(VIRTUAL,),
        status=NodeStatus(
            conditions=(READY,),
            addresses=(("InternalIP", "10.0.0.1"), ("Hostname", "host")),
            capacity={"pods": "65535", "memory": "256Mi"},
            allocatable={"pods": "65535", "memory": "100Mi"},
            operating_system="linux",
            architecture="amd64",
            kubelet_version="v1",
            runtime_version="java://17",
        ),
    )


def lease(env: str) -> Lease:
    return Lease(
        namespace=LEASE_NAMESPACE,
        name=f"vnode.base.{env}",
        resource_version="",
        holder="replica-1",
        duration_seconds=40,
        renew_time="2026-01-01T00:00:00.000000Z",
        acquire_time="2026-01-01T00:00:00.000000Z",
        transitions=1,
        labels={COMPONENT: "vnode-lease", ENV: env},
    )


async def test_a_node_reads_back_as_it_was_specified(cluster: ApiCluster, unique: str) -> None:
    spec = node_spec(unique)
    node = await cluster.create_node(spec)
    assert (node.labels, node.annotations, node.status) == (spec.labels, spec.annotations, spec.status)
    # Kubernetes' own controllers may have touched the Node by now, so only what is ours is compared.
    cached = cluster.nodes.get(spec.name)
    assert cached is not None
    assert (cached.uid, cached.labels) == (node.uid, spec.labels)
    assert spec.annotations.items() <= cached.annotations.items()
    assert VIRTUAL in node.taints
    with pytest.raises(AlreadyExists):
        await cluster.create_node(spec)


async def test_a_node_may_be_cordoned_from_its_beginning_and_gets_its_provider_id_once(
    cluster: ApiCluster, unique: str
) -> None:
    spec = node_spec(unique)
    node = await cluster.create_node(replace(spec, unschedulable=True))
    assert (node.unschedulable, node.provider_id) == (True, "")
    for provider_id in ("koupleless://first", "koupleless://second"):
        node = await cluster.patch_node(node, replace(spec, provider_id=provider_id))
        assert (node.unschedulable, node.provider_id) == (True, "koupleless://first")


async def test_pods_that_limit_their_modules_are_followed(cluster: ApiCluster, api: ApiServer, unique: str) -> None:
    def limited(name: str, **labels: str) -> Json:
        labels = {MAX_MODULE_COUNT: "5", **labels}
        spec = {"containers": [{"name": "base", "image": "base"}]}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}

    await api.create(PODS, limited(f"base-{unique}"), NS)
    await api.create(PODS, limited(f"module-{unique}", **{COMPONENT: COMPONENT_MODULE}), NS)
    key = f"{NS}/base-{unique}"
    await eventually(lambda: cluster.limited_pods.get(key) is not None)
    found = cluster.limited_pods.get(key)
    assert found is not None
    assert (found.limit, found.addresses, found.ended) == ("5", (), False)
    assert cluster.limited_pods.get(f"{NS}/module-{unique}") is None
    await api.patch(PODS, f"base-{unique}", {"metadata": {"labels": {MAX_MODULE_COUNT: None}}}, namespace=NS)
    await eventually(lambda: cluster.limited_pods.get(key) is None)


async def test_labels_annotations_and_taints_of_others_stay(cluster: ApiCluster, api: ApiServer, unique: str) -> None:
    spec = node_spec(unique)
    node = await cluster.create_node(spec)
    # The node controller of Kubernetes 1.20 lifts its own taint by writing all taints as it last saw them.
    await eventually(lambda: (now := cluster.nodes.get(node.name)) is not None and NOT_READY not in now.taints)
    foreign = [{"key": "foreign", "value": "x", "effect": "NoSchedule"}]
    await api.patch(
        NODES,
        node.name,
        {"metadata": {"labels": {"foreign": "x"}, "annotations": {"f": "y"}}, "spec": {"taints": foreign}},
    )
    await eventually(lambda: (now := cluster.nodes.get(node.name)) is not None and "foreign" in now.labels)
    current = cluster.nodes.get(node.name)
    assert current is not None
    patched = await cluster.patch_node(
        current, replace(spec, labels=dict(spec.labels) | {"base.koupleless.io/name": "b2"})
    )
    assert patched.labels["foreign"] == "x"
    assert patched.labels["base.koupleless.io/name"] == "b2"
    assert patched.annotations["f"] == "y"
    assert {VIRTUAL, Taint("foreign", "x", "NoSchedule")} <= set(patched.taints)
    assert cluster.nodes.get(node.name) == patched


async def test_node_status_merges_and_removes(cluster: ApiCluster, api: ApiServer, unique: str) -> None:
    spec = node_spec(unique)
    node = await cluster.create_node(spec)
    foreign = {"status": {"conditions": [{"type": "Foreign", "status": "True", "reason": "Other"}]}}
    await api.patch(NODES, node.name, foreign, subresource="status", patch_type=PatchType.STRATEGIC)
    status = replace(
        spec.status,
        conditions=(replace(READY, status="False", reason="BaseUnreachable"),),
        addresses=(("InternalIP", "10.0.0.2"),),
        capacity={"pods": "65535"},
        allocatable={"pods": "65535"},
    )
    patched = await cluster.patch_node_status(node.name, status)
    conditions = {condition.type: (condition.status, condition.reason) for condition in patched.status.conditions}
    assert conditions == {"Foreign": ("True", "Other"), "Ready": ("False", "BaseUnreachable")}
    assert replace(patched.status, conditions=()) == replace(status, conditions=())
    assert patched.labels == spec.labels


async def test_a_node_is_deleted_only_if_it_is_that_one(cluster: ApiCluster, unique: str) -> None:
    node = await cluster.create_node(node_spec(unique))
    with pytest.raises(Conflict):
        await cluster.delete_node(node.name, "00000000-0000-0000-0000-000000000000")
    await cluster.delete_node(node.name, node.uid)
    assert cluster.nodes.get(node.name) is None
    with pytest.raises(NotFound):
        await cluster.delete_node(node.name, node.uid)


async def test_nodes_of_other_environments_are_not_ours(cluster: ApiCluster, api: ApiServer, unique: str) -> None:
    labels = {COMPONENT: "vnode", ENV: "elsewhere"}
    await api.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": f"{unique}-x", "labels": labels}})
    await cluster.create_node(node_spec(unique))
    assert [node.name for node in cluster.nodes.all()] == [f"vnode.base.{unique}"]


async def test_a_lease_is_renewed_under_its_version(cluster: ApiCluster, api: ApiServer, unique: str) -> None:
    created = await cluster.create_lease(lease(unique))
    assert replace(created, resource_version="", uid="") == lease(unique)
    renewed = await cluster.update_lease(replace(created, renew_time="2026-01-01T00:00:10.000001Z"))
    assert renewed.renew_time == "2026-01-01T00:00:10.000001Z"
    assert cluster.leases.get(f"{LEASE_NAMESPACE}/{created.name}") == renewed
    with pytest.raises(Conflict):
        await cluster.update_lease(replace(created, holder="replica-2", transitions=2))
    with pytest.raises(Conflict):
        await cluster.delete_lease(created)
    taken = await cluster.update_lease(replace(renewed, holder="replica-2", transitions=2))
    assert (taken.holder, taken.transitions) == ("replica-2", 2)
    released = await cluster.update_lease(replace(taken, holder=""))
    stored = await api.get(LEASES, released.name, released.namespace)
    assert stored["spec"]["holderIdentity"] == "", "there, as the original needs the field"
    await cluster.delete_lease(released)
    assert cluster.leases.get(f"{LEASE_NAMESPACE}/{created.name}") is None


async def test_of_many_who_take_a_lease_at_once_one_succeeds(cluster: ApiCluster, unique: str) -> None:
    created = await cluster.create_lease(lease(unique))
    takers = [replace(created, holder=f"replica-{number}", transitions=2) for number in range(10)]
    results = await asyncio.gather(*(cluster.update_lease(each) for each in takers), return_exceptions=True)
    assert sum(isinstance(result, Lease) for result in results) == 1
    assert sum(isinstance(result, Conflict) for result in results) == 9


async def test_a_member_lease_is_written_and_read_past_the_informer(cluster: ApiCluster, unique: str) -> None:
    wanted = replace(
        lease(unique),
        namespace=SYSTEM_NAMESPACE,
        name=f"module-controller-{unique}",
        labels={COMPONENT: COMPONENT_REPLICA, ENV: unique},
        annotations={"module-controller.koupleless.io/draining": "false"},
    )
    created = await cluster.create_lease(wanted)
    key = f"{SYSTEM_NAMESPACE}/{created.name}"
    assert cluster.members.get(key) == created
    assert cluster.leases.get(key) is None, "no VNode's"
    annotated = await cluster.annotate_lease(created, {"module-controller.koupleless.io/draining": "true"})
    assert annotated.annotations["module-controller.koupleless.io/draining"] == "true"
    with pytest.raises(Conflict):
        await cluster.update_lease(created)
    released = await cluster.update_lease(replace(annotated, holder=""))
    assert released.holder == ""
    assert await cluster.read_lease(created) == released
    await cluster.delete_lease(released)
    assert cluster.members.get(key) is None
    with pytest.raises(NotFound):
        await cluster.read_lease(released)


async def test_events_are_counted_rather_than_repeated(cluster: ApiCluster, api: ApiServer, unique: str) -> None:
    node = await cluster.create_node(node_spec(unique))
    about_node = ClusterEvent("Node", "", node.name, node.uid, "Warning", "BaseUnreachable", "silent for 25 s")
    about_pod = ClusterEvent("Pod", NS, f"biz1-{unique}", "uid", "Normal", "Installed", "words")
    about_deployment = ClusterEvent("Deployment", NS, f"biz1-{unique}", "uid", "Normal", "Scaled", "words")
    for event in (about_node, about_node, about_node, about_pod, about_deployment):
        await cluster.record_event(event)
    events = [
        (each["involvedObject"]["kind"], each["reason"], each["type"], each["count"], each["source"]["component"])
        for each in (await api.list(EVENTS, namespace=NS)).items
        if unique in each["involvedObject"]["name"]
    ]
    assert sorted(events) == [
        ("Deployment", "Scaled", "Normal", 1, "module-controller"),
        ("Node", "BaseUnreachable", "Warning", 3, "module-controller"),
        ("Pod", "Installed", "Normal", 1, "module-controller"),
    ]


async def test_a_second_look_finds_what_the_first_wrote(cluster: ApiCluster, api: ApiServer, unique: str) -> None:
    """As after a restart."""
    node = await cluster.create_node(node_spec(unique))
    pod = await cluster.create_pod(new_pod(unique))
    again = ApiCluster(api, env=unique, kind=cluster.kind, clock=SystemClock(), namespace=SYSTEM_NAMESPACE)
    task = asyncio.create_task(again.run())
    await eventually(lambda: again.trouble() is None)
    # The cluster's own controllers write too: compared once both caches have their writes.
    await eventually(lambda: again.nodes.get(node.name) == cluster.nodes.get(node.name))
    await eventually(lambda: again.pods.get(pod.key) == cluster.pods.get(pod.key))
    task.cancel()
    await asyncio.wait([task])
