"""What arrived of one base since its actor last looked.

Bounded without losing anything that counts: newer heartbeats, health answers and
module lists replace older ones, and there are at most as many results as there were
orders.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from controlplane.domain.facts import (
    BaselineQuery,
    BaseState,
    BatchInstalled,
    Fact,
    FenceSeen,
    Health,
    Heartbeat,
    ModuleList,
    OrderResult,
    PollFailed,
    PollFailure,
    TunnelKind,
)
from controlplane.domain.identity import ModuleKey


@dataclass(frozen=True, slots=True)
class Source:
    """The gateway that reported something, and its tunnel."""

    gateway: str
    tunnel: TunnelKind


@dataclass(slots=True)
class News:
    """News for one look; source is the gateway that last showed life of the base; times are monotonic."""

    source: Source | None = None
    heartbeat: Heartbeat | None = None
    deactivated: Heartbeat | None = None
    health: Health | None = None
    modules: ModuleList | None = None
    results: list[tuple[OrderResult, float]] = field(default_factory=list)
    poll_failed: PollFailed | None = None
    seen_at: float | None = None
    answered_at: float | None = None
    baseline_done: bool = False
    fence_seen: int = 0
    given: tuple[ModuleKey, ...] = ()
    """Modules of a baseline that the base was given."""
    touched_at: float | None = None
    """When something in the cluster first changed that concerns the base."""

    def add(self, fact: Fact | OrderResult, source: Source, now: float) -> None:
        """Add a report; whether a heartbeat is the base's own is for the actor to judge."""
        match fact:
            case Heartbeat(state=BaseState.DEACTIVATED):
                self.deactivated = fact
            case Heartbeat():
                self.heartbeat, self.source = fact, source
            case Health():
                self.health = fact
                self._seen(source, now)
            case ModuleList():
                self._list(fact)
                self.poll_failed, self.answered_at = None, now
                self._seen(source, now)
            case PollFailed():
                if fact.modules or self.poll_failed is None:
                    self.poll_failed = fact
                if fact.failure is PollFailure.NEGATIVE:
                    self._seen(source, now)
            case FenceSeen():
                self.fence_seen = max(self.fence_seen, fact.fence)
            case BatchInstalled():
                self.baseline_done = True
                self._seen(source, now)
            case OrderResult():
                # Alone it is no sign of life.
                self.results.append((fact, now))
                self.source = source
            case BaselineQuery():
                pass

    def _list(self, modules: ModuleList) -> None:
        waiting = self.modules
        if waiting is not None and modules.unchanged and waiting.complete:
            # The waiting full list answers this newer question too.
            modules = replace(waiting, epoch=max(waiting.epoch, modules.epoch))
        self.modules = modules

    def _seen(self, source: Source, now: float) -> None:
        self.source, self.seen_at = source, now
