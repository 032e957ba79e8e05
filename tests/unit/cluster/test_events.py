"""Events are written beside their objects, and repetitions are counted."""

import asyncio
from dataclasses import replace

import pytest

from controlplane.app.ports import Transient, Unknown
from controlplane.cluster.api import EVENTS
from controlplane.cluster.events import EventWriter
from controlplane.domain.objects import ClusterEvent
from tests.fakes.apiserver import FakeApiServer
from tests.unit.cluster.clock import LoopClock

pytestmark = pytest.mark.looptime

EVENT = ClusterEvent("Pod", "ns", "biz1", "uid-1", "Warning", "InstallFailed", "no such jar")


async def test_an_event_is_written_beside_its_object() -> None:
    api = FakeApiServer()
    await EventWriter(api, LoopClock()).write(EVENT)
    (call,) = api.calls
    assert call.body is not None
    assert call.body["metadata"]["namespace"] == "ns"
    assert call.body["metadata"]["name"].startswith("biz1.")
    assert call.body["involvedObject"] == {
        "apiVersion": "v1",
        "kind": "Pod",
        "name": "biz1",
        "namespace": "ns",
        "uid": "uid-1",
    }
    assert call.body["source"] == {"component": "module-controller"}
    assert (call.body["type"], call.body["reason"], call.body["message"]) == ("Warning", "InstallFailed", "no such jar")


async def test_events_about_nodes_are_kept_in_the_default_namespace() -> None:
    api = FakeApiServer()
    await EventWriter(api, LoopClock()).write(replace(EVENT, kind="Node", namespace="", name="vnode.a.dev"))
    (call,) = api.calls
    assert call.body is not None
    assert call.body["metadata"]["namespace"] == "default"
    assert "namespace" not in call.body["involvedObject"]


async def test_a_repetition_is_counted_within_five_minutes_of_the_last() -> None:
    api = FakeApiServer()
    writer = EventWriter(api, LoopClock())
    for _ in range(3):
        await writer.write(EVENT)
        await asyncio.sleep(299)
    assert [call.verb for call in api.calls] == ["create", "patch", "patch"]
    body = api.calls[-1].body
    assert body is not None
    assert body["count"] == 3
    await asyncio.sleep(2)
    await writer.write(EVENT)
    assert api.calls[-1].verb == "create"


async def test_another_message_is_another_event() -> None:
    api = FakeApiServer()
    writer = EventWriter(api, LoopClock())
    await writer.write(EVENT)
    await writer.write(replace(EVENT, message="something else"))
    await writer.write(replace(EVENT, uid="uid-2"))
    assert [call.verb for call in api.calls] == ["create"] * 3


async def test_an_event_that_was_pruned_is_written_anew() -> None:
    api = FakeApiServer()
    writer = EventWriter(api, LoopClock())
    await writer.write(EVENT)
    name = api.calls[0].subject.removeprefix("ns/")
    obj = await api.get(EVENTS, api.calls[0].body["metadata"]["name"], "ns") if api.calls[0].body else {}
    assert obj["metadata"]["name"] == name
    api.remove(EVENTS, name, "ns")
    await writer.write(EVENT)
    assert [call.verb for call in api.calls] == ["create", "get", "patch", "create"]


async def test_a_failed_write_is_not_counted_as_a_repetition() -> None:
    api = FakeApiServer()
    api.fail("create", Transient("away"))
    writer = EventWriter(api, LoopClock())
    with pytest.raises(Transient):
        await writer.write(EVENT)
    await writer.write(EVENT)
    assert [call.verb for call in api.calls] == ["create", "create"]


@pytest.mark.parametrize("written", [True, False])
async def test_an_event_that_may_be_there_is_not_written_twice(written: bool) -> None:
    api = FakeApiServer()
    writer = EventWriter(api, LoopClock())
    api.fail("create", Unknown("timed out"))
    with pytest.raises(Unknown):
        await writer.write(EVENT)
    (call,) = api.calls
    if written:
        assert call.body is not None
        await api.create(EVENTS, call.body, "ns")
    await writer.write(EVENT)
    events = (await api.list(EVENTS)).items
    assert [event["count"] for event in events] == [1]


async def test_memory_is_bounded() -> None:
    api = FakeApiServer()
    writer = EventWriter(api, LoopClock(), remembered=2)
    for number in (1, 2, 3, 2, 1):
        await writer.write(replace(EVENT, message=str(number)))
    assert [call.verb for call in api.calls] == ["create", "create", "create", "patch", "create"]


async def test_long_texts_are_cut() -> None:
    api = FakeApiServer()
    await EventWriter(api, LoopClock()).write(replace(EVENT, name="n" * 253, message="m" * 5000, reason="r" * 500))
    body = api.calls[0].body
    assert body is not None
    assert len(body["metadata"]["name"]) <= 253
    assert len(body["message"]) == 1024
    assert len(body["reason"]) == 128
