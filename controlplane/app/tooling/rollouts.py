"""How far rollouts are, for tools: of workloads as the cluster has them, of modules as their bases do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from controlplane.app.ports import Cluster, ObjectName
from controlplane.app.tooling.operations import Missing, ModuleItem, Operations, Refusal, VNodeItem
from controlplane.domain.workloads.rollout import Part, Place, Rollout, of_module, of_workload, part

KINDS = ("Deployment", "DaemonSet")


class Rollouts:
    """Answers how far a rollout is, once for each question."""

    def __init__(self, cluster: Cluster, operations: Operations) -> None:
        self._cluster = cluster
        self._operations = operations

    async def workload(self, name: ObjectName) -> Rollout:
        """Tell how far a Deployment or DaemonSet is. Raises Refusal, ClusterError (NotFound)."""
        if name.kind not in KINDS:
            raise Refusal(f"only a {' or '.join(KINDS)} has a rollout, not a {name.kind}", "workload.kind")
        if not name.name:
            raise Refusal("a name is needed", "workload.name")
        workload = await self._cluster.workload(name.kind, name.namespace or "default", name.name)
        return of_workload(workload, self._cluster.pods.all())

    def module(
        self,
        name: str,
        version: str,
        targets: Sequence[VNodeItem] | None,
        theirs: Mapping[str, Sequence[Part]] = {},
    ) -> Rollout:
        """Tell how far a module is on targets, or where Pods ask for it; any version when none is given.

        theirs are the modules without a Pod on VNodes that other replicas own. Raises
        Refusal, Missing when nothing asks for it.
        """
        if not name:
            raise Refusal("a name is needed", "module.name")
        items = self._asking(name, version) if targets is None else targets
        if not items:
            raise Missing(f"no Pod asks for module {name}{':' if version else ''}{version}")
        return of_module([self._place(item, name, version, theirs.get(item.name, ())) for item in items])

    def _asking(self, name: str, version: str) -> list[VNodeItem]:
        found = {
            pod.node_name
            for pod in self._cluster.pods.all()
            if not pod.deleting and any(c.name == name and version in ("", c.version) for c in pod.containers)
        }
        return [item for item in self._operations.vnodes() if item.name in found]

    def bare(self, name: str, version: str, targets: Sequence[VNodeItem] | None) -> bool:
        """Tell whether no Pod asks for it on a target of another replica, so that only that one knows of it."""
        return any(item.base is None and not _wanted(self._mine(item, name, version)) for item in targets or ())

    def _mine(self, item: VNodeItem, name: str, version: str) -> list[ModuleItem]:
        return [m for m in self._operations.modules(item.name, name) if version in ("", m.key.version)]

    def _place(self, item: VNodeItem, name: str, version: str, theirs: Sequence[Part]) -> Place:
        mine = self._mine(item, name, version)
        # Where no Pod asks for it, one that is there all the same counts.
        parts = list(map(_part, _wanted(mine) or [m for m in mine if m.pod is None])) or theirs
        return Place(item.name, tuple(parts), "" if item.ready else item.why or "its Node is not Ready")


def _wanted(items: Sequence[ModuleItem]) -> list[ModuleItem]:
    return [item for item in items if item.pod is not None and not item.pod.deleting]


def _part(item: ModuleItem) -> Part:
    if item.pod is None:
        return Part("", str(item.key), item.ready)
    return next(part(item.pod, c) for c in item.pod.containers if c.name == item.key.name)
