"""Pods on VNodes that are not modules: told once, and otherwise left alone."""

from __future__ import annotations

import asyncio

import pytest

from controlplane.app.fleet import foreignpods as strangers
from controlplane.app.ports import Transient
from controlplane.cluster.api import EVENTS, PODS
from tests.unit.app.harness import Api, Stage

pytestmark = pytest.mark.looptime

EVERY = 60.0


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strangers, "EVERY", EVERY)


def put_stranger(stage: Stage, name: str, *, base: str = "b1", **metadata: object) -> None:
    stage.put_pod(name, base=base, metadata={"labels": {"app": "node-exporter"}, **metadata})


def looks(stage: Stage) -> list[str]:
    return [call.field_selector for call in stage.api.made("list") if call.field_selector]


async def test_a_pod_that_is_no_module_gets_one_event_that_says_why_and_nothing_else() -> None:
    async with Stage(Api()).running() as stage:
        base = stage.bases.add("b1")
        await asyncio.sleep(5.0)
        put_stranger(stage, "exporter")
        before = stage.pod("exporter")
        stage.put_pod("p", module="biz2")
        await asyncio.sleep(3 * EVERY)
        told = [call.body for call in stage.api.made("create") if call.resource == EVENTS and call.body is not None]
        (event,) = [body for body in told if body["reason"] == "NotAModule"]
        assert event["involvedObject"]["name"] == "exporter"
        assert "virtual-kubelet.koupleless.io/component=module" in event["message"]
        assert stage.pod("exporter") == before
        assert [key.name for _, key in stage.bases.installs] == ["biz2"]
        assert stage.bases.uninstalls == []
        assert base in stage.bases.modules
        assert [c for c in stage.api.made("delete") if c.resource == PODS] == []


async def test_a_new_pod_of_the_same_name_is_told_again_and_a_leaving_one_is_not() -> None:
    async with Stage(Api()).running() as stage:
        stage.bases.add("b1")
        put_stranger(stage, "exporter")
        put_stranger(stage, "leaving", deletionTimestamp="2026-01-01T01:00:00Z")
        await asyncio.sleep(30.0)
        assert stage.reasons().count("NotAModule") == 1
        put_stranger(stage, "exporter", uid="another")
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


async def test_a_look_that_fails_is_made_again_in_its_turn() -> None:
    async with Stage(Api()).running() as stage:
        await asyncio.sleep(5.0)
        stage.bases.add("b1")
        put_stranger(stage, "exporter")
        stage.api.fail("list", Transient("away"))
        await asyncio.sleep(30.0)
        assert "NotAModule" not in stage.reasons()
        await asyncio.sleep(EVERY)
        assert stage.reasons().count("NotAModule") == 1


async def test_what_was_told_of_a_vnode_is_forgotten_with_it() -> None:
    async with Stage(Api()).running() as stage:
        base = stage.bases.add("b1")
        put_stranger(stage, "exporter")
        await asyncio.sleep(30.0)
        stage.bases.silence(base)
        await asyncio.sleep(90.0)
        assert stage.node() is None
        asked = len(looks(stage))
        await asyncio.sleep(EVERY * 2)
        assert len(looks(stage)) == asked
