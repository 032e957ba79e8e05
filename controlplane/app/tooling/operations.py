"""What tools can see: VNodes and modules as items, from memory; and what a tool's request is refused with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from controlplane.app.ports import Cluster
from controlplane.app.roster import Roster
from controlplane.domain import contract
from controlplane.domain.base.state import Base, Phase
from controlplane.domain.facts import ModuleState, Verb
from controlplane.domain.identity import ModuleKey, base_of_node
from controlplane.domain.objects import ContainerStatus, Node, Pod, Requirement
from controlplane.domain.workloads.placement import matches


@dataclass(frozen=True, slots=True)
class VNodeItem:
    """One VNode; base is None unless it is ours. owner and fence are those of its Lease."""

    node: Node | None
    base: Base | None
    name: str
    identity: str
    owner: str
    ready: bool
    fence: int = 0

    @property
    def why(self) -> str:
        """Why it is not ready, in words, as its owner or its Node tells."""
        if self.base is not None:
            return self.base.why
        conditions = self.node.status.conditions if self.node is not None and not self.ready else ()
        return next((condition.message for condition in conditions if condition.type == "Ready"), "")

    @property
    def modules_known(self) -> bool:
        """It is known which modules the base has."""
        return self.base is not None and self.base.modules.told


class Management(Enum):
    """Who looks after a module."""

    MANAGED = "managed"
    """A Pod stands for it."""
    UNMANAGED = "unmanaged"
    """It has no Pod, and was not installed by us."""
    ORPHAN = "orphan"
    """It has no Pod any more, and was installed by us."""


@dataclass(frozen=True, slots=True)
class ModuleItem:
    """One module on one VNode; pod is None when none stands for it.

    state is None when the base does not have it, or while it is not known which modules the base has.
    """

    vnode: str
    key: ModuleKey
    state: ModuleState | None
    pod: Pod | None
    status: ContainerStatus | None
    url: str
    operation: Verb | None
    management: Management
    known: bool = True

    @property
    def ready(self) -> bool:
        """Its container is ready, or it serves without a Pod."""
        return self.status.ready if self.status is not None else self.state is ModuleState.ACTIVATED


class Refusal(Exception):
    """A tool asked for something that cannot be done; field is the part of the request at fault, if one is."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class Missing(Refusal):
    """There is no such thing."""


class NotAllowed(Refusal):
    """The state of things does not allow it; the message says what would."""


class Operations:
    """Shows what this replica knows: of its own VNodes all, of others what the cluster has."""

    def __init__(self, cluster: Cluster, roster: Roster, *, env: str) -> None:
        self._cluster = cluster
        self._roster = roster
        self._env = env

    def names(self) -> set[str]:
        """Return the names of all VNodes: ours, and those that other replicas own."""
        return {node.name for node in self._cluster.nodes.all()} | {base.vnode for base in self._roster.bases()}

    def vnodes(self, selector: Sequence[Requirement] = ()) -> list[VNodeItem]:
        """Return the VNodes that match, by name."""
        items = [item for name in sorted(self.names()) if (item := self.item(name)) is not None]
        return [item for item in items if matches(selector, item.node.labels if item.node else {})]

    def candidates(self, name: str) -> tuple[str, str]:
        """Return the Node names that a name may stand for, itself or the identity of a base."""
        return name, f"vnode.{name}.{self._env}"

    def vnode(self, name: str) -> VNodeItem:
        """Return the VNode of that Node name or base identity; raises Missing."""
        for candidate in self.candidates(name):
            if (item := self.item(candidate)) is not None:
                return item
        raise Missing(f"there is no VNode or base {name!r}")

    def base(self, name: str) -> Base | None:
        """Return the base of a VNode that is ours."""
        identity = base_of_node(name, self._env)
        return self._roster.get(identity) if identity is not None else None

    def item(self, name: str) -> VNodeItem | None:
        """Return the VNode of that Node name, None if there is none."""
        identity = base_of_node(name, self._env)
        if identity is None:
            return None
        node, base = self._cluster.nodes.get(name), self.base(name)
        if node is None and base is None:
            return None
        ready = node is not None and any(c.type == "Ready" and c.status == "True" for c in node.status.conditions)
        if base is not None:
            ready = ready and base.phase is Phase.READY
        lease = self._cluster.leases.get(f"{contract.LEASE_NAMESPACE}/{name}")
        owner, fence = (lease.holder, max(lease.transitions, 0)) if lease is not None else ("", 0)
        return VNodeItem(node, base, name, identity, owner, ready, fence)

    def modules(self, vnode: str, name: str = "") -> list[ModuleItem]:
        """Return the modules on a VNode, or those of one name, by name, version and Pod."""
        found = [item for item in self._modules(vnode) if name in ("", item.key.name)]
        return sorted(found, key=lambda item: (item.key, item.pod.key if item.pod else ""))

    def _modules(self, vnode: str) -> Iterable[ModuleItem]:
        base = self.base(vnode)
        present = dict(base.modules.present) if base is not None else {}
        flights = dict(base.modules.in_flight) if base is not None else {}
        known = base is not None and base.modules.told
        covered: set[ModuleKey] = set()
        for pod in self._cluster.pods.on_node(vnode):
            statuses = {status.name: status for status in pod.status.containers}
            for container in pod.containers:
                key = ModuleKey(container.name, container.version)
                covered.add(key)
                flight = flights.get(key.name)
                yield ModuleItem(
                    vnode=vnode,
                    key=key,
                    state=present[key].state if key in present else None,
                    pod=pod,
                    status=statuses.get(container.name) or ContainerStatus(container.name, "waiting", reason="Pending"),
                    url=container.image,
                    operation=flight.verb if flight is not None and flight.spec.key == key else None,
                    management=Management.MANAGED,
                    known=known,
                )
        for key, module in present.items():
            if key not in covered:
                flight = flights.get(key.name)
                operation = flight.verb if flight is not None and flight.spec.key == key else None
                ours = base is not None and key in base.modules.owned
                management = Management.ORPHAN if ours else Management.UNMANAGED
                yield ModuleItem(vnode, key, module.state, None, None, "", operation, management)

    def select(
        self, *, base: str = "", selector: Sequence[Requirement] | None = None, all_bases: bool = False
    ) -> list[VNodeItem]:
        """Return the VNodes that a target names; raises Missing when it names none."""
        if base:
            return [self.vnode(base)]
        found = self.vnodes(selector or ()) if selector is not None or all_bases else []
        if not found:
            raise Missing("no base matches the target", "target")
        return found
