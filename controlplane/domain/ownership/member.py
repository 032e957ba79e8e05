"""What a replica writes into its member lease. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from controlplane.domain import contract
from controlplane.domain.objects import Lease
from controlplane.domain.ownership import replicas


@dataclass(frozen=True, slots=True)
class Member:
    """One process: instance is random for each start, address is host:port of its gRPC server or empty."""

    replica: str
    instance: str
    address: str
    namespace: str
    env: str

    def key(self, replica: str = "") -> str:
        """Return the key of a replica's member lease, by default of this one's."""
        return f"{self.namespace}/{contract.MEMBER_LEASE_PREFIX}{replica or self.replica}"

    def fresh(self, current: Lease | None, stamp: str, tunnels: frozenset[str]) -> Lease:
        """Return the record with which this process begins, in place of the current one if there is one."""
        return Lease(
            namespace=self.namespace,
            name=f"{contract.MEMBER_LEASE_PREFIX}{self.replica}",
            resource_version=current.resource_version if current is not None else "",
            holder=self.replica,
            duration_seconds=int(replicas.DURATION),
            renew_time=stamp,
            acquire_time=stamp,
            transitions=current.transitions + 1 if current is not None else 0,
            labels={contract.COMPONENT: contract.COMPONENT_REPLICA, contract.ENV: self.env},
            annotations={**self._annotations(tunnels), contract.ANNOTATION_REPLICA_DRAINING: "false"},
        )

    def renewed(self, current: Lease | None, stamp: str, tunnels: frozenset[str]) -> Lease:
        """Return the record to write next: as it is but for what we say, or again when somebody removed it."""
        if current is None:
            return self.fresh(None, stamp, tunnels)
        annotations = {**current.annotations, **self._annotations(tunnels)}
        return replace(current, holder=self.replica, renew_time=stamp, annotations=annotations)

    def wrote(self, lease: Lease) -> bool:
        """Return whether a record is this process's."""
        return lease.annotations.get(contract.ANNOTATION_REPLICA_INSTANCE) == self.instance

    def why_taken(self, lease: Lease) -> str:
        """Say that another process has this one's name, and what to do."""
        address = replicas.replica_of(lease).address
        where = f" at {address}" if address else ""
        return (
            f"CLIENT_ID={self.replica}: another process{where} has this name, it renews Lease {self.key()}; "
            "give each replica a CLIENT_ID of its own, for example its Pod's name, or stop the other one first"
        )

    def _annotations(self, tunnels: frozenset[str]) -> Mapping[str, str]:
        return {
            contract.ANNOTATION_REPLICA_ADDRESS: self.address,
            contract.ANNOTATION_REPLICA_INSTANCE: self.instance,
            contract.ANNOTATION_REPLICA_TUNNELS: ",".join(sorted(tunnels)),
        }
