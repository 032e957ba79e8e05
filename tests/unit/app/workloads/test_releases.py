"""Releases in batches: Pods wait on their bases, and are installed batch by batch, whatever ends in between."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from controlplane.app.ports import ClusterError, Conflict, Rejected, Transient
from controlplane.cluster.api import DEPLOYMENTS, PODS, REPLICA_SETS, Json
from controlplane.domain.identity import BaseId
from tests.unit.app.harness import Api, Stage

pytestmark = pytest.mark.looptime

PREFIX = "module.koupleless.io"
BASES = 4


def put_deployment(api: Api, revision: int = 2, env: str = "dev", **annotations: str) -> None:
    """Put the Deployment as its controller leaves it, and its ReplicaSets: old is revision 1, new is 2."""
    mine = {f"{PREFIX}/{name.replace('_', '-')}": value for name, value in annotations.items()}
    numbered = {"deployment.kubernetes.io/revision": str(revision)} if revision else {}
    labels = {"app": "biz1"}
    template = {"metadata": {"labels": labels, "annotations": {"new": "yes"}}, "spec": {"containers": []}}
    api.put(
        DEPLOYMENTS,
        {
            "metadata": {
                "namespace": "default",
                "name": "biz1",
                "uid": "uid-d",
                "generation": 3,
                "labels": {"virtual-kubelet.koupleless.io/env": env},
                "annotations": {f"{PREFIX}/batches": "2", **numbered, **mine},
            },
            "spec": {"replicas": BASES, "selector": {"matchLabels": labels}, "template": template},
            "status": {"observedGeneration": 3, "conditions": [{"type": "Available", "status": "True"}]},
        },
    )
    for number, name in ((1, "old"), (2, "new")):
        owner = {"kind": "Deployment", "name": "biz1", "uid": "uid-d", "controller": True}
        own = {**labels, "pod-template-hash": name}
        api.put(
            REPLICA_SETS,
            {
                "metadata": {
                    "namespace": "default",
                    "name": f"biz1-{name}",
                    "labels": own,
                    "annotations": {"deployment.kubernetes.io/revision": str(number)},
                    "ownerReferences": [owner],
                },
                "spec": {"replicas": BASES, "template": {"metadata": {"labels": own}, "spec": {"containers": []}}},
                "status": {"readyReplicas": BASES if name == "old" else 0},
            },
        )


def put_pods(stage: Stage, revision: str = "new", version: str = "2") -> None:
    for number in range(1, BASES + 1):
        metadata: Json = {
            "labels": {"virtual-kubelet.koupleless.io/component": "module", "pod-template-hash": revision},
            "ownerReferences": [{"kind": "ReplicaSet", "name": f"biz1-{revision}", "uid": "rs", "controller": True}],
        }
        stage.put_pod(f"{revision}-{number}", base=f"b{number}", version=version, metadata=metadata)


def deployment(stage: Stage) -> Json:
    found = stage.api.named(DEPLOYMENTS, "biz1", "default")
    assert found is not None
    return found


def said(stage: Stage) -> Json:
    conditions = deployment(stage)["status"]["conditions"]
    return next((c for c in conditions if c["type"] == f"{PREFIX}/Released"), {})


def annotate(stage: Stage, **annotations: str) -> None:
    found = deployment(stage)
    found["metadata"]["annotations"] |= {f"{PREFIX}/{name}": value for name, value in annotations.items()}
    stage.api.put(DEPLOYMENTS, found)


def installed(stage: Stage) -> list[BaseId]:
    return [base for base, key in stage.bases.installs if key.version == "2"]


@asynccontextmanager
async def scene(confirm: str = "none") -> AsyncIterator[Stage]:
    api = Api()
    put_deployment(api, confirm=confirm)
    async with Stage(api).running() as stage:
        for number in range(1, BASES + 1):
            stage.bases.add(f"b{number}")
        await asyncio.sleep(5.0)
        yield stage


async def test_a_batch_is_installed_and_the_others_wait() -> None:
    async with scene(confirm="each") as stage:
        put_pods(stage)
        await asyncio.sleep(10.0)
        assert installed(stage) == ["b1", "b2"]
        assert said(stage)["reason"] == "WaitingForConfirmation"
        waiting = (stage.pod("new-3") or {})["status"]["containerStatuses"][0]["state"]["waiting"]
        assert waiting["reason"] == "WaitingForBatch"
        # The conditions of others stay.
        assert "Available" in [c["type"] for c in deployment(stage)["status"]["conditions"]]
        await asyncio.sleep(3600.0)
        assert installed(stage) == ["b1", "b2"]
        annotate(stage, confirmed="2.1")
        await asyncio.sleep(10.0)
        assert installed(stage) == ["b1", "b2", "b3", "b4"]
        assert (said(stage)["status"], said(stage)["reason"]) == ("True", "Released")
        assert {"WaitingForConfirmation", "Released"} <= set(stage.reasons())


async def test_a_control_plane_that_begins_anew_goes_on_and_holds_what_waits() -> None:
    async with scene(confirm="each") as stage:
        put_pods(stage)
        await asyncio.sleep(10.0)
        api, bases = stage.api, stage.bases
    async with Stage(api).running() as again:
        again.bases.modules = bases.modules
        for number in range(1, BASES + 1):
            again.bases.add(f"b{number}")
        await asyncio.sleep(60.0)
        assert again.bases.installs == []
        assert again.bases.uninstalls == []
        annotate(again, confirmed="2.1")
        await asyncio.sleep(10.0)
        assert [base for base, _ in again.bases.installs] == ["b3", "b4"]


async def test_what_runs_already_is_left_alone_when_batches_are_asked_for() -> None:
    async with scene() as stage:
        put_pods(stage)
        await asyncio.sleep(20.0)
        assert installed(stage) == ["b1", "b2", "b3", "b4"]
        stage.bases.installs.clear()
        for name in ("new-1", "new-2"):
            pod = stage.pod(name)
            assert pod is not None
            pod["status"]["conditions"] = [c for c in pod["status"]["conditions"] if "Released" not in c["type"]]
            stage.api.put(PODS, pod)
        annotate(stage, release="{}", confirm="each")
        await asyncio.sleep(60.0)
        assert stage.bases.installs == []
        assert stage.bases.uninstalls == []


async def test_abort_gives_the_former_template_back() -> None:
    async with scene(confirm="each") as stage:
        put_pods(stage)
        await asyncio.sleep(10.0)
        annotate(stage, abort="1")
        await asyncio.sleep(5.0)
        assert "Aborted" not in stage.reasons()
        annotate(stage, abort="2")
        await asyncio.sleep(2.0)
        assert "Aborted" in stage.reasons()
        found = deployment(stage)
        # All of it, and without the label that only the Deployment controller gives.
        assert found["spec"]["template"] == {"metadata": {"labels": {"app": "biz1"}}, "spec": {"containers": []}}
        assert f"{PREFIX}/abort" not in found["metadata"]["annotations"]
        # Its controller numbers it anew.
        put_deployment(stage.api, revision=3)
        old = stage.api.object(REPLICA_SETS, "biz1-old", "default")
        old["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = "3"
        stage.api.put(REPLICA_SETS, old)
        put_pods(stage, "old", "1")
        await asyncio.sleep(10.0)
        assert said(stage)["reason"] == "Released"
        assert [base for base, key in stage.bases.installs if key.version == "1"] == ["b1", "b2", "b3", "b4"]


@pytest.mark.parametrize("error", [Conflict("changed"), Transient("away"), Rejected("forbidden")])
async def test_writes_that_fail_are_tried_again(error: ClusterError) -> None:
    async with scene() as stage:
        stage.api.fail_release = error
        put_pods(stage)
        await asyncio.sleep(60.0)
        assert installed(stage) == ["b1", "b2", "b3", "b4"]
        assert stage.api.fail_release is not error
        assert ("ReleaseNotPossible" in stage.reasons()) is (type(error) is Rejected)


async def test_settings_that_are_not_understood_stop_it_and_are_named() -> None:
    async with scene(confirm="perhaps") as stage:
        put_pods(stage)
        await asyncio.sleep(30.0)
        assert installed(stage) == []
        assert (said(stage)["status"], said(stage)["reason"]) == ("Unknown", "BatchesNotUnderstood")
        assert stage.reasons().count("BatchesNotUnderstood") == 1
        annotate(stage, confirm="none")
        await asyncio.sleep(20.0)
        assert installed(stage) == ["b1", "b2", "b3", "b4"]


@pytest.mark.parametrize("annotations", [{"revision": 0}, {"env": "prod"}])
async def test_where_nothing_is_released_in_batches_nothing_waits(annotations: dict[str, object]) -> None:
    api = Api()
    put_deployment(api, **annotations)  # type: ignore[arg-type]
    async with Stage(api).running() as stage:
        for number in range(1, BASES + 1):
            stage.bases.add(f"b{number}")
        await asyncio.sleep(5.0)
        put_pods(stage)
        await asyncio.sleep(30.0)
        assert sorted(installed(stage)) == ["b1", "b2", "b3", "b4"]
        assert ("ReleaseNotPossible" in stage.reasons()) is ("revision" in annotations)


async def test_a_settled_release_costs_no_writes() -> None:
    async with scene() as stage:
        put_pods(stage)
        await asyncio.sleep(30.0)
        written = len([call for call in stage.api.made("patch") if call.resource == DEPLOYMENTS])
        await asyncio.sleep(600.0)
        assert len([call for call in stage.api.made("patch") if call.resource == DEPLOYMENTS]) == written
        assert written <= 6
