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

from controlplane.domain.backoff import CRASH_LOOP, LOOK_AGAIN, QUICK
from controlplane.domain.facts import (
    BatchInstalled,
    Module,
    ModuleList,
    ModuleSpec,
    ModuleState,
    Order,
    OrderResult,
    Outcome,
    OutcomeUnknown,
    Refusal,
    Refused,
    Reply,
    Verb,
)
from controlplane.domain.identity import ModuleKey, OrderId
from controlplane.domain.releases import UNKNOWN, Release
from controlplane.domain.replies import Effect, Meaning, batch_meaning, meaning

LISTED = frozenset({ModuleState.RESOLVED, ModuleState.ACTIVATED, ModuleState.DEACTIVATED, ModuleState.BROKEN})
"""States of a module that is there; anything else counts as absent."""

MAY_STILL_COME = 600.0
"""Seconds for which a module counts as ours after its install was given up: the base may be at it all that time."""


@dataclass(frozen=True, slots=True)
class InFlight:
    """A module's part in an order under way; until when an answer is awaited, and through which gateway.

    doubt_at is when it is worth asking the base (again) whether it works on the order;
    asked is the epoch of the list that will tell, doubted whether it was asked before.
    """

    order_id: OrderId
    verb: Verb
    spec: ModuleSpec
    release: Release
    deadline: float
    sent_at: float
    gateway: str
    doubt_at: float | None = None
    asked: int | None = None
    doubted: bool = False


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why the last order on a module did not bring it where it should be.

    failures counts attempts that the base itself failed, in a row; refusals those
    that had no effect or decided nothing; restarts is what the Pod shows. not_before
    is None when trying again cannot help.
    """

    verb: Verb
    spec: ModuleSpec
    not_before: float | None
    reason: str = ""
    message: str = ""
    failures: int = 0
    refusals: int = 0
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class Modules:
    """All that is known of the modules of a base.

    told is False until the first complete list. owned are the modules that we
    installed or that a Pod wants, with what they were installed from; of those that
    are not there, awaited tells until when they may still appear. alone are names
    of which the base cannot have two versions in service.
    """

    told: bool = False
    epoch: int = 1
    present: Mapping[ModuleKey, Module] = field(default_factory=lambda: MappingProxyType({}))
    needs: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    in_flight: Mapping[str, InFlight] = field(default_factory=lambda: MappingProxyType({}))
    troubles: Mapping[ModuleKey, Trouble] = field(default_factory=lambda: MappingProxyType({}))
    owned: Mapping[ModuleKey, Release] = field(default_factory=lambda: MappingProxyType({}))
    awaited: Mapping[ModuleKey, float] = field(default_factory=lambda: MappingProxyType({}))
    orphan_since: Mapping[ModuleKey, float] = field(default_factory=lambda: MappingProxyType({}))
    alone: frozenset[str] = frozenset()

    def settled(self, name: str) -> bool:
        """Nothing is under way for modules of this name and the list speaks for now."""
        return self.told and name not in self.in_flight and name not in self.needs

    def gone(self, key: ModuleKey) -> bool:
        """The base itself said, after our last order, that the module is not there."""
        return self.settled(key.name) and key not in self.present

    def serves_one(self, flight: InFlight) -> bool:
        """The module was installed with no other version in its way."""
        return flight.verb is Verb.INSTALL and flight.spec.key.name in self.alone

    def orders(self) -> frozenset[OrderId]:
        """Return the orders under way."""
        return frozenset(flight.order_id for flight in self.in_flight.values())


@dataclass(frozen=True, slots=True)
class Ended:
    """What an order did to one module: which, how, and how long it took in seconds."""

    verb: Verb
    spec: ModuleSpec
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


def begin(
    state: Modules,
    order: Order,
    releases: Mapping[ModuleKey, Release],
    *,
    now: float,
    deadline: float,
    gateway: str,
    doubt_at: float | None = None,
) -> Modules:
    """Note that an order is on its way; releases is what its modules are installed as."""
    flights = {
        spec.key.name: InFlight(
            order.order_id,
            order.verb,
            spec,
            releases.get(spec.key, UNKNOWN),
            deadline=deadline,
            sent_at=now,
            gateway=gateway,
            doubt_at=doubt_at,
        )
        for spec in order.modules
    }
    return replace(state, in_flight=MappingProxyType({**state.in_flight, **flights}))


def end(
    state: Modules, result: OrderResult, *, now: float, chance: float, restarts: Mapping[ModuleKey, int] | None = None
) -> tuple[Modules, tuple[Ended, ...]]:
    """Take the outcome of an order; results of orders that are not under way change nothing.

    restarts is how many failures the Pods of the modules show already.
    """
    flights = [flight for flight in state.in_flight.values() if flight.order_id == result.order_id]
    if not flights:
        return state, ()
    names = {flight.spec.key.name for flight in flights}
    epoch = state.epoch + 1
    state = replace(
        state,
        epoch=epoch,
        needs=MappingProxyType({**state.needs, **dict.fromkeys(names, epoch)}),
        in_flight=MappingProxyType({n: f for n, f in state.in_flight.items() if n not in names}),
    )
    ended = []
    for flight in flights:
        told = _meaning(flight, result.outcome, batch=len(flights) > 1)
        if told.module is not None and told.module.state is ModuleState.DEACTIVATED and state.serves_one(flight):
            told = Meaning(
                Effect.FAILED, told.module, "Deactivated", "the base started it, but keeps it out of service"
            )
        shown = (restarts or {}).get(flight.spec.key, 0)
        state = _note_trouble(state, flight, told, result.outcome, now, chance, shown)
        state = _note_effect(state, flight, told, result.outcome, now)
        ended.append(Ended(flight.verb, flight.spec, told, now - flight.sent_at))
    return state, tuple(ended)


def _note_trouble(
    state: Modules, flight: InFlight, told: Meaning, outcome: Outcome, now: float, chance: float, shown: int
) -> Modules:
    key = flight.spec.key
    troubles = dict(state.troubles)
    trouble = _trouble(flight, told, outcome, troubles.get(key), now, chance, shown)
    if trouble is not None:
        troubles[key] = trouble
    elif key in troubles and (flight.verb is not Verb.UNINSTALL or troubles[key].verb is Verb.UNINSTALL):
        # Removing a broken leftover does not make a failed install forgotten.
        del troubles[key]
    else:
        return state
    return replace(state, troubles=MappingProxyType(troubles))


def _note_effect(state: Modules, flight: InFlight, told: Meaning, outcome: Outcome, now: float) -> Modules:
    key = flight.spec.key
    present, owned, awaited = dict(state.present), dict(state.owned), dict(state.awaited)
    if flight.verb is Verb.INSTALL and told.effect is Effect.DONE:
        owned[key] = flight.release
        if told.module is not None and told.module.state in LISTED:
            present[key] = told.module
    elif flight.verb is Verb.INSTALL and isinstance(outcome, OutcomeUnknown):
        owned[key], awaited[key] = flight.release, now + MAY_STILL_COME
    elif flight.verb is Verb.INSTALL:
        # The jar said that it is another module than was asked for: that one is there now, through us.
        owned |= dict.fromkeys((module.key for module in told.others), UNKNOWN)
    elif flight.verb is Verb.UNINSTALL and told.effect is Effect.DONE:
        present.pop(key, None)
        owned.pop(key, None)
        awaited.pop(key, None)
    return replace(
        state,
        present=MappingProxyType(present),
        owned=MappingProxyType(owned),
        awaited=MappingProxyType(awaited),
    )


def _meaning(flight: InFlight, outcome: Outcome, *, batch: bool) -> Meaning:
    key = flight.spec.key
    if isinstance(outcome, Refused):
        if batch and outcome.reason is Refusal.UNSUPPORTED:
            return Meaning(Effect.ALONE, reason="BatchNotSupported", message=outcome.message)
        return Meaning(Effect.ASK, reason="BaseUnreachable", message=outcome.message or outcome.reason.name)
    if isinstance(outcome, OutcomeUnknown):
        return Meaning(Effect.ASK, reason="OutcomeUnknown", message=outcome.message)
    if isinstance(outcome, Reply) and not batch:
        return meaning(flight.verb, key, outcome)
    return batch_meaning(key, flight.spec.url, outcome)


def _trouble(
    flight: InFlight,
    told: Meaning,
    outcome: Outcome,
    before: Trouble | None,
    now: float,
    chance: float,
    shown: int,
) -> Trouble | None:
    if before is not None and (before.spec != flight.spec or before.verb is not flight.verb):
        before = None
    failures = before.failures if before else 0
    refusals = before.refusals if before else 0
    restarts = max(shown, before.restarts if before else 0)
    not_before: float | None
    if told.effect is Effect.DONE and (flight.verb is Verb.UNINSTALL or told.module is not None):
        return None
    if told.effect is Effect.HOPELESS:
        failures, restarts, not_before = failures + 1, restarts + 1, None
    elif told.effect is Effect.FAILED:
        failures, restarts = failures + 1, restarts + 1
        not_before = now + CRASH_LOOP.delay(failures, chance)
    elif told.effect is Effect.ALONE:
        not_before = now
    else:
        # Refused, busy, or the list decides; it may contradict the reply, which must not make a fast loop.
        refusals += 1
        pace = QUICK if isinstance(outcome, Refused) else LOOK_AGAIN
        not_before = now + pace.delay(refusals, chance)
    reason, message = told.reason, told.message
    if not reason and before is not None:
        reason, message = before.reason, before.message
    return Trouble(flight.verb, flight.spec, not_before, reason, message, failures, refusals, restarts)


def overdue(state: Modules, now: float) -> tuple[OrderId, ...]:
    """Return the orders whose answer is not awaited any longer."""
    return tuple(dict.fromkeys(f.order_id for f in state.in_flight.values() if f.deadline <= now))


def doubt(state: Modules, now: float) -> Modules:
    """Ask for a list on behalf of orders that are under way for suspiciously long."""
    due = {n for n, f in state.in_flight.items() if f.asked is None and f.doubt_at is not None and f.doubt_at <= now}
    if not due:
        return state
    epoch = state.epoch + 1
    flights = {n: replace(f, asked=epoch, doubted=True) if n in due else f for n, f in state.in_flight.items()}
    return replace(state, epoch=epoch, in_flight=MappingProxyType(flights))


def doubt_by(state: Modules, order_id: OrderId, at: float) -> Modules:
    """Doubt an order at a certain time, unless it is or was doubted earlier."""
    late = {
        n: replace(f, doubt_at=at)
        for n, f in state.in_flight.items()
        if f.order_id == order_id and not f.doubted and (f.doubt_at is None or f.doubt_at > at)
    }
    return replace(state, in_flight=MappingProxyType({**state.in_flight, **late})) if late else state


def undelivered(state: Modules, heard: ModuleList, *, again_at: float) -> tuple[Modules, tuple[OrderId, ...]]:
    """Return the doubted orders of which this list shows that no answer need be awaited, to be given up as lost.

    The base works on a module that is RESOLVED, so its order is doubted again at
    again_at. In every other state there is nothing to lose: either the effect is
    there already, or sending the order again has it or is refused as a duplicate.
    """
    asked = {n: f for n, f in state.in_flight.items() if f.asked is not None and heard.epoch >= f.asked}
    if not asked or not heard.complete or heard.unchanged:
        return state, ()
    states = {module.key: module.state for module in heard.modules}
    working = {n for n, f in asked.items() if states.get(f.spec.key) is ModuleState.RESOLVED}
    busy = {asked[n].order_id for n in working}
    flights = {
        n: replace(f, asked=None, doubt_at=again_at) if f.order_id in busy and n in asked else f
        for n, f in state.in_flight.items()
    }
    lost_ids = dict.fromkeys(f.order_id for f in asked.values() if f.order_id not in busy)
    return replace(state, in_flight=MappingProxyType(flights)), tuple(lost_ids)


def lost(order_id: OrderId, why: str) -> OrderResult:
    """Return the result of an order whose answer will not come."""
    return OrderResult(order_id, OutcomeUnknown(why))


def recovered(state: Modules) -> Modules:
    """The base came back: what was put off may be tried now."""
    troubles = {key: replace(t, not_before=0.0) for key, t in state.troubles.items() if t.not_before is not None}
    return replace(state, troubles=MappingProxyType({**state.troubles, **troubles}))


def forget(state: Modules, wanted: Iterable[ModuleKey], now: float) -> Modules:
    """Drop what is remembered of modules that nobody wants, that are not there and that will not come."""
    wanted = frozenset(wanted)
    keep = wanted | state.present.keys()
    if not state.troubles.keys() <= keep:
        state = replace(state, troubles=MappingProxyType({k: t for k, t in state.troubles.items() if k in keep}))
    over = {key for key, until in state.awaited.items() if until <= now or key in state.present}
    if over:
        state = replace(state, awaited=MappingProxyType({k: t for k, t in state.awaited.items() if k not in over}))
    gone = {k for k in state.owned if k not in keep and k not in state.awaited and state.settled(k.name)}
    if gone:
        state = replace(state, owned=MappingProxyType({k: r for k, r in state.owned.items() if k not in gone}))
    return state


def ask_again(state: Modules) -> Modules:
    """Something changed the modules without an order of ours: a new epoch makes the gateway ask at once."""
    return replace(state, epoch=state.epoch + 1)


def adopt(state: Modules, wanted: Mapping[ModuleKey, Release]) -> Modules:
    """Count modules that are there as ours because Pods want them; what they were installed from is not questioned."""
    new = {
        key: release
        for key, release in wanted.items()
        if key in state.present
        and key.name not in state.in_flight
        and (key not in state.owned or (release.digest and not state.owned[key].digest))
    }
    return replace(state, owned=MappingProxyType({**state.owned, **new})) if new else state


def remember(state: Modules, recorded: Mapping[ModuleKey, Release], now: float) -> Modules:
    """Take over what an earlier term recorded as ours; its installs may still be under way in the base."""
    awaited = dict.fromkeys(recorded, now + MAY_STILL_COME)
    return replace(state, owned=MappingProxyType(dict(recorded)), awaited=MappingProxyType(awaited))
