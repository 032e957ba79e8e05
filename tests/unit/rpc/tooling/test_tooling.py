"""A replica that ends answers no call with bases that it has begun to let go of."""

import asyncio
from typing import Any, cast

import pytest
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

from controlplane.app.ports import ObjectName
from tests.unit.app.harness import Api, Stage
from tests.unit.rpc.tooling.replicas import Refused, call, tooling

pytestmark = pytest.mark.looptime


class Manifests:
    """Applies a manifest in a second."""

    async def apply(self, _manifest: bytes, *, dry_run: bool) -> tuple[Any, str]:
        await asyncio.sleep(1.0)
        return ObjectName("v1", "Pod", "default", "p"), "created"


async def test_reads_are_refused_once_it_ends_as_is_one_under_way() -> None:
    async with Stage(Api()).running() as stage, tooling(stage, "hung") as served:
        reading = asyncio.create_task(served.servicer.ListVNodes(pb.ListVNodesRequest(), call()))
        await asyncio.sleep(0.5)
        served.index.end()
        with pytest.raises(Refused, match="UNAVAILABLE"):
            await reading
        with pytest.raises(Refused, match="UNAVAILABLE"):
            await served.servicer.ListReplicas(pb.ListReplicasRequest(), call())


async def test_a_change_is_answered_although_the_replica_ends() -> None:
    async with Stage(Api()).running() as stage, tooling(stage) as served:
        served.servicer.manifests = cast("Any", Manifests())
        request = pb.ApplyManifestRequest(request_id="r", manifest_json=b"{}")
        applying = asyncio.create_task(served.servicer.ApplyManifest(request, call()))
        await asyncio.sleep(0.5)
        served.index.end()
        await served.servicer.finish(2.0)
        assert (await applying).result == "created"
