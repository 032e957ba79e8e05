"""The modules of one base: what is known, what is under way, what to do next.

State is immutable; each function returns the next one. Guarantees, for every interleaving of lists, results, losses and
changes of mind:

- one order under way per module name, at most ``Policy.orders`` per base;
- after an order on a name ended, or its outcome was lost, no further order on that name before a complete list that was
  asked for afterwards arrived (``needs`` holds the epoch that such a list carries at least);
- nothing is concluded from partial lists or from silence.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from controlplane.domain.base.releases import UNKNOWN, Release
from controlplane.domain.facts import Module, ModuleList, ModuleSpec, ModuleState, Verb
from controlplane.domain.identity import ModuleKey, OrderId

LISTED = frozenset({ModuleState.RESOLVED, ModuleState.ACTIVATED, ModuleState.DEACTIVATED, ModuleState.BROKEN})
"""States of a module that is there; anything else counts as absent."""

BASELINE_HOLD = 60.0
"""Seconds for which nothing is ordered that a starting base may be installing by itself, unless it reports the end."""

BASELINE_WAIT = 120.0
"""Seconds for which the Pod of a module that a base was given at its start may be late."""

EPOCHS_OF_A_TERM = 32
"""Bits that the epochs of one term need at most; a fence has 31 more."""

MAY_STILL_COME = 600.0
"""Seconds for which a module counts as ours after its install was given up: the base may be at it all that time."""


@dataclass(frozen=True, slots=True)
class InFlight:
    """A module's part in an order under way; until when an answer is awaited, and through which gateway.

    ask_at is when it is worth asking the base (again) whether it works on the order; asked is the epoch of the list
    that will show it, asked_before whether it was asked before.
    """

    order_id: OrderId
    verb: Verb
    spec: ModuleSpec
    release: Release
    deadline: float
    sent_at: float
    gateway: str
    ask_at: float | None = None
    asked: int | None = None
    asked_before: bool = False


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why the last order on a module did not bring it where it should be.

    failures counts attempts that the base itself failed, in a row; refusals those that had no effect or decided
    nothing; restarts is what the Pod shows. not_before is None when trying again cannot help.
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

    listed is False until the first complete list of our term, which begins with the epoch begins; list_epoch is the
    highest epoch of such a list. owned are the modules that we installed or that a Pod wants, with what they were
    installed from; of those that are not there, awaited says until when they may still appear; failed are those whose
    install failed: the next list shows whether it left them there, and only then they stay ours. spared are those of a
    baseline: until then being without a Pod does not count. alone are names of which the base cannot have two versions
    in service.
    """

    listed: bool = False
    list_epoch: int = 0
    epoch: int = 1
    begins: int = 0
    present: Mapping[ModuleKey, Module] = field(default_factory=dict)
    needs: Mapping[str, int] = field(default_factory=dict)
    in_flight: Mapping[str, InFlight] = field(default_factory=dict)
    troubles: Mapping[ModuleKey, Trouble] = field(default_factory=dict)
    owned: Mapping[ModuleKey, Release] = field(default_factory=dict)
    awaited: Mapping[ModuleKey, float] = field(default_factory=dict)
    orphan_since: Mapping[ModuleKey, float] = field(default_factory=dict)
    spared: Mapping[ModuleKey, float] = field(default_factory=dict)
    held: Mapping[str, float] = field(default_factory=dict)
    alone: frozenset[str] = frozenset()
    failed: frozenset[ModuleKey] = frozenset()
    given_up: tuple[InFlight, ...] = ()

    def settled(self, name: str) -> bool:
        """Nothing is under way for modules of this name and the list speaks for now."""
        return self.listed and name not in self.in_flight and name not in self.needs

    def gone(self, key: ModuleKey) -> bool:
        """The base itself said, after our last order, that the module is not there."""
        return self.settled(key.name) and key not in self.present

    def orders(self) -> frozenset[OrderId]:
        """Return the orders under way."""
        return frozenset(flight.order_id for flight in self.in_flight.values())


NO_MODULES = Modules()
"""Nothing is known yet."""


def take_list(state: Modules, listed: ModuleList) -> Modules:
    """Take a module list. Names with an order under way, or that need a newer list, keep what is known."""
    if not listed.complete or (not state.listed and (listed.unchanged or listed.epoch < state.begins)):
        return state
    if listed.epoch > state.list_epoch:
        state = replace(state, list_epoch=listed.epoch)
    needs = {name: epoch for name, epoch in state.needs.items() if epoch > listed.epoch}
    if listed.unchanged:
        # The same list as before answers a newer question.
        return replace(state, needs=needs) if needs != state.needs else state
    kept = state.in_flight.keys() | needs.keys()
    present = {key: module for key, module in state.present.items() if key.name in kept}
    present |= {m.key: m for m in listed.modules if m.key.name not in kept and m.state in LISTED}
    troubles = {
        key: trouble for key, trouble in state.troubles.items() if key.name in kept or not _cured(trouble, present)
    }
    orphans = {key: since for key, since in state.orphan_since.items() if key in present}
    judged = {key for key in state.failed if key.name not in kept}
    left_nothing = judged - present.keys()
    vanished = any(m.state is ModuleState.ACTIVATED and key not in present for key, m in state.present.items())
    state = replace(
        state,
        listed=True,
        present=present,
        needs=needs,
        troubles=troubles,
        orphan_since=orphans,
        owned={k: r for k, r in state.owned.items() if k not in left_nothing} if left_nothing else state.owned,
        failed=state.failed - judged if judged else state.failed,
    )
    # Modules vanish when the base restarts in place.
    return recovered(state) if vanished else state


def _cured(trouble: Trouble, present: Mapping[ModuleKey, Module]) -> bool:
    module = present.get(trouble.spec.key)
    if trouble.verb is Verb.UNINSTALL:
        return module is None
    return module is not None and module.state is ModuleState.ACTIVATED


def begin(state: Modules, flights: Iterable[InFlight]) -> Modules:
    """Note that the parts of an order are on their way."""
    return replace(state, in_flight={**state.in_flight, **{flight.spec.key.name: flight for flight in flights}})


def recovered(state: Modules) -> Modules:
    """The base came back: what was put off may be tried now."""
    troubles = {key: replace(t, not_before=0.0) for key, t in state.troubles.items() if t.not_before is not None}
    return replace(state, troubles={**state.troubles, **troubles})


def forget(state: Modules, wanted: Iterable[ModuleKey], now: float) -> Modules:
    """Drop what is remembered of modules that nobody wants, that are not there and that will not come."""
    wanted = frozenset(wanted)
    keep = wanted | state.present.keys()
    if not state.troubles.keys() <= keep:
        state = replace(state, troubles={k: t for k, t in state.troubles.items() if k in keep})
    over = {key for key, until in state.awaited.items() if until <= now or key in state.present}
    if over:
        state = replace(state, awaited={k: t for k, t in state.awaited.items() if k not in over})
    if not state.spared.keys() <= state.owned.keys():
        state = replace(state, spared={k: u for k, u in state.spared.items() if k in state.owned})
    gone = {k for k in state.owned if k not in keep and k not in state.awaited and state.settled(k.name)}
    if gone:
        state = replace(state, owned={k: r for k, r in state.owned.items() if k not in gone})
    return state


def given_at_start(state: Modules, keys: Iterable[ModuleKey], now: float) -> Modules:
    """A starting base was given these modules by us: they are ours, and their Pods may be late.

    The base is installing them: an order for one would be a second installation at the same time.
    """
    keys = tuple(keys)
    new = [key for key in keys if key not in state.owned]
    return replace(
        remember(state, dict.fromkeys(new, UNKNOWN), now),
        spared={**state.spared, **dict.fromkeys(new, now + BASELINE_WAIT)},
        held={**state.held, **{key.name: now + BASELINE_HOLD for key in keys}},
    )


def begin_term(state: Modules, fence: int) -> Modules:
    """Count epochs above those of all earlier terms, so that answers to questions of those decide nothing."""
    first = fence << EPOCHS_OF_A_TERM
    return replace(state, epoch=first, begins=first)


def ask_again(state: Modules) -> Modules:
    """Something changed the modules without an order of ours: a new epoch makes the gateway ask at once."""
    return replace(state, epoch=state.epoch + 1)


def only_confirms(state: Modules, since: int) -> bool:
    """Return whether all that was asked after that epoch is how the modules are of which an order ended."""
    asked = range(since + 1, state.epoch + 1)
    return len(asked) <= len(state.needs) and frozenset(state.needs.values()).issuperset(asked)


def started(state: Modules) -> Modules:
    """The base reported how its baseline went: what it was given is looked at before anything is ordered."""
    state = ask_again(state)
    needs = {**state.needs, **dict.fromkeys(state.held, state.epoch)}
    return replace(state, needs=needs, held={})


def adopt(state: Modules, wanted: Mapping[ModuleKey, Release]) -> Modules:
    """Count modules that are there as ours because Pods want them; what they were installed from is not questioned."""
    new = {
        key: release
        for key, release in wanted.items()
        if key in state.present
        and key.name not in state.in_flight
        and (key not in state.owned or (release.digest and not state.owned[key].digest))
    }
    return replace(state, owned={**state.owned, **new}) if new else state


def record_of(state: Modules, wanted: Iterable[ModuleKey] = ()) -> Mapping[ModuleKey, Release]:
    """Return what a later term has to know as ours: also what is being installed, or wanted by Pods.

    It may come when both we and its Pod are gone.
    """
    under_way = {f.spec.key: f.release for f in state.in_flight.values() if f.verb is Verb.INSTALL}
    return {**dict.fromkeys(wanted, UNKNOWN), **under_way, **state.owned}


def remember(state: Modules, recorded: Mapping[ModuleKey, Release], now: float) -> Modules:
    """Take over what an earlier term recorded as ours; its installs may still be under way in the base."""
    new = {key: release for key, release in recorded.items() if key not in state.owned}
    awaited = dict.fromkeys(new, now + MAY_STILL_COME)
    return replace(state, owned={**state.owned, **new}, awaited={**state.awaited, **awaited}) if new else state
