"""The gateways that are connected now, and which of them serves a base."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from controlplane.domain.facts import Order, TunnelKind, Watch
from controlplane.domain.identity import BaseId
from controlplane.domain.workloads.baselines import Baseline


@dataclass(frozen=True, slots=True)
class GatewayInfo:
    """Who a gateway says it is. instance changes with each start of its process."""

    gateway_id: str
    instance: str
    tunnel: TunnelKind
    version: str
    connected_wall: float

    @property
    def key(self) -> str:
        """Names this run of this gateway."""
        return f"{self.gateway_id}/{self.instance}"


RETURN_WITHIN = 15.0
"""Seconds that a lost gateway is given to come back with the results that it keeps."""


class Link(Protocol):
    """One gateway's session, for sending. Sending never blocks.

    What is sent waits in the session, newer Watches and claims of a base replacing
    older ones; what a lost session had not sent is not lost: it is sent again when
    the gateway is back, or the order's outcome counts as unknown.
    """

    @property
    def info(self) -> GatewayInfo:
        """Who it is."""

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
    """A link and what the gateway said of its transport."""

    link: Link
    tunnel_up: bool = True
    tunnel_reason: str = ""
    watched: set[BaseId] = field(default_factory=set)


class GatewayDirectory:
    """All connected gateways by id.

    Subscribers are told the tunnel kind whenever a gateway of it came, went, or
    changed what it says of its transport.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._connected: dict[str, Connected] = {}
        self._up_since: dict[TunnelKind, float] = {}
        self._lost_at: dict[str, float] = {}
        self._subscribers: list[Callable[[TunnelKind], None]] = []
        self.version = 0

    def subscribe(self, handler: Callable[[TunnelKind], None]) -> None:
        """Call handler after each change."""
        self._subscribers.append(handler)

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
            self._changed(link.info.tunnel)

    def tunnel_state(self, link: Link, *, up: bool, reason: str) -> None:
        """A gateway tells whether it reaches its transport."""
        current = self._connected.get(link.info.gateway_id)
        if current is not None and current.link is link:
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

    def choose(self, kind: TunnelKind, preferred: str) -> Connected | None:
        """Return the gateway to work with: the preferred one while it serves, else the least loaded."""
        current = self._connected.get(preferred)
        if current is not None and current.tunnel_up and current.link.info.tunnel is kind:
            return current
        serving = [c for c in self._connected.values() if c.tunnel_up and c.link.info.tunnel is kind]
        return min(serving, key=lambda c: len(c.watched), default=None)

    def other(self, than: Connected) -> Connected | None:
        """Return another gateway that serves the same tunnel, the least loaded one."""
        kind = than.link.info.tunnel
        serving = [c for c in self._connected.values() if c.tunnel_up and c.link.info.tunnel is kind and c is not than]
        return min(serving, key=lambda c: len(c.watched), default=None)

    def up_since(self, kind: TunnelKind) -> float | None:
        """Return since when any gateway serves this tunnel, on the monotonic clock; None: none does."""
        return self._up_since.get(kind)

    def why_down(self, kind: TunnelKind) -> str:
        """Say in words why no gateway serves this tunnel; empty when one does."""
        if kind in self._up_since:
            return ""
        reasons = [c.tunnel_reason for c in self._connected.values() if c.link.info.tunnel is kind]
        return next((r for r in reasons if r), f"no {kind.value} gateway is connected")

    def _changed(self, kind: TunnelKind) -> None:
        self.version += 1
        serving = any(c.tunnel_up and c.link.info.tunnel is kind for c in self._connected.values())
        if not serving:
            self._up_since.pop(kind, None)
        else:
            self._up_since.setdefault(kind, self._now())
        for handler in self._subscribers:
            handler(kind)
