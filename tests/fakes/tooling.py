"""A typed fake of the tooling API: state in memory, real gRPC on a loopback port.

It answers from what the test put in, keeps every request, fails calls on order, and refuses what the contract refuses.
It runs no module.
"""

import json
import queue
import threading
from collections import defaultdict, deque
from collections.abc import Iterator
from concurrent import futures
from dataclasses import dataclass, field
from typing import NoReturn, Self, TypeVar

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb
from koupleless.modulecontroller.v1 import module_controller_pb2_grpc as pb_grpc

T = TypeVar("T")

_WATCH_TICK = 0.02


@dataclass
class Fault:
    """How a call fails; violations are pairs of field and description, reason is that of a control plane's refusal."""

    code: grpc.StatusCode
    message: str = "on order"
    violations: tuple[tuple[str, str], ...] = ()
    reason: str = ""

    def end(self, context: grpc.ServicerContext) -> NoReturn:
        if not (self.violations or self.reason):
            context.abort(self.code, self.message)
        info, detail = any_pb2.Any(), any_pb2.Any()
        info.Pack(error_details_pb2.ErrorInfo(reason=self.reason, domain="koupleless.io"))
        detail.Pack(
            error_details_pb2.BadRequest(
                field_violations=[
                    error_details_pb2.BadRequest.FieldViolation(field=name, description=text)
                    for name, text in self.violations
                ]
            )
        )
        number = code_pb2.Code.Value(self.code.name)
        status = status_pb2.Status(code=number, message=self.message, details=[info, detail])
        context.abort_with_status(rpc_status.to_status(status))


ObjectKey = tuple[str, str, str]


@dataclass
class LiveObject:
    """An object and whether it is ready."""

    manifest: dict[str, object]
    ready: bool = False


@dataclass
class FakeTooling(pb_grpc.ModuleControllerServiceServicer):
    """The servicer. Every attribute may be changed between calls."""

    vnodes: list[pb.VNode] = field(default_factory=list)
    modules: list[pb.Module] = field(default_factory=list)
    gateways: list[pb.Gateway] = field(default_factory=list)
    replicas: list[pb.Replica] = field(default_factory=list)
    shards: list[pb.Shard] = field(default_factory=list)
    events: list[pb.Event] = field(default_factory=list)
    baseline: list[pb.BaselineModule] = field(default_factory=list)
    operations: list[pb.ModuleOperation] = field(default_factory=list)
    objects: dict[ObjectKey, LiveObject] = field(default_factory=dict)
    past: list[pb.PastOperation] = field(default_factory=list)
    rollouts: deque[pb.GetRolloutResponse] = field(default_factory=deque)
    unreachable: list[str] = field(default_factory=list)
    caller: pb.WhoAmIResponse = field(default_factory=pb.WhoAmIResponse)
    allowed: pb.CanIResponse = field(default_factory=pb.CanIResponse)
    page_limit: int = 500
    drain_by: int = 0
    embedded: bool = True
    delay: float = 0.0
    """Seconds before a call is answered."""
    ended: threading.Event = field(default_factory=threading.Event)
    """Set when the server ends: nothing is held back any more."""
    requests: dict[str, list[Message]] = field(default_factory=lambda: defaultdict(list))
    faults: dict[str, deque[Fault]] = field(default_factory=lambda: defaultdict(deque))
    vnode_changes: queue.Queue[pb.WatchVNodesResponse | Fault] = field(default_factory=queue.Queue)
    module_changes: queue.Queue[pb.WatchModulesResponse | Fault] = field(default_factory=queue.Queue)
    event_changes: queue.Queue[pb.WatchEventsResponse | Fault] = field(default_factory=queue.Queue)

    def fail(self, method: str, *faults: Fault) -> None:
        """Let the next calls of a method fail, one fault each."""
        self.faults[method].extend(faults)

    def _enter(self, method: str, request: Message, context: grpc.ServicerContext) -> None:
        self.requests[method].append(request)
        self.ended.wait(self.delay)
        if self.faults[method]:
            self.faults[method].popleft().end(context)

    def ListVNodes(self, request: pb.ListVNodesRequest, context: grpc.ServicerContext) -> pb.ListVNodesResponse:
        self._enter("ListVNodes", request, context)
        selected = self._selected(request.selector)
        start, end, token = self._page(len(selected), request.page_token)
        return pb.ListVNodesResponse(
            items=selected[start:end], next_page_token=token, unreachable_replicas=self.unreachable
        )

    def GetVNode(self, request: pb.GetVNodeRequest, context: grpc.ServicerContext) -> pb.GetVNodeResponse:
        self._enter("GetVNode", request, context)
        vnode = next((v for v in self.vnodes if request.name in (v.name, v.base)), None)
        if vnode is None:
            context.abort(grpc.StatusCode.NOT_FOUND, f"there is no VNode {request.name}")
        return pb.GetVNodeResponse(
            vnode=vnode,
            modules=[m for m in self.modules if m.vnode == vnode.name],
            events=[e for e in self.events if e.vnode == vnode.name],
            unreachable_replicas=self.unreachable,
        )

    def ListModules(self, request: pb.ListModulesRequest, context: grpc.ServicerContext) -> pb.ListModulesResponse:
        self._enter("ListModules", request, context)
        node = next((v.name for v in self.vnodes if request.vnode in (v.name, v.base)), request.vnode)
        found = [
            m
            for m in self.modules
            if node in ("", m.vnode) and request.name in ("", m.name) and request.management in (0, m.management)
        ]
        start, end, token = self._page(len(found), request.page_token)
        return pb.ListModulesResponse(
            items=found[start:end], next_page_token=token, unreachable_replicas=self.unreachable
        )

    def ListOperations(
        self, request: pb.ListOperationsRequest, context: grpc.ServicerContext
    ) -> pb.ListOperationsResponse:
        self._enter("ListOperations", request, context)
        found = [o for o in self.past if request.name in ("", o.name)]
        start, end, token = self._page(len(found), request.page_token)
        return pb.ListOperationsResponse(
            items=found[start:end], next_page_token=token, unreachable_replicas=self.unreachable
        )

    def GetRollout(self, request: pb.GetRolloutRequest, context: grpc.ServicerContext) -> pb.GetRolloutResponse:
        """Answer with one rollout after the other, and with the last from then on."""
        self._enter("GetRollout", request, context)
        if not self.rollouts:
            context.abort(grpc.StatusCode.NOT_FOUND, "there is no such workload or module")
        return self.rollouts.popleft() if len(self.rollouts) > 1 else self.rollouts[0]

    def ConfirmRollout(
        self, request: pb.ConfirmRolloutRequest, context: grpc.ServicerContext
    ) -> pb.ConfirmRolloutResponse:
        self._enter("ConfirmRollout", request, context)
        return pb.ConfirmRolloutResponse(revision=request.revision, batch=request.batch)

    def AbortRollout(self, request: pb.AbortRolloutRequest, context: grpc.ServicerContext) -> pb.AbortRolloutResponse:
        self._enter("AbortRollout", request, context)
        return pb.AbortRolloutResponse(revision=request.revision)

    def ListGateways(self, request: pb.ListGatewaysRequest, context: grpc.ServicerContext) -> pb.ListGatewaysResponse:
        self._enter("ListGateways", request, context)
        return pb.ListGatewaysResponse(items=self.gateways, unreachable_replicas=self.unreachable)

    def ListReplicas(self, request: pb.ListReplicasRequest, context: grpc.ServicerContext) -> pb.ListReplicasResponse:
        """Answer; with drain_by, a draining replica has given away so many VNodes more each time."""
        self._enter("ListReplicas", request, context)
        for replica in self.replicas:
            if replica.state == "draining":
                replica.vnodes = max(replica.vnodes - self.drain_by, 0)
        return pb.ListReplicasResponse(items=self.replicas)

    def ListShards(self, request: pb.ListShardsRequest, context: grpc.ServicerContext) -> pb.ListShardsResponse:
        self._enter("ListShards", request, context)
        found = [shard for shard in self.shards if request.owner in ("", shard.owner)]
        start, end, token = self._page(len(found), request.page_token)
        return pb.ListShardsResponse(items=found[start:end], next_page_token=token)

    def DrainReplica(self, request: pb.DrainReplicaRequest, context: grpc.ServicerContext) -> pb.DrainReplicaResponse:
        self._enter("DrainReplica", request, context)
        replica = next((one for one in self.replicas if one.id == request.replica), None)
        if replica is None:
            context.abort(grpc.StatusCode.NOT_FOUND, f"there is no live replica {request.replica!r}")
        replica.state = "active" if request.undo else "draining"
        return pb.DrainReplicaResponse(vnodes=replica.vnodes)

    def WatchVNodes(
        self, request: pb.WatchVNodesRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.WatchVNodesResponse]:
        self._enter("WatchVNodes", request, context)
        for vnode in self._selected(request.selector):
            # As the control plane does: without the fields that each heartbeat changes.
            answer = pb.WatchVNodesResponse(type=pb.CHANGE_TYPE_ADDED, vnode=vnode)
            answer.vnode.ClearField("last_seen")
            yield answer
        yield pb.WatchVNodesResponse(unreachable_replicas=self.unreachable)
        yield from _live(self.vnode_changes, context)

    def WatchModules(
        self, request: pb.WatchModulesRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.WatchModulesResponse]:
        self._enter("WatchModules", request, context)
        for module in self.modules:
            yield pb.WatchModulesResponse(type=pb.CHANGE_TYPE_ADDED, module=module)
        yield pb.WatchModulesResponse(unreachable_replicas=self.unreachable)
        yield from _live(self.module_changes, context)

    def WatchEvents(
        self, request: pb.WatchEventsRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.WatchEventsResponse]:
        self._enter("WatchEvents", request, context)
        for event in self.events:
            yield pb.WatchEventsResponse(event=event)
        yield pb.WatchEventsResponse(unreachable_replicas=self.unreachable)
        if request.follow:
            yield from _live(self.event_changes, context)

    def InstallModule(
        self, request: pb.InstallModuleRequest, context: grpc.ServicerContext
    ) -> pb.InstallModuleResponse:
        self._enter("InstallModule", request, context)
        return pb.InstallModuleResponse(operations=self.operations)

    def UninstallModule(
        self, request: pb.UninstallModuleRequest, context: grpc.ServicerContext
    ) -> pb.UninstallModuleResponse:
        self._enter("UninstallModule", request, context)
        return pb.UninstallModuleResponse(operations=self.operations)

    def ApplyManifest(
        self, request: pb.ApplyManifestRequest, context: grpc.ServicerContext
    ) -> pb.ApplyManifestResponse:
        self._enter("ApplyManifest", request, context)
        self._require_embedded(context)
        manifest = json.loads(request.manifest_json)
        metadata = manifest["metadata"]
        ref = pb.ObjectRef(
            api_version=manifest["apiVersion"],
            kind=manifest["kind"],
            namespace=metadata.get("namespace", "default"),
            name=metadata["name"],
        )
        key = (ref.kind, ref.namespace, ref.name)
        known = self.objects.get(key)
        result = "created" if known is None else "unchanged" if known.manifest == manifest else "configured"
        if not request.dry_run:
            self.objects[key] = LiveObject(manifest)
        return pb.ApplyManifestResponse(object=ref, result=result)

    def DeleteManifest(
        self, request: pb.DeleteManifestRequest, context: grpc.ServicerContext
    ) -> pb.DeleteManifestResponse:
        self._enter("DeleteManifest", request, context)
        self._require_embedded(context)
        gone = self.objects.pop(_key(request.object), None)
        return pb.DeleteManifestResponse(result="absent" if gone is None else "deleted")

    def GetObject(self, request: pb.GetObjectRequest, context: grpc.ServicerContext) -> pb.GetObjectResponse:
        self._enter("GetObject", request, context)
        self._require_embedded(context)
        live = self.objects.get(_key(request.object))
        if live is None:
            context.abort(grpc.StatusCode.NOT_FOUND, f"there is no {request.object.kind} {request.object.name}")
        return pb.GetObjectResponse(object_json=json.dumps(live.manifest).encode(), ready=live.ready)

    def GetBaseline(self, request: pb.GetBaselineRequest, context: grpc.ServicerContext) -> pb.GetBaselineResponse:
        self._enter("GetBaseline", request, context)
        return pb.GetBaselineResponse(modules=self.baseline)

    def WhoAmI(self, request: pb.WhoAmIRequest, context: grpc.ServicerContext) -> pb.WhoAmIResponse:
        self._enter("WhoAmI", request, context)
        return self.caller

    def CanI(self, request: pb.CanIRequest, context: grpc.ServicerContext) -> pb.CanIResponse:
        self._enter("CanI", request, context)
        return self.allowed

    def _selected(self, selector: str) -> list[pb.VNode]:
        wanted = dict(part.split("=", 1) for part in selector.split(",")) if selector else {}
        return [v for v in self.vnodes if all(v.labels.get(k) == value for k, value in wanted.items())]

    def _page(self, size: int, token: str) -> tuple[int, int, str]:
        start = int(token or "0")
        end = start + self.page_limit
        return start, end, str(end) if end < size else ""

    def _require_embedded(self, context: grpc.ServicerContext) -> None:
        if not self.embedded:
            context.abort(
                grpc.StatusCode.FAILED_PRECONDITION, "this control plane serves a Kubernetes cluster: use kubectl"
            )


def _key(ref: pb.ObjectRef) -> ObjectKey:
    return ref.kind, ref.namespace, ref.name


def _live(changes: queue.Queue[T | Fault], context: grpc.ServicerContext) -> Iterator[T]:
    while context.is_active():
        try:
            change = changes.get(timeout=_WATCH_TICK)
        except queue.Empty:
            continue
        if isinstance(change, Fault):
            change.end(context)
        yield change


class ToolingServer:
    """Serves a fake on a port of the loopback interface while it is entered."""

    def __init__(self, fake: FakeTooling, port: int = 0) -> None:
        self._fake = fake
        self._server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
        pb_grpc.add_ModuleControllerServiceServicer_to_server(fake, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{port}")

    @property
    def address(self) -> str:
        """Return host:port."""
        return f"127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._fake.ended.set()
        self._server.stop(grace=0.1).wait(5.0)
