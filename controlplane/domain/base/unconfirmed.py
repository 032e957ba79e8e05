"""Orders that stay without an answer: when they are given up, and when the base is asked what it does.

Over MQTT a command is lost without a word when it meets a base that is away from the broker. Waiting for the order's
deadline would cost minutes, so that the base is asked for its modules much sooner; that it still works on an order is
seen by a module that is RESOLVED, or by the conflict with which it refuses the order sent again.
"""

from collections.abc import Set
from dataclasses import replace

from controlplane.domain.base.modules import Modules
from controlplane.domain.base.releases import Release
from controlplane.domain.facts import ModuleList, ModuleSpec, ModuleState, Verb
from controlplane.domain.identity import OrderId

OVER_MQTT = 30.0
"""Seconds without an answer over MQTT after which the base is asked whether it works on an order."""

OVER_NEW_STREAM = 5.0
"""Seconds after which a base is asked for an order whose stream ended, though its gateway is connected again: the
gateway may never have read it. So it is for an order to a base that started meanwhile."""

UNWANTED = 10.0
"""Seconds for which an install that no Pod wants any more is awaited before the base is asked about it."""

AGAIN = 15.0
"""Seconds until the base is asked again about an order that it works on."""


def ask(state: Modules, now: float) -> Modules:
    """Ask for a list on behalf of orders that are under way for suspiciously long."""
    due = {n for n, f in state.in_flight.items() if f.asked is None and f.ask_at is not None and f.ask_at <= now}
    if not due:
        return state
    epoch = state.epoch + 1
    flights = {n: replace(f, asked=epoch, asked_before=True) if n in due else f for n, f in state.in_flight.items()}
    return replace(state, epoch=epoch, in_flight=flights)


def unwanted(state: Modules, wanted: Set[tuple[ModuleSpec, Release]], now: float) -> Modules:
    """Doubt the installs under way that are for nothing that is wanted now."""
    for flight in state.in_flight.values():
        if flight.verb is Verb.INSTALL and (flight.spec, flight.release) not in wanted:
            state = ask_by(state, flight.order_id, now + UNWANTED)
    return state


def started(state: Modules, now: float) -> Modules:
    """Doubt all that is under way: a base that starts knows nothing of what was sent to it before."""
    for flight in state.in_flight.values():
        state = ask_by(state, flight.order_id, max(now, flight.sent_at + OVER_NEW_STREAM))
    return state


def ask_by(state: Modules, order_id: OrderId, at: float) -> Modules:
    """Doubt an order at a certain time, unless the base is or was asked about it earlier."""
    late = {
        n: replace(f, ask_at=at)
        for n, f in state.in_flight.items()
        if f.order_id == order_id and not f.asked_before and (f.ask_at is None or f.ask_at > at)
    }
    return replace(state, in_flight={**state.in_flight, **late}) if late else state


def undelivered(state: Modules, listed: ModuleList, *, again_at: float) -> tuple[Modules, tuple[OrderId, ...]]:
    """Return the orders asked about of which this list shows that no answer need be awaited, to be given up as lost.

    The base works on a module that is RESOLVED, so it is asked again about that order at again_at. In every other state
    there is nothing to lose: either the effect is there already, or sending the order again has it or is refused as a
    duplicate.
    """
    asked = {n: f for n, f in state.in_flight.items() if f.asked is not None and listed.epoch >= f.asked}
    if not asked or not listed.complete or listed.unchanged:
        return state, ()
    states = {module.key: module.state for module in listed.modules}
    busy = {f.order_id for f in asked.values() if states.get(f.spec.key) is ModuleState.RESOLVED}
    flights = {
        n: replace(f, asked=None, ask_at=again_at) if f.order_id in busy and n in asked else f
        for n, f in state.in_flight.items()
    }
    lost_ids = dict.fromkeys(f.order_id for f in asked.values() if f.order_id not in busy)
    return replace(state, in_flight=flights), tuple(lost_ids)
