"""The bases of this replica, and those that were reported lately: one table that its parts read and wait on by name.

The router fills inboxes and the list of bases without an actor, actors publish how their bases are, the fleet adds and
removes actors. Bounded by number and by time.
"""

import asyncio
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace

from controlplane.app.changes import Changes, Subscription
from controlplane.app.outages import Outages
from controlplane.app.unserved import KEPT, MOST, Unserved, UnservedBases
from controlplane.domain.base.state import Base
from controlplane.domain.base.unchanged import heard
from controlplane.domain.base.vitals import News
from controlplane.domain.facts import BatchInstalled, Fact, GatewayInfo, Heartbeat, OrderResult
from controlplane.domain.identity import BaseId, ModuleKey, VNodeName

LATER = 2.0
"""Seconds after which an actor looks at what follows from what it did itself: one look for all of it."""


@dataclass(slots=True)
class RosterEntry:
    """A base that has an actor here: how it is, and what arrived of it since the actor last looked."""

    base: Base
    news: News = field(default_factory=News)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    awaited: bool = True
    """The actor waits for a sign of life, whatever else it says."""
    _later: asyncio.TimerHandle | None = None

    @property
    def heard(self) -> Base:
        """The base with what its actor has not looked at because it is nothing new."""
        return heard(self.base, self.news.unchanged)

    def report(self, fact: Fact | OrderResult, source: GatewayInfo, now: float, wall: float) -> None:
        """Take a report that is believed; the actor looks at once, unless it is nothing new."""
        asleep = not (self.awaited or self.wake.is_set())
        if not (asleep and self.news.unchanged.take(self.base, fact, source, now, wall)):
            self.news.add(fact, source, now)
            self.wake.set()

    def take(self) -> News:
        """Return the news and start again."""
        self.wake.clear()
        if self._later is not None:
            self._later.cancel()
            self._later = None
        news, self.news = self.news, News()
        return news

    def give(self, modules: Iterable[ModuleKey]) -> None:
        """Add modules of a baseline that the base was given."""
        self.news.given += tuple(modules)
        self.wake.set()

    def touch(self, now: float) -> None:
        """Note that something else changed that concerns the base."""
        if self.news.touched_at is None:
            self.news.touched_at = now
        self.wake.set()

    def touch_later(self) -> None:
        """Have the actor look soon at what it did itself, unless it looks before that."""
        if self._later is None:
            self._later = asyncio.get_running_loop().call_later(LATER, self.wake.set)


@dataclass(frozen=True, slots=True)
class Given:
    """What a base that asked lately was given, by this replica or by the one that answers it; at is monotonic.

    installed is what became of it, if the base reported that already.
    """

    query_id: str
    modules: tuple[ModuleKey, ...]
    at: float
    installed: Unserved[BatchInstalled] | None = None


class Roster:
    """The table. changed has the names of VNodes that tools may see otherwise, untaken those that may be taken."""

    def __init__(self, outages: Outages) -> None:
        self.outages = outages
        self.changed: Changes[VNodeName] = Changes()
        self.untaken: Subscription[BaseId] = Subscription()
        self.admitted: Subscription[BaseId] = Subscription()
        """New bases that answered a command."""
        self.leaving: set[BaseId] = set()
        """Bases that are being given to another replica."""
        self.unsure: set[VNodeName] = set()
        """VNodes on which there may be Pods that no informer has: their label was removed, or before our time."""
        self.load: Counter[str] = Counter()
        """How many bases each gateway polls, by its id."""
        self._served: dict[BaseId, RosterEntry] = {}
        self._unserved = UnservedBases()
        self._given: dict[BaseId, Given] = {}

    # Bases with an actor.

    def entry(self, base: BaseId) -> RosterEntry | None:
        """Return the entry of a base that has an actor."""
        return self._served.get(base)

    def get(self, base: BaseId) -> Base | None:
        """Return a base that has an actor."""
        entry = self._served.get(base)
        return entry.base if entry is not None else None

    def heard(self, base: BaseId) -> Base | None:
        """Return a base that has an actor, with all signs of life: more than get, and dearer."""
        entry = self._served.get(base)
        return entry.heard if entry is not None else None

    def bases(self) -> Iterator[Base]:
        """Iterate over the bases that have an actor."""
        return (entry.base for entry in tuple(self._served.values()))

    def begin(self, base: Base) -> RosterEntry:
        """Add a base; whatever was kept of it goes into its inbox."""
        entry = self._served[base.id] = RosterEntry(base)
        if (last := self._unserved.pop(base.id)) is not None:
            entry.news.add(last.fact, last.source, last.at)
        if (given := self._given.pop(base.id, None)) is not None:
            entry.give(given.modules)
            if (done := given.installed) is not None:
                entry.news.add(done.fact, done.source, done.at)
        self._counted(None, base)
        return entry

    def publish(self, base: Base) -> None:
        """Take how a base is now, from its actor."""
        entry = self._served.get(base.id)
        if entry is None:
            return
        before, entry.base = entry.base, base
        self._counted(before, base)
        if base.admitted and not before.admitted:
            self.admitted.note(base.id)
            # Another new base may be examined.
            self.untaken.nudge()

    def end(self, base: BaseId) -> None:
        """Remove a base."""
        entry = self._served.pop(base, None)
        if entry is not None:
            self._counted(entry.base, None)

    def touch(self, now: float, bases: Iterable[BaseId] | None = None) -> None:
        """Have the actors of these bases look again, by default of all."""
        for base in tuple(self._served) if bases is None else bases:
            if (entry := self._served.get(base)) is not None:
                entry.touch(now)

    def touch_later(self, base: BaseId) -> None:
        """Have the actor of a base look soon at what it did itself."""
        if (entry := self._served.get(base)) is not None:
            entry.touch_later()

    def doubt(self, vnode: VNodeName) -> None:
        """Have somebody look whether there are Pods on a VNode that no informer has."""
        self.unsure.add(vnode)
        self.changed.note(vnode)

    def dismiss(self, base: BaseId) -> None:
        """Have the actor of a new base end, if it still has not answered."""
        if (entry := self._served.get(base)) is not None:
            entry.news.dismissed = True
            entry.wake.set()

    def serving(self, base: BaseId) -> bool:
        """Return whether a base has an actor here, or is just being given away."""
        return base in self._served or base in self.leaving

    def _counted(self, before: Base | None, after: Base | None) -> None:
        for base, step in ((before, -1), (after, 1)):
            if base is not None and base.gateway:
                self.load[base.gateway] += step
        if self.outages.count(before, after):
            for entry in self._served.values():
                entry.wake.set()
        one = after or before
        if one is not None and (before is None or after is None or before.shown != after.shown):
            self.changed.note(one.vnode)

    # Bases without.

    def unserved(self) -> Collection[BaseId]:
        """Return the bases that were seen lately and have no actor."""
        return self._unserved.bases

    def last(self, base: BaseId) -> Unserved[Heartbeat] | None:
        """Return the last heartbeat of a base that has no actor."""
        return self._unserved.get(base)

    def keep(self, base: BaseId, last: Unserved[Heartbeat], *, known: bool) -> bool:
        """Keep the heartbeat of a base that has no actor; return False if there is no room for it.

        For one that is known, as it has a Node, there always is.
        """
        room = known or len(self._unserved) < MOST
        if not self._unserved.keep(base, last, room=room):
            return False
        self.untaken.note(base)
        return True

    def forget(self, base: BaseId) -> None:
        """Forget the heartbeat of a base: it is another replica's, or goes away."""
        self._unserved.pop(base)

    def given(self, base: BaseId) -> Given | None:
        """Return what a base without an actor was given lately."""
        return self._given.get(base)

    def give(self, base: BaseId, given: Given) -> bool:
        """Keep what a base is given, for its actor; return False if there is no room for it."""
        if (entry := self._served.get(base)) is not None:
            entry.give(given.modules)
        elif base in self._given or len(self._given) < MOST:
            self._given[base] = given
        else:
            return False
        return True

    def installed(self, base: BaseId, batch: Unserved[BatchInstalled]) -> bool:
        """Keep how it went with what a base without an actor was given; return False if it was given nothing."""
        given = self._given.get(base)
        if given is not None:
            self._given[base] = replace(given, installed=batch)
        return given is not None

    def sweep(self, now: float) -> None:
        """Forget what is too old."""
        self._given = {base: given for base, given in self._given.items() if now - given.at < KEPT}
        self._unserved.sweep(now)
