"""Pods on VNodes that are not modules get one Event, and are otherwise left alone."""

import asyncio

import pytest

from controlplane.app.fleet import foreignpods
from controlplane.app.ports import Transient
from controlplane.cluster.api import EVENTS, PODS
from tests.unit.app.harness import Api, Stage

pytestmark = pytest.mark.looptime

EVERY = 60.0


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreignpods, "EVERY", EVERY)


def put_foreign_pod(stage: Stage, name: str, *, base: str = "b1", **metadata: object) -> None:
    stage.put_pod(name, base=base, metadata={"labels": {"app": "node-exporter"}, **metadata})


def looks(stage: Stage) -> list[str]:
    return [call.field_selector for call in stage.api.made("list") if call.field_selector]


async def test_a_pod_that_is_no_module_gets_one_event_that_says_why_and_nothing_else() -> None:
    async with Stage(Api()).running() as stage:
        base = stage.bases.add("b1")
        await asyncio.sleep(5.0)
        put_foreign_pod(stage, "exporter")
        before = stage.pod("exporter")
        stage.put_pod("p", module="biz2")
        await asyncio.sleep(3 * EVERY)
        events = [call.body for call in stage.api.made("create") if call.resource == EVENTS and call.body is not None]
        (event,) = [body for body in events if body["reason"] == "NotAModule"]
        assert event["involvedObject"]["name"] == "exporter"
        assert "virtual-kubelet.koupleless.io/component=module" in event["message"]
        assert stage.pod("exporter") == before
        assert [key.name for _, key in stage.bases.installs] == ["biz2"]
        assert stage.bases.uninstalls == []
        assert base in stage.bases.modules
        assert [c for c in stage.api.made("delete") if c.resource == PODS] == []


async def test_a_new_pod_of_the_same_name_is_reported_and_a_terminating_one_is_not() -> None:
    async with Stage(Api()).running() as stage:
        stage.bases.add("b1")
        put_foreign_pod(stage, "exporter")
        put_foreign_pod(stage, "leaving", deletionTimestamp="2026-01-01T01:00:00Z")
        await asyncio.sleep(30.0)
        assert stage.reasons().count("NotAModule") == 1
        put_foreign_pod(stage, "exporter", uid="another")
        await asyncio.sleep(EVERY)
        assert stage.reasons().count("NotAModule") == 2


async def test_the_api_server_is_asked_for_one_vnode_at_a_time_and_seldom() -> None:
    async with Stage(Api()).running() as stage:
        for number in range(20):
            stage.bases.add(f"b{number}")
        await asyncio.sleep(EVERY)
        assert sorted(looks(stage)) == sorted(f"spec.nodeName=vnode.b{number}.dev" for number in range(20))
        selectors = {call.label_selector for call in stage.api.made("list") if call.field_selector}
        assert selectors == {"virtual-kubelet.koupleless.io/component!=module"}
        await asyncio.sleep(EVERY)
        assert len(looks(stage)) <= 40


async def test_a_failed_look_is_repeated_in_its_turn() -> None:
    async with Stage(Api()).running() as stage:
        await asyncio.sleep(5.0)
        stage.bases.add("b1")
        put_foreign_pod(stage, "exporter")
        stage.api.fail("list", Transient("away"))
        await asyncio.sleep(30.0)
        assert "NotAModule" not in stage.reasons()
        await asyncio.sleep(EVERY)
        assert stage.reasons().count("NotAModule") == 1


async def test_a_removed_vnode_is_not_looked_at_any_more() -> None:
    async with Stage(Api()).running() as stage:
        base = stage.bases.add("b1")
        put_foreign_pod(stage, "exporter")
        await asyncio.sleep(30.0)
        stage.bases.silence(base)
        await asyncio.sleep(90.0)
        assert stage.node() is None
        asked = len(looks(stage))
        await asyncio.sleep(EVERY * 2)
        assert len(looks(stage)) == asked
