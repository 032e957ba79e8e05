"""What was heard of one base since its actor last looked.

Bounded without dropping anything that counts: newer heartbeats, health answers
and module lists replace older ones, and there are at most as many results as
there were orders.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from controlplane.domain.facts import Health, Heartbeat, ModuleList, OrderResult, PollFailed, PollFailure
from controlplane.domain.identity import ModuleKey


@dataclass(slots=True)
class News:
    """One look's worth: gateway is the one that last showed life of the base; times are monotonic."""

    heartbeat: Heartbeat | None = None
    deactivated: Heartbeat | None = None
    health: Health | None = None
    modules: ModuleList | None = None
    results: list[tuple[OrderResult, float]] = field(default_factory=list)
    gateway: str = ""
    heard_at: float | None = None
    answered_at: float | None = None
    poll_failed: PollFailed | None = None
    baseline: bool = False
    fence_seen: int = 0
    given: tuple[ModuleKey, ...] = ()


class Inbox:
    """Collects news; wake is called after each piece."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._news = News()

    def take(self) -> News:
        """Return the news and begin anew."""
        news, self._news = self._news, News()
        return news

    def heartbeat(self, heartbeat: Heartbeat, gateway: str) -> None:
        """The base beat. Whether it is who it says it is is judged by the actor."""
        self._news.heartbeat = heartbeat
        self._news.gateway = gateway
        self._wake()

    def deactivated(self, heartbeat: Heartbeat) -> None:
        """The base said that it goes away."""
        self._news.deactivated = heartbeat
        self._wake()

    def health(self, health: Health, gateway: str, now: float) -> None:
        """The base answered a health question."""
        self._news.health = health
        self._heard(gateway, now)

    def modules(self, modules: ModuleList, gateway: str, now: float) -> None:
        """The base told its modules."""
        waiting = self._news.modules
        if waiting is not None and modules.unchanged and waiting.complete:
            # The waiting full list answers this newer question too.
            modules = replace(waiting, epoch=max(waiting.epoch, modules.epoch))
        self._news.modules = modules
        self._news.poll_failed = None
        self._news.answered_at = now
        self._heard(gateway, now)

    def fence_seen(self, fence: int) -> None:
        """A gateway has seen a fence, perhaps a higher one than ours."""
        self._news.fence_seen = max(self._news.fence_seen, fence)
        self._wake()

    def poll_failed(self, failed: PollFailed, gateway: str, now: float) -> None:
        """The base could not be asked."""
        if failed.modules or self._news.poll_failed is None:
            self._news.poll_failed = failed
        if failed.failure is PollFailure.NEGATIVE:
            self._heard(gateway, now)
        self._wake()

    def baseline(self, gateway: str, now: float) -> None:
        """The base told how its baseline went: its modules changed."""
        self._news.baseline = True
        self._heard(gateway, now)

    def given(self, modules: Iterable[ModuleKey]) -> None:
        """The base asked for a baseline and was given these modules."""
        self._news.given += tuple(modules)
        self._wake()

    def result(self, result: OrderResult, gateway: str, now: float) -> None:
        """An order ended; alone it is no sign of life."""
        self._news.results.append((result, now))
        self._news.gateway = gateway or self._news.gateway
        self._wake()

    def _heard(self, gateway: str, now: float) -> None:
        self._news.gateway = gateway
        self._news.heard_at = now
        self._wake()
