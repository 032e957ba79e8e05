"""What all actors, and what they work with, share."""

from dataclasses import dataclass, field
from random import Random

from controlplane.app.base.kubelet import KubeletAddress
from controlplane.app.base.modulelimits import ModuleLimits
from controlplane.app.base.prober import Prober
from controlplane.app.events import Recorder
from controlplane.app.gateways import GatewayDirectory
from controlplane.app.ownership.leases import LeaseKeeper
from controlplane.app.policy import Policy
from controlplane.app.ports import Clock, Cluster
from controlplane.app.roster import Roster
from controlplane.app.runqueue import RunQueue


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The world around a base, and how this replica behaves."""

    cluster: Cluster
    clock: Clock
    roster: Roster
    leases: LeaseKeeper
    gateways: GatewayDirectory
    recorder: Recorder
    policy: Policy
    random: Random
    kubelet: KubeletAddress
    prober: Prober
    limits: ModuleLimits
    queue: RunQueue = field(default_factory=RunQueue)
    """Of the actors that are to look."""
