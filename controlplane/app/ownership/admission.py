"""Has new bases examined, a bounded number at a time; the rules are ``domain/ownership/admissions``.

Bases that are known, by a Node or a Lease, never come here.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import structlog

from controlplane.app.events import Recorder
from controlplane.app.metrics import ADMISSIONS, REFUSED_REPORTS
from controlplane.app.policy import Policy
from controlplane.app.ports import Cluster
from controlplane.app.roster import Roster
from controlplane.domain.identity import BaseId
from controlplane.domain.ownership.admissions import AGAIN, PERSISTENT, Places, Waiting
from controlplane.domain.remarks import Remark
from service.limits import Recent

log = structlog.get_logger(__name__)

REMEMBERED = 20_000
"""Bases that did not answer and are remembered, until they may be examined again."""
SAY_AGAIN = 60.0
"""Seconds between two Events that there are too many bases."""


@dataclass
class Admission:
    """Decides for the assignment which new bases are begun."""

    cluster: Cluster
    roster: Roster
    recorder: Recorder
    policy: Policy
    _waiting: Waiting = field(default_factory=Waiting)
    _places: Places = field(default_factory=Places)
    _failed: Recent[BaseId, tuple[int, float]] = field(default_factory=lambda: Recent(REMEMBERED))
    """How often a base did not answer, and before when it is not examined again."""
    _said_at: float = float("-inf")

    def offer(self, base: BaseId, now: float) -> None:
        """Have a new base wait for its examination."""
        last = self.roster.last(base)
        tries, until = self._failed.get(base, (0, now))
        if last is not None and until <= now and base not in self._places:
            self._waiting.add(base, last.origin, persistent=not tries and last.at - last.since >= PERSISTENT)

    def due(self, now: float) -> Iterator[BaseId]:
        """Yield the new bases that are begun now."""
        self._take_back(now)
        if not len(self._waiting):
            return
        if (known := self._known()) >= self.policy.most_bases:
            self._refuse(known, now)
            return
        room = self.policy.most_bases - known
        while room and self._places.free and (chosen := self._waiting.take(self._places.full())) is not None:
            base, source = chosen
            if base in self.roster.unserved():
                room -= 1
                self._places.give(base, source, now)
                yield base
        if len(self._waiting):
            self._dismiss(now)

    def forget(self) -> None:
        """Forget bases that wait and were not heard of lately."""
        self._waiting.keep(self.roster.unserved())

    def _known(self) -> int:
        """Return how many bases there are: VNodes of any replica, and who is examined."""
        return sum(1 for _ in self.cluster.nodes.all()) + len(self._places)

    def _take_back(self, now: float) -> None:
        """Take back the places of those that answered, or are gone."""
        for base in self._places:
            known = self.roster.get(base)
            if known is not None and known.admitted:
                self._failed.pop(base, None)
                ADMISSIONS.labels("admitted").inc()
            elif known is None and not self.roster.serving(base):
                tries = self._failed.get(base, (0, now))[0] + 1
                self._failed[base] = tries, now + AGAIN.delay(tries, 0.5)
                ADMISSIONS.labels("no-answer").inc()
            else:
                continue
            self._places.end(base)

    def _dismiss(self, now: float) -> None:
        """Have those who had their time make room."""
        for base in self._places.overdue(now)[: len(self._waiting)]:
            self.roster.dismiss(base)

    def _refuse(self, known: int, now: float) -> None:
        REFUSED_REPORTS.labels("too-many-bases").inc(len(self._waiting))
        self._waiting.keep(())
        if now - self._said_at >= SAY_AGAIN:
            self._said_at = now
            text = f"{known} bases are there, and new ones are refused: MAX_BASES={self.policy.most_bases}"
            self.recorder.replica(Remark(True, "TooManyBases", text))
