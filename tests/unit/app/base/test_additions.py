"""What operators put on a VNode survives its base's absence, the deletion of the Node, and the control plane."""

import asyncio
from itertools import pairwise
from typing import Any

import pytest

from controlplane.app.ownership.sweep import RECORD_KEPT
from controlplane.app.ports import Rejected
from controlplane.cluster.api import LEASES, NODES, Json
from controlplane.domain.base import additions
from controlplane.domain.times import micro_time
from tests.fakes.apiserver import Call
from tests.unit.app.harness import Api, Stage
from tests.unit.app.ownership.test_sweep import SWEPT, left_over

pytestmark = pytest.mark.looptime

RECORD = "module-controller.koupleless.io/node-additions"
TAINT = {"key": "team", "value": "a", "effect": "NoSchedule"}


def node_of(stage: Stage) -> Json:
    node = stage.node()
    assert node is not None
    return node


def add(stage: Stage, **labels: str) -> None:
    """Cordon, label, annotate and taint the Node, as an operator does."""
    node = node_of(stage)
    node["metadata"]["labels"] |= {"rack": "r1", **labels}
    node["metadata"]["annotations"] |= {"example.com/note": "n"}
    node["spec"]["taints"].append(TAINT)
    node["spec"]["unschedulable"] = True
    stage.api.put(NODES, node)


def has_all(stage: Stage) -> bool:
    node = node_of(stage)
    return (
        node["metadata"]["labels"].get("rack") == "r1"
        and node["metadata"]["annotations"].get("example.com/note") == "n"
        and TAINT in node["spec"]["taints"]
        and node["spec"].get("unschedulable") is True
    )


def record(stage: Stage) -> str:
    lease = stage.lease()
    return "" if lease is None else str(lease["metadata"].get("annotations", {}).get(RECORD, ""))


class Timed(Api):
    """Notes when the VNode's lease is written."""

    def __init__(self) -> None:
        super().__init__()
        self.renewed: list[float] = []

    def _called(self, call: Call) -> None:
        if call.verb == "patch" and call.subject == "kube-node-lease/vnode.b1.dev":
            self.renewed.append(asyncio.get_running_loop().time())
        super()._called(call)


async def test_they_come_back_with_a_base_that_was_away() -> None:
    async with Stage(Api()).running() as stage:
        base = stage.bases.add("b1")
        await asyncio.sleep(3.0)
        add(stage)
        await asyncio.sleep(1.0)
        stage.bases.silence(base)
        await asyncio.sleep(90.0)
        assert stage.node() is None
        await asyncio.sleep(3600.0)
        stage.bases.add("b1")
        await asyncio.sleep(3.0)
        assert has_all(stage)


async def test_they_come_back_after_the_node_was_deleted_by_hand() -> None:
    async with Stage(Api()).running() as stage:
        stage.bases.add("b1")
        await asyncio.sleep(3.0)
        add(stage)
        await asyncio.sleep(1.0)
        stage.api.remove(NODES, "vnode.b1.dev")
        await asyncio.sleep(20.0)
        assert has_all(stage)


async def test_they_come_back_with_another_control_plane() -> None:
    api = Api()
    async with Stage(api).running() as stage:
        stage.bases.add("b1")
        await asyncio.sleep(3.0)
        add(stage)
        await asyncio.sleep(15.0)
        modules = stage.bases.modules
    api.remove(NODES, "vnode.b1.dev")
    later = Stage(api)
    later.bases.modules = modules
    async with later.running():
        later.bases.add("b1")
        await asyncio.sleep(3.0)
        assert has_all(later)


async def test_what_was_taken_away_again_does_not_come_back() -> None:
    async with Stage(Api()).running() as stage:
        base = stage.bases.add("b1")
        await asyncio.sleep(3.0)
        add(stage)
        await asyncio.sleep(15.0)
        node = node_of(stage)
        del node["metadata"]["labels"]["rack"], node["metadata"]["annotations"]["example.com/note"]
        node["spec"]["taints"].remove(TAINT)
        del node["spec"]["unschedulable"]
        stage.api.put(NODES, node)
        await asyncio.sleep(15.0)
        assert record(stage) == additions.NOTHING
        stage.bases.silence(base)
        await asyncio.sleep(90.0)
        assert stage.lease() is None, "there is nothing to keep it for"
        stage.bases.add("b1")
        await asyncio.sleep(3.0)
        assert "rack" not in node_of(stage)["metadata"]["labels"]
        assert "unschedulable" not in node_of(stage)["spec"]


async def test_they_cost_no_write_of_the_lease() -> None:
    api = Timed()
    async with Stage(api).running() as stage:
        stage.bases.add("b1")
        await asyncio.sleep(30.0)
        assert record(stage) == ""
        add(stage)
        await asyncio.sleep(60.0)
        gaps = [later - earlier for earlier, later in pairwise(api.renewed)]
        assert min(gaps) > 9.0, "they travel with a renewal"
        assert '"rack":"r1"' in record(stage)


async def test_a_node_that_the_cluster_refuses_with_them_is_made_without() -> None:
    class Strict(Api):
        def _called(self, call: Call) -> None:
            body: Any = call.body
            if call.verb == "create" and call.resource == NODES and "rack" in body["metadata"]["labels"]:
                raise Rejected("a policy forbids the label rack")
            super()._called(call)

    async with Stage(Strict()).running() as stage:
        stage.bases.add("b1")
        await asyncio.sleep(3.0)
        add(stage)
        await asyncio.sleep(1.0)
        stage.api.remove(NODES, "vnode.b1.dev")
        await asyncio.sleep(20.0)
        assert "rack" not in node_of(stage)["metadata"]["labels"]
        assert stage.reasons().count("NodeAdditionsRefused") == 1


async def test_too_much_is_said_once_and_what_keeps_pods_away_is_kept() -> None:
    async with Stage(Api()).running() as stage:
        stage.bases.add("b1")
        await asyncio.sleep(3.0)
        for number in range(3):
            add(stage, **{f"label-{number}-{each}": "x" * 60 for each in range(300)})
            await asyncio.sleep(15.0)
        assert stage.reasons().count("NodeAdditionsNotKept") == 1
        assert additions.recorded(record(stage)).unschedulable
        assert additions.recorded(record(stage)).labels == {}


@pytest.mark.parametrize(("age", "kept"), [(RECORD_KEPT - 3600, True), (RECORD_KEPT + 3600, False)])
async def test_of_a_base_that_is_gone_they_are_kept_for_a_week(age: float, kept: bool) -> None:
    api = Api()
    lease = left_over("b1", holder="")
    lease["metadata"]["annotations"] = {RECORD: '{"unschedulable":true}'}
    lease["spec"]["renewTime"] = micro_time(1_790_000_000.0 - age)
    api.put(LEASES, lease)
    async with Stage(api).running() as stage:
        await asyncio.sleep(SWEPT)
        assert (stage.lease() is not None) is kept
