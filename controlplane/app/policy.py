"""How the application behaves: intervals and limits in seconds, one frozen tree."""

from dataclasses import dataclass, field

from controlplane.domain.base.planner import ModulePolicy
from controlplane.domain.base.vnode import NodePolicy
from controlplane.domain.ownership.lease import TIMES, Times


@dataclass(frozen=True, slots=True)
class Policy:
    """Who this replica is and how it behaves."""

    replica: str
    env: str
    version: str
    modules: ModulePolicy = field(default_factory=ModulePolicy)
    module_uninstall_timeout: float = 300.0
    """How long a Pod's deletion is held for a module that does not go."""
    scale_down_delay: float = 60.0
    """How long a base that is gone still counts among the replicas of Deployments that follow the bases."""
    peers_follow: bool = False
    """Replicas of Deployments with the strategy "peer" follow the number of bases."""
    clustered: bool = False
    """A replica leaves new bases to others that have fewer (IS_CLUSTER)."""
    most_level: int = 3
    """Highest workload level (WORKLOAD_MAX_LEVEL)."""
    nodes: NodePolicy = field(default_factory=NodePolicy)
    leases: Times = TIMES
    """How long VNode leases last (LEASE_DURATION)."""
    most_bases: int = 10_000
    """New bases beyond this number are refused (MAX_BASES)."""
