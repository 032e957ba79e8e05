"""A gateway's session that records what it is sent and, on request, answers for bases behind it."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from controlplane.domain.base.hearing import Heard
from controlplane.domain.facts import GatewayInfo, Order, TunnelKind, Watch
from controlplane.domain.identity import BaseId
from controlplane.domain.workloads.baselines import Baseline


@dataclass
class FakeLink:
    """Implements ``controlplane.app.gateways.Link``."""

    gateway_id: str = "gateway"
    instance: str = "1"
    tunnel: TunnelKind = TunnelKind.HTTP
    orders: list[Order] = field(default_factory=list)
    watches: deque[Watch] = field(default_factory=lambda: deque(maxlen=1000))
    unwatched: list[BaseId] = field(default_factory=list)
    claims: dict[BaseId, int] = field(default_factory=dict)
    released: list[BaseId] = field(default_factory=list)
    baselines: list[tuple[BaseId, str, Baseline]] = field(default_factory=list)
    heard: Heard = field(default_factory=Heard)
    on_order: Callable[[Order], None] | None = None
    on_watch: Callable[[Watch], None] | None = None

    @property
    def info(self) -> GatewayInfo:
        return GatewayInfo(self.gateway_id, self.instance, self.tunnel, "test", 0.0)

    def order(self, order: Order) -> None:
        self.orders.append(order)
        if self.on_order is not None:
            self.on_order(order)

    def watch(self, watch: Watch) -> None:
        self.watches.append(watch)
        if self.on_watch is not None:
            self.on_watch(watch)

    def unwatch(self, base: BaseId, fence: int) -> None:
        self.unwatched.append(base)

    def claim(self, base: BaseId, fence: int) -> None:
        assert fence >= self.claims.get(base, 0), "a fence must never fall"
        self.claims[base] = fence

    def release(self, base: BaseId, fence: int) -> None:
        self.released.append(base)

    def baseline(self, base: BaseId, query_id: str, given: Baseline) -> None:
        self.baselines.append((base, query_id, given))
