"""Which gateway is believed about a base: the one that was asked. Any may say what bases tell it unasked."""

from controlplane.domain.base.state import Base
from controlplane.domain.facts import (
    BatchInstalled,
    Fact,
    FenceSeen,
    GatewayInfo,
    Health,
    ModuleList,
    OrderResult,
    PollFailed,
)

EARLIER_OWNERS = 120.0
"""Seconds of a term in which gateways report what earlier owners ordered: twice as long as they keep installs."""
AHEAD = 365 * 86_400
"""Seconds by which the clock of who made a Lease may be ahead of ours: fences begin at the clock."""
TERMS = 16
"""Terms that may have begun above ours before we saw one, where the fence is further ahead than that."""


def disbelief(base: Base, fact: Fact | OrderResult, source: GatewayInfo, *, now: float, newest_fence: int) -> str:
    """Return why a gateway is not believed, as a word for metrics; empty if it is.

    now is monotonic; newest_fence is what a Lease that is made now begins with.
    """
    match fact:
        case Health() | ModuleList() | PollFailed() if source.gateway_id != base.gateway:
            return "not-asked"
        case OrderResult() if not _ordered(base, fact, source, now):
            return "not-ordered"
        case BatchInstalled() if source.tunnel is not base.profile.tunnel:
            return "other-tunnel"
        case FenceSeen() if fact.fence > max(newest_fence + AHEAD, base.fence + TERMS):
            return "fence"
    return ""


def _ordered(base: Base, result: OrderResult, source: GatewayInfo, now: float) -> bool:
    """Return whether an outcome comes from who carried the order out."""
    flights = (*base.modules.in_flight.values(), *base.modules.given_up)
    asked = [flight.gateway for flight in flights if flight.order_id == result.order_id]
    if asked:
        return source.key in asked
    polls = source.gateway_id == base.gateway
    return polls or (source.tunnel is base.profile.tunnel and now - base.term_began < EARLIER_OWNERS)
