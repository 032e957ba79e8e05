"""How the application behaves: intervals and limits in seconds, one frozen tree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from controlplane.domain.base.liveness import Patience
from controlplane.domain.base.planner import Policy as ModulePolicy
from controlplane.domain.facts import Verb


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds. Polls are those of the original; deadlines bound one order each."""

    modules_interval: float = 15.0
    health_interval: float = 30.0
    silent_health_interval: float = 10.0
    install_timeout: float = 600.0
    uninstall_timeout: float = 120.0
    switch_timeout: float = 60.0
    answer_margin: float = 15.0
    """How much later than its own deadline an order's result may arrive."""
    first_health_wait: float = 2.0
    """How long a new Node waits for the first health answer, which saves a write."""
    node_status_refresh: float = 300.0
    module_uninstall_timeout: float = 300.0
    """How long a Pod's deletion is held for a module that does not go."""
    scale_down_delay: float = 60.0
    """How long a base that is gone still counts among the replicas of Deployments that follow the bases."""

    def timeout(self, verb: Verb) -> float:
        """Return the deadline of an order."""
        match verb:
            case Verb.INSTALL:
                return self.install_timeout
            case Verb.UNINSTALL:
                return self.uninstall_timeout
            case Verb.SWITCH:
                return self.switch_timeout


@dataclass(frozen=True, slots=True)
class Policy:
    """Who this replica is and how it behaves."""

    replica: str
    env: str
    version: str
    patience: Patience = field(default_factory=Patience)
    timing: Timing = field(default_factory=Timing)
    modules: ModulePolicy = field(default_factory=ModulePolicy)
    peers_follow: bool = False
    """Replicas of Deployments with the strategy "peer" follow the number of bases."""
    clustered: bool = False
    """A replica leaves new bases to others that have fewer (IS_CLUSTER)."""
    most_level: int = 3
    """Highest workload level (WORKLOAD_MAX_LEVEL)."""
    vnode_resources: Mapping[str, str] = field(default_factory=dict)
    """What a VNode has of resources that its base does not limit, as quantities, for the scheduler."""
    most_bases: int = 20_000
    """Bases beyond this number are refused, so that invented identities cannot fill the memory."""
