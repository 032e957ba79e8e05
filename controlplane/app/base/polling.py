"""Who polls a base: keeps the Watch, and the claim, of one base with the gateways that are connected."""

from dataclasses import replace

from controlplane.app.gateways import GatewayDirectory, Link
from controlplane.domain.base import modules
from controlplane.domain.base.modules import Modules
from controlplane.domain.base.state import Base, Phase
from controlplane.domain.facts import Watch

ASK_APART = 0.2
"""Seconds between two Watches that only ask for a newer list."""

CONFIRMED_WITHIN = 2.0
"""Seconds for which a list that only confirms how orders ended is not asked for: one answers for many."""

TRY_ANOTHER = 8.0
"""Seconds for which a gateway is given to reach a base before another one tries: less than a base has to answer."""


class Polling:
    """Sends Watch and Claim when they are due; holds what was sent over which stream."""

    def __init__(self, gateways: GatewayDirectory) -> None:
        self._gateways = gateways
        self._claimed: dict[str, Link] = {}
        self._claimed_fence = 0
        self._version = -1
        self._chosen: Link | None = None
        self._watcher: Link | None = None
        self._watch: Watch | None = None
        self._watched_at = float("-inf")
        self._put_off_from = float("inf")
        """Since when there is something to ask that nothing waits for."""
        self._began_at = float("-inf")
        """When the gateway that polls the base now began to."""

    def choose(self, base: Base, now: float) -> tuple[Base, float | None]:
        """Return the base with the gateway that is to poll it, and when to choose again without news."""
        calm = base.phase is Phase.READY and not (base.signs.failing or base.modules.in_flight)
        chosen = self._gateways.choose(base.profile.tunnel, base.gateway, movable=calm)
        again_at = None
        if chosen is not None and chosen is self._watcher and base.signs.failing:
            other = self._gateways.other(chosen)
            if other is not None and now >= self._began_at + TRY_ANOTHER:
                chosen = other
            elif other is not None:
                again_at = self._began_at + TRY_ANOTHER
        self._chosen = chosen
        if chosen is None or base.gateway == chosen.info.gateway_id:
            return base, again_at
        return replace(base, gateway=chosen.info.gateway_id), again_at

    def send(self, base: Base, now: float, *, waits: bool = True) -> float | None:
        """Send what is due; return when to do so again, if something is held back.

        waits: there is something that waits for the next list.
        """
        if self._version != self._gateways.version or self._claimed_fence != base.fence:
            self._claim(base)
        chosen = self._chosen
        watch = Watch(base=base.id, fence=base.fence, address=base.profile.address, epoch=base.modules.epoch)
        if chosen is None or (chosen is self._watcher and watch == self._watch):
            return None
        if chosen is not self._watcher:
            self._unwatch(base)
            self._began_at = now
        elif now < (ask_at := self._ask_at(base.modules, watch, now, waits=waits)):
            return ask_at
        chosen.watch(watch)
        self._watcher, self._watch, self._watched_at = chosen, watch, now
        self._put_off_from = float("inf")
        return None

    def _ask_at(self, known: Modules, watch: Watch, now: float, *, waits: bool) -> float:
        """Return when the gateway that polls the base is to have the next Watch."""
        at, before = self._watched_at + ASK_APART, self._watch
        if waits or before is None or replace(before, epoch=watch.epoch) != watch:
            return at
        if not modules.only_confirms(known, before.epoch):
            return at
        self._put_off_from = min(self._put_off_from, now)
        return max(at, self._put_off_from + CONFIRMED_WITHIN)

    def end(self, base: Base) -> None:
        """Have the base polled no more and give it up."""
        self._unwatch(base)
        for link in self._claimed.values():
            link.release(base.id, base.fence)
        self._watcher, self._watch, self._claimed = None, None, {}

    def _claim(self, base: Base) -> None:
        links = {c.link.info.key: c.link for c in self._gateways.all()}
        for key, link in links.items():
            if self._claimed.get(key) is not link or self._claimed_fence != base.fence:
                link.claim(base.id, base.fence)
        self._claimed, self._claimed_fence, self._version = links, base.fence, self._gateways.version

    def _unwatch(self, base: Base) -> None:
        link = self._watcher
        current = self._gateways.get(link.info.gateway_id) if link is not None else None
        if link is not None and current is not None and current.link is link:
            link.unwatch(base.id, base.fence)
