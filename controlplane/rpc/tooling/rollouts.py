"""How far rollouts are: of workloads as the cluster has them, of modules as their bases have them."""

from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

from controlplane.app.tooling.refusals import Missing, RequestError
from controlplane.domain.workloads.release import progress
from controlplane.domain.workloads.rollout import ModuleOnBase, Part, of_module, of_workload
from controlplane.rpc.refusals import Context
from controlplane.rpc.tooling import codec
from controlplane.rpc.tooling.calls import Calls
from controlplane.rpc.tooling.index import Entry

KINDS = ("Deployment", "DaemonSet")


class Rollouts(Calls):
    """Answers how far a rollout is, once for each question."""

    async def GetRollout(self, request: pb.GetRolloutRequest, context: Context) -> pb.GetRolloutResponse:
        """Say how far the rollout of a workload or module is."""
        async with self.answering(context):
            match request.WhichOneof("subject"):
                case "workload":
                    return await self._of_workload(request.workload)
                case "module":
                    return await self._of_module(request.module, context)
                case _:
                    raise RequestError("a subject is needed: workload or module", "subject")

    async def _of_workload(self, ref: pb.ObjectRef) -> pb.GetRolloutResponse:
        if ref.kind not in KINDS:
            raise RequestError(f"only a {' or '.join(KINDS)} has a rollout, not a {ref.kind}", "workload.kind")
        if not ref.name:
            raise RequestError("a name is needed", "workload.name")
        cluster = self.vnodes.cluster
        workload = await cluster.workload(ref.kind, ref.namespace or "default", ref.name)
        batches = progress(workload.releasing, workload.desired) if workload.releasing is not None else None
        return codec.rollout(of_workload(workload, cluster.pods.all()), batches=batches)

    async def _of_module(self, asked: pb.ModuleRollout, context: Context) -> pb.GetRolloutResponse:
        """Answer for a module on its targets, or where Pods ask for it; for any version when none is given.

        Names the replicas that could not be asked, where only they know. Raises RequestError, Missing when nothing asks
        for it.
        """
        targets: list[str] = [*self.targets(asked.target)] if asked.HasField("target") else []
        if not asked.name:
            raise RequestError("a name is needed", "module.name")
        await self.sync(context)
        entries = await self.index.entries()
        if not asked.HasField("target"):
            targets = [one.vnode.name async for one in self.index.walk() if self._wanted(one, asked)]
        if not targets:
            raise Missing(f"no Pod asks for module {asked.name}{':' if asked.version else ''}{asked.version}")
        found = [entries[target] for target in targets if target in entries]
        unknown = any(not entry.owned and not self._wanted(entry, asked) for entry in found)
        rollout = of_module([self._on_base(entry, asked) for entry in found])
        return codec.rollout(rollout, self.links.unreachable() if unknown else ())

    def _on_base(self, entry: Entry, asked: pb.ModuleRollout) -> ModuleOnBase:
        # Where no Pod asks for it, one that is there all the same counts.
        bare = [one for one in _named(entry, asked) if not one.pod]
        parts = tuple(
            Part(m.vnode, m.pod and f"{m.namespace}/{m.pod}", f"{m.name}:{m.version}", m.ready, m.reason, m.message)
            for m in self._wanted(entry, asked) or bare
        )
        unreachable = "" if entry.vnode.ready else entry.vnode.message or "its Node is not Ready"
        return ModuleOnBase(entry.vnode.name, parts, unreachable)

    def _wanted(self, entry: Entry, asked: pb.ModuleRollout) -> list[pb.Module]:
        """Return the modules for which Pods ask that stay."""
        pods = self.vnodes.cluster.pods
        named = ((one, pods.get(f"{one.namespace}/{one.pod}")) for one in _named(entry, asked))
        return [one for one, pod in named if pod is not None and not pod.deleting]


def _named(entry: Entry, asked: pb.ModuleRollout) -> list[pb.Module]:
    return [one for one in entry.modules if one.name == asked.name and asked.version in ("", one.version)]
