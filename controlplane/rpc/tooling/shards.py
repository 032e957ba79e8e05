"""The replicas and the shard map as tools see them, and draining. From memory: every replica gives the same answers."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

from controlplane.app.events import member_lease
from controlplane.app.ownership.membership import Membership
from controlplane.app.tooling.refusals import Missing, NotAllowed
from controlplane.app.turns import AT_ONCE
from controlplane.domain.contract import LEASE_NAMESPACE
from controlplane.domain.identity import base_of_node
from controlplane.domain.objects import Lease
from controlplane.domain.ownership.replicas import Replica
from controlplane.rpc.access.guard import CALLER
from controlplane.rpc.refusals import Context
from controlplane.rpc.tooling import codec
from controlplane.rpc.tooling.calls import Calls, page


@dataclass(eq=False, kw_only=True)
class Shards(Calls):
    """Answers who owns what, and drains."""

    members: Membership

    async def ListReplicas(self, request: pb.ListReplicasRequest, context: Context) -> pb.ListReplicasResponse:
        """List all replicas that live or still hold leases, by name."""
        async with self.answering(context):
            owned = self.vnodes.held.counts
            known = {replica.id: replica for replica in (*self.members.replicas(), self.members.self)}
            known |= {holder: Replica(holder) for holder in owned.keys() - known.keys()}
            replicas = [
                pb.Replica(
                    id=name,
                    address=replica.address,
                    vnodes=owned[name],
                    self=name == self.members.me,
                    state=self._state(name),
                    tunnels=sorted(replica.tunnels),
                )
                for name, replica in sorted(known.items())
            ]
            return pb.ListReplicasResponse(items=replicas)

    async def ListShards(self, request: pb.ListShardsRequest, context: Context) -> pb.ListShardsResponse:
        """List VNodes with their owners by Node name."""
        async with self.answering(context):
            leases = self._leases(request.owner, f"{LEASE_NAMESPACE}/{request.page_token}")
            chosen, token = await page(leases, lambda lease: lease.name, request.page_size, request.page_token)
            return pb.ListShardsResponse(items=map(self._shard, chosen), next_page_token=token)

    async def DrainReplica(self, request: pb.DrainReplicaRequest, context: Context) -> pb.DrainReplicaResponse:
        """Have a replica give its VNodes away, or end that."""
        replica = request.replica
        async with self.answering(context):
            living = {one.id: one for one in self.members.replicas()}
            if replica not in living:
                names = ", ".join(sorted(living)) or "none"
                raise Missing(f"there is no live replica {replica!r}; there are: {names}", "replica")
            others = [one for one in living.values() if one.id != replica and not one.draining]
            if not (request.undo or others):
                raise NotAllowed(
                    f"{replica} is the last replica that takes VNodes: start another one or undo a drain first"
                )
            await self.members.drain(replica, draining=not request.undo, user=CALLER.get().user)
            about = member_lease(self.vnodes.cluster, self.members.member.key(replica))
            self.audit.change("undo drain" if request.undo else "drain", "", about, "done")
        return pb.DrainReplicaResponse(vnodes=self.vnodes.held.counts[replica])

    async def _leases(self, owner: str, key: str) -> AsyncGenerator[Lease, None]:
        """Yield the Leases of VNodes of an owner, or of all, by name, after a key."""
        vnodes = self.vnodes
        while keys := vnodes.held.after(key, AT_ONCE):
            key = keys[-1]
            for lease in filter(None, map(vnodes.cluster.leases.get, keys)):
                known = lease.holder or vnodes.cluster.nodes.get(lease.name) is not None
                if owner in ("", lease.holder) and known and base_of_node(lease.name, vnodes.env) is not None:
                    yield lease
            await asyncio.sleep(0)

    def _shard(self, lease: Lease) -> pb.Shard:
        return pb.Shard(
            vnode=lease.name,
            base=base_of_node(lease.name, self.vnodes.env) or "",
            owner=lease.holder,
            state=self._state(lease.holder) if lease.holder else "",
            fence=max(lease.transitions, 0),
            since=codec.written(lease.acquire_time),
        )

    def _state(self, name: str) -> str:
        if self.members.gone(name):
            return "gone"
        live = next((one for one in self.members.replicas() if one.id == name), None)
        if live is None:
            return "active" if name == self.members.me else "unknown"
        return "draining" if live.draining else "active"
