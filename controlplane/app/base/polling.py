"""Who polls a base: keeps the Watch, and the claim, of one base with the gateways that are connected."""

from __future__ import annotations

from controlplane.app.base.state import Base
from controlplane.app.gateways import GatewayDirectory, Link
from controlplane.app.policy import Policy
from controlplane.app.ports import Clock
from controlplane.domain.facts import Watch

ASK_APART = 0.2
"""Seconds between two Watches that only ask for a newer list."""

TRY_ANOTHER = 8.0
"""Seconds for which a gateway is given to reach a base before another one tries: less than a base has to answer."""


class Polling:
    """Sends Watch and Claim when they are due; holds what was sent to which session."""

    def __init__(self, base: Base, gateways: GatewayDirectory, policy: Policy, clock: Clock) -> None:
        self._base = base
        self._gateways = gateways
        self._timing = policy.timing
        self._clock = clock
        self._claimed: dict[str, Link] = {}
        self._claimed_fence = 0
        self._version = -1
        self._watcher: Link | None = None
        self._watch: Watch | None = None
        self._watched_at = float("-inf")
        self._began_at = float("-inf")
        """When the gateway that polls the base now began to."""

    def run(self, now: float) -> float | None:
        """Send what is due; return when to run again, if something is being held back."""
        base = self._base
        if self._version != self._gateways.version or self._claimed_fence != base.fence:
            self._claim()
        chosen = self._gateways.choose(base.profile.tunnel, base.gateway)
        if chosen is None:
            return None
        another_at = self._began_at + TRY_ANOTHER if base.failing and chosen.link is self._watcher else None
        if another_at is not None and (other := self._gateways.other(chosen)) is not None:
            if now >= another_at:
                chosen = other
        else:
            another_at = None
        watch = Watch(
            base=base.id,
            fence=base.fence,
            address=base.profile.address,
            epoch=base.modules.epoch,
            modules_interval=self._timing.modules_interval,
            health_interval=self._timing.health_interval,
            silent_health_interval=self._timing.silent_health_interval,
        )
        if chosen.link is self._watcher and watch == self._watch:
            return another_at
        if chosen.link is self._watcher and now < self._watched_at + ASK_APART:
            return self._watched_at + ASK_APART
        if self._watcher is not None and chosen.link is not self._watcher:
            self._unwatch(self._watcher)
        chosen.link.watch(watch)
        chosen.watched.add(base.id)
        base.gateway = chosen.link.info.gateway_id
        if chosen.link is not self._watcher:
            self._began_at = now
        self._watcher, self._watch, self._watched_at = chosen.link, watch, now
        return None

    def end(self) -> None:
        """Have the base polled no more and give it up."""
        if self._watcher is not None:
            self._unwatch(self._watcher)
        for link in self._claimed.values():
            link.release(self._base.id, self._base.fence)
        self._watcher, self._watch, self._claimed = None, None, {}

    def _claim(self) -> None:
        base = self._base
        links = {c.link.info.key: c.link for c in self._gateways.all()}
        for key, link in links.items():
            if self._claimed.get(key) is not link or self._claimed_fence != base.fence:
                link.claim(base.id, base.fence)
        self._claimed, self._claimed_fence, self._version = links, base.fence, self._gateways.version

    def _unwatch(self, link: Link) -> None:
        current = self._gateways.get(link.info.gateway_id)
        if current is not None and current.link is link:
            link.unwatch(self._base.id, self._base.fence)
            current.watched.discard(self._base.id)
