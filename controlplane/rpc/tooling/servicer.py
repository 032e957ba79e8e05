"""ModuleControllerService: what mctl and other tools speak.

Guarantees: a mutation sent again with its request_id is answered again and not done again while this replica lives, and
the changes themselves are idempotent. Once the replica ends, every call ends so before the state of its bases goes.
"""

from dataclasses import asdict, dataclass, field

from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

from controlplane.app.events import About
from controlplane.app.ports import Manifests, ObjectName
from controlplane.app.tooling.installs import Installs
from controlplane.app.tooling.refusals import RequestError
from controlplane.app.workloads.baselines import Baselines
from controlplane.domain.access import Access
from controlplane.domain.facts import BaselineQuery
from controlplane.domain.identity import InvalidName, ModuleKey, parse_base_id
from controlplane.domain.objects import Container
from controlplane.rpc.access.guard import CALLER, certificate_of
from controlplane.rpc.refusals import Context, NotEmbedded
from controlplane.rpc.tooling import codec, moduleurls
from controlplane.rpc.tooling.answers import Answers
from controlplane.rpc.tooling.reads import Reads
from controlplane.rpc.tooling.releases import Releases
from controlplane.rpc.tooling.rollouts import Rollouts
from controlplane.rpc.tooling.shards import Shards
from controlplane.rpc.tooling.watches import Watches

LONGEST_CHANGE = 300.0
"""Seconds that a mutation may take whose caller sets no deadline."""

TO_ANSWER = 1.0
"""Seconds of a call's deadline, but at most a fifth of it, that are kept for the answer to travel."""


@dataclass(eq=False, kw_only=True)
class ToolingServicer(Reads, Watches, Rollouts, Releases, Shards):
    """Serves the tooling API."""

    installs: Installs
    baselines: Baselines
    manifests: Manifests | None
    _answers: Answers = field(default_factory=Answers, init=False)

    async def finish(self, within: float) -> None:
        """Let mutations that are under way end within so many seconds, then cut them short."""
        await self._answers.finish(within)

    async def GetBaseline(self, request: pb.GetBaselineRequest, context: Context) -> pb.GetBaselineResponse:
        """Say which modules a starting base would be given."""
        async with self.answering(context):
            try:
                base = parse_base_id(request.base or "baseline", self.vnodes.env)
            except InvalidName as error:
                raise RequestError(str(error), "base") from None
            query = BaselineQuery("", request.name, request.version, request.cluster_name)
            given = self.baselines.of(base, query).modules
            modules = [pb.BaselineModule(name=m.name, version=m.version, url=m.url) for m in given]
            shown = await moduleurls.shown_baseline(modules, self.authenticator, show_secrets=request.show_secrets)
            return pb.GetBaselineResponse(modules=shown)

    async def InstallModule(self, request: pb.InstallModuleRequest, context: Context) -> pb.InstallModuleResponse:
        """Create a Pod for a module on each selected base."""
        within = time_to_change(context)

        async def work() -> pb.InstallModuleResponse:
            outcomes = await self.installs.install(
                self.targets(request.target),
                Container(name=request.name, image=request.url, version=request.version),
                namespace=request.namespace or "default",
                request_id=request.request_id,
                user=CALLER.get().user,
                within=within,
            )
            self.audit.pods("install", request.request_id, outcomes)
            return pb.InstallModuleResponse(operations=codec.operations(outcomes))

        async with self.answering(context, changes=True):
            return await self._answers.once("install", request, work)

    async def UninstallModule(self, request: pb.UninstallModuleRequest, context: Context) -> pb.UninstallModuleResponse:
        """Delete the Pods of a module on each selected base."""
        within = time_to_change(context)

        async def work() -> pb.UninstallModuleResponse:
            outcomes = await self.installs.uninstall(
                self.targets(request.target),
                ModuleKey(request.name, request.version),
                namespace=request.namespace,
                within=within,
            )
            self.audit.pods("uninstall", request.request_id, outcomes)
            return pb.UninstallModuleResponse(operations=codec.operations(outcomes))

        async with self.answering(context, changes=True):
            return await self._answers.once("uninstall", request, work)

    async def ApplyManifest(self, request: pb.ApplyManifestRequest, context: Context) -> pb.ApplyManifestResponse:
        """Create or update one object of the embedded cluster."""
        async with self.answering(context, changes=True):
            manifests = self._embedded("kubectl apply")

            async def work() -> pb.ApplyManifestResponse:
                name, result = await manifests.apply(request.manifest_json, dry_run=request.dry_run)
                if not request.dry_run:
                    self.audit.change("apply", request.request_id, _about(name), result)
                return pb.ApplyManifestResponse(object=pb.ObjectRef(**asdict(name)), result=result)

            return await self._answers.once("apply", request, work)

    async def DeleteManifest(self, request: pb.DeleteManifestRequest, context: Context) -> pb.DeleteManifestResponse:
        """Delete one object of the embedded cluster."""
        grace = request.grace_period_seconds if request.HasField("grace_period_seconds") else None
        async with self.answering(context, changes=True):
            manifests = self._embedded("kubectl delete")

            async def work() -> pb.DeleteManifestResponse:
                name = _name(request.object)
                deleted = await manifests.delete(name, grace_seconds=grace)
                result = "deleted" if deleted else "absent"
                self.audit.change("delete", request.request_id, _about(name), result)
                return pb.DeleteManifestResponse(result=result)

            return await self._answers.once("delete", request, work)

    async def GetObject(self, request: pb.GetObjectRequest, context: Context) -> pb.GetObjectResponse:
        """Read one object of the embedded cluster."""
        async with self.answering(context):
            text, ready = await self._embedded("kubectl get or kubectl wait").get(_name(request.object))
        return pb.GetObjectResponse(object_json=text, ready=ready)

    async def WhoAmI(self, request: pb.WhoAmIRequest, context: Context) -> pb.WhoAmIResponse:
        """Say as whom the caller is known."""
        caller = CALLER.get()
        role = caller.role.value if caller.role is not None else ""
        method = "local" if role else "certificate" if certificate_of(context) else "token"
        return pb.WhoAmIResponse(user=caller.user, groups=caller.groups, method=method, role=role)

    async def CanI(self, request: pb.CanIRequest, context: Context) -> pb.CanIResponse:
        """Say whether the caller may do something."""
        async with self.answering(context):
            if not (request.verb and request.resource):
                raise RequestError("verb and resource are needed", "resource" if request.verb else "verb")
            access = Access(
                request.verb, request.resource, request.group, request.namespace, request.name, request.subresource
            )
            allowed = await self.authenticator.may(CALLER.get(), access)
            return pb.CanIResponse(allowed=allowed, reason="" if allowed else f"{CALLER.get().user} may not {access}")

    def _embedded(self, instead: str) -> Manifests:
        if self.manifests is None:
            raise NotEmbedded(f"this control plane works on a Kubernetes cluster: use {instead}")
        return self.manifests


def _name(ref: pb.ObjectRef) -> ObjectName:
    return ObjectName(ref.api_version, ref.kind, ref.namespace, ref.name)


def _about(name: ObjectName) -> About:
    return About(name.kind, name.namespace, name.name)


def time_to_change(context: Context) -> float:
    """Return the seconds that a mutation may take, so that its answer arrives before the deadline of its call."""
    remaining = context.time_remaining()
    left = LONGEST_CHANGE if remaining is None else max(remaining, 0.0)
    return min(LONGEST_CHANGE, left - min(TO_ANSWER, left / 5))
