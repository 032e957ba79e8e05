"""The gateways that are connected now, and which of them serves a base."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Protocol

from controlplane.app.metrics import GATEWAYS
from controlplane.app.roster import Roster
from controlplane.domain.base.hearing import Heard
from controlplane.domain.facts import GatewayInfo, Order, TunnelKind, Watch
from controlplane.domain.identity import BaseId
from controlplane.domain.workloads.baselines import Baseline

RETURN_WITHIN = 15.0
"""Seconds that a lost gateway is given to come back with the results that it keeps."""
LATE = 5.0
"""Seconds for which nothing came of a gateway that goes, from which on bases count as not heard meanwhile."""

MORE = 1.1
"""How many times its share of the bases a gateway may have before some move."""
EVEN_WITHIN = 30.0
"""Seconds in which as many bases may move as there are: half of them do where a second gateway joins the first."""


class Link(Protocol):
    """One gateway's session, for sending. Sending never blocks.

    What is sent waits in the session, newer Watches and claims of a base replacing older ones; what a lost session had
    not sent is not lost: it is sent again when the gateway is back, or the order's outcome counts as unknown.
    """

    @property
    def info(self) -> GatewayInfo:
        """Who it is."""

    @property
    def heard(self) -> Heard:
        """What has arrived of what it learned."""

    def order(self, order: Order) -> None:
        """Send an order."""

    def watch(self, watch: Watch) -> None:
        """Have a base polled."""

    def unwatch(self, base: BaseId, fence: int) -> None:
        """Have a base polled no more."""

    def claim(self, base: BaseId, fence: int) -> None:
        """Say that this replica owns the base."""

    def release(self, base: BaseId, fence: int) -> None:
        """Say that this replica owns the base no more."""

    def baseline(self, base: BaseId, query_id: str, given: Baseline) -> None:
        """Answer a baseline query; name, version and image of each container count."""


@dataclass(slots=True)
class Connected:
    """A link and what the gateway reports of its transport."""

    link: Link
    tunnel_up: bool = True
    tunnel_reason: str = ""


class GatewayDirectory:
    """All connected gateways by id.

    When one came, went, or reports something else of its transport, the actors of bases that use its tunnel look again.
    """

    def __init__(self, now: Callable[[], float], roster: Roster) -> None:
        self._now = now
        self._roster = roster
        self._connected: dict[str, Connected] = {}
        self.up_since: dict[TunnelKind, float] = {}
        """Since when any gateway serves a tunnel, on the monotonic clock; those that none serves are left out."""
        self._lost_at: dict[str, float] = {}
        self._gaps: dict[TunnelKind, float] = {}
        """Since when nothing was lost on the way through gateways that are gone or reach nothing, by tunnel."""
        self.version = 0
        self._next_move_at = float("-inf")

    def connected(self, link: Link) -> None:
        """A gateway's session begins; an older one of the same gateway is forgotten."""
        self._connected[link.info.gateway_id] = Connected(link)
        self._lost_at.pop(link.info.key, None)
        self._changed(link.info.tunnel)

    def lost(self, link: Link) -> None:
        """A gateway's session ended."""
        current = self._connected.get(link.info.gateway_id)
        if current is not None and current.link is link:
            del self._connected[link.info.gateway_id]
            now = self._now()
            self._lost_at = {key: at for key, at in self._lost_at.items() if now - at < RETURN_WITHIN}
            self._lost_at[link.info.key] = now
            self._note_gap(link)
            self._changed(link.info.tunnel)

    def tunnel_state(self, link: Link, *, up: bool, reason: str) -> None:
        """A gateway says whether it reaches its transport."""
        current = self._connected.get(link.info.gateway_id)
        if current is not None and current.link is link:
            if current.tunnel_up and not up:
                self._note_gap(link)
            current.tunnel_up, current.tunnel_reason = up, reason
            self._changed(link.info.tunnel)

    def get(self, gateway_id: str) -> Connected | None:
        """Return a connected gateway."""
        return self._connected.get(gateway_id)

    def all(self) -> Iterable[Connected]:
        """Return the connected gateways."""
        return tuple(self._connected.values())

    def given_up_at(self, key: str) -> float | None:
        """Return when results of this run of a gateway are not awaited any more; None while it is connected.

        A run that another run of the same gateway replaced is given up at once.
        """
        gateway_id, _, instance = key.rpartition("/")
        current = self._connected.get(gateway_id)
        if current is not None:
            return None if current.link.info.instance == instance else 0.0
        lost_at = self._lost_at.get(key)
        return 0.0 if lost_at is None else lost_at + RETURN_WITHIN

    def choose(self, kind: TunnelKind, preferred: str, *, movable: bool = False) -> Link | None:
        """Return the gateway to use: the preferred one while it serves, else the one with the fewest bases.

        One that is movable goes from a gateway that has more than its share to that one; whoever asks gets it then.
        """
        known = self._connected.get(preferred)
        if not movable and known is not None and self._serves(known, kind):
            return known.link
        serving = {c.link.info.gateway_id: c.link for c in self._connected.values() if self._serves(c, kind)}
        least, current = self._least(serving.values()), serving.get(preferred)
        if current is None or least is None:
            return least
        return least if movable and self._moves(current, least, serving) else current

    def _moves(self, current: Link, least: Link, serving: Collection[str]) -> bool:
        """Return whether a base is to move now; moves are spread over the time in which they are to be done."""
        load, now = self._roster.load, self._now()
        has, total = load[current.info.gateway_id], sum(load[gateway] for gateway in serving)
        mean = total / len(serving)
        if now < self._next_move_at or has <= max(mean * MORE, mean + 1.0) or has - load[least.info.gateway_id] < 2:
            return False
        self._next_move_at = now + EVEN_WITHIN / total
        return True

    def other(self, than: Link) -> Link | None:
        """Return another gateway that serves the same tunnel, the one with the fewest bases."""
        kind = than.info.tunnel
        return self._least(c.link for c in self._connected.values() if self._serves(c, kind) and c.link is not than)

    def heard(self) -> dict[TunnelKind, Heard]:
        """Return what arrives over each tunnel that any gateway serves."""
        heard = {kind: Heard(since=max(at, self._gaps.get(kind, at))) for kind, at in self.up_since.items()}
        for connected in self._connected.values():
            if connected.tunnel_up:
                kind = connected.link.info.tunnel
                heard[kind] = heard[kind].both(connected.link.heard)
        return heard

    def _serves(self, connected: Connected, kind: TunnelKind) -> bool:
        return connected.tunnel_up and connected.link.info.tunnel is kind

    def _least(self, links: Iterable[Link]) -> Link | None:
        return min(links, key=lambda link: self._roster.load[link.info.gateway_id], default=None)

    def why_down(self, kind: TunnelKind) -> str:
        """Say in words why no gateway serves this tunnel; empty when one does."""
        if kind in self.up_since:
            return ""
        reasons = [c.tunnel_reason for c in self._connected.values() if c.link.info.tunnel is kind]
        return next((r for r in reasons if r), f"no {kind.value} gateway is connected")

    def _note_gap(self, link: Link) -> None:
        """Keep what is known of a gap in what a gateway passed on, which does not close because the gateway goes."""
        now, heard, kind = self._now(), link.heard, link.info.tunnel
        since = now if now - heard.until >= LATE else heard.since
        self._gaps[kind] = max(self._gaps.get(kind, since), since)

    def _changed(self, kind: TunnelKind) -> None:
        self.version += 1
        serving = any(self._serves(c, kind) for c in self._connected.values())
        if not serving:
            self.up_since.pop(kind, None)
        else:
            self.up_since.setdefault(kind, self._now())
        GATEWAYS.labels(kind.value).set(sum(c.link.info.tunnel is kind for c in self._connected.values()))
        users = (b.id for b in self._roster.bases() if b.profile.tunnel is kind or kind in b.signs.seen_over)
        self._roster.touch(self._now(), users)
