"""How orders end, and what that means for the modules of a base.

The end of an order decides little by itself: it raises the epoch, and the next list says what is true. What it leaves
behind is the trouble that delays the next attempt and that a Pod shows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias, TypeVar

from controlplane.domain.backoff import CONTEXT_PATH, CRASH_LOOP, LOOK_AGAIN, QUICK
from controlplane.domain.base.modules import LISTED, MAY_STILL_COME, InFlight, Modules, Trouble
from controlplane.domain.base.releases import MISTAKEN
from controlplane.domain.base.replies import CONTEXT_PATH_TAKEN, Effect, Meaning, batch_meaning, meaning
from controlplane.domain.facts import (
    BatchInstalled,
    ModuleSpec,
    ModuleState,
    OrderResult,
    Outcome,
    OutcomeUnknown,
    Refusal,
    Refused,
    Reply,
    Verb,
)
from controlplane.domain.identity import ModuleKey, OrderId
from controlplane.domain.sharing import shared

T = TypeVar("T")

GIVEN_UP_KEPT = 64
"""Modules of a base for which the answer to an order that was given up is remembered to be of interest."""

OPERATIONS_OF_A_MODULE = 10
OPERATIONS_OF_A_BASE = 100
MESSAGE_LIMIT = 500
"""Characters of a message that are remembered."""

_TRIED = frozenset({Effect.FAILED, Effect.PERMANENT})


@dataclass(frozen=True, slots=True)
class Ended:
    """What an order did to one module: which, how, and how long it took in seconds."""

    verb: Verb
    spec: ModuleSpec
    meaning: Meaning
    seconds: float


@dataclass(frozen=True, slots=True)
class Operation:
    """An order that ended at wall, in seconds since the epoch."""

    wall: float
    ended: Ended


History: TypeAlias = tuple[Operation, ...]
"""The last operations on the modules of one base, oldest first: for people who ask what happened to a module."""


def remember(history: History, ended: Ended, *, wall: float) -> History:
    """Return the history with an order that ended now; of each module and each base the oldest are forgotten first."""
    message = ended.meaning.message[:MESSAGE_LIMIT]
    meaning = shared(replace(ended.meaning, message=message, module=None), len(message))
    of_module = [operation for operation in history if operation.ended.spec.key == ended.spec.key]
    if len(of_module) >= OPERATIONS_OF_A_MODULE:
        history = tuple(operation for operation in history if operation is not of_module[0])
    return (*history, Operation(wall, replace(ended, meaning=meaning)))[-OPERATIONS_OF_A_BASE:]


def end(
    state: Modules, result: OrderResult, *, now: float, chance: float, restarts: Mapping[ModuleKey, int] | None = None
) -> tuple[Modules, tuple[Ended, ...]]:
    """Take the outcome of an order; of those that are not under way only the failure of one that was given up counts.

    restarts is how many failures the Pods of the modules show already.
    """
    restarts = restarts or {}
    flights = [flight for flight in state.in_flight.values() if flight.order_id == result.order_id]
    if not flights:
        return _late(state, result, now, chance, restarts)
    names = {flight.spec.key.name for flight in flights}
    epoch = state.epoch + 1
    state = replace(
        state,
        epoch=epoch,
        needs={**state.needs, **dict.fromkeys(names, epoch)},
        in_flight={n: f for n, f in state.in_flight.items() if n not in names},
    )
    ended = []
    for flight in flights:
        meant = _meaning(flight, result.outcome, batch=len(flights) > 1)
        out_of_service = meant.module is not None and meant.module.state is ModuleState.DEACTIVATED
        if out_of_service and flight.spec.key.name in state.alone:
            # It was installed with no other version in its way.
            message = "the base started it, but keeps it out of service"
            meant = replace(meant, effect=Effect.FAILED, reason="Deactivated", message=message)
        state = _note_trouble(state, flight, meant, result.outcome, now, chance, restarts)
        state = _note_effect(state, flight, meant, result.outcome, now)
        ended.append(Ended(flight.verb, flight.spec, meant, max(now - flight.sent_at, 0.0)))
    if isinstance(result.outcome, OutcomeUnknown):
        given_up = (*state.given_up, *(flight for flight in flights if flight.verb is Verb.INSTALL))
        state = replace(state, given_up=given_up[-GIVEN_UP_KEPT:])
    return state, tuple(ended)


def _late(
    state: Modules, result: OrderResult, now: float, chance: float, restarts: Mapping[ModuleKey, int]
) -> tuple[Modules, tuple[Ended, ...]]:
    """Take the answer to an order that was given up: it says why the base failed, if it did and nothing came since."""
    flights = [flight for flight in state.given_up if flight.order_id == result.order_id]
    if not flights or isinstance(result.outcome, OutcomeUnknown):
        return state, ()
    ended = []
    for flight in flights:
        key = flight.spec.key
        meant = _meaning(flight, result.outcome, batch=len(flights) > 1)
        module, trouble = state.present.get(key), state.troubles.get(key)
        overtaken = key.name in state.in_flight or (module is not None and module.state is ModuleState.ACTIVATED)
        if meant.effect not in _TRIED or overtaken or (trouble is not None and trouble.spec != flight.spec):
            continue
        state = _note_trouble(state, flight, meant, result.outcome, now, chance, restarts)
        ended.append(Ended(flight.verb, flight.spec, meant, max(now - flight.sent_at, 0.0)))
    given_up = tuple(flight for flight in state.given_up if flight.order_id != result.order_id)
    return replace(state, epoch=state.epoch + 1, given_up=given_up), tuple(ended)


def _note_trouble(
    state: Modules,
    flight: InFlight,
    meant: Meaning,
    outcome: Outcome,
    now: float,
    chance: float,
    restarts: Mapping[ModuleKey, int],
) -> Modules:
    key, before = flight.spec.key, state.troubles.get(flight.spec.key)
    if meant.effect is Effect.DONE and (flight.verb is Verb.UNINSTALL or meant.module is not None):
        # Removing a broken leftover does not make a failed install forgotten.
        if flight.verb is Verb.UNINSTALL and before is not None and before.verb is not Verb.UNINSTALL:
            return state
        return replace(state, troubles=_without(state.troubles, key)) if before is not None else state
    if before is None or (before.verb, before.spec) != (flight.verb, flight.spec):
        before = Trouble(flight.verb, flight.spec, not_before=None)
    trouble = replace(before, restarts=max(before.restarts, restarts.get(key, 0)))
    if meant.reason:
        trouble = replace(trouble, reason=meant.reason, message=meant.message)
    if meant.effect in _TRIED:
        trouble = replace(trouble, failures=trouble.failures + 1, restarts=trouble.restarts + 1)
    not_before: float | None
    match meant.effect:
        case Effect.PERMANENT:
            not_before = None
        case Effect.FAILED:
            pace = CONTEXT_PATH if meant.reason == CONTEXT_PATH_TAKEN else CRASH_LOOP
            not_before = now + pace.delay(trouble.failures, chance)
        case Effect.ALONE:
            not_before = now
        case _:
            # Refused, busy, or the list decides; it may contradict the reply, which must not make a fast loop.
            trouble = replace(trouble, refusals=trouble.refusals + 1)
            pace = QUICK if isinstance(outcome, Refused) else LOOK_AGAIN
            not_before = now + pace.delay(trouble.refusals, chance)
    return replace(state, troubles={**state.troubles, key: replace(trouble, not_before=not_before)})


def _note_effect(state: Modules, flight: InFlight, meant: Meaning, outcome: Outcome, now: float) -> Modules:
    if flight.verb is Verb.INSTALL:
        return _note_install(state, flight, meant, outcome, now)
    key = flight.spec.key
    if flight.verb is Verb.UNINSTALL and meant.effect is Effect.DONE:
        gone = replace(
            state,
            present=_without(state.present, key),
            owned=_without(state.owned, key),
            awaited=_without(state.awaited, key),
            failed=state.failed - {key},
        )
        return _path_free(gone, now)
    return state


def _note_install(state: Modules, flight: InFlight, meant: Meaning, outcome: Outcome, now: float) -> Modules:
    """Note what is ours after an install ended: what it left there, or may still leave there."""
    key, owned = flight.spec.key, {**state.owned, flight.spec.key: flight.release}
    if meant.effect is Effect.DONE:
        present = dict(state.present)
        if meant.module is not None and meant.module.state in LISTED:
            present[key] = meant.module
        return replace(state, present=present, owned=owned, failed=state.failed - {key})
    if isinstance(outcome, OutcomeUnknown) or meant.effect is Effect.BUSY:
        # It may still be under way.
        awaited = {**state.awaited, key: now + MAY_STILL_COME}
        return replace(state, owned=owned, awaited=awaited)
    if meant.effect is Effect.FAILED and key not in state.owned:
        # The next list shows whether it left something; what comes there later was put there by somebody else.
        return replace(state, owned=owned, failed=state.failed | {key})
    if meant.others:
        return _note_mistaken(state, meant.others)
    return state


def _note_mistaken(state: Modules, others: tuple[ModuleKey, ...]) -> Modules:
    """Our order installed other modules than were asked for: they are ours, and the next list has them."""
    new = tuple(key for key in others if key not in state.present)
    return replace(
        state,
        needs={**state.needs, **{key.name: state.epoch for key in new}},
        owned={**state.owned, **dict.fromkeys(new, MISTAKEN)},
    )


def _path_free(state: Modules, now: float) -> Modules:
    """A module left: what waits for its web context path may be tried."""
    waiting = {k: replace(t, not_before=now) for k, t in state.troubles.items() if t.reason == CONTEXT_PATH_TAKEN}
    return replace(state, troubles={**state.troubles, **waiting}) if waiting else state


def _without(mapping: Mapping[ModuleKey, T], key: ModuleKey) -> Mapping[ModuleKey, T]:
    return {k: value for k, value in mapping.items() if k != key} if key in mapping else mapping


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


def installed(outcome: Outcome) -> tuple[ModuleKey, ...]:
    """Return the modules that an order installed, by its outcome alone."""
    match outcome:
        case Reply():
            return tuple(module.key for module in outcome.modules)
        case BatchInstalled():
            return tuple(module.key for _, reply in outcome.items for module in reply.modules)
        case _:
            return ()


def lost(order_id: OrderId, why: str) -> OrderResult:
    """Return the result of an order whose answer will not come."""
    return OrderResult(order_id, OutcomeUnknown(why))
