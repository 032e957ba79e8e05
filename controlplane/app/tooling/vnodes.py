"""The VNodes that tools name, ours and those that other replicas own, and who owns them."""

from collections.abc import Container, Sequence
from dataclasses import dataclass, field

from controlplane.app.ports import Cluster
from controlplane.app.roster import Roster
from controlplane.app.tooling.held import HeldLeases
from controlplane.app.tooling.refusals import Missing
from controlplane.domain.base.state import Base
from controlplane.domain.contract import LEASE_NAMESPACE
from controlplane.domain.identity import BaseId, VNodeName, base_of_node, node_name
from controlplane.domain.objects import Lease, Requirement
from controlplane.domain.workloads.placement import matches


@dataclass(eq=False)
class VNodes:
    """Finds VNodes by name, and their Leases."""

    cluster: Cluster
    roster: Roster
    env: str
    held: HeldLeases = field(init=False)

    def __post_init__(self) -> None:
        self.held = HeldLeases(self.cluster)

    def names(self) -> set[VNodeName]:
        """Return the names of all."""
        named = {VNodeName(node.name) for node in self.cluster.nodes.all() if base_of_node(node.name, self.env)}
        return named | {base.vnode for base in self.roster.bases()}

    def base(self, name: str) -> Base | None:
        """Return the base of a VNode that is ours."""
        identity = base_of_node(name, self.env)
        return self.roster.get(identity) if identity is not None else None

    def heard(self, name: str) -> Base | None:
        """Return the base of a VNode that is ours, with all signs of life."""
        identity = base_of_node(name, self.env)
        return self.roster.heard(identity) if identity is not None else None

    def lease(self, name: str) -> Lease | None:
        """Return the Lease of a VNode."""
        return self.cluster.leases.get(f"{LEASE_NAMESPACE}/{name}")

    def named(self, name: str, known: Container[str]) -> VNodeName:
        """Return which of the known VNodes has that Node name or base identity; raises Missing."""
        for candidate in (VNodeName(name), node_name(BaseId(name), self.env)):
            if candidate in known:
                return candidate
        raise Missing(f"there is no VNode or base {name!r}")

    def matching(self, selector: Sequence[Requirement] = ()) -> list[VNodeName]:
        """Return the VNodes that a selector matches, in order; raises Missing when it matches none."""
        nodes = ((name, self.cluster.nodes.get(name)) for name in sorted(self.names()))
        found = [name for name, node in nodes if matches(selector, node.labels if node is not None else {})]
        if not found:
            raise Missing("no base matches the target", "target")
        return found
