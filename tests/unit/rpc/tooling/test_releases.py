"""Persons steer a release in batches: what they say is written, once, and for the batch that they mean."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

from controlplane.cluster.api import DEPLOYMENTS
from tests.unit.app.harness import Api, Stage
from tests.unit.app.workloads.test_releases import BASES, deployment, put_deployment, put_pods, said
from tests.unit.rpc.tooling.replicas import Refused, Tooling, call, tooling

pytestmark = pytest.mark.looptime

BIZ1 = pb.ObjectRef(api_version="apps/v1", kind="Deployment", namespace="default", name="biz1")


@asynccontextmanager
async def releasing() -> AsyncIterator[Tooling]:
    """Batch 1 of revision 2 waits for a confirmation."""
    api = Api()
    put_deployment(api, confirm="each")
    async with Stage(api).running() as stage:
        for number in range(1, BASES + 1):
            stage.bases.add(f"b{number}")
        await asyncio.sleep(5.0)
        put_pods(stage)
        await asyncio.sleep(10.0)
        async with tooling(stage) as served:
            yield served


def annotations(served: Tooling) -> dict[str, str]:
    found: dict[str, str] = deployment(served.stage)["metadata"]["annotations"]
    return found


async def test_the_batch_that_is_named_is_confirmed_however_often_it_is_sent() -> None:
    async with releasing() as served:
        request = pb.ConfirmRolloutRequest(workload=BIZ1, revision=2, batch=1)
        with pytest.raises(Refused, match="FAILED_PRECONDITION"):
            await served.servicer.ConfirmRollout(pb.ConfirmRolloutRequest(workload=BIZ1, revision=2, batch=2), call())
        with pytest.raises(Refused, match="FAILED_PRECONDITION"):
            await served.servicer.ConfirmRollout(pb.ConfirmRolloutRequest(workload=BIZ1, revision=1, batch=1), call())
        await served.servicer.ConfirmRollout(request, call())
        assert annotations(served)["module.koupleless.io/confirmed"] == "2.1"
        assert annotations(served)["module.koupleless.io/requested-by"] == "ann"
        await asyncio.sleep(1.0)
        # Sent again after the next batch has begun it confirms nothing more.
        again = await served.servicer.ConfirmRollout(request, call())
        assert (again.revision, again.batch) == (2, 1)
        assert annotations(served)["module.koupleless.io/confirmed"] == "2.1"
        changes = [h.user for h in served.stage.recorder.recent() if h.remark.reason == "ChangeRequested"]
        assert changes == ["ann"]
        await asyncio.sleep(20.0)
        assert said(served.stage)["reason"] == "Released"
        with pytest.raises(Refused, match="FAILED_PRECONDITION"):
            await served.servicer.AbortRollout(pb.AbortRolloutRequest(workload=BIZ1, revision=2), call())


async def test_a_failed_batch_is_confirmed_as_such() -> None:
    async with releasing() as served:
        state = '{"stable":"old","number":2,"hash":"new","batch":1,"failed":"biz1:2 of Pod new-1: Broken"}'
        found = deployment(served.stage)
        found["metadata"]["annotations"]["module.koupleless.io/release"] = state
        served.stage.api.put(DEPLOYMENTS, found)
        await asyncio.sleep(1.0)
        with pytest.raises(Refused, match="FAILED_PRECONDITION"):
            await served.servicer.ConfirmRollout(pb.ConfirmRolloutRequest(workload=BIZ1, revision=2, batch=1), call())
        request = pb.ConfirmRolloutRequest(workload=BIZ1, revision=2, batch=1, failed=True)
        await served.servicer.ConfirmRollout(request, call())
        assert annotations(served)["module.koupleless.io/confirmed"] == "2.1-failed"


async def test_abort_is_written_for_the_revision() -> None:
    async with releasing() as served:
        answer = await served.servicer.AbortRollout(pb.AbortRolloutRequest(workload=BIZ1, revision=2), call())
        assert answer.revision == 2
        assert annotations(served)["module.koupleless.io/abort"] == "2"


@pytest.mark.parametrize(
    ("workload", "status"),
    [
        (pb.ObjectRef(kind="DaemonSet", name="biz1"), "INVALID_ARGUMENT"),
        (pb.ObjectRef(kind="Deployment"), "INVALID_ARGUMENT"),
        (pb.ObjectRef(kind="Deployment", name="other"), "NOT_FOUND"),
    ],
)
async def test_only_a_deployment_with_batches_is_steered(workload: pb.ObjectRef, status: str) -> None:
    async with releasing() as served:
        for answer in (
            served.servicer.ConfirmRollout(pb.ConfirmRolloutRequest(workload=workload, revision=2, batch=1), call()),
            served.servicer.AbortRollout(pb.AbortRolloutRequest(workload=workload, revision=2), call()),
        ):
            with pytest.raises(Refused, match=status):
                await answer
