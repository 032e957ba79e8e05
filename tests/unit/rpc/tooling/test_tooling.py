"""A replica that ends answers no call with bases that it has begun to let go of."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import grpc
import pytest
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

from controlplane.rpc.tooling.servicer import ToolingServicer

pytestmark = pytest.mark.looptime


class Ended(Exception):
    """The call ended with a status."""


class Context:
    """A call without metadata and deadline."""

    def __init__(self) -> None:
        self.code: grpc.StatusCode | None = None

    def invocation_metadata(self) -> tuple[()]:
        return ()

    def time_remaining(self) -> None:
        return None

    async def abort_with_status(self, status: Any) -> None:
        self.code = status.code
        raise Ended


class Reads:
    """Lists VNodes in a second."""

    async def vnodes(self, _request: object, _within: float) -> pb.ListVNodesResponse:
        await asyncio.sleep(1.0)
        return pb.ListVNodesResponse()


class Manifests:
    """Applies a manifest in a second."""

    async def apply(self, _manifest: bytes, *, dry_run: bool) -> tuple[Any, str]:
        await asyncio.sleep(1.0)
        return SimpleNamespace(api_version="v1", kind="Pod", namespace="default", name="p"), "created"


def servicer() -> ToolingServicer:
    made: Any = ToolingServicer
    return cast(
        "ToolingServicer",
        made(
            vnodes=None,
            installs=None,
            rollouts=None,
            baselines=None,
            reads=Reads(),
            watches=SimpleNamespace(end=lambda: None),
            policy=None,
            shards=SimpleNamespace(replicas=list),
            manifests=Manifests(),
        ),
    )


async def test_reads_are_refused_once_it_ends_as_is_one_under_way() -> None:
    tooling, context = servicer(), Context()
    reading = asyncio.create_task(tooling.ListVNodes(pb.ListVNodesRequest(), cast("Any", context)))
    await asyncio.sleep(0.5)
    tooling.end()
    with pytest.raises(Ended):
        await reading
    late = Context()
    with pytest.raises(Ended):
        await tooling.ListReplicas(pb.ListReplicasRequest(), cast("Any", late))
    assert context.code is late.code is grpc.StatusCode.UNAVAILABLE


async def test_a_change_is_answered_although_the_replica_ends() -> None:
    tooling = servicer()
    request = pb.ApplyManifestRequest(request_id="r", manifest_json=b"{}")
    applying = asyncio.create_task(tooling.ApplyManifest(request, cast("Any", Context())))
    await asyncio.sleep(0.5)
    tooling.end()
    await tooling.finish(2.0)
    assert (await applying).result == "created"
