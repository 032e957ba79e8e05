"""What is known of one base: a value that only the base's actor replaces, once for each look; everything else reads."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Self

from controlplane.domain.base.leaving import STAYS, Leaving
from controlplane.domain.base.modules import NO_MODULES, Modules
from controlplane.domain.base.outcomes import History
from controlplane.domain.base.usage import NOTHING_COUNTED, Counted, Usage
from controlplane.domain.base.vnode import Profile
from controlplane.domain.facts import TunnelKind
from controlplane.domain.identity import BaseId, VNodeName


class Phase(Enum):
    """Where a VNode stands in its life."""

    DISCOVERED = "discovered"
    CLAIMED = "claimed"
    READY = "ready"
    UNREACHABLE = "unreachable"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Signs:
    """Signs of life of a base. Times are monotonic unless named wall."""

    last_seen: float = 0.0
    last_seen_wall: float = 0.0
    seen_over: Mapping[TunnelKind, float] = field(default_factory=dict)
    """When each tunnel last showed life of it."""
    healthy: bool = False
    """It answered a question about its health."""
    last_answered: float = 0.0
    """When it last answered a command that counts: with its modules, or with the outcome of an order."""
    failing: str = ""
    """Why the last such command failed, empty when it did not."""
    poll_failed_at: float = float("-inf")
    """When a question to it last failed, whatever it was about."""
    leaving: Leaving = STAYS
    metaspace_used: int | None = None
    """Bytes in use at the last answer."""
    counted: Counted = NOTHING_COUNTED
    trusted_from: int = 0
    """Epoch of the first list that counts after the base was unreachable."""
    imposters: tuple[str, ...] = ()
    """Other addresses that used the identity of this base while it was alive."""
    dismissed: bool = False
    """Others wait for its place, as long as it is not admitted."""
    refused: int = 0
    """Heartbeats refused because they came from such an address."""

    def alive(self, tunnel: TunnelKind | None, at: float, wall: float) -> Self:
        """Note that the base showed life, over a tunnel where that is known."""
        over = self.seen_over if tunnel is None else {**self.seen_over, tunnel: at}
        return replace(self, last_seen=max(self.last_seen, at), last_seen_wall=wall, seen_over=over)


@dataclass(frozen=True, slots=True)
class Base:
    """One base; gateway is the one that polls it, or that last showed life of it, why says why it is not ready."""

    id: BaseId
    vnode: VNodeName
    profile: Profile
    discovered_wall: float
    phase: Phase = Phase.DISCOVERED
    why: str = ""
    admitted: bool = True
    """It has a Node, or answered a command: it is no invention."""
    fence: int = 0
    term_began: float = 0.0
    suspended_until: float = float("-inf")
    """When it was last seen that we may not act for it: gateways then poll it for nobody."""
    gateway: str = ""
    signs: Signs = Signs()
    modules: Modules = NO_MODULES
    history: History = ()
    """The last operations on its modules."""

    @property
    def unreachable(self) -> str:
        """Why it cannot be counted on, empty if it can."""
        return self.why if self.phase in (Phase.UNREACHABLE, Phase.DEAD) else ""

    @property
    def usage(self) -> Usage | None:
        """What it uses, None as long as it has not said so."""
        signs, counted = self.signs, self.signs.counted
        if signs.metaspace_used is None:
            return None
        own = self.profile.base_used
        return Usage(counted.at, signs.metaspace_used, own, counted.heap, counted.cpu, counted.share)

    @property
    def shown(self) -> tuple[object, ...]:
        """What tools see; parts that are never changed in place are compared by identity, which is cheap."""
        flights = len(self.modules.in_flight)
        return self.phase, self.why, self.gateway, self.fence, id(self.profile), id(self.modules.present), flights
