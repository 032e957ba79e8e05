"""The adapter of the cluster reads through informers, and writes only what differs."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from controlplane.app.ports import Conflict, Transient
from controlplane.cluster.adapter import ApiCluster
from controlplane.cluster.api import NODES, PatchType
from controlplane.domain.contract import COMPONENT, ENV
from controlplane.domain.objects import (
    ClusterEvent,
    Condition,
    Container,
    Lease,
    Node,
    NodeStatus,
    Pod,
    PodStatus,
    Taint,
)
from tests.fakes.apiserver import FakeApiServer
from tests.unit.cluster.clock import LoopClock

pytestmark = pytest.mark.looptime

VIRTUAL = Taint("schedule.koupleless.io/virtual-node", "True", "NoExecute")
SPEC = Node("vnode.a.dev", labels={COMPONENT: "vnode", ENV: "dev"}, taints=(VIRTUAL,))
LEASE = Lease("kube-node-lease", "vnode.a.dev", "", "me", 40, labels={COMPONENT: "vnode-lease", ENV: "dev"})
POD = Pod("ns", "p", "", "", "vnode.a.dev", (Container("biz", "url", "1"),), labels={COMPONENT: "module"})


@pytest.fixture
def api() -> FakeApiServer:
    return FakeApiServer()


@pytest.fixture
async def cluster(api: FakeApiServer) -> AsyncIterator[ApiCluster]:
    cluster = ApiCluster(api, env="dev", kind="embedded", clock=LoopClock())
    task = asyncio.create_task(cluster.run())
    await asyncio.sleep(0.01)
    api.calls.clear()
    yield cluster
    task.cancel()
    await asyncio.wait([task])


async def test_informers_select_by_label_and_environment(api: FakeApiServer) -> None:
    cluster = ApiCluster(api, env="dev", kind="embedded", clock=LoopClock())
    task = asyncio.create_task(cluster.run())
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task])
    component = "virtual-kubelet.koupleless.io/component"
    env = "virtual-kubelet.koupleless.io/env"
    assert {(call.resource.plural, call.subject, call.label_selector) for call in api.made("list")} == {
        ("pods", "", f"{component}=module"),
        ("pods", "", f"koupleless.alipay.com/max-module-count,{component}!=module"),
        ("pods", "", f"{component}!=module"),
        ("nodes", "", f"{component}=vnode,{env}=dev"),
        ("leases", "kube-node-lease", f"{component}=vnode-lease,{env}=dev"),
        ("leases", "default", f"{component}=module-controller,{env}=dev"),
        ("deployments", "", f"{env}=dev"),
        ("deployments", "", f"virtual-kubelet.koupleless.io/strategy=peer,!{env}"),
    }
    assert {call.field_selector for call in api.made("list")} == {"", "status.phase=Pending,spec.nodeName!="}


async def test_trouble_names_every_informer_that_has_it(api: FakeApiServer) -> None:
    api.fail("list", *[Transient("connection refused")] * 8)
    cluster = ApiCluster(api, env="dev", kind="embedded", clock=LoopClock())
    task = asyncio.create_task(cluster.run())
    await asyncio.sleep(0.1)
    trouble = cluster.trouble()
    assert trouble is not None
    for kind in ("pods", "nodes", "leases", "deployments"):
        assert f"{kind} cannot be listed for 0 s: connection refused" in trouble
    await asyncio.sleep(2)
    assert cluster.trouble() is None
    task.cancel()
    await asyncio.wait([task])


async def test_writes_are_read_back_at_once(cluster: ApiCluster) -> None:
    node = await cluster.create_node(SPEC)
    assert cluster.nodes.get("vnode.a.dev") == node
    lease = await cluster.create_lease(LEASE)
    lease = await cluster.update_lease(replace(lease, renew_time="t"))
    assert cluster.leases.get("kube-node-lease/vnode.a.dev") == lease
    pod = await cluster.create_pod(POD)
    pod = await cluster.patch_pod_status(pod, PodStatus("Running"))
    assert cluster.pods.on_node("vnode.a.dev") == (pod,)


async def test_lease_renewals_are_urgent_and_guarded(api: FakeApiServer, cluster: ApiCluster) -> None:
    lease = await cluster.create_lease(LEASE)
    await cluster.update_lease(lease)
    (call,) = api.made("patch")
    assert call.urgent
    assert call.body is not None
    assert call.body["metadata"] == {"resourceVersion": lease.resource_version}
    with pytest.raises(Conflict):
        await cluster.update_lease(lease)


async def test_status_patches_are_strategic(api: FakeApiServer, cluster: ApiCluster) -> None:
    await cluster.create_node(SPEC)
    await cluster.patch_node_status("vnode.a.dev", NodeStatus(conditions=(Condition("Ready", "True"),)))
    pod = await cluster.create_pod(POD)
    await cluster.patch_pod_status(pod, PodStatus())
    assert [(call.subresource, call.patch_type) for call in api.made("patch")] == [("status", PatchType.STRATEGIC)] * 2


async def test_a_node_that_is_as_it_should_be_is_not_written(api: FakeApiServer, cluster: ApiCluster) -> None:
    node = await cluster.create_node(SPEC)
    api.calls.clear()
    assert await cluster.patch_node(node, SPEC) is node
    others_too = replace(node, taints=(Taint("o", "", "NoSchedule"), *node.taints))
    assert await cluster.patch_node(others_too, SPEC) is others_too
    assert api.calls == []


async def test_a_taint_with_another_value_is_corrected(api: FakeApiServer, cluster: ApiCluster) -> None:
    wrong = replace(VIRTUAL, value="False")
    node = await cluster.create_node(replace(SPEC, taints=(wrong,)))
    assert (await cluster.patch_node(node, SPEC)).taints == SPEC.taints


async def test_labels_are_patched_under_the_uid(api: FakeApiServer, cluster: ApiCluster) -> None:
    node = await cluster.create_node(SPEC)
    patched = await cluster.patch_node(node, replace(SPEC, labels=dict(SPEC.labels) | {"a": "b"}))
    assert patched.labels["a"] == "b"
    assert [call.body for call in api.made("patch")] == [{"metadata": {"labels": {"a": "b"}, "uid": node.uid}}]


async def test_taints_are_read_before_they_are_written(api: FakeApiServer, cluster: ApiCluster) -> None:
    node = await cluster.create_node(SPEC)
    other = {"key": "o", "effect": "NoSchedule"}
    api.put(NODES, {**await api.get(NODES, node.name), "spec": {"taints": [other]}})
    await asyncio.sleep(0.01)
    changed = cluster.nodes.get(node.name)
    assert changed is not None
    patched = await cluster.patch_node(changed, SPEC)
    assert set(patched.taints) == {VIRTUAL, Taint("o", "", "NoSchedule")}
    (call,) = api.made("patch")
    assert call.body is not None
    assert call.body["metadata"] == {"resourceVersion": changed.resource_version}


async def test_taints_of_another_node_of_that_name_are_left_alone(api: FakeApiServer, cluster: ApiCluster) -> None:
    node = await cluster.create_node(SPEC)
    with pytest.raises(Conflict):
        await cluster.patch_node(replace(node, uid="former", taints=()), SPEC)
    assert api.made("patch") == []


async def test_deletions_carry_preconditions_and_are_seen_when_they_return(
    api: FakeApiServer, cluster: ApiCluster
) -> None:
    node = await cluster.create_node(SPEC)
    lease = await cluster.create_lease(LEASE)
    pod = await cluster.create_pod(POD)
    await cluster.delete_pod(pod, 0)
    await cluster.delete_lease(lease)
    await cluster.delete_node(node.name, node.uid)
    assert [call.body for call in api.made("delete")] == [
        {"uid": pod.uid, "resourceVersion": "", "gracePeriodSeconds": 0},
        {"uid": "", "resourceVersion": lease.resource_version, "gracePeriodSeconds": None},
        {"uid": node.uid, "resourceVersion": "", "gracePeriodSeconds": None},
    ]
    assert not [*cluster.nodes.all(), *cluster.leases.all(), *cluster.pods.all()]


async def test_a_deletion_that_a_finalizer_holds_returns_after_a_second(
    api: FakeApiServer, cluster: ApiCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await cluster.create_node(SPEC)
    monkeypatch.setattr(api, "remove", lambda *_args: None)
    began = asyncio.get_running_loop().time()
    await cluster.delete_node(node.name, node.uid)
    assert asyncio.get_running_loop().time() - began == pytest.approx(1.0)
    assert cluster.nodes.get(node.name) == node


async def test_the_outage_of_the_watch_does_not_hide_a_write(api: FakeApiServer, cluster: ApiCluster) -> None:
    api.fail("watch", *[Transient("away")] * 100)
    api.end_watches(Transient("away"))
    await asyncio.sleep(0.01)
    created = await cluster.create_pod(POD)
    assert cluster.pods.get("ns/p") == created


async def test_an_event_is_recorded(api: FakeApiServer, cluster: ApiCluster) -> None:
    await cluster.record_event(ClusterEvent("Pod", "ns", "p", "uid", "Normal", "Installed", "words"))
    assert [call.resource.plural for call in api.made("create")] == ["events"]
