"""What all actors, and what they work with, share."""

import asyncio
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

LOOKS_AT_ONCE = 8
"""Looks in one turn of the event loop. A message needs a few turns from socket to task: were all actors that are due to
look in one, it would wait a few times for all of them."""


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
    looks: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(LOOKS_AT_ONCE))
    """What an actor holds for a turn of the event loop before it looks."""
