"""Requests to which the embedded API server and Kubernetes answer alike."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, Self

import pytest

from controlplane.app.ports import AlreadyExists, Conflict, NotFound, Rejected
from controlplane.cluster.api import LEASES, NODES, PODS, ApiServer, Json, PatchType, Resource
from controlplane.kube.client import KubeApiServer
from tests.contract.cluster.conftest import WATCH_TIMEOUT

NS = "default"


def node(name: str, **labels: str) -> Json:
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}


def pod(name: str, node_name: str = "", **labels: str) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NS, "labels": labels},
        "spec": {
            "containers": [{"name": "biz1", "image": "https://repo.example/biz1.jar"}],
            "automountServiceAccountToken": False,
            **({"nodeName": node_name} if node_name else {}),
        },
    }


def lease(name: str, **labels: str) -> Json:
    """A Lease: unlike a Node, nothing else in a cluster writes to it."""
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": name, "namespace": NS, "labels": labels},
        "spec": {"holderIdentity": "a"},
    }


def conditions(obj: Json) -> dict[str, str]:
    return {each["type"]: each["status"] for each in obj["status"]["conditions"]}


class Watching:
    """A watch whose events are taken one by one; bookmarks are passed over."""

    def __init__(self, api: ApiServer, resource: Resource, version: str, suite: str) -> None:
        self._events = api.watch(resource, resource_version=version, label_selector=f"suite={suite}")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_failure: object) -> None:
        if isinstance(self._events, AsyncGenerator):
            await self._events.aclose()

    async def next(self) -> tuple[str, str, str]:
        """Return type, name and resource version of the next event."""
        async with asyncio.timeout(WATCH_TIMEOUT):
            while True:
                event = await anext(self._events)
                if event.type != "BOOKMARK":
                    meta = event.object["metadata"]
                    return event.type, meta["name"], meta["resourceVersion"]


async def test_the_echo_of_an_own_write_is_known_by_its_version(api: ApiServer, unique: str) -> None:
    labels = {"suite": unique, "resourceVersion": "1"}
    version = (await api.create(LEASES, lease(unique, **labels), NS))["metadata"]["resourceVersion"]
    own = await api.patch(LEASES, unique, {"spec": {"holderIdentity": "b"}}, namespace=NS)
    other = await api.patch(LEASES, unique, {"spec": {"holderIdentity": "c"}}, namespace=NS)
    echo, shown = (each["metadata"]["resourceVersion"] for each in (own, other))
    events = api.watch(LEASES, resource_version=version, label_selector=f"suite={unique}", echoes={echo, "1"})
    seen: list[tuple[str, str]] = []
    async with asyncio.timeout(WATCH_TIMEOUT):
        while ("MODIFIED", shown) not in seen:
            event = await anext(events)
            seen.append((event.type, event.object["metadata"]["resourceVersion"]))
    await events.aclose()  # type: ignore[attr-defined]
    if isinstance(api, KubeApiServer):
        assert [each for each in seen if each[1] != version] == [("BOOKMARK", echo), ("MODIFIED", shown)]


async def test_a_second_object_of_one_name_is_refused(api: ApiServer, unique: str) -> None:
    created = await api.create(NODES, node(unique))
    meta = created["metadata"]
    assert meta["uid"]
    assert meta["creationTimestamp"].endswith("Z")
    assert meta["resourceVersion"].isdigit()
    assert (await api.get(NODES, unique))["metadata"]["uid"] == meta["uid"]
    with pytest.raises(AlreadyExists):
        await api.create(NODES, node(unique))


async def test_what_is_not_there_is_not_found(api: ApiServer, unique: str) -> None:
    with pytest.raises(NotFound):
        await api.get(NODES, unique)
    with pytest.raises(NotFound):
        await api.patch(NODES, unique, {"metadata": {"labels": {"a": "b"}}})
    with pytest.raises(NotFound):
        await api.delete(NODES, unique)


@pytest.mark.parametrize("name", ["", "..", "a/status", "../../namespaces/default", "a%2Fb", "Upper"])
async def test_names_that_no_object_can_have_reach_no_object(api: ApiServer, name: str) -> None:
    with pytest.raises(Rejected):
        await api.get(PODS, name, NS)


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"containers": []}, "spec.containers"),
        ({"containers": [{"name": "a"}]}, "spec.containers[0].image"),
        ({"containers": [{"name": "A_B", "image": "x"}]}, "spec.containers[0].name"),
    ],
)
async def test_a_malformed_pod_is_rejected_with_the_field(api: ApiServer, unique: str, spec: Any, field: str) -> None:
    obj = pod(unique)
    obj["spec"] |= spec
    with pytest.raises(Rejected) as raised:
        await api.create(PODS, obj, NS)
    assert field in str(raised.value)


async def test_lists_select_by_labels_and_by_node(api: ApiServer, unique: str) -> None:
    await api.create(PODS, pod(f"{unique}-a", f"{unique}-n", suite=unique, part="x"), NS)
    await api.create(PODS, pod(f"{unique}-b", suite=unique), NS)
    listed = await api.list(PODS, label_selector=f"suite={unique}")
    assert sorted(obj["metadata"]["name"] for obj in listed.items) == [f"{unique}-a", f"{unique}-b"]
    both = await api.list(PODS, label_selector=f"suite={unique},part=x")
    assert [obj["metadata"]["name"] for obj in both.items] == [f"{unique}-a"]
    bound = await api.list(PODS, namespace=NS, field_selector=f"spec.nodeName={unique}-n")
    assert [obj["metadata"]["name"] for obj in bound.items] == [f"{unique}-a"]
    elsewhere = await api.list(PODS, namespace="kube-system", label_selector=f"suite={unique}")
    assert elsewhere.items == ()


async def test_a_node_is_created_with_its_status_in_one_write(api: ApiServer, unique: str) -> None:
    obj = node(unique) | {
        "status": {"conditions": [{"type": "Ready", "status": "True"}], "capacity": {"pods": "65535"}},
    }
    created = await api.create(NODES, obj)
    assert conditions(created) == {"Ready": "True"}
    assert created["status"]["capacity"] == {"pods": "65535"}


async def test_a_merge_patch_sets_removes_and_replaces_lists(api: ApiServer, unique: str) -> None:
    obj = node(unique, keep="1", drop="2")
    obj["spec"] = {"taints": [{"key": "a", "effect": "NoSchedule"}, {"key": "b", "effect": "NoExecute"}]}
    await api.create(NODES, obj)
    patch = {
        "metadata": {"labels": {"drop": None, "new": "3"}},
        "spec": {"taints": [{"key": "c", "effect": "NoExecute"}]},
    }
    patched = await api.patch(NODES, unique, patch)
    assert patched["metadata"]["labels"] == {"keep": "1", "new": "3"}
    assert [taint["key"] for taint in patched["spec"]["taints"]] == ["c"]


async def test_status_and_the_rest_are_written_apart(api: ApiServer, unique: str) -> None:
    await api.create(PODS, pod(unique, f"{unique}-n"), NS)
    both: Json = {"metadata": {"labels": {"a": "b"}}, "status": {"phase": "Running"}}
    plain = await api.patch(PODS, unique, both, namespace=NS)
    assert plain["status"]["phase"] == "Pending"
    assert plain["metadata"]["labels"] == {"a": "b"}
    spec = {"spec": {"containers": [{"name": "biz1", "image": "other"}]}, "status": {"phase": "Running"}}
    status = await api.patch(PODS, unique, spec, namespace=NS, subresource="status", patch_type=PatchType.STRATEGIC)
    assert status["status"]["phase"] == "Running"
    assert status["spec"]["containers"][0]["image"] == "https://repo.example/biz1.jar"


async def test_a_strategic_patch_merges_conditions_by_type_and_replaces_container_statuses(
    api: ApiServer, unique: str
) -> None:
    await api.create(PODS, pod(unique, f"{unique}-n"), NS)

    async def patch(status: Json) -> Json:
        return await api.patch(
            PODS, unique, {"status": status}, namespace=NS, subresource="status", patch_type=PatchType.STRATEGIC
        )

    def container(name: str, reason: str) -> Json:
        state = {"waiting": {"reason": reason}}
        return {"name": name, "ready": False, "restartCount": 0, "image": "i", "imageID": "", "state": state}

    await patch(
        {"conditions": [{"type": "Foreign", "status": "True"}], "containerStatuses": [container("biz1", "One")]}
    )
    patched = await patch(
        {
            "phase": "Running",
            "reason": "R",
            "conditions": [{"type": "Ready", "status": "False"}],
            "containerStatuses": [container("biz1", "Two")],
        }
    )
    assert conditions(patched) == {"Foreign": "True", "Ready": "False"}
    assert [each["state"] for each in patched["status"]["containerStatuses"]] == [{"waiting": {"reason": "Two"}}]
    cleared = await patch({"reason": None, "conditions": [{"type": "Ready", "status": "True"}]})
    assert "reason" not in cleared["status"]
    assert conditions(cleared) == {"Foreign": "True", "Ready": "True"}
    assert cleared["status"]["containerStatuses"][0]["state"] == {"waiting": {"reason": "Two"}}


async def test_a_strategic_patch_merges_addresses_by_type_and_removes_on_demand(api: ApiServer, unique: str) -> None:
    obj = node(unique) | {
        "status": {"addresses": [{"type": "Hostname", "address": "h"}], "capacity": {"pods": "1", "memory": "1Gi"}}
    }
    await api.create(NODES, obj)
    patch = {
        "status": {
            "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}, {"$patch": "delete", "type": "Hostname"}],
            "capacity": {"pods": "2", "memory": None},
        }
    }
    patched = await api.patch(NODES, unique, patch, subresource="status", patch_type=PatchType.STRATEGIC)
    assert patched["status"]["addresses"] == [{"type": "InternalIP", "address": "10.0.0.1"}]
    assert patched["status"]["capacity"] == {"pods": "2"}


async def test_a_write_that_changes_nothing_keeps_the_version(api: ApiServer, unique: str) -> None:
    created = await api.create(LEASES, lease(unique, a="b"), NS)
    patched = await api.patch(LEASES, unique, {"metadata": {"labels": {"a": "b"}}}, namespace=NS)
    assert patched["metadata"]["resourceVersion"] == created["metadata"]["resourceVersion"]


async def test_patches_under_a_version_or_uid_that_is_past_conflict(api: ApiServer, unique: str) -> None:
    created = await api.create(LEASES, lease(unique), NS)
    version = created["metadata"]["resourceVersion"]
    guarded = {"metadata": {"resourceVersion": version}, "spec": {"holderIdentity": "b"}}
    patched = await api.patch(LEASES, unique, guarded, namespace=NS, urgent=True)
    assert patched["spec"]["holderIdentity"] == "b"
    with pytest.raises(Conflict):
        await api.patch(LEASES, unique, guarded, namespace=NS, urgent=True)
    other = {"metadata": {"uid": "00000000-0000-0000-0000-000000000000"}, "spec": {"holderIdentity": "c"}}
    with pytest.raises(Conflict):
        await api.patch(LEASES, unique, other, namespace=NS)
    mine = {"metadata": {"uid": created["metadata"]["uid"]}, "spec": {"holderIdentity": "d"}}
    assert (await api.patch(LEASES, unique, mine, namespace=NS))["spec"]["holderIdentity"] == "d"


async def test_a_status_patch_for_an_earlier_object_of_the_name_conflicts(api: ApiServer, unique: str) -> None:
    await api.create(PODS, pod(unique, f"{unique}-n"), NS)
    patch = {"metadata": {"uid": "00000000-0000-0000-0000-000000000000"}, "status": {"phase": "Running"}}
    with pytest.raises(Conflict):
        await api.patch(PODS, unique, patch, namespace=NS, subresource="status", patch_type=PatchType.STRATEGIC)


async def test_deletions_under_a_version_or_uid_that_is_past_conflict(api: ApiServer, unique: str) -> None:
    created = await api.create(LEASES, lease(unique), NS)
    await api.patch(LEASES, unique, {"metadata": {"labels": {"a": "b"}}}, namespace=NS)
    with pytest.raises(Conflict):
        await api.delete(LEASES, unique, namespace=NS, resource_version=created["metadata"]["resourceVersion"])
    with pytest.raises(Conflict):
        await api.delete(LEASES, unique, namespace=NS, uid="00000000-0000-0000-0000-000000000000")
    await api.delete(LEASES, unique, namespace=NS, uid=created["metadata"]["uid"])
    with pytest.raises(NotFound):
        await api.get(LEASES, unique, NS)


async def test_a_bound_pod_stays_terminating_until_it_is_removed(api: ApiServer, unique: str) -> None:
    await api.create(PODS, pod(unique, f"{unique}-n"), NS)
    await api.delete(PODS, unique, namespace=NS)
    left = await api.get(PODS, unique, NS)
    assert left["metadata"]["deletionTimestamp"]
    assert left["metadata"]["deletionGracePeriodSeconds"] == 30
    await api.delete(PODS, unique, namespace=NS, uid=left["metadata"]["uid"], grace_seconds=0)
    with pytest.raises(NotFound):
        await api.get(PODS, unique, NS)


async def test_an_unbound_pod_goes_at_once(api: ApiServer, unique: str) -> None:
    obj = pod(unique)
    obj["spec"]["schedulerName"] = "nobody"
    await api.create(PODS, obj, NS)
    await api.delete(PODS, unique, namespace=NS)
    with pytest.raises(NotFound):
        await api.get(PODS, unique, NS)


async def test_a_watch_sends_later_changes_in_order(api: ApiServer, unique: str) -> None:
    listed = await api.list(LEASES, label_selector=f"suite={unique}")
    async with Watching(api, LEASES, listed.resource_version, unique) as watching:
        await api.create(LEASES, lease(unique, suite=unique), NS)
        assert (await watching.next())[:2] == ("ADDED", unique)
        await api.patch(LEASES, unique, {"metadata": {"annotations": {"a": "1"}}}, namespace=NS)
        await api.create(LEASES, lease(f"{unique}-other"), NS)
        kind, name, version = await watching.next()
        assert (kind, name) == ("MODIFIED", unique)
        await api.delete(LEASES, unique, namespace=NS)
        assert (await watching.next())[:2] == ("DELETED", unique)
    async with Watching(api, LEASES, version, unique) as resumed:
        assert (await resumed.next())[:2] == ("DELETED", unique)


async def test_a_watch_sends_leaving_its_selector_as_deleted_and_entering_as_added(api: ApiServer, unique: str) -> None:
    async def label(**labels: str | None) -> str:
        patched = await api.patch(LEASES, unique, {"metadata": {"labels": labels}}, namespace=NS)
        return str(patched["metadata"]["resourceVersion"])

    created = await api.create(LEASES, lease(unique, suite=unique), NS)
    async with Watching(api, LEASES, created["metadata"]["resourceVersion"], unique) as watching:
        assert await label(suite=None) == (await watching.next())[2]
        await label(unrelated="x")
        entered = await label(suite=unique)
        assert await watching.next() == ("ADDED", unique, entered)
        left = await label(suite="other")
        assert await watching.next() == ("DELETED", unique, left)


async def test_a_watch_sends_a_terminating_pod_as_modified_then_deleted(api: ApiServer, unique: str) -> None:
    created = await api.create(PODS, pod(unique, f"{unique}-n", suite=unique), NS)
    async with Watching(api, PODS, created["metadata"]["resourceVersion"], unique) as watching:
        await api.delete(PODS, unique, namespace=NS)
        assert (await watching.next())[:2] == ("MODIFIED", unique)
        await api.delete(PODS, unique, namespace=NS, grace_seconds=0)
        seen = await watching.next()
        if seen[0] == "MODIFIED":
            seen = await watching.next()
        assert seen[:2] == ("DELETED", unique)
