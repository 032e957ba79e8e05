"""The port that the application uses, on either cluster; the control plane has only its own rights."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from controlplane.app.clock import SystemClock
from controlplane.app.ports import AlreadyExists, Conflict, NotFound, Rejected
from controlplane.cluster.adapter import ApiCluster
from controlplane.cluster.api import (
    DAEMON_SETS,
    DEPLOYMENTS,
    EVENTS,
    LEASES,
    NODES,
    PODS,
    ApiServer,
    Json,
    PatchType,
    Resource,
)
from controlplane.domain.contract import COMPONENT, COMPONENT_REPLICA, ENV, LEASE_NAMESPACE
from controlplane.domain.objects import (
    ClusterEvent,
    Condition,
    Container,
    ContainerStatus,
    Lease,
    ModuleDeployment,
    NewPod,
    NodeSpec,
    NodeStatus,
    NodeTerm,
    PodStatus,
    Requirement,
    SchedulingRules,
    Taint,
    Toleration,
)
from tests.contract.cluster.conftest import eventually
from tests.placements import affinity, expression, labelled
from tests.servers.cleaning import SYSTEM_NAMESPACE

NS = "default"
DOMAIN = "virtual-kubelet.koupleless.io"
THEN, NOW = "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"
READY = Condition("Ready", "True", "BaseReady", "the base answers", NOW)
NOT_READY = Taint("node.kubernetes.io/not-ready", "", "NoSchedule")
VIRTUAL = Taint("schedule.koupleless.io/virtual-node", "True", "NoExecute")


def node_spec(env: str) -> NodeSpec:
    return NodeSpec(
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


def new_pod(env: str) -> NewPod:
    container = Container(
        "biz1", "https://repo.example/biz1.jar", "0.0.1", ("--a=b",), (("BIZ_VERSION", "0.0.1"), ("K", "V"))
    )
    tolerations = (Toleration(VIRTUAL.key, "Equal", VIRTUAL.value, VIRTUAL.effect),)
    return NewPod(NS, f"biz1-{env}", f"vnode.base.{env}", container, {COMPONENT: "module"}, {}, tolerations)


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


async def test_a_pod_and_its_status_read_back(cluster: ApiCluster, unique: str) -> None:
    wanted = new_pod(unique)
    pod = await cluster.create_pod(wanted)
    assert pod.containers == (wanted.container,)
    assert cluster.pods.on_node(wanted.node_name) == (pod,)
    patched = await cluster.patch_pod_status(pod, running())
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


async def test_pods_that_are_no_modules_are_found_by_their_node(
    cluster: ApiCluster, api: ApiServer, unique: str
) -> None:
    module = await cluster.create_pod(new_pod(unique))
    spec = {"nodeName": module.node_name, "containers": [{"name": "c", "image": "exporter"}]}
    meta = {"name": f"foreign-{unique}", "namespace": NS, "labels": {"app": unique}}
    await api.create(PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}, NS)
    assert [pod.name for pod in await cluster.foreign_pods(module.node_name)] == [f"foreign-{unique}"]
    assert await cluster.foreign_pods(f"vnode.other.{unique}") == ()
    assert cluster.pods.on_node(module.node_name) == (module,)


async def test_the_watch_reports_the_deletion_of_a_pod(cluster: ApiCluster, unique: str) -> None:
    nodes: list[str] = []
    cluster.pods.subscribe_node(nodes.append)
    pod = await cluster.create_pod(new_pod(unique))
    await cluster.delete_pod(pod)
    await eventually(lambda: (now := cluster.pods.get(pod.key)) is not None and now.deleting)
    leaving = cluster.pods.get(pod.key)
    assert leaving is not None
    assert leaving.deletion_grace_seconds == 30
    with pytest.raises(Conflict):
        await cluster.delete_pod(replace(pod, uid="00000000-0000-0000-0000-000000000000"), 0)
    await cluster.delete_pod(leaving, 0)
    await eventually(lambda: cluster.pods.get(pod.key) is None)
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


def module_deployment(name: str, **labels: str) -> Json:
    container = {"name": "biz1", "image": "i", "env": [{"name": "BIZ_VERSION", "value": "0.0.1"}]}
    template = {
        "containers": [container],
        "tolerations": [{"key": VIRTUAL.key, "operator": "Exists"}],
        **affinity(labelled(expression("k", "NotIn", "v"))),
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": NS, "labels": {f"{DOMAIN}/{k}": v for k, v in labels.items()}},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name, COMPONENT: "module"}}, "spec": template},
        },
    }


async def test_module_deployments_are_seen(cluster: ApiCluster, api: ApiServer, unique: str) -> None:
    await api.create(DEPLOYMENTS, module_deployment(unique, env=unique), NS)
    await eventually(lambda: cluster.deployments.get(f"{NS}/{unique}") is not None)
    deployment = cluster.deployments.get(f"{NS}/{unique}")
    assert deployment is not None
    assert deployment.replicas == 0
    assert deployment.containers[0].version == "0.0.1"
    assert deployment.selector == (Requirement("app", "In", (unique,)),)
    assert deployment.rules == SchedulingRules(
        required_affinity=(NodeTerm((Requirement("k", "NotIn", ("v",)),)),),
        tolerations=(Toleration(VIRTUAL.key, "Exists"),),
    )


async def test_deployments_are_seen_by_the_labels_that_the_original_goes_by(
    cluster: ApiCluster, api: ApiServer, unique: str
) -> None:
    seen = {"all": {"component": "module-deployment", "env": unique, "strategy": "peer"}}
    seen |= {"peer-env": {"env": unique, "strategy": "peer"}, "peer": {"strategy": "peer"}, "env": {"env": unique}}
    unseen: dict[str, dict[str, str]] = {"none": {}, "component": {"component": "module-deployment"}}
    unseen |= {"other": {"env": f"not-{unique}", "strategy": "peer"}, "strategy": {"strategy": "scalable"}}
    for name, labels in (seen | unseen).items():
        await api.create(DEPLOYMENTS, module_deployment(f"{unique}-{name}", **labels), NS)

    def found() -> set[str]:
        names = {deployment.name for deployment in cluster.deployments.all()}
        return {name.removeprefix(f"{unique}-") for name in names if name.startswith(unique)}

    await eventually(lambda: found() == seen.keys())
    # One that gets the environment's label, or loses it, stays; one that gets another one's goes.
    env = f"{DOMAIN}/env"
    for name, label in (("peer", unique), ("peer-env", None), ("env", f"not-{unique}")):
        await api.patch(DEPLOYMENTS, f"{unique}-{name}", {"metadata": {"labels": {env: label}}}, namespace=NS)

    def moved() -> bool:
        there = {name: cluster.deployments.get(f"{NS}/{unique}-{name}") for name in ("peer", "peer-env")}
        now = {name: deployment.labels.get(env) for name, deployment in there.items() if deployment is not None}
        return now == {"peer": unique, "peer-env": None}

    await eventually(moved)
    await eventually(lambda: found() == {"all", "peer-env", "peer"})


async def scaled_to(cluster: ApiCluster, key: str, replicas: int) -> tuple[ModuleDeployment, ModuleDeployment]:
    """Scale a Deployment whose status controllers write meanwhile; return it before and after."""
    async with asyncio.timeout(10.0):
        while True:
            before = cluster.deployments.get(key)
            assert before is not None
            try:
                return before, await cluster.scale_deployment(before, replicas)
            except Conflict:
                await asyncio.sleep(0.05)


async def test_a_deployment_is_scaled_under_its_version(cluster: ApiCluster, api: ApiServer, unique: str) -> None:
    await api.create(DEPLOYMENTS, module_deployment(unique, env=unique), NS)
    key = f"{NS}/{unique}"
    await eventually(lambda: cluster.deployments.get(key) is not None)
    _, scaled = await scaled_to(cluster, key, 1)
    for replicas in (2, 0):
        before, scaled = await scaled_to(cluster, key, replicas)
        assert scaled.replicas == replicas
        assert scaled.containers == before.containers
        seen = cluster.deployments.get(key)
        assert seen is not None
        assert seen.replicas == replicas
        assert int(seen.resource_version) >= int(scaled.resource_version) > int(before.resource_version)
        with pytest.raises(Conflict):
            await cluster.scale_deployment(before, 5)
    with pytest.raises(Rejected):
        await cluster.scale_deployment(replace(scaled, resource_version=""), -1)
    with pytest.raises(NotFound):
        await cluster.scale_deployment(replace(scaled, name=f"{unique}-absent"), 1)
    stored = await api.get(DEPLOYMENTS, unique, NS)
    assert stored["spec"]["replicas"] == 0
    assert stored["spec"]["template"]["spec"]["containers"][0]["image"] == "i"


@pytest.mark.parametrize("resource", [DEPLOYMENTS, DAEMON_SETS], ids=["Deployment", "DaemonSet"])
async def test_a_workload_is_read_for_its_rollout(
    cluster: ApiCluster, api: ApiServer, unique: str, resource: Resource
) -> None:
    labels = {"app": unique, COMPONENT: "module"}
    template = {
        "metadata": {"labels": labels},
        "spec": {
            "containers": [{"name": "biz1", "image": "i", "env": [{"name": "BIZ_VERSION", "value": "0.0.1"}]}],
            "nodeSelector": {"nowhere": unique},
        },
    }
    spec = {"template": template, "selector": {"matchLabels": {"app": unique}}}
    await api.create(resource, {"metadata": {"name": unique, "namespace": NS}, "spec": spec}, NS)
    found = await cluster.workload(resource.kind, NS, unique)
    assert (found.kind, found.namespace, found.name) == (resource.kind, NS, unique)
    assert found.selector == (Requirement("app", "In", (unique,)),)
    assert [(c.name, c.version, c.image) for c in found.containers] == [("biz1", "0.0.1", "i")]
    assert found.desired == (1 if resource is DEPLOYMENTS else 0)
    # The cluster's own controllers may have made the Pod by now.
    assert found.updated <= found.desired
    assert found.available == 0
    with pytest.raises(NotFound):
        await cluster.workload(resource.kind, NS, f"no-{unique}")


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
