"""The replicas and the shard map as tools see them, and draining."""

from collections import Counter
from dataclasses import dataclass

from controlplane.app.ownership.membership import Membership
from controlplane.app.ports import Cluster
from controlplane.app.tooling.refusals import Missing, NotAllowed
from controlplane.domain import contract
from controlplane.domain.identity import BaseId, base_of_node
from controlplane.domain.objects import Lease
from controlplane.domain.ownership.replicas import Replica


@dataclass(frozen=True, slots=True)
class ReplicaItem:
    """One replica; state is active, draining, gone or unknown, vnodes how many it owns."""

    replica: Replica
    state: str
    vnodes: int
    self: bool


@dataclass(frozen=True, slots=True)
class Shard:
    """The Lease of one VNode; state is that of the replica which holds it."""

    lease: Lease
    base: BaseId
    state: str


class Shards:
    """Answers tools, from memory: every replica gives the same answers."""

    def __init__(self, cluster: Cluster, members: Membership, *, env: str) -> None:
        self._cluster = cluster
        self._members = members
        self._env = env

    @property
    def me(self) -> str:
        """The name of this replica."""
        return self._members.me

    def replicas(self) -> list[ReplicaItem]:
        """Return all replicas that live or still hold leases, by name."""
        owned = Counter(lease.holder for lease in self._cluster.leases.all() if lease.holder)
        known = {replica.id: replica for replica in (*self._members.replicas(), self._members.self)}
        known |= {holder: Replica(holder) for holder in owned.keys() - known.keys()}
        return [
            ReplicaItem(known[name], self._state(name), owned[name], name == self._members.me) for name in sorted(known)
        ]

    def shards(self, owner: str = "") -> list[Shard]:
        """Return the shard map, or the part of one replica, by Node name."""
        found = [
            Shard(lease, base, self._state(lease.holder) if lease.holder else "")
            for lease in self._cluster.leases.all()
            if owner in ("", lease.holder)
            and (lease.holder or self._cluster.nodes.get(lease.name) is not None)
            and (base := base_of_node(lease.name, self._env)) is not None
        ]
        return sorted(found, key=lambda shard: shard.lease.name)

    def holder(self, vnode: str) -> str:
        """Return who holds the Lease of a VNode, empty when nobody does."""
        lease = self.lease(vnode)
        return lease.holder if lease is not None else ""

    def lease(self, vnode: str) -> Lease | None:
        """Return the Lease of a VNode."""
        return self._cluster.leases.get(f"{contract.LEASE_NAMESPACE}/{vnode}")

    def holders(self, vnode: str = "") -> set[str]:
        """Return who holds Leases of any VNode, or of one."""
        found = {self.holder(vnode)} if vnode else {lease.holder for lease in self._cluster.leases.all()}
        return found - {""}

    async def drain(self, replica: str, *, draining: bool) -> int:
        """Drain a replica, or end that; return how many VNodes it owns. Raises RequestError, ClusterError."""
        living = {one.id: one for one in self._members.replicas()}
        if replica not in living:
            names = ", ".join(sorted(living)) or "none"
            raise Missing(f"there is no live replica {replica!r}; there are: {names}", "replica")
        others = [one for one in living.values() if one.id != replica and not one.draining]
        if draining and not others:
            raise NotAllowed(
                f"{replica} is the last replica that takes VNodes: start another one or undo a drain first"
            )
        await self._members.drain(replica, draining=draining)
        return sum(1 for lease in self._cluster.leases.all() if lease.holder == replica)

    def _state(self, name: str) -> str:
        if self._members.gone(name):
            return "gone"
        live = next((one for one in self._members.replicas() if one.id == name), None)
        if live is None:
            return "active" if name == self._members.me else "unknown"
        return "draining" if live.draining else "active"
