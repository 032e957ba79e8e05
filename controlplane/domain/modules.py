"""The modules of one base: what is known, what is under way, what to do next.

State is immutable; each function returns the next one. Guarantees, for every
interleaving of lists, results, losses and changes of mind:

- one order under way per module name, at most ``Policy.orders`` per base;
- after an order on a name ended, or its outcome was lost, no further order on
  that name before a complete list that was asked for afterwards arrived
  (``needs`` holds the epoch that such a list carries at least);
- nothing is concluded from partial lists or from silence.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from controlplane.domain.backoff import CRASH_LOOP, QUICK
from controlplane.domain.facts import (
    Module,
    ModuleList,
    ModuleSpec,
    ModuleState,
    Order,
    OrderResult,
    Outcome,
    OutcomeUnknown,
    Refused,
    Reply,
    Verb,
)
from controlplane.domain.identity import ModuleKey, OrderId
from controlplane.domain.replies import Effect, Meaning, meaning

LISTED = frozenset({ModuleState.RESOLVED, ModuleState.ACTIVATED, ModuleState.DEACTIVATED, ModuleState.BROKEN})
"""States of a module that is there; anything else counts as absent."""

ASK_AGAIN = 3.0
"""Seconds until a busy base, or one whose list contradicts its reply, is tried again."""


@dataclass(frozen=True, slots=True)
class InFlight:
    """An order under way; until when an answer is awaited, and through which gateway."""

    order: Order
    deadline: float
    sent_at: float
    gateway: str


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why the last order on a module did not bring it where it should be.

    failures counts attempts that the base itself failed; refusals those that had
    no effect. not_before is None when trying again cannot help.
    """

    verb: Verb
    spec: ModuleSpec
    not_before: float | None
    reason: str = ""
    message: str = ""
    failures: int = 0
    refusals: int = 0


@dataclass(frozen=True, slots=True)
class Modules:
    """All that is known of the modules of a base. told is False until the first complete list."""

    told: bool = False
    epoch: int = 1
    present: Mapping[ModuleKey, Module] = field(default_factory=lambda: MappingProxyType({}))
    needs: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    in_flight: Mapping[str, InFlight] = field(default_factory=lambda: MappingProxyType({}))
    troubles: Mapping[ModuleKey, Trouble] = field(default_factory=lambda: MappingProxyType({}))
    owned: frozenset[ModuleKey] = frozenset()
    orphan_since: Mapping[ModuleKey, float] = field(default_factory=lambda: MappingProxyType({}))

    def settled(self, name: str) -> bool:
        """Nothing is under way for modules of this name and the list speaks for now."""
        return self.told and name not in self.in_flight and name not in self.needs

    def gone(self, key: ModuleKey) -> bool:
        """The base itself said, after our last order, that the module is not there."""
        return self.settled(key.name) and key not in self.present


@dataclass(frozen=True, slots=True)
class Ended:
    """An order ended: which, how, and how long it took in seconds."""

    order: Order
    meaning: Meaning
    seconds: float


def hear(state: Modules, heard: ModuleList, now: float) -> Modules:
    """Take a module list. Names with an order under way or owed a newer list keep what is known."""
    if not heard.complete:
        return state
    if heard.unchanged:
        # The same list as before answers a newer question.
        if not state.told:
            return state
        needs = {name: epoch for name, epoch in state.needs.items() if epoch > heard.epoch}
        return state if len(needs) == len(state.needs) else replace(state, needs=MappingProxyType(needs))
    kept = set(state.in_flight) | {name for name, epoch in state.needs.items() if epoch > heard.epoch}
    present = {key: module for key, module in state.present.items() if key.name in kept}
    present |= {m.key: m for m in heard.modules if m.key.name not in kept and m.state in LISTED}
    needs = {name: epoch for name, epoch in state.needs.items() if epoch > heard.epoch}
    troubles = {
        key: trouble for key, trouble in state.troubles.items() if key.name in kept or not _cured(trouble, present)
    }
    orphans = {key: since for key, since in state.orphan_since.items() if key in present}
    return replace(
        state,
        told=True,
        present=MappingProxyType(present),
        needs=MappingProxyType(needs),
        troubles=MappingProxyType(troubles),
        orphan_since=MappingProxyType(orphans),
    )


def _cured(trouble: Trouble, present: Mapping[ModuleKey, Module]) -> bool:
    module = present.get(trouble.spec.key)
    if trouble.verb is Verb.UNINSTALL:
        return module is None
    return module is not None and module.state is ModuleState.ACTIVATED


def begin(state: Modules, order: Order, *, now: float, deadline: float, gateway: str) -> Modules:
    """Note that an order is on its way."""
    flight = InFlight(order, deadline=deadline, sent_at=now, gateway=gateway)
    return replace(state, in_flight=MappingProxyType({**state.in_flight, order.module.key.name: flight}))


def end(state: Modules, result: OrderResult, *, now: float, chance: float) -> tuple[Modules, Ended | None]:
    """Take the outcome of an order; results of orders that are not under way change nothing."""
    flight = next((f for f in state.in_flight.values() if f.order.order_id == result.order_id), None)
    if flight is None:
        return state, None
    order = flight.order
    key, name = order.module.key, order.module.key.name
    told = _meaning(order, result.outcome)
    in_flight = {n: f for n, f in state.in_flight.items() if n != name}
    troubles = dict(state.troubles)
    present = dict(state.present)
    owned = state.owned
    trouble = _trouble(order, told, result.outcome, troubles.get(key), now, chance)
    if trouble is not None:
        troubles[key] = trouble
    elif key in troubles and (order.verb is not Verb.UNINSTALL or troubles[key].verb is Verb.UNINSTALL):
        # Removing a broken leftover does not make a failed install forgotten.
        del troubles[key]
    if told.effect is Effect.DONE:
        if order.verb is Verb.INSTALL:
            owned |= {key}
            if told.module is not None and told.module.state in LISTED:
                present[key] = told.module
        elif order.verb is Verb.UNINSTALL:
            present.pop(key, None)
            owned -= {key}
    epoch = state.epoch + 1
    after = replace(
        state,
        epoch=epoch,
        needs=MappingProxyType({**state.needs, name: epoch}),
        in_flight=MappingProxyType(in_flight),
        troubles=MappingProxyType(troubles),
        present=MappingProxyType(present),
        owned=owned,
    )
    return after, Ended(order, told, now - flight.sent_at)


def _meaning(order: Order, outcome: Outcome) -> Meaning:
    if isinstance(outcome, Reply):
        return meaning(order.verb, order.module.key, outcome)
    if isinstance(outcome, Refused):
        return Meaning(Effect.ASK, reason="BaseUnreachable", message=outcome.message or outcome.reason.name)
    return Meaning(Effect.ASK, reason="OutcomeUnknown", message=outcome.message)


def _trouble(
    order: Order, told: Meaning, outcome: Outcome, before: Trouble | None, now: float, chance: float
) -> Trouble | None:
    if before is not None and (before.spec != order.module or before.verb is not order.verb):
        before = None
    failures = before.failures if before else 0
    refusals = before.refusals if before else 0
    not_before: float | None
    if told.effect is Effect.DONE and (order.verb is Verb.UNINSTALL or told.module is not None):
        return None
    if told.effect is Effect.HOPELESS:
        failures, not_before = failures + 1, None
    elif told.effect is Effect.FAILED:
        failures += 1
        not_before = now + CRASH_LOOP.delay(failures, chance)
    elif isinstance(outcome, Refused):
        refusals += 1
        not_before = now + QUICK.delay(refusals, chance)
    else:
        # Busy, or the list decides; it may contradict the reply, which must not make a fast loop.
        not_before = now + ASK_AGAIN * (1 + chance)
    reason, message = told.reason, told.message
    if not reason and before is not None:
        reason, message = before.reason, before.message
    return Trouble(order.verb, order.module, not_before, reason, message, failures, refusals)


def overdue(state: Modules, now: float) -> tuple[OrderId, ...]:
    """Return the orders whose answer is not awaited any longer."""
    return tuple(f.order.order_id for f in state.in_flight.values() if f.deadline <= now)


def through(state: Modules, gateway: str) -> tuple[OrderId, ...]:
    """Return the orders under way through a gateway."""
    return tuple(f.order.order_id for f in state.in_flight.values() if f.gateway == gateway)


def lost(order_id: OrderId, why: str) -> OrderResult:
    """Return the result of an order whose answer will not come."""
    return OrderResult(order_id, OutcomeUnknown(why))


def recovered(state: Modules) -> Modules:
    """The base came back: what was put off may be tried now."""
    troubles = {key: replace(t, not_before=0.0) for key, t in state.troubles.items() if t.not_before is not None}
    return replace(state, troubles=MappingProxyType({**state.troubles, **troubles}))


def forget(state: Modules, wanted: Iterable[ModuleKey]) -> Modules:
    """Drop what went wrong with modules that nobody wants and that are not there."""
    keep = frozenset(wanted) | state.present.keys()
    if state.troubles.keys() <= keep:
        return state
    return replace(state, troubles=MappingProxyType({k: t for k, t in state.troubles.items() if k in keep}))


def ask_again(state: Modules) -> Modules:
    """Something changed the modules without an order of ours: a new epoch makes the gateway ask at once."""
    return replace(state, epoch=state.epoch + 1)


def adopt(state: Modules, keys: Iterable[ModuleKey]) -> Modules:
    """Count modules as ours: a Pod wants them, or the Node says that we installed them."""
    owned = state.owned | frozenset(keys)
    return state if owned == state.owned else replace(state, owned=owned)
