"""Pods on VNodes that are not modules are rejected with an Event, at a pace, and their deletions are completed."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest

from controlplane.app.ports import ClusterError, Conflict, Rejected, Transient
from controlplane.cluster.api import EVENTS, LEASES, PODS, Json
from controlplane.domain.identity import BaseId
from tests.fakes.apiserver import Call
from tests.unit.app.harness import Api, Stage

pytestmark = pytest.mark.looptime

SOON = 3.0
"""Seconds within which such a Pod is dealt with."""
DELETING: Json = {"deletionTimestamp": "2026-01-01T01:00:00Z", "deletionGracePeriodSeconds": 30}


class Server(Api):
    """Refuses writes of single Pods, or lets somebody be quicker."""

    def __init__(self) -> None:
        super().__init__()
        self.refusals: dict[tuple[str, str], deque[ClusterError]] = {}
        self.first: Callable[[], None] | None = None
        """Done right before the next patch of a Pod."""

    def refuse(self, verb: str, name: str, *errors: ClusterError) -> None:
        self.refusals[verb, f"default/{name}"] = deque(errors)

    def _called(self, call: Call) -> None:
        super()._called(call)
        if call.resource == PODS and call.verb == "patch" and self.first is not None:
            first, self.first = self.first, None
            first()
        if errors := self.refusals.get((call.verb, call.subject)):
            raise errors.popleft()


def owner(kind: str, uid: str = "owner") -> Json:
    return {"ownerReferences": [{"kind": kind, "uid": uid, "name": "o", "apiVersion": "apps/v1", "controller": True}]}


def put(stage: Stage, name: str, *, base: str = "b1", spec: Json | None = None, **metadata: object) -> None:
    stage.put_pod(name, base=base, spec=spec, metadata={"labels": {"app": "node-exporter"}, **metadata})


def phase(stage: Stage, name: str) -> str:
    return str((stage.pod(name) or {"status": {"phase": "gone"}})["status"]["phase"])


def phases(stage: Stage, *names: str) -> list[str]:
    return [phase(stage, name) for name in names]


def writes(stage: Stage, verb: str) -> list[Call]:
    return [call for call in stage.api.made(verb) if call.resource == PODS]


def reports(stage: Stage) -> list[Json]:
    events = [call.body for call in stage.api.made("create") if call.resource == EVENTS and call.body is not None]
    return [body for body in events if body["reason"] == "NotAModule"]


def server(stage: Stage) -> Server:
    assert isinstance(stage.api, Server)
    return stage.api


@asynccontextmanager
async def running(*bases: str) -> AsyncIterator[Stage]:
    async with Stage(Server()).running() as stage:
        for base in bases:
            stage.bases.add(base)
        await asyncio.sleep(5.0)
        yield stage


async def test_a_pod_that_is_no_module_is_rejected_with_an_event_that_has_the_fix() -> None:
    async with running("b1") as stage:
        put(stage, "exporter")
        stage.put_pod("p", module="biz2")
        await asyncio.sleep(SOON)
        rejected = stage.pod("exporter")
        assert rejected is not None
        assert rejected["status"]["phase"] == "Failed"
        assert rejected["status"]["reason"] == "NotAModule"
        (event,) = reports(stage)
        assert (event["involvedObject"]["name"], event["type"]) == ("exporter", "Warning")
        for text in (event["message"], rejected["status"]["message"]):
            assert "virtual-kubelet.koupleless.io/component=module" in text
            assert "type NotIn [virtual-kubelet]" in text
        assert [key.name for _, key in stage.bases.installs] == ["biz2"]
        assert stage.ready("pod", "p") == "True"
        assert writes(stage, "delete") == []
        await asyncio.sleep(600.0)
        assert len(reports(stage)) == 1
        assert len([call for call in writes(stage, "patch") if call.subject == "default/exporter"]) == 1


@pytest.mark.parametrize("node", ["worker-1", "vnode.b1.prod", "vnode.unknown.dev"])
async def test_pods_on_nodes_that_are_not_our_vnodes_are_left_alone(node: str) -> None:
    async with running("b1") as stage:
        put(stage, "exporter", spec={"nodeName": node})
        put(stage, "leaving", spec={"nodeName": node}, **DELETING)
        await asyncio.sleep(60.0)
        assert phases(stage, "exporter", "leaving") == ["Pending", "Pending"]
        assert reports(stage) == []


async def test_pods_of_a_vnode_without_its_node_are_left_alone() -> None:
    async with running() as stage:
        stage.bases.heartbeat("b1")
        put(stage, "exporter")
        await asyncio.sleep(SOON)
        assert stage.roster.get(BaseId("b1")) is not None
        assert stage.node("b1") is None
        assert phase(stage, "exporter") == "Pending"


async def test_pods_of_a_vnode_that_another_replica_owns_are_left_alone() -> None:
    async with running("b1") as stage:
        lease = stage.lease()
        assert lease is not None
        lease["spec"] |= {"holderIdentity": "somebody", "leaseTransitions": lease["spec"]["leaseTransitions"] + 1}
        stage.api.put(LEASES, lease)
        await asyncio.sleep(12.0)
        put(stage, "exporter")
        await asyncio.sleep(SOON)
        assert phase(stage, "exporter") == "Pending"


async def test_a_silent_base_does_not_keep_a_pod_waiting() -> None:
    async with running("b1", "b2") as stage:
        stage.bases.silence(*stage.bases.alive)
        await asyncio.sleep(30.0)
        assert stage.ready("node", "b1") == "False"
        put(stage, "exporter")
        await asyncio.sleep(SOON)
        assert phase(stage, "exporter") == "Failed"


async def test_the_deletion_of_such_a_pod_is_completed() -> None:
    async with running("b1") as stage:
        put(stage, "exporter", **DELETING)
        await asyncio.sleep(SOON)
        assert phase(stage, "exporter") == "gone"
        (patch,) = [call for call in writes(stage, "patch") if call.subject == "default/exporter"]
        assert (patch.body or {})["status"]["phase"] == "Failed", "controllers wait for a terminal phase"
        (delete,) = writes(stage, "delete")
        assert delete.body == {"uid": "uid-exporter", "resourceVersion": "", "gracePeriodSeconds": 0}
        assert reports(stage) == []


async def test_what_a_finalizer_holds_is_not_deleted_again_and_again() -> None:
    async with running("b1") as stage:
        put(stage, "exporter", finalizers=["example.com/held"], **DELETING)
        await asyncio.sleep(600.0)
        assert len(writes(stage, "delete")) == 1


async def test_pods_that_came_before_their_vnode_was_ours_are_dealt_with() -> None:
    async with Stage(Api()).running() as stage:
        put(stage, "exporter")
        put(stage, "leaving", **DELETING)
        put(stage, "failed", **DELETING)
        change(stage, "failed", lambda pod: pod["status"].update(phase="Failed"))
        stage.bases.add("b1")
        await asyncio.sleep(5.0)
        assert phases(stage, "exporter", "leaving", "failed") == ["Failed", "gone", "gone"]


async def test_a_daemon_set_that_makes_its_pod_again_gets_the_next_rejection_later() -> None:
    async with running("b1") as stage:
        rejected = await made_again(stage, owner("DaemonSet"), seconds=1500.0)
        apart = [later - earlier for earlier, later in pairwise(rejected)]
        assert min(apart) >= 60.0
        assert 4 <= len(rejected) <= 6
        assert all(later > earlier for earlier, later in pairwise(apart))
        assert len(reports(stage)) == len(rejected) + 1, "each Pod gets its Event at once"


async def made_again(stage: Stage, metadata: Json, *, seconds: float) -> list[float]:
    """Do as a DaemonSet does without its backoff; return when Pods were rejected."""
    loop = asyncio.get_running_loop()
    rejected: list[float] = []
    until = loop.time() + seconds
    put(stage, "d0", **metadata)
    while loop.time() < until:
        await asyncio.sleep(2.0)
        if phase(stage, name := f"d{len(rejected)}") == "Failed":
            stage.remove_pod(name)
            rejected.append(loop.time())
            put(stage, f"d{len(rejected)}", **metadata)
    return rejected


async def test_the_pods_of_a_daemon_set_on_other_vnodes_do_not_wait_for_each_other() -> None:
    async with running("b1", "b2", "b3") as stage:
        for base in ("b1", "b2", "b3"):
            put(stage, f"of-{base}", base=base, **owner("DaemonSet"))
        await asyncio.sleep(SOON)
        assert phases(stage, "of-b1", "of-b2", "of-b3") == ["Failed"] * 3


async def test_a_replica_set_that_could_go_from_vnode_to_vnode_is_paced_as_a_whole() -> None:
    async with running("b1", "b2", "b3") as stage:
        for base in ("b1", "b2", "b3"):
            put(stage, f"of-{base}", base=base, **owner("ReplicaSet"))
        await asyncio.sleep(SOON)
        assert sorted(phases(stage, "of-b1", "of-b2", "of-b3")) == ["Failed", "Pending", "Pending"]
        assert len(reports(stage)) == 3
        await asyncio.sleep(75.0)
        assert sorted(phases(stage, "of-b1", "of-b2", "of-b3")) == ["Failed", "Failed", "Pending"]


async def test_a_deletion_never_waits_for_the_pace() -> None:
    async with running("b1") as stage:
        put(stage, "first", **owner("DaemonSet"))
        put(stage, "second", **owner("DaemonSet"))
        await asyncio.sleep(SOON)
        assert sorted(phases(stage, "first", "second")) == ["Failed", "Pending"]
        (waiting,) = [name for name in ("first", "second") if phase(stage, name) == "Pending"]
        stage.delete_pod(waiting)
        await asyncio.sleep(SOON)
        assert phase(stage, waiting) == "gone"


async def test_a_pod_that_becomes_a_module_meanwhile_is_none_of_them() -> None:
    async with running("b1") as stage:
        server(stage).first = lambda: stage.put_pod("exporter")
        put(stage, "exporter")
        await asyncio.sleep(60.0)
        assert stage.ready("pod", "exporter") == "True"
        assert phase(stage, "exporter") == "Running"


async def test_a_module_that_loses_its_label_is_rejected_and_can_be_deleted() -> None:
    async with running("b1") as stage:
        stage.put_pod("p")
        await asyncio.sleep(SOON)
        assert phase(stage, "p") == "Running"
        change(stage, "p", lambda pod: pod["metadata"].update(labels={}))
        await asyncio.sleep(SOON)
        assert phase(stage, "p") == "Failed"
        assert stage.ready("pod", "p") == "False"


def change(stage: Stage, name: str, how: Callable[[Json], None]) -> None:
    pod = stage.api.object(PODS, name, "default")
    how(pod)
    stage.api.put(PODS, pod)


@pytest.mark.parametrize("verb", ["patch", "delete"])
async def test_what_the_cluster_did_not_take_is_done_later(verb: str) -> None:
    async with running("b1") as stage:
        server(stage).refuse(verb, "exporter", Transient("away"), Transient("away"), Conflict("changed"))
        put(stage, "exporter", **DELETING)
        await asyncio.sleep(30.0)
        assert phase(stage, "exporter") == "gone"


async def test_one_pod_that_is_refused_keeps_no_other_waiting() -> None:
    async with running("b1") as stage:
        server(stage).refuse("patch", "stuck", *[Rejected("a webhook says no")] * 1000)
        put(stage, "stuck")
        put(stage, "exporter")
        put(stage, "leaving", **DELETING)
        await asyncio.sleep(SOON)
        assert phases(stage, "stuck", "exporter", "leaving") == ["Pending", "Failed", "gone"]
        await asyncio.sleep(1200.0)
        assert len([call for call in writes(stage, "patch") if call.subject == "default/stuck"]) <= 35


async def test_a_crowd_on_one_vnode_keeps_no_other_waiting_and_ends() -> None:
    async with running("b1", "b2") as stage:
        stage.api.delay["patch"] = 0.2
        for number in range(300):
            put(stage, f"crowd-{number}")
        await asyncio.sleep(0.1)
        put(stage, "exporter", base="b2")
        await asyncio.sleep(SOON)
        assert phase(stage, "exporter") == "Failed"
        await asyncio.sleep(30.0)
        assert {phase(stage, f"crowd-{number}") for number in range(300)} == {"Failed"}


async def test_pods_are_listed_once_for_each_vnode_from_memory_and_a_few_at_a_time() -> None:
    async with Stage(Api()).running() as stage:
        for number in range(30):
            stage.bases.add(f"b{number}")
        await asyncio.sleep(1.0)
        assert len(lists(stage)) < 20
        await asyncio.sleep(600.0)
        nodes = sorted(call.field_selector for call in lists(stage))
        assert nodes == sorted(f"spec.nodeName=vnode.b{number}.dev" for number in range(30))
        assert all(call.from_memory for call in lists(stage))


def lists(stage: Stage) -> list[Call]:
    return [call for call in stage.api.made("list") if call.field_selector.startswith("spec.nodeName=")]
