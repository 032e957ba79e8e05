"""The calls of the tooling API, in records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from typing import TypeVar
from uuid import uuid4

import grpc
import orjson
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb
from koupleless.modulecontroller.v1.module_controller_pb2_grpc import ModuleControllerServiceStub

from mctl.errors import NotFound, Refused
from mctl.records import (
    BaselineModule,
    Change,
    Event,
    Gateway,
    Json,
    Module,
    ObjectResult,
    Operation,
    PastOperation,
    Ref,
    Replica,
    Shard,
    VNode,
)
from mctl.rollouts import Rollout
from mctl.rpc import codec
from mctl.rpc.connection import Connection

Request = TypeVar("Request")
Response = TypeVar("Response")


@dataclass(frozen=True, slots=True)
class Target:
    """Which bases: one by identity or Node name, those that a label selector matches, or all."""

    base: str = ""
    selector: str = ""

    def message(self) -> pb.Target:
        """Return the message; neither base nor selector means all bases."""
        if self.base:
            return pb.Target(base=self.base)
        return pb.Target(selector=self.selector) if self.selector else pb.Target(all=True)


@dataclass(frozen=True, slots=True)
class VNodeDetail:
    """A VNode with its modules and recent events, oldest event first."""

    vnode: VNode
    modules: tuple[Module, ...]
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class LiveObject:
    """An object as the cluster has it, and whether all that it stands for is ready."""

    value: Json
    ready: bool


class Client:
    """The tooling API; every method raises Failure.

    All that is asked of a client is answered within the connection's timeout, from when
    the client was made; within gives one for another question. Each mutation chooses a
    request id of its own, which its retries repeat. silent is called with the replicas
    that could not be asked for what they own, once until they answer again.
    """

    def __init__(
        self, connection: Connection, silent: Callable[[Sequence[str]], None] = lambda _replicas: None
    ) -> None:
        self._connection = connection
        self._silence = _Silence(silent)
        self._stub = ModuleControllerServiceStub(connection.channel)
        self._deadline = connection.deadline()

    @property
    def patience(self) -> float:
        """Return the seconds that a question may take."""
        return self._connection.timeout

    def within(self, seconds: float | None = None) -> Client:
        """Return this client for a question that is asked now, to be answered within so many seconds at most."""
        other = copy(self)
        other._deadline = self._connection.deadline(seconds)
        return other

    def list_vnodes(self, selector: str = "") -> Iterator[VNode]:
        """Yield the VNodes that a label selector matches, page by page."""
        request = pb.ListVNodesRequest(selector=selector)
        while True:
            page = self._call(self._stub.ListVNodes, request)
            self._tell(page.unreachable_replicas)
            yield from map(codec.vnode, page.items)
            request.page_token = _next(request.page_token, page.next_page_token)
            if not request.page_token:
                return

    def get_vnode(self, name: str) -> VNodeDetail:
        """Return one VNode by Node name or base identity; raises NotFound."""
        answer = self._call(self._stub.GetVNode, pb.GetVNodeRequest(name=name))
        if not answer.HasField("vnode"):
            raise NotFound(f"there is no VNode {name}")
        self._tell(answer.unreachable_replicas)
        return VNodeDetail(
            codec.vnode(answer.vnode),
            tuple(map(codec.module, answer.modules)),
            tuple(map(codec.event, answer.events)),
        )

    def list_modules(self, vnode: str = "", name: str = "", *, unmanaged: bool = False) -> Iterator[Module]:
        """Yield modules, page by page, of one VNode and of one name when given."""
        request = pb.ListModulesRequest(vnode=vnode, name=name, management=_management(unmanaged))
        while True:
            page = self._call(self._stub.ListModules, request)
            self._tell(page.unreachable_replicas)
            yield from map(codec.module, page.items)
            request.page_token = _next(request.page_token, page.next_page_token)
            if not request.page_token:
                return

    def list_operations(self, vnode: str = "", name: str = "") -> Iterator[PastOperation]:
        """Yield the last operations on modules, page by page, the oldest of each VNode first."""
        request = pb.ListOperationsRequest(vnode=vnode, name=name)
        while True:
            page = self._call(self._stub.ListOperations, request)
            self._tell(page.unreachable_replicas)
            yield from map(codec.past_operation, page.items)
            request.page_token = _next(request.page_token, page.next_page_token)
            if not request.page_token:
                return

    def workload_rollout(self, ref: Ref) -> Rollout:
        """Return how far a Deployment or DaemonSet is; raises NotFound."""
        request = pb.GetRolloutRequest(workload=codec.ref_message(ref))
        return codec.rollout(self._call(self._stub.GetRollout, request))

    def module_rollout(self, name: str, version: str, target: Target | None) -> Rollout:
        """Return how far a module is on a target, or where Pods ask for it; raises NotFound."""
        module = pb.ModuleRollout(name=name, version=version, target=target.message() if target else None)
        request = pb.GetRolloutRequest(module=module)
        answer = self._call(self._stub.GetRollout, request)
        self._tell(answer.unreachable_replicas)
        return codec.rollout(answer)

    def list_gateways(self) -> Iterator[Gateway]:
        """Yield the gateways."""
        answer = self._call(self._stub.ListGateways, pb.ListGatewaysRequest())
        self._tell(answer.unreachable_replicas)
        return map(codec.gateway, answer.items)

    def list_replicas(self) -> list[Replica]:
        """Return the replicas."""
        answer = self._call(self._stub.ListReplicas, pb.ListReplicasRequest())
        return list(map(codec.replica, answer.items))

    def list_shards(self, owner: str = "") -> Iterator[Shard]:
        """Yield the VNodes with their owners, of one owner when given, page by page."""
        request = pb.ListShardsRequest(owner=owner)
        while True:
            page = self._call(self._stub.ListShards, request)
            yield from map(codec.shard, page.items)
            request.page_token = _next(request.page_token, page.next_page_token)
            if not request.page_token:
                return

    def drain(self, replica: str, *, undo: bool = False) -> int:
        """Have a replica give its VNodes away, or take some again; return how many it owns. Raises NotFound."""
        request = pb.DrainReplicaRequest(replica=replica, undo=undo)
        return self._call(self._stub.DrainReplica, request).vnodes

    def watch_vnodes(self, selector: str = "") -> Iterator[Change[VNode]]:
        """Yield all matching VNodes, then each change."""
        request = pb.WatchVNodesRequest(selector=selector)
        for answer in self._connection.watch(self._stub.WatchVNodes, request, self._deadline):
            if answer.HasField("vnode"):
                yield Change(codec.change_type(answer.type), codec.vnode(answer.vnode))
            else:
                self._tell(answer.unreachable_replicas)

    def watch_modules(self, vnode: str = "", name: str = "", *, unmanaged: bool = False) -> Iterator[Change[Module]]:
        """Yield all matching modules, then each change."""
        request = pb.WatchModulesRequest(vnode=vnode, name=name, management=_management(unmanaged))
        for answer in self._connection.watch(self._stub.WatchModules, request, self._deadline):
            if answer.HasField("module"):
                yield Change(codec.change_type(answer.type), codec.module(answer.module))
            else:
                self._tell(answer.unreachable_replicas)

    def watch_events(self, vnode: str = "", *, follow: bool = False) -> Iterator[Event]:
        """Yield the recent events, oldest first, then each new one when following."""
        request = pb.WatchEventsRequest(vnode=vnode, follow=follow)
        read = self._connection.watch if follow else self._connection.stream
        for answer in read(self._stub.WatchEvents, request, self._deadline):
            if answer.HasField("event"):
                yield codec.event(answer.event)
            else:
                self._tell(answer.unreachable_replicas)

    def install(self, target: Target, name: str, version: str, url: str, namespace: str) -> list[Operation]:
        """Ask for a module on each selected base."""
        request = pb.InstallModuleRequest(
            request_id=_request_id(),
            target=target.message(),
            name=name,
            version=version,
            url=url,
            namespace=namespace,
        )
        return list(map(codec.operation, self._call(self._stub.InstallModule, request).operations))

    def uninstall(self, target: Target, name: str, version: str, namespace: str) -> list[Operation]:
        """Delete a module's Pods on each selected base; an empty namespace means all."""
        request = pb.UninstallModuleRequest(
            request_id=_request_id(), target=target.message(), name=name, version=version, namespace=namespace
        )
        return list(map(codec.operation, self._call(self._stub.UninstallModule, request).operations))

    def apply(self, manifest: Json, *, dry_run: bool = False) -> ObjectResult:
        """Create or update an object; raises InvalidFields."""
        request = pb.ApplyManifestRequest(
            request_id=_request_id(), manifest_json=orjson.dumps(manifest), dry_run=dry_run
        )
        answer = self._call(self._stub.ApplyManifest, request)
        return ObjectResult(codec.ref(answer.object), answer.result, dry_run)

    def delete(self, ref: Ref, grace_seconds: int | None = None) -> ObjectResult:
        """Delete an object."""
        request = pb.DeleteManifestRequest(
            request_id=_request_id(), object=codec.ref_message(ref), grace_period_seconds=grace_seconds
        )
        return ObjectResult(ref, self._call(self._stub.DeleteManifest, request).result)

    def get_object(self, ref: Ref) -> LiveObject:
        """Return an object; raises NotFound."""
        request = pb.GetObjectRequest(object=codec.ref_message(ref))
        answer = self._call(self._stub.GetObject, request)
        try:
            value = orjson.loads(answer.object_json or b"{}")
        except orjson.JSONDecodeError:
            raise Refused(f"the control plane sent {ref.title} in a form that is no JSON") from None
        return LiveObject(value if isinstance(value, dict) else {}, answer.ready)

    def baseline(self, cluster_name: str, name: str, version: str, base: str) -> list[BaselineModule]:
        """Return the modules that a starting base would be given."""
        request = pb.GetBaselineRequest(cluster_name=cluster_name, name=name, version=version, base=base)
        answer = self._call(self._stub.GetBaseline, request)
        return [BaselineModule(m.name, m.version, m.url) for m in answer.modules]

    def _call(self, method: grpc.UnaryUnaryMultiCallable[Request, Response], request: Request) -> Response:
        return self._connection.call(method, request, self._deadline)

    def _tell(self, unreachable: Sequence[str]) -> None:
        self._silence.tell(unreachable)


class _Silence:
    """Which replicas could not be asked, as far as was told."""

    def __init__(self, told: Callable[[Sequence[str]], None]) -> None:
        self._told = told
        self._known: frozenset[str] = frozenset()

    def tell(self, unreachable: Sequence[str]) -> None:
        """Tell those that are new."""
        new = [replica for replica in unreachable if replica not in self._known]
        self._known = frozenset(unreachable)
        if new:
            self._told(new)


def _management(unmanaged: bool) -> pb.Management.ValueType:
    return pb.MANAGEMENT_UNMANAGED if unmanaged else pb.MANAGEMENT_UNSPECIFIED


def _request_id() -> str:
    return str(uuid4())


def _next(token: str, following: str) -> str:
    if token and token == following:
        raise Refused("the control plane gave the same page twice: its list cannot be read to the end")
    return following
