"""An informer lists and watches, and keeps its cache current through outages and expired versions."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from controlplane.app.ports import Rejected, Transient
from controlplane.cluster import reading
from controlplane.cluster.api import NODES, PODS, WatchEvent
from controlplane.cluster.informer import BoundPodInformer, ObjectInformer
from controlplane.domain.objects import Node
from tests.fakes.apiserver import FakeApiServer
from tests.unit.cluster.clock import LoopClock

pytestmark = pytest.mark.looptime

LABELS = {"component": "vnode"}


def _node(name: str, **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": LABELS | labels}}


def _pod(name: str, node: str = "", created: str = "") -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "ns", "labels": LABELS, "creationTimestamp": created},
        "spec": {"nodeName": node},
    }


def _informer(api: FakeApiServer) -> ObjectInformer[Node]:
    return ObjectInformer(api, NODES, reading.node, selector="component=vnode", clock=LoopClock(), chance=lambda: 0.0)


@asynccontextmanager
async def _running(informer: ObjectInformer[Any]) -> AsyncIterator[None]:
    task = asyncio.create_task(informer.run())
    try:
        await asyncio.sleep(0.01)
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_it_lists_with_the_selector_then_watches_from_the_list() -> None:
    api = FakeApiServer()
    api.put(NODES, _node("a"))
    informer = _informer(api)
    assert informer.trouble() == "nodes are being listed"
    async with _running(informer):
        assert informer.synced
        assert informer.trouble() is None
        api.put(NODES, _node("b"))
        api.remove(NODES, "a")
        await asyncio.sleep(0.01)
        assert [node.name for node in informer.all()] == ["b"]
    assert [call.label_selector for call in api.calls] == ["component=vnode"] * 2
    assert [call.subject for call in api.made("watch")] == ["101"]


async def test_handlers_get_the_keys_of_what_changed_only() -> None:
    api = FakeApiServer()
    api.put(NODES, _node("a"))
    api.put(NODES, _node("b"))
    informer = _informer(api)
    changed: list[str] = []
    informer.subscribe(changed.append)
    async with _running(informer):
        assert changed == ["a", "b"]
        changed.clear()
        api.drop_history()
        api.put(NODES, _node("b", more="x"))
        api.drop_history()
        api.end_watches(Transient("cut"))
        await asyncio.sleep(2)
        assert changed == ["b"]
        assert len(api.made("list")) == 1, "the event arrived before the watch was cut"


async def test_a_watch_that_the_server_ends_is_resumed() -> None:
    api = FakeApiServer()
    informer = _informer(api)
    async with _running(informer):
        await asyncio.sleep(300)
        api.version = 200
        api.bookmark()
        await asyncio.sleep(0.01)
        api.end_watches()
        await asyncio.sleep(0.01)
        assert [call.subject for call in api.made("watch")] == ["100", "200"]
        assert len(api.made("list")) == 1


async def test_changes_while_the_watch_is_down_come_with_the_next_one() -> None:
    api = FakeApiServer()
    informer = _informer(api)
    async with _running(informer):
        api.end_watches(Transient("cut"))
        await asyncio.sleep(0.01)
        api.put(NODES, _node("a"))
        assert informer.get("a") is None
        assert informer.trouble() == "nodes cannot be kept current for 0 s: cut"
        await asyncio.sleep(0.6)
        assert informer.get("a") is not None
        assert informer.trouble() is None


async def test_an_expired_version_is_listed_again_and_shows_what_went_and_came() -> None:
    api = FakeApiServer()
    api.put(NODES, _node("old"))
    api.put(NODES, _node("same"))
    informer = _informer(api)
    changed: list[str] = []
    async with _running(informer):
        informer.subscribe(changed.append)
        api.end_watches(Transient("cut"))
        await asyncio.sleep(0.01)
        api.remove(NODES, "old")
        api.put(NODES, _node("new"))
        api.drop_history()
        await asyncio.sleep(5)
        assert sorted(node.name for node in informer.all()) == ["new", "same"]
        assert sorted(changed) == ["new", "old"]
        assert len(api.made("list")) == 2


async def test_an_outage_keeps_the_cache_and_is_retried_with_growing_delays() -> None:
    api = FakeApiServer()
    api.put(NODES, _node("a"))
    informer = _informer(api)
    async with _running(informer):
        api.fail("watch", *[Transient("connection refused")] * 1000)
        api.end_watches(Transient("cut"))
        before = len(api.made("watch"))
        await asyncio.sleep(60)
        assert informer.get("a") is not None
        assert informer.synced
        assert informer.trouble() == "nodes cannot be kept current for 60 s: connection refused"
        assert 6 <= len(api.made("watch")) - before <= 12


async def test_a_list_that_is_refused_is_reported_and_tried_again() -> None:
    api = FakeApiServer()
    api.fail("list", Rejected("nodes is forbidden"))
    informer = _informer(api)
    async with _running(informer):
        assert informer.trouble() == "nodes cannot be listed for 0 s: nodes is forbidden"
        assert not informer.synced
        await asyncio.sleep(1)
        assert informer.synced


async def test_a_server_that_ends_watches_at_once_is_asked_with_pauses() -> None:
    api = FakeApiServer()
    informer = _informer(api)
    async with _running(informer):
        for _ in range(100):
            api.end_watches()
            await asyncio.sleep(0.1)
        assert len(api.made("watch")) < 12


async def test_a_list_that_keeps_expiring_is_repeated_with_pauses() -> None:
    api = FakeApiServer()
    informer = _informer(api)
    async with _running(informer):
        api.put(NODES, _node("a"))
        api.end_watches(Transient("cut"))
        original = api.list

        async def overtaken(*args: Any, **kwargs: Any) -> Any:
            listed = await original(*args, **kwargs)
            api.put(NODES, _node("a", again="x"))
            api.drop_history()
            return listed

        api.list = overtaken  # type: ignore[method-assign]
        api.drop_history()
        api.put(NODES, _node("b"))
        api.drop_history()
        await asyncio.sleep(60)
        assert 3 <= len(api.made("list")) <= 14


async def test_objects_without_name_and_events_of_unknown_type_are_ignored() -> None:
    api = FakeApiServer()
    informer = _informer(api)
    async with _running(informer):
        api.send(NODES, WatchEvent("ADDED", {}))
        api.send(NODES, WatchEvent("WHATEVER", _node("x")))
        api.put(NODES, _node("a"))
        await asyncio.sleep(0.01)
        assert [node.name for node in informer.all()] == ["a"]


async def test_a_write_is_read_back_before_the_watch_sends_it() -> None:
    api = FakeApiServer()
    informer = _informer(api)
    async with _running(informer):
        view = informer.wrote({"metadata": {"name": "a", "labels": LABELS, "resourceVersion": "150"}})
        assert informer.get("a") is view


async def test_what_own_writes_made_is_remembered_until_the_watch_shows_it() -> None:
    api = FakeApiServer()
    informer = _informer(api)
    async with _running(informer):
        for number in range(10):
            api.put(NODES, _node("a", number=str(number)))
            informer.written("a", reading.node(await api.get(NODES, "a")))
            assert len(informer.echoes) == 1
            await asyncio.sleep(0.01)
            assert not informer.echoes
    assert (node := informer.get("a")) is not None
    assert node.labels["number"] == "9"


async def test_a_write_that_the_selector_does_not_match_stays_out() -> None:
    informer = _informer(FakeApiServer())
    informer.wrote({"metadata": {"name": "a", "labels": {"component": "other"}, "resourceVersion": "150"}})
    assert informer.get("a") is None


async def test_a_deletion_waits_for_the_watch_and_no_longer_than_its_patience() -> None:
    api = FakeApiServer()
    one, other = (api.put(NODES, _node(name))["metadata"]["uid"] for name in ("a", "b"))
    informer = _informer(api)
    loop = asyncio.get_running_loop()
    async with _running(informer):
        loop.call_later(0.5, api.remove, NODES, "a")
        began = loop.time()
        await informer.deleted("a", one)
        assert loop.time() - began == pytest.approx(0.5)
        await informer.deleted("b", other)
        assert loop.time() - began == pytest.approx(1.5)
        await informer.deleted("b", "another")
        assert loop.time() - began == pytest.approx(1.5)
        assert not informer._awaited


async def test_pods_are_kept_by_node_oldest_first_and_a_move_touches_both_nodes() -> None:
    api = FakeApiServer()
    informer = BoundPodInformer(
        api, PODS, reading.pod, selector="component=vnode", clock=LoopClock(), chance=lambda: 0.0
    )
    touched: list[str] = []
    informer.subscribe_node(touched.append)
    api.put(PODS, _pod("young", "n1", "2026-01-01T00:00:02Z"))
    api.put(PODS, _pod("old", "n1", "2026-01-01T00:00:01Z"))
    api.put(PODS, _pod("unbound"))
    async with _running(informer):
        assert [pod.name for pod in informer.on_node("n1")] == ["old", "young"]
        assert touched == ["n1", "n1"]
        touched.clear()
        api.put(PODS, _pod("old", "n2"))
        api.remove(PODS, "young", "ns")
        await asyncio.sleep(0.01)
        assert sorted(touched) == ["n1", "n1", "n2"]
        assert informer.on_node("n1") == ()
        assert [pod.key for pod in informer.on_node("n2")] == ["ns/old"]
        assert informer.on_node("") == ()


async def test_followers_of_a_node_may_leave_out_what_we_wrote_ourselves() -> None:
    api = FakeApiServer()
    informer = BoundPodInformer(
        api, PODS, reading.pod, selector="component=vnode", clock=LoopClock(), chance=lambda: 0.0
    )
    everything, ours, others = list[str](), list[str](), list[str]()
    informer.subscribe_node(everything.append)
    informer.subscribe_node(ours.append, own=True)
    informer.subscribe_node(others.append, own=False)

    def seen() -> tuple[int, int, int]:
        found = len(everything), len(ours), len(others)
        everything.clear()
        ours.clear()
        others.clear()
        return found

    def changed(version: str, **metadata: Any) -> dict[str, Any]:
        pod = informer.get("ns/p")
        assert pod is not None
        status = {"phase": "Running", "message": f"version {version}"}
        return {**_pod("p", "n1"), "status": status} | {
            "metadata": {**_pod("p")["metadata"], "uid": pod.uid, "resourceVersion": version, **metadata}
        }

    api.put(PODS, _pod("p", "n1"))
    async with _running(informer):
        assert seen() == (1, 0, 1)
        informer.wrote(changed("150"), own=True)
        assert seen() == (1, 1, 0)
        informer.wrote(changed("151"))
        assert seen() == (1, 0, 1)
        informer.wrote(changed("152", deletionTimestamp="2026-01-01T00:00:00Z"), own=True)
        assert seen() == (1, 0, 1)
        api.version = 160
        api.put(PODS, _pod("p", "n1"))
        await asyncio.sleep(0.01)
        assert seen() == (1, 0, 1)
        pod = informer.get("ns/p")
        assert pod is not None
        informer.removing(pod.uid)
        api.remove(PODS, "p", "ns")
        await asyncio.sleep(0.01)
        assert seen() == (1, 1, 0)


async def test_of_pods_created_in_the_same_second_the_one_that_was_bound_first_is_the_older() -> None:
    """Their names would order them the other way, for as long as both exist."""
    api = FakeApiServer()
    informer = BoundPodInformer(
        api, PODS, reading.pod, selector="component=vnode", clock=LoopClock(), chance=lambda: 0.0
    )
    async with _running(informer):
        for name, node in (("z-first", ""), ("a-second", ""), ("z-first", "n1"), ("a-second", "n1"), ("z-first", "n1")):
            pod = _pod(name, node, "2026-01-01T00:00:01Z")
            pod["metadata"]["uid"] = name
            api.put(PODS, pod)
        await asyncio.sleep(0.01)
        assert [pod.name for pod in informer.on_node("n1")] == ["z-first", "a-second"]
