"""How far rollouts are: of workloads as the cluster has them, of modules as their bases have them."""

from collections.abc import Sequence
from dataclasses import dataclass

from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

from controlplane.app.ports import Cluster, ObjectName
from controlplane.app.tooling.refusals import Missing, RequestError
from controlplane.domain.workloads.rollout import ModuleOnBase, Part, Rollout, of_module, of_workload
from controlplane.rpc.tooling.index import Entry, Index
from controlplane.rpc.tooling.replicas import ReplicaLinks

KINDS = ("Deployment", "DaemonSet")


@dataclass(frozen=True, slots=True)
class Rollouts:
    """Answers how far a rollout is, once for each question."""

    cluster: Cluster
    index: Index
    links: ReplicaLinks

    async def workload(self, name: ObjectName) -> Rollout:
        """Return how far a Deployment or DaemonSet is. Raises RequestError, ClusterError (NotFound)."""
        if name.kind not in KINDS:
            raise RequestError(f"only a {' or '.join(KINDS)} has a rollout, not a {name.kind}", "workload.kind")
        if not name.name:
            raise RequestError("a name is needed", "workload.name")
        workload = await self.cluster.workload(name.kind, name.namespace or "default", name.name)
        return of_workload(workload, self.cluster.pods.all())

    async def module(
        self, name: str, version: str, targets: Sequence[str] | None, within: float
    ) -> tuple[Rollout, tuple[str, ...]]:
        """Return how far a module is on targets, or where Pods ask for it; any version when none is given.

        Also returns which replicas could not be asked, where only they know. Raises RequestError, Missing when nothing
        asks for it.
        """
        if not name:
            raise RequestError("a name is needed", "module.name")
        await self.links.sync(within)
        entries = self.index.entries()
        if targets is None:
            targets = [one for one in self.index.names() if self._wanted(entries[one], name, version)]
        if not targets:
            raise Missing(f"no Pod asks for module {name}{':' if version else ''}{version}")
        found = [entries[target] for target in targets if target in entries]
        unknown = any(not entry.owned and not self._wanted(entry, name, version) for entry in found)
        rollout = of_module([self._on_base(entry, name, version) for entry in found])
        return rollout, self.links.unreachable() if unknown else ()

    def _on_base(self, entry: Entry, name: str, version: str) -> ModuleOnBase:
        # Where no Pod asks for it, one that is there all the same counts.
        bare = [one for one in _named(entry, name, version) if not one.pod]
        parts = tuple(map(_part, self._wanted(entry, name, version) or bare))
        unreachable = "" if entry.vnode.ready else entry.vnode.message or "its Node is not Ready"
        return ModuleOnBase(entry.vnode.name, parts, unreachable)

    def _wanted(self, entry: Entry, name: str, version: str) -> list[pb.Module]:
        """Return the modules for which Pods ask that stay."""
        pods = ((one, self.cluster.pods.get(f"{one.namespace}/{one.pod}")) for one in _named(entry, name, version))
        return [one for one, pod in pods if pod is not None and not pod.deleting]


def _named(entry: Entry, name: str, version: str) -> list[pb.Module]:
    return [one for one in entry.modules if one.name == name and version in ("", one.version)]


def _part(module: pb.Module) -> Part:
    pod = f"{module.namespace}/{module.pod}" if module.pod else ""
    return Part(module.vnode, pod, f"{module.name}:{module.version}", module.ready, module.reason, module.message)
