"""The outboxes of all replicas: which replica gets what, and how what is kept ends.

Each kept item ends in exactly one way: *taken* (the replica acknowledged it), *handed on* (the owner of its base gets
it instead, and it ends there) or *dropped* (nobody took it, which is counted by reason and logged). Nothing here does
I/O. Times are monotonic seconds.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable

import structlog
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from gateways.session.metrics import DROPPED, KINDS, OUTBOX, reports
from gateways.session.observed import observed
from gateways.session.outbox import Outbox, Wake
from gateways.session.routing import Routing

log = structlog.get_logger(__name__)

TAKEN_OVER_WITHIN = 30.0
"""Seconds without a stream within which another replica mostly owns the bases of one that is gone."""
FORGET_AFTER = 600.0
"""Seconds without a stream, while there is one to another replica, after which what is kept for a replica is dropped:
it will not come back under its name, and who took its bases over has asked them."""

_POLLED = frozenset({"modules", "health", "poll_failed"})


class Outboxes:
    """What goes up, and to whom: one outbox for each replica that was ever welcomed, until it is forgotten.

    A replica that owns a base has a stream: routing forgets the owner with the stream.

    settled is called for each kept item that was taken or dropped, and also while one is still kept for a replica that
    has been away for ``TAKEN_OVER_WITHIN``: whoever sent it to us need not keep it, too. A broker that waits for our
    acknowledgement would deliver nothing else meanwhile.
    """

    def __init__(self, routing: Routing, settled: Callable[[pb.Report], None]) -> None:
        self._routing = routing
        self._settled = settled
        self._outboxes: dict[str, Outbox] = {}
        self._lost_at: dict[str, float] = {}
        """Of replicas without a stream."""
        self._tunnel_state: pb.Report | None = None

    def __getitem__(self, replica: str) -> Outbox:
        """Return the outbox of a replica that has a stream."""
        return self._outboxes[replica]

    def open(self, welcome: pb.Welcome, wake: Wake) -> Outbox:
        """Begin a stream to a replica; what was kept for it goes again. wake: there is something to be sent."""
        outbox = self._outboxes.setdefault(welcome.replica_id, Outbox())
        outbox.open(welcome.limits, wake)
        OUTBOX.labels(replica=welcome.replica_id).set_function(lambda: outbox.depth)
        self._lost_at.pop(welcome.replica_id, None)
        if self._tunnel_state is not None:
            outbox.put(self._tunnel_state, time.monotonic())
        return outbox

    def report(self, report: pb.Report, *, everybody: bool = False) -> bool:
        """Queue a report for the replicas that it concerns, or for all; False when none can be reached.

        Sets observed_at.
        """
        observed(report)
        kind = report.WhichOneof("fact") or ""
        if kind == "tunnel_state":
            self._tunnel_state = report
        replicas = self._serving() if everybody else self._concerned(report.base_id, kind)
        now = time.monotonic()
        queued = sum(self._outboxes[replica].put(report, now) for replica in replicas) > 0
        reports(kind, queued=queued).inc()
        return queued

    def _concerned(self, base: str, kind: str) -> list[str]:
        """Return who gets a report: its watcher for answers to polls, else the base's owner, else everybody."""
        serving = self._serving()
        if kind in _POLLED and (watcher := self._routing.watcher(base)):
            return [watcher] if watcher in serving else []
        owner = self._routing.owner(base)
        return [owner] if owner else serving

    def result(self, replica: str, result: pb.Report) -> None:
        """Queue a result for who owns the base by now, else for who ordered it."""
        self.keep(self._routing.owner(result.base_id) or replica, result)

    def lost(self, replica: str, now: float) -> None:
        """End the stream to a replica; what is kept for it goes to the owners of its bases."""
        self._lost_at[replica] = now
        for base in self._outboxes[replica].close():
            if owner := self._routing.owner(base):
                self.hand_on(base, owner)

    def _serving(self) -> list[str]:
        return [replica for replica in self._outboxes if replica not in self._lost_at]

    def acknowledged(self, replica: str, seq: int) -> None:
        """Take note that a replica has everything up to and including seq."""
        for item in self._outboxes[replica].ack(seq):
            self._settled(item)

    def keep(self, replica: str, item: pb.Report) -> None:
        """Keep an outcome for a replica until it ends in one of the three ways."""
        outbox = self._outboxes.get(replica)
        if outbox is None:
            self._drop(replica, (item,), "unknown-replica")
        elif not outbox.keep(item):
            self._drop(replica, (item,), "full")

    def hand_on(self, base: str, owner: str) -> None:
        """Hand what is kept of a base for others to its owner: that one learns what ended."""
        for replica, outbox in self._outboxes.items():
            if replica != owner:
                for item in outbox.hand_over(base):
                    self.keep(owner, item)

    def gap(self) -> None:
        """Say that something may be missing that bases said."""
        for outbox in self._outboxes.values():
            outbox.gap()

    def withdraw(self, query: pb.Report) -> None:
        """Forget a baseline query: nobody waits for its answer any more."""
        for outbox in self._outboxes.values():
            outbox.withdraw(query)

    def send_in_full(self, base: str) -> None:
        """Send the next module list of a base in full to whoever gets it."""
        for outbox in self._outboxes.values():
            outbox.send_in_full(base)

    def sweep(self, now: float) -> None:
        """Release senders, and forget replicas that are gone while there is a stream to another."""
        for replica, lost_at in list(self._lost_at.items()):
            if now - lost_at > FORGET_AFTER and len(self._outboxes) > len(self._lost_at):
                outbox = self._outboxes.pop(replica)
                del self._lost_at[replica]
                OUTBOX.remove(replica)
                self._drop(replica, outbox.kept(), "replica-gone")
            elif now - lost_at > TAKEN_OVER_WITHIN:
                for item in self._outboxes[replica].kept():
                    self._settled(item)

    def _drop(self, replica: str, items: Iterable[pb.Report], reason: str) -> None:
        kinds: Counter[str] = Counter()
        for item in items:
            kinds[KINDS[item.WhichOneof("fact") or ""]] += 1
            self._settled(item)
        for kind, count in kinds.items():
            DROPPED.labels(kind=kind, reason=reason).inc(count)
        if kinds:
            log.warning("outcomes dropped: nobody took them", replica=replica, reason=reason, **kinds)
