"""What is taken for a credential; what callers have under way; requests that are too large."""

import asyncio
import base64
import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

import grpc
import orjson
import pytest
from google.rpc import error_details_pb2
from grpc import aio
from grpc_status import rpc_status
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb
from koupleless.modulecontroller.v1.module_controller_pb2_grpc import ModuleControllerServiceStub
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from controlplane.rpc.access import guard as module
from controlplane.rpc.access.places import Bound, Kind, Places
from controlplane.rpc.access.rules import LARGE, SMALL
from tests.integration.access import scene as stage
from tests.integration.access.scene import Servicer, serving

OK, UNAUTHENTICATED, DENIED = "OK", "UNAUTHENTICATED", "PERMISSION_DENIED"
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),) if token else ()


def jwt(**claims: Any) -> str:
    payload = base64.urlsafe_b64encode(orjson.dumps(claims)).decode().rstrip("=")
    return f"e30.{payload}.c2ln"


async def call(channel: aio.Channel, metadata: Any) -> str:
    """List VNodes; return the name of the status."""
    return (
        await ModuleControllerServiceStub(channel)
        .ListVNodes(pb.ListVNodesRequest(), metadata=metadata, timeout=10)
        .code()
    ).name


async def until(look: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not look():  # noqa: ASYNC110 - what is looked at has no event
            await asyncio.sleep(0.01)


def refused(reason: str) -> float:
    return REGISTRY.get_sample_value("koupleless_grpc_refused_total", {"reason": reason}) or 0.0


@pytest.mark.parametrize("header", ["Basic YTpi", "ann", "Bearer", "bearer  "])
async def test_what_is_no_bearer_token_is_none(header: str) -> None:
    async with serving() as scene:
        before = refused("anonymous")
        assert await call(scene.channel(), (("authorization", header),)) == UNAUTHENTICATED
        assert refused("anonymous") == before + 1


async def test_a_tool_may_show_a_token_that_is_meant_for_us(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, others = jwt(aud=["x", stage.AUDIENCE]), jwt(aud="others")
    monkeypatch.setitem(stage.TOKENS, (ours, stage.AUDIENCE), stage.TOKENS["ann", ""])
    async with serving() as scene:
        channel = scene.channel()
        assert await call(channel, bearer(ours)) == OK
        assert await call(channel, bearer(others)) == UNAUTHENTICATED


async def test_a_request_is_read_only_of_who_is_known() -> None:
    async with serving() as scene:
        big = pb.ListVNodesRequest(selector="x" * (SMALL + 1))
        stub = ModuleControllerServiceStub(scene.channel())
        with pytest.raises(aio.AioRpcError) as stranger:
            await stub.ListVNodes(big, timeout=10)
        assert stranger.value.code() is grpc.StatusCode.UNAUTHENTICATED
        with pytest.raises(aio.AioRpcError) as known:
            await stub.ListVNodes(big, metadata=bearer("ann"), timeout=10)
        assert known.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert f"this call takes {SMALL}" in str(known.value.details())
        huge = pb.ApplyManifestRequest(manifest_json=b"x" * (LARGE + 1))
        with pytest.raises(aio.AioRpcError) as too_large:
            await stub.ApplyManifest(huge, metadata=bearer("ann"), timeout=10)
        assert too_large.value.code() is EXHAUSTED


async def test_bytes_that_are_no_request_are_refused() -> None:
    async with serving() as scene:
        raw: Any = scene.channel().unary_unary("/koupleless.modulecontroller.v1.ModuleControllerService/ListVNodes")
        with pytest.raises(aio.AioRpcError) as error:
            await raw(b"\xff\xff", metadata=bearer("ann"), timeout=10)
        assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_request_that_never_comes_holds_a_place_for_a_while_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "READ_WITHIN", 0.2)
    async with serving() as scene:
        raw: Any = scene.channel().stream_stream("/koupleless.modulecontroller.v1.ModuleControllerService/ListVNodes")
        stream = raw(metadata=bearer("ann"), timeout=30)
        assert await stream.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert scene.guard.places.under_way(Kind.BYTE) == 0


async def test_what_one_caller_has_under_way_is_bounded_and_others_are_served() -> None:
    bounds = {
        Kind.CALL: Bound(2, 8),
        Kind.WATCH: Bound(1, 8),
        Kind.LINK: Bound(1, 8),
        Kind.BYTE: Bound(LARGE, 4 * LARGE),
    }
    async with serving(places=Places(bounds)) as scene:
        scene.servicer.go.clear()
        channel = scene.channel()
        stub = ModuleControllerServiceStub(channel)
        waiting = [stub.ListVNodes(pb.ListVNodesRequest(), metadata=bearer("ann"), timeout=30) for _ in range(2)]
        await until(lambda: len(scene.servicer.callers) == 2)
        with pytest.raises(aio.AioRpcError) as error:
            await stub.ListVNodes(pb.ListVNodesRequest(), metadata=bearer("ann"), timeout=30)
        assert error.value.code() is EXHAUSTED
        assert "ann has 2 calls under way" in str(error.value.details())
        status = rpc_status.from_call(error.value)  # type: ignore[arg-type]
        again = error_details_pb2.RetryInfo()
        assert any(detail.Unpack(again) for detail in status.details)
        assert again.retry_delay.seconds == 1
        assert await call(channel, bearer("ben")) == DENIED
        scene.servicer.go.set()
        for answer in waiting:
            assert (await answer).next_page_token == "served"
        assert await call(channel, bearer("ann")) == OK


async def test_large_requests_share_one_budget() -> None:
    bounds = dict.fromkeys(Kind, Bound(100, 100)) | {Kind.BYTE: Bound(2 * LARGE, 3 * LARGE)}
    async with serving(places=Places(bounds)) as scene:
        scene.servicer.go.clear()
        stub = ModuleControllerServiceStub(scene.channel())
        request = pb.ApplyManifestRequest(manifest_json=b"{}")
        calls = [asyncio.ensure_future(_code(stub.ApplyManifest(request, metadata=bearer("ann")))) for _ in range(20)]
        ended, waiting = set[asyncio.Future[grpc.StatusCode]](), {*calls}
        async with asyncio.timeout(20):
            while len(ended) < 18:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                ended |= done
        assert {each.result() for each in ended} == {EXHAUSTED}
        scene.servicer.go.set()
        assert [await each for each in waiting] == [grpc.StatusCode.OK] * 2


async def _code(answer: aio.UnaryUnaryCall[Any, Any]) -> grpc.StatusCode:
    return await answer.code()


async def test_a_watch_that_ends_gives_its_place_back() -> None:
    async with serving() as scene:
        stub = ModuleControllerServiceStub(scene.channel())
        for _ in range(3):
            watch = stub.WatchVNodes(pb.WatchVNodesRequest(), metadata=bearer("ann"))
            await watch.read()
            assert scene.guard.places.under_way(Kind.WATCH) == 1
            watch.cancel()
            await until(lambda: not scene.guard.places.under_way(Kind.WATCH))


async def test_an_unknown_method_does_not_exist() -> None:
    async with serving() as scene:
        raw: Any = scene.channel().unary_unary("/koupleless.modulecontroller.v1.ModuleControllerService/Nothing")
        with pytest.raises(aio.AioRpcError) as error:
            await raw(b"", metadata=bearer("ann"), timeout=10)
        assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_call_that_is_not_served_is_no_defect() -> None:
    async with serving() as scene:
        before = refused("defect")
        with pytest.raises(aio.AioRpcError) as error:
            await ModuleControllerServiceStub(scene.channel()).GetVNode(pb.GetVNodeRequest(), metadata=bearer("ann"))
        assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert refused("defect") == before


class Leaving(Servicer):
    """Writes to a caller that goes while this loop stands still, in another task than gRPC cancels."""

    def __init__(self) -> None:
        super().__init__()
        self.broken = 0
        self.leave, self.gone = threading.Event(), threading.Event()

    async def WatchVNodes(self, _request: Any, context: Any) -> None:  # type: ignore[override]
        await context.write(pb.WatchVNodesResponse())
        await asyncio.sleep(0.1)
        self.leave.set()
        assert self.gone.wait(5)
        time.sleep(0.1)  # noqa: ASYNC251
        write = asyncio.create_task(context.write(pb.WatchVNodesResponse()))
        while not write.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([write])
        if isinstance(write.exception(), aio.InternalError):
            self.broken += 1
        write.result()


def watch_and_leave(port: int, servicer: Leaving) -> None:
    channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)])
    call = ModuleControllerServiceStub(channel).WatchVNodes(pb.WatchVNodesRequest(), metadata=bearer("ann"), timeout=10)
    next(call)
    assert servicer.leave.wait(5)
    channel.close()
    servicer.gone.set()


async def test_that_a_caller_is_gone_is_no_defect() -> None:
    servicer = Leaving()  # type: ignore[abstract]
    async with serving(servicer=servicer) as scene:
        before = refused("defect")
        for _ in range(20):
            servicer.leave.clear()
            servicer.gone.clear()
            await asyncio.to_thread(watch_and_leave, scene.port, servicer)
            await until(lambda: scene.guard.places.under_way(Kind.WATCH) == 0)
            if servicer.broken:
                break
        assert servicer.broken
        assert refused("defect") == before


async def test_a_defect_is_counted_and_its_trace_logged_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving() as scene:
        before = refused("defect")
        monkeypatch.setattr(scene.servicer, "callers", None)
        with capture_logs() as logged:
            for _ in range(20):
                assert await call(scene.channel(), bearer("ann")) == "INTERNAL"
        assert refused("defect") == before + 20
        assert [each["event"] for each in logged] == ["a call failed through a defect"]
