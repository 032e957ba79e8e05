"""The embedded API server creates, patches, deletes, lists and watches as Kubernetes does."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from controlplane.app.ports import AlreadyExists, Conflict, NotFound, Rejected
from controlplane.cluster.api import EVENTS, LEASES, NODES, PODS, Expired, Json, PatchType, WatchEvent
from controlplane.embedded.api import writes
from controlplane.embedded.api.resources import object_key
from controlplane.embedded.api.store import EmbeddedApiServer
from tests.unit.embedded.manifests import deployment, pod, vnode


def bound(name: str, **spec: Any) -> Json:
    manifest = pod(name)
    manifest["spec"].update(nodeName="n", **spec)
    return manifest


async def take(events: AsyncIterator[WatchEvent], count: int) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    async with asyncio.timeout(5):
        async for event in events:
            found.append((event.type, event.object["metadata"]["name"]))
            if len(found) == count:
                break
    return found


async def test_create_gives_identity_version_and_defaults(store: EmbeddedApiServer) -> None:
    manifest = pod("a")
    created = await store.create(PODS, manifest, "default")
    assert created["metadata"]["uid"]
    assert created["metadata"]["creationTimestamp"].endswith("Z")
    assert created["metadata"]["generation"] == 1
    assert created["metadata"]["resourceVersion"] == "2"
    assert created["status"] == {"phase": "Pending"}
    assert created["spec"]["terminationGracePeriodSeconds"] == 30
    assert "uid" not in manifest["metadata"]
    assert await store.get(PODS, "a", "default") == created
    with pytest.raises(AlreadyExists, match='pods "a" already exists'):
        await store.create(PODS, manifest, "default")


async def test_a_returned_object_is_the_callers_own(store: EmbeddedApiServer) -> None:
    created = await store.create(PODS, pod("a", app="x"), "default")
    created["metadata"]["labels"]["app"] = "changed by the caller"
    assert (await store.get(PODS, "a", "default"))["metadata"]["labels"]["app"] == "x"
    assert len((await store.list(PODS, label_selector="app=x")).items) == 1


async def test_generated_names_are_free_names(store: EmbeddedApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    suffixes = iter("aaaaaaaaaabbbbb")
    monkeypatch.setattr("secrets.choice", lambda _: next(suffixes))
    manifest = pod("a")
    manifest["metadata"] = {"generateName": "biz-"}
    first = await store.create(PODS, manifest, "default")
    second = await store.create(PODS, manifest, "default")
    assert [first["metadata"]["name"], second["metadata"]["name"]] == ["biz-aaaaa", "biz-bbbbb"]


@pytest.mark.parametrize(
    "edit",
    [
        {"metadata": {"name": "a", "resourceVersion": "5"}},
        {"metadata": {"name": "a", "namespace": "other"}},
        {"metadata": "text"},
        {"kind": "Node"},
        {"spec": {"containers": [{"name": "a", "image": "x" * 1_600_000}]}},
        {"spec": {"containers": [{"name": "a", "image": "x", "args": [{1, 2}]}]}},
        {"spec": {"containers": [{"name": "a", "image": "\ud800"}]}},
    ],
)
async def test_contradictions_and_values_outside_json_are_rejected(store: EmbeddedApiServer, edit: Json) -> None:
    with pytest.raises(Rejected):
        await store.create(PODS, {**pod("a"), **edit}, "default")
    assert (await store.list(PODS)).items == ()


async def test_a_node_keeps_the_status_that_it_is_created_with_and_a_deployment_does_not(
    store: EmbeddedApiServer,
) -> None:
    node = await store.create(NODES, vnode("n"))
    assert node["status"]["conditions"]
    manifest = deployment("d", 1)
    manifest["status"] = {"readyReplicas": 9}
    created, what = await store.apply(manifest)
    assert what == "created"
    assert created["status"] == {}


async def test_spec_and_status_are_written_separately(store: EmbeddedApiServer) -> None:
    await store.create(PODS, pod("a"), "default")
    both = {"status": {"phase": "Running"}, "metadata": {"labels": {"x": "y"}}}
    through_status = await store.patch(PODS, "a", both, namespace="default", subresource="status")
    assert through_status["status"] == {"phase": "Running"}
    assert "x" not in through_status["metadata"]["labels"]
    both["status"] = {"phase": "Failed"}
    through_object = await store.patch(PODS, "a", both, namespace="default")
    assert through_object["status"] == {"phase": "Running"}
    assert through_object["metadata"]["labels"]["x"] == "y"
    assert through_object["metadata"]["generation"] == 1
    with pytest.raises(NotFound):
        await store.patch(LEASES, "a", both, namespace="default", subresource="status")
    with pytest.raises(NotFound):
        await store.patch(PODS, "a", both, namespace="default", subresource="binding")


async def test_generation_counts_changes_of_the_spec(store: EmbeddedApiServer) -> None:
    await store.apply(deployment("d", 1))
    resource = (await store.apply(deployment("d", 3)))[0]
    assert resource["metadata"]["generation"] == 2
    assert (await store.apply(deployment("d", 3)))[0]["metadata"]["generation"] == 2


async def test_a_patch_that_changes_nothing_is_not_written(store: EmbeddedApiServer) -> None:
    created = await store.create(PODS, pod("a"), "default")
    same = await store.patch(PODS, "a", {"metadata": {"labels": {"none": None}}}, namespace="default")
    assert same["metadata"]["resourceVersion"] == created["metadata"]["resourceVersion"]


@pytest.mark.parametrize("field", ["uid", "resourceVersion"])
async def test_a_precondition_that_fails_is_a_conflict(store: EmbeddedApiServer, field: str) -> None:
    created = await store.create(PODS, pod("a"), "default")
    good = {"metadata": {field: created["metadata"][field], "labels": {"x": "y"}}}
    with pytest.raises(Conflict):
        await store.patch(PODS, "a", {"metadata": {field: "99"}}, namespace="default")
    with pytest.raises(Conflict):
        await store.delete(
            PODS,
            "a",
            namespace="default",
            uid="99" if field == "uid" else "",
            resource_version="99" if field == "resourceVersion" else "",
        )
    patched = await store.patch(PODS, "a", good, namespace="default", patch_type=PatchType.STRATEGIC)
    assert patched["metadata"]["labels"]["x"] == "y"


async def test_server_owned_metadata_cannot_be_patched(store: EmbeddedApiServer) -> None:
    created = await store.create(PODS, pod("a"), "default")
    forged = {"creationTimestamp": "1970-01-01T00:00:00Z", "generation": 77, "deletionTimestamp": "x"}
    patched = await store.patch(PODS, "a", {"metadata": forged}, namespace="default")
    assert patched["metadata"] == created["metadata"]
    for change in ({"metadata": {"name": "b"}}, {"kind": "Node"}, {"spec": {"nodeName": "n"}}, {"metadata": 5}):
        with pytest.raises(Rejected):
            await store.patch(PODS, "a", change, namespace="default")


async def test_an_unbound_pod_is_deleted_at_once(store: EmbeddedApiServer) -> None:
    await store.create(PODS, pod("a"), "default")
    await store.delete(PODS, "a", namespace="default")
    with pytest.raises(NotFound):
        await store.get(PODS, "a", "default")
    with pytest.raises(NotFound):
        await store.delete(PODS, "a", namespace="default")


async def test_a_bound_pod_stays_until_deleted_with_grace_zero(store: EmbeddedApiServer) -> None:
    await store.create(PODS, bound("a", terminationGracePeriodSeconds=90), "default")
    await store.delete(PODS, "a", namespace="default")
    marked = await store.get(PODS, "a", "default")
    assert marked["metadata"]["deletionGracePeriodSeconds"] == 90
    assert marked["metadata"]["deletionTimestamp"]
    await store.delete(PODS, "a", namespace="default", grace_seconds=200)
    assert await store.get(PODS, "a", "default") == marked
    await store.delete(PODS, "a", namespace="default", grace_seconds=5)
    assert (await store.get(PODS, "a", "default"))["metadata"]["deletionGracePeriodSeconds"] == 5
    await store.delete(PODS, "a", namespace="default", grace_seconds=0)
    with pytest.raises(NotFound):
        await store.get(PODS, "a", "default")


async def test_finalizers_hold_an_object_until_they_are_gone(store: EmbeddedApiServer) -> None:
    node = vnode("n")
    node["metadata"]["finalizers"] = ["example.com/hold"]
    await store.create(NODES, node)
    await store.delete(NODES, "n")
    assert (await store.get(NODES, "n"))["metadata"]["deletionTimestamp"]
    await store.patch(NODES, "n", {"metadata": {"finalizers": None}})
    with pytest.raises(NotFound):
        await store.get(NODES, "n")


async def test_lists_are_filtered_by_namespace_labels_and_fields(store: EmbeddedApiServer) -> None:
    await store.create(PODS, pod("a", app="x"), "default")
    await store.create(PODS, bound("b"), "default")
    other = pod("c", app="x")
    other["metadata"]["namespace"] = "other"
    await store.create(PODS, other)

    async def names(namespace: str = "", label_selector: str = "", field_selector: str = "") -> list[str]:
        listed = await store.list(
            PODS, namespace=namespace, label_selector=label_selector, field_selector=field_selector
        )
        return [p["metadata"]["name"] for p in listed.items]

    assert await names() == ["a", "b", "c"]
    assert await names(namespace="default", label_selector="app=x") == ["a"]
    assert await names(field_selector="spec.nodeName=n") == ["b"]
    assert await names(field_selector="metadata.name!=a,metadata.namespace!=x") == ["b", "c"]
    assert await names(field_selector="status.phase=Pending,spec.nodeName!=") == ["b"]
    for selectors in ({"label_selector": "a=b=c"}, {"field_selector": "spec.image=x"}):
        with pytest.raises(Rejected):
            await names(**selectors)


async def test_a_watch_resumes_after_a_list_and_gives_each_change_once(store: EmbeddedApiServer) -> None:
    await store.create(NODES, vnode("before"))
    version = (await store.list(NODES)).resource_version
    await store.create(NODES, vnode("a"))
    await store.patch(NODES, "a", {"metadata": {"labels": {"x": "y"}}})
    watch = store.watch(NODES, resource_version=version)
    assert await take(watch, 2) == [("ADDED", "a"), ("MODIFIED", "a")]
    waiting = asyncio.ensure_future(take(store.watch(NODES, resource_version=version), 3))
    await asyncio.sleep(0)
    await store.delete(NODES, "a")
    assert (await waiting)[-1] == ("DELETED", "a")


async def test_an_object_that_leaves_the_selector_is_shown_as_deleted(store: EmbeddedApiServer) -> None:
    await store.create(NODES, vnode("a", colour="red"))
    await store.create(NODES, vnode("b", colour="blue"))
    watch = store.watch(NODES, resource_version="1", label_selector="colour=red")
    assert await take(watch, 1) == [("ADDED", "a")]
    version = (await store.list(NODES)).resource_version
    for name, colour in (("a", "blue"), ("a", "green"), ("b", "red")):
        await store.patch(NODES, name, {"metadata": {"labels": {"colour": colour}}})
    watch = store.watch(NODES, resource_version=version, label_selector="colour=red")
    assert await take(watch, 2) == [("DELETED", "a"), ("ADDED", "b")]


async def test_a_watch_from_an_unknown_version_is_expired(store: EmbeddedApiServer) -> None:
    for version in ("999", "abc", "-1"):
        with pytest.raises(Expired):
            await take(store.watch(NODES, resource_version=version), 1)


async def test_a_rejected_write_uses_up_no_version_that_a_watch_could_miss(store: EmbeddedApiServer) -> None:
    await store.create(NODES, vnode("a"))
    with pytest.raises(Rejected):
        await store.patch(NODES, "a", {"spec": {"taints": "x"}})
    version = (await store.list(NODES)).resource_version
    watch = store.watch(NODES, resource_version=version)
    waiting = asyncio.ensure_future(take(watch, 1))
    await store.create(NODES, vnode("b"))
    assert await waiting == [("ADDED", "b")]


@pytest.mark.looptime
async def test_a_quiet_watch_gets_bookmarks_with_the_newest_version() -> None:
    store = await EmbeddedApiServer.open(":memory:")
    await store.create(NODES, vnode("a"))
    watch = store.watch(PODS, resource_version="2")
    await store.create(NODES, vnode("b"))
    event = await anext(watch)
    assert event.type == "BOOKMARK"
    assert event.object["metadata"] == {"resourceVersion": "3"}
    await store.close()


async def test_closing_ends_watches_and_refuses_requests() -> None:
    store = await EmbeddedApiServer.open(":memory:")
    waiting = asyncio.ensure_future(take(store.watch(NODES, resource_version="1"), 1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await store.close()
    assert await waiting == []
    await store.close()


async def test_events_are_pruned_to_the_newest_thousand(
    store: EmbeddedApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writes, "MAX_EVENTS", 3)
    for i in range(5):
        event = {"metadata": {"name": f"e{i}"}, "involvedObject": {"kind": "Pod", "name": f"p{i}"}, "reason": "R"}
        await store.create(EVENTS, event, "default")
    await store.write(writes.prune_events)
    left = (await store.list(EVENTS)).items
    assert [e["metadata"]["name"] for e in left] == ["e2", "e3", "e4"]
    monkeypatch.setattr(writes, "EVENT_SECONDS", -1)
    await store.write(writes.prune_events)
    assert (await store.list(EVENTS)).items == ()


@pytest.mark.parametrize("metadata", [{}, {"generateName": "d-"}, {"name": ""}, {"name": 5}, None])
async def test_apply_needs_a_name(store: EmbeddedApiServer, metadata: Any) -> None:
    with pytest.raises(Rejected, match=r"metadata\.name"):
        await store.apply({**deployment("d", 2), "metadata": metadata})


async def test_apply_creates_configures_and_leaves_alone(store: EmbeddedApiServer) -> None:
    manifest = deployment("d", 2)
    created, what = await store.apply(manifest)
    assert what == "created"
    again, what = await store.apply(manifest)
    assert (again, what) == (created, "unchanged")
    # Another writer scales; a manifest without replicas must not undo that.
    del manifest["spec"]["replicas"]
    manifest["metadata"]["labels"] = {}
    configured, what = await store.apply(manifest)
    assert what == "configured"
    assert configured["spec"]["replicas"] == 1
    assert "labels" not in configured["metadata"]
    assert (await store.apply(manifest))[1] == "unchanged"


async def test_a_dry_run_returns_the_same_and_writes_nothing(store: EmbeddedApiServer) -> None:
    assert (await store.apply(pod("a"), dry_run=True))[1] == "created"
    assert (await store.list(PODS)).items == ()
    await store.apply(pod("a"))
    before = await store.get(PODS, "a", "default")
    changed = pod("a")
    changed["spec"]["containers"][0]["image"] = "https://example.com/other.jar"
    shown, what = await store.apply(changed, dry_run=True)
    assert what == "configured"
    assert shown["spec"]["containers"][0]["image"].endswith("other.jar")
    assert await store.get(PODS, "a", "default") == before
    changed["spec"]["containers"].append({"name": "more", "image": "x"})
    with pytest.raises(Rejected, match="pod updates may not change fields"):
        await store.apply(changed, dry_run=True)


async def test_apply_refuses_unknown_kinds_and_nameless_objects(store: EmbeddedApiServer) -> None:
    with pytest.raises(Rejected, match='no matches for kind "Service"'):
        await store.apply({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}})
    with pytest.raises(Rejected, match=r"metadata\.name"):
        await store.apply({"apiVersion": "v1", "kind": "Pod"})


async def test_binding_is_done_once(store: EmbeddedApiServer) -> None:
    created = await store.create(PODS, pod("a"), "default")
    key, uid = object_key(PODS, "a", "default"), created["metadata"]["uid"]
    with pytest.raises(Conflict):
        await store.write(lambda transaction: writes.bind(transaction, key, "another-uid", "n1"))
    done = await store.write(lambda transaction: writes.bind(transaction, key, uid, "n1"))
    assert done["spec"]["nodeName"] == "n1"
    assert [(c["type"], c["status"]) for c in done["status"]["conditions"]] == [("PodScheduled", "True")]
    with pytest.raises(Conflict):
        await store.write(lambda transaction: writes.bind(transaction, key, uid, "n2"))
