"""The outboxes of all replicas, and how what is kept for a replica ends.

Guarantee: every result, batch result and baseline question that was taken ends in
exactly one way:

- *taken*: the replica acknowledged it;
- *handed on*: the replica that claimed its base gets it instead, and it ends there;
- *dropped*: nobody took it, which is counted by reason and logged.

``settled`` is called for each that was taken or dropped, and also while one is still
kept for a replica that has been away for ``TAKEN_OVER_WITHIN``: whoever sent it to us
need not keep it, too. A broker that waits for our acknowledgement would deliver
nothing else meanwhile.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import structlog

from gateways.session.messages import OrderResult, Welcome
from gateways.session.metrics import DROPPED, OUTBOX
from gateways.session.outbox import Kept, Outbox

log = structlog.get_logger(__name__)

TAKEN_OVER_WITHIN = 30.0
"""Seconds without a stream within which another replica mostly claims the bases of one that is gone."""
FORGET_AFTER = 600.0
"""Seconds without a stream, while there is one to another replica, after which what is kept for a replica is dropped:
it will not come back under its name, and who took its bases over has asked them."""


class Outboxes:
    """One outbox for each replica that was ever welcomed, until it is forgotten. All times are monotonic seconds."""

    def __init__(self, settled: Callable[[Kept], None]) -> None:
        self._settled = settled
        self._outboxes: dict[str, Outbox] = {}
        self._lost_at: dict[str, float] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._outboxes)

    def get(self, replica: str) -> Outbox | None:
        """Return the outbox of a replica, None if nothing can be kept for it."""
        return self._outboxes.get(replica)

    def open(self, welcome: Welcome) -> Outbox:
        """Begin a stream to a replica; what was kept for it goes again."""
        outbox = self._outboxes.setdefault(welcome.replica, Outbox())
        outbox.open(welcome)
        self._lost_at.pop(welcome.replica, None)
        return outbox

    def lost(self, replica: str, now: float) -> tuple[str, ...]:
        """End the stream to a replica; return the bases of which something is kept for it."""
        outbox = self._outboxes[replica]
        outbox.close()
        self._lost_at[replica] = now
        return outbox.bases()

    def acknowledged(self, replica: str, seq: int) -> None:
        """Take note that a replica has everything up to and including seq."""
        for item in self._outboxes[replica].ack(seq):
            self._settled(item)

    def keep(self, replica: str, item: Kept) -> None:
        """Keep an outcome for a replica until it ends in one of the three ways."""
        outbox = self._outboxes.get(replica)
        if outbox is None:
            self._drop(replica, (item,), "unknown-replica")
        elif not outbox.put_result(item):
            self._drop(replica, (item,), "full")

    def hand_on(self, base: str, owner: str) -> None:
        """Hand what is kept of a base for others to its owner: that one learns what ended."""
        for replica, outbox in self._outboxes.items():
            if replica != owner:
                for item in outbox.hand_over(base):
                    self.keep(owner, item)

    def withdraw(self, query_id: str) -> None:
        """Forget a baseline question: nobody waits for its answer any more."""
        for outbox in self._outboxes.values():
            outbox.withdraw(query_id)

    def watched_anew(self, base: str) -> None:
        """Send the next module list of a base in full to whoever gets it."""
        for outbox in self._outboxes.values():
            outbox.watched_anew(base)

    def sweep(self, now: float, *, serving: int) -> None:
        """Release senders, forget replicas that are gone, and measure; serving is how many replicas have a stream."""
        for replica, lost_at in list(self._lost_at.items()):
            if now - lost_at > FORGET_AFTER and serving:
                outbox = self._outboxes.pop(replica)
                del self._lost_at[replica]
                OUTBOX.remove(replica)
                self._drop(replica, outbox.kept(), "replica-gone")
            elif now - lost_at > TAKEN_OVER_WITHIN:
                for item in self._outboxes[replica].kept():
                    self._settled(item)
        for replica, outbox in self._outboxes.items():
            OUTBOX.labels(replica=replica).set(outbox.depth)
            for reason, count in outbox.dropped().items():
                DROPPED.labels(kind="news", reason=reason).inc(count)

    def _drop(self, replica: str, items: Iterable[Kept], reason: str) -> None:
        kinds: Counter[str] = Counter()
        for item in items:
            kinds["result" if isinstance(item, OrderResult) else type(item.fact).__name__] += 1
            self._settled(item)
        for kind, count in kinds.items():
            DROPPED.labels(kind=kind, reason=reason).inc(count)
        if kinds:
            log.warning("outcomes dropped: nobody took them", replica=replica, reason=reason, **kinds)
