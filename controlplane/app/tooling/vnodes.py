"""The VNodes that tools name: ours, and those that other replicas own."""

from collections.abc import Sequence
from dataclasses import dataclass

from controlplane.app.ports import Cluster
from controlplane.app.roster import Roster
from controlplane.app.tooling.refusals import Missing
from controlplane.domain.base.state import Base
from controlplane.domain.identity import BaseId, VNodeName, base_of_node, node_name
from controlplane.domain.objects import Requirement
from controlplane.domain.workloads.placement import matches


@dataclass(frozen=True, slots=True)
class VNodes:
    """Finds VNodes by name."""

    cluster: Cluster
    roster: Roster
    env: str

    def names(self) -> set[VNodeName]:
        """Return the names of all."""
        named = {VNodeName(node.name) for node in self.cluster.nodes.all() if base_of_node(node.name, self.env)}
        return named | {base.vnode for base in self.roster.bases()}

    def candidates(self, name: str) -> tuple[VNodeName, VNodeName]:
        """Return the Node names that a name may stand for: itself, and as the identity of a base."""
        return VNodeName(name), node_name(BaseId(name), self.env)

    def base(self, name: str) -> Base | None:
        """Return the base of a VNode that is ours."""
        identity = base_of_node(name, self.env)
        return self.roster.get(identity) if identity is not None else None

    def select(
        self, *, base: str = "", selector: Sequence[Requirement] | None = None, all_bases: bool = False
    ) -> list[VNodeName]:
        """Return the VNodes that a target names, in order; raises Missing when it names none."""
        if base:
            found = [name for name in self.candidates(base) if name in self.names()][:1]
            if not found:
                raise Missing(f"there is no VNode or base {base!r}")
            return found
        names = sorted(self.names()) if selector is not None or all_bases else []
        found = [name for name in names if matches(selector or (), self._labels(name))]
        if not found:
            raise Missing("no base matches the target", "target")
        return found

    def _labels(self, name: VNodeName) -> dict[str, str]:
        node = self.cluster.nodes.get(name)
        return dict(node.labels) if node is not None else {}
