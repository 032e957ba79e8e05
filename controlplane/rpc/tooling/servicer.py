"""ModuleControllerService: what mctl and other tools speak.

Guarantees: a mutation sent again with its request_id is answered again and not done again while this replica lives, and
the changes themselves are idempotent. Once the replica ends, every call ends so before the state of its bases goes.
"""

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

from koupleless.modulecontroller.v1 import module_controller_pb2 as pb
from koupleless.modulecontroller.v1 import module_controller_pb2_grpc

from controlplane.app.policy import Policy
from controlplane.app.ports import Manifests, ObjectName
from controlplane.app.tooling.installs import Installs, Result
from controlplane.app.tooling.refusals import RequestError
from controlplane.app.tooling.shards import Shards
from controlplane.app.tooling.vnodes import VNodes
from controlplane.app.workloads.baselines import Baselines
from controlplane.domain.facts import BaselineQuery
from controlplane.domain.identity import InvalidName, ModuleKey, VNodeName, parse_base_id
from controlplane.domain.objects import Container
from controlplane.domain.workloads.placement import parse_selector
from controlplane.rpc.refusals import Context, Ending, NotEmbedded, refusing
from controlplane.rpc.tooling import codec
from controlplane.rpc.tooling.answers import Answers
from controlplane.rpc.tooling.reads import Reads, page
from controlplane.rpc.tooling.replicas import SYNC_WITHIN
from controlplane.rpc.tooling.rollouts import Rollouts
from controlplane.rpc.tooling.watches import Watches

LONGEST_CHANGE = 300.0
"""Seconds that a mutation may take whose caller sets no deadline."""

TO_ANSWER = 1.0
"""Seconds of a call's deadline, but at most a fifth of it, that are kept for the answer to travel."""


@dataclass(eq=False, kw_only=True)
class ToolingServicer(module_controller_pb2_grpc.ModuleControllerServiceServicer):
    """Serves the tooling API."""

    vnodes: VNodes
    installs: Installs
    rollouts: Rollouts
    baselines: Baselines
    reads: Reads
    watches: Watches
    policy: Policy
    shards: Shards
    manifests: Manifests | None
    _answers: Answers = field(default_factory=Answers, init=False)
    _ending: bool = field(default=False, init=False)

    def end(self) -> None:
        """Answer no more calls, and end the watches: the replica ends."""
        self._ending = True
        self.watches.end()

    async def finish(self, within: float) -> None:
        """Let mutations that are under way end within so many seconds, then cut them short."""
        await self._answers.finish(within)

    @asynccontextmanager
    async def _answering(self, context: Context, *, changes: bool = False) -> AsyncIterator[None]:
        """Turn what goes wrong into statuses, the end of the replica too; what was changed is answered even then."""
        async with refusing(context):
            self._go_on()
            yield
            if not changes:
                self._go_on()

    def _go_on(self) -> None:
        if self._ending:
            raise Ending

    # Reads.

    async def ListVNodes(self, request: pb.ListVNodesRequest, context: Context) -> pb.ListVNodesResponse:
        """List VNodes by name."""
        async with self._answering(context):
            return await self.reads.vnodes(request, time_for_others(context))

    async def GetVNode(self, request: pb.GetVNodeRequest, context: Context) -> pb.GetVNodeResponse:
        """Get one VNode with its modules and recent events."""
        async with self._answering(context):
            return await self.reads.vnode(request, time_for_others(context))

    async def ListModules(self, request: pb.ListModulesRequest, context: Context) -> pb.ListModulesResponse:
        """List modules by VNode, name and version."""
        async with self._answering(context):
            return await self.reads.modules(request, time_for_others(context))

    async def ListOperations(self, request: pb.ListOperationsRequest, context: Context) -> pb.ListOperationsResponse:
        """List the last operations on modules by VNode and time."""
        async with self._answering(context):
            return await self.reads.operations(request, time_for_others(context))

    async def ListGateways(self, request: pb.ListGatewaysRequest, context: Context) -> pb.ListGatewaysResponse:
        """List the connected gateways by id."""
        async with self._answering(context):
            return await self.reads.gateways(time_for_others(context))

    async def GetRollout(self, request: pb.GetRolloutRequest, context: Context) -> pb.GetRolloutResponse:
        """Say how far the rollout of a workload or module is."""
        async with self._answering(context):
            match request.WhichOneof("subject"):
                case "workload":
                    return codec.rollout(await self.rollouts.workload(_name(request.workload)))
                case "module":
                    module = request.module
                    targets = self._targets(module.target) if module.HasField("target") else None
                    within = time_for_others(context)
                    found, silent = await self.rollouts.module(module.name, module.version, targets, within)
                    return codec.rollout(found, silent)
                case _:
                    raise RequestError("a subject is needed: workload or module", "subject")

    async def ListReplicas(self, request: pb.ListReplicasRequest, context: Context) -> pb.ListReplicasResponse:
        """List all replicas."""
        async with self._answering(context):
            return pb.ListReplicasResponse(items=[codec.replica(item) for item in self.shards.replicas()])

    async def ListShards(self, request: pb.ListShardsRequest, context: Context) -> pb.ListShardsResponse:
        """List VNodes with their owners by Node name."""
        async with self._answering(context):
            items = self.shards.shards(request.owner)
            chosen, token = page(items, lambda item: item.lease.name, request.page_size, request.page_token)
        return pb.ListShardsResponse(items=[codec.shard(item) for item in chosen], next_page_token=token)

    async def DrainReplica(self, request: pb.DrainReplicaRequest, context: Context) -> pb.DrainReplicaResponse:
        """Have a replica give its VNodes away."""
        async with self._answering(context):
            vnodes = await self.shards.drain(request.replica, draining=not request.undo)
        return pb.DrainReplicaResponse(vnodes=vnodes)

    async def GetBaseline(self, request: pb.GetBaselineRequest, context: Context) -> pb.GetBaselineResponse:
        """Say which modules a starting base would be given."""
        async with self._answering(context):
            try:
                base = parse_base_id(request.base or "baseline", self.policy.env)
            except InvalidName as error:
                raise RequestError(str(error), "base") from None
            query = BaselineQuery("", request.name, request.version, request.cluster_name)
            modules = self.baselines.of(base, query).modules
        return pb.GetBaselineResponse(
            modules=[pb.BaselineModule(name=m.name, version=m.version, url=m.image) for m in modules]
        )

    # Watches.

    async def WatchVNodes(
        self, request: pb.WatchVNodesRequest, context: Context
    ) -> AsyncIterator[pb.WatchVNodesResponse]:
        """Send all matching VNodes, then each change."""
        async with self._answering(context), aclosing(self.watches.vnodes(request)) as answers:
            async for answer in answers:
                yield answer

    async def WatchModules(
        self, request: pb.WatchModulesRequest, context: Context
    ) -> AsyncIterator[pb.WatchModulesResponse]:
        """Send all matching modules, then each change."""
        async with self._answering(context), aclosing(self.watches.modules(request)) as answers:
            async for answer in answers:
                yield answer

    async def WatchEvents(
        self, request: pb.WatchEventsRequest, context: Context
    ) -> AsyncIterator[pb.WatchEventsResponse]:
        """Send the recent events, then new ones when asked to follow."""
        async with self._answering(context), aclosing(self.watches.events(request)) as answers:
            async for answer in answers:
                yield answer

    # Mutations.

    async def InstallModule(self, request: pb.InstallModuleRequest, context: Context) -> pb.InstallModuleResponse:
        """Create a Pod for a module on each selected base."""
        within = time_to_change(context)

        async def work() -> pb.InstallModuleResponse:
            changes = await self.installs.install(
                self._targets(request.target),
                Container(name=request.name, image=request.url, version=request.version),
                namespace=request.namespace or "default",
                request_id=request.request_id,
                within=within,
            )
            return pb.InstallModuleResponse(operations=map(codec.operation, changes))

        async with self._answering(context, changes=True):
            return await self._answers.once("install", request, work, final=_nothing_failed)

    async def UninstallModule(self, request: pb.UninstallModuleRequest, context: Context) -> pb.UninstallModuleResponse:
        """Delete the Pods of a module on each selected base."""
        within = time_to_change(context)

        async def work() -> pb.UninstallModuleResponse:
            changes = await self.installs.uninstall(
                self._targets(request.target),
                ModuleKey(request.name, request.version),
                namespace=request.namespace,
                within=within,
            )
            return pb.UninstallModuleResponse(operations=map(codec.operation, changes))

        async with self._answering(context, changes=True):
            return await self._answers.once("uninstall", request, work, final=_nothing_failed)

    async def ApplyManifest(self, request: pb.ApplyManifestRequest, context: Context) -> pb.ApplyManifestResponse:
        """Create or update one object of the embedded cluster."""
        async with self._answering(context, changes=True):
            manifests = self._embedded("kubectl apply")

            async def work() -> pb.ApplyManifestResponse:
                name, result = await manifests.apply(request.manifest_json, dry_run=request.dry_run)
                return pb.ApplyManifestResponse(object=_ref(name), result=result)

            return await self._answers.once("apply", request, work)

    async def DeleteManifest(self, request: pb.DeleteManifestRequest, context: Context) -> pb.DeleteManifestResponse:
        """Delete one object of the embedded cluster."""
        grace = request.grace_period_seconds if request.HasField("grace_period_seconds") else None
        async with self._answering(context, changes=True):
            manifests = self._embedded("kubectl delete")

            async def work() -> pb.DeleteManifestResponse:
                deleted = await manifests.delete(_name(request.object), grace_seconds=grace)
                return pb.DeleteManifestResponse(result="deleted" if deleted else "absent")

            return await self._answers.once("delete", request, work)

    async def GetObject(self, request: pb.GetObjectRequest, context: Context) -> pb.GetObjectResponse:
        """Read one object of the embedded cluster."""
        async with self._answering(context):
            text, ready = await self._embedded("kubectl get or kubectl wait").get(_name(request.object))
        return pb.GetObjectResponse(object_json=text, ready=ready)

    def _embedded(self, instead: str) -> Manifests:
        if self.manifests is None:
            raise NotEmbedded(f"this control plane works on a Kubernetes cluster: use {instead}")
        return self.manifests

    def _targets(self, target: pb.Target) -> list[VNodeName]:
        match target.WhichOneof("target"):
            case "base":
                return self.vnodes.select(base=target.base)
            case "selector":
                return self.vnodes.select(selector=parse_selector(target.selector))
            case "all" if target.all:
                return self.vnodes.select(all_bases=True)
            case _:
                raise RequestError("a target is needed: base, selector or all", "target")


def _nothing_failed(answer: pb.InstallModuleResponse | pb.UninstallModuleResponse) -> bool:
    return all(operation.result != Result.FAILED.value for operation in answer.operations)


def _ref(name: ObjectName) -> pb.ObjectRef:
    return pb.ObjectRef(api_version=name.api_version, kind=name.kind, namespace=name.namespace, name=name.name)


def _name(ref: pb.ObjectRef) -> ObjectName:
    return ObjectName(ref.api_version, ref.kind, ref.namespace, ref.name)


def time_for_others(context: Context) -> float:
    """Return the seconds that other replicas may take for a call: half of its own at most."""
    remaining = context.time_remaining()
    return SYNC_WITHIN if remaining is None else min(SYNC_WITHIN, max(remaining, 0.0) / 2)


def time_to_change(context: Context) -> float:
    """Return the seconds that a mutation may take, so that its answer arrives before the deadline of its call."""
    remaining = context.time_remaining()
    left = LONGEST_CHANGE if remaining is None else max(remaining, 0.0)
    return min(LONGEST_CHANGE, left - min(TO_ANSWER, left / 5))
