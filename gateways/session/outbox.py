"""Which replica gets what, what waits to be sent, what was sent and not yet acknowledged, and how what is kept ends.

An outbox has two lanes, both bounded:

- *News* (heartbeats, health, module lists, failed polls, tunnel state): a newer one of the same base and kind takes the
  place of an older unsent one; beyond ``MAX_NEWS`` news is refused. What is older than ``STALE`` seconds when its turn
  comes is dropped: a heartbeat is evidence of life only while it is fresh. A lost stream takes its news with it, but
  for heartbeats that were not acknowledged.
- *Kept* (order results, baseline queries, batch results): sent again on each new stream, in order, until acknowledged.
  When ``MAX_KEPT`` wait, ``has_room`` is False: new orders and queries are refused by who asks. Refusals themselves may
  overdraw the lane up to twice ``MAX_KEPT``.

Each kept item ends in exactly one way: *taken* (the replica acknowledged it), *handed on* (the owner of its base gets
it instead, and it ends there) or *dropped* (nobody took it, which is counted by reason and logged).

News that says nothing new (``repeated``) can wait for more of its kind; anything else is to be sent at once. Numbers
begin at 1 on every stream. Nothing here does I/O. Messages that were put here must not be changed. Times are monotonic
seconds.
"""

import itertools
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol, TypeAlias, TypeVar

import structlog
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from gateways.session.metrics import DROPPED, KINDS, OUTBOX, reports
from gateways.session.repeated import Repeated
from gateways.session.routing import Routing

log = structlog.get_logger(__name__)

STALE = 10.0
"""Seconds after which unsent news is not worth sending."""
MAX_NEWS = 65_536
MAX_KEPT = 8_192
MAX_WEIGHT = 1_000
"""Most modules and reports in one message, which keeps it far below gRPC's limit of 4 MiB."""
TAKEN_OVER_WITHIN = 30.0
"""Seconds without a stream within which another replica mostly owns the bases of one that is gone."""
FORGET_AFTER = 600.0
"""Seconds without a stream, while there is one to another replica, after which what is kept for a replica is dropped:
it will not come back under its name, and who took its bases over has asked them."""
DEFAULT_UNACKED = 8
DEFAULT_BATCH = 128

Kept: TypeAlias = pb.OrderResult | pb.Report
Key: TypeAlias = tuple[str, str, int]
"""Of news: base, kind of fact, and verb of a failed poll."""
News: TypeAlias = tuple[pb.Report, float]
"""With the time at which it was put."""
K = TypeVar("K", pb.OrderResult, pb.Report)

_KEPT = frozenset({"baseline_query", "batch_install_result"})
_POLLED = frozenset({"modules", "health", "poll_failed"})
_ANSWERED = {"health": pb.VERB_HEALTH, "modules": pb.VERB_QUERY_MODULES}


class Wake(Protocol):
    """Called when there is something to be sent."""

    def __call__(self, *, can_wait: bool) -> None:
        """Send at once, or when it can wait, with more of its kind."""


@dataclass(frozen=True, slots=True)
class _Sent:
    """A message that is not acknowledged: its number, and what goes again with the next stream."""

    seq: int
    news: list[News]
    kept: list[Kept]


class Outbox:
    """The queue towards one replica."""

    def __init__(self) -> None:
        self._max_unacked, self._max_batch = DEFAULT_UNACKED, DEFAULT_BATCH
        self._news: OrderedDict[Key, News] = OrderedDict()
        self._kept: OrderedDict[str, list[Kept]] = OrderedDict()
        """By base: what is not on its way, in the order in which it came. Bases take turns."""
        self._kept_count = 0
        """How much is kept, on its way or not."""
        self._unacked: deque[_Sent] = deque()
        self._repeated = Repeated()
        self._seq = 0
        self._wake: Wake | None = None

    @property
    def has_room(self) -> bool:
        """Whether one more result can be kept."""
        return self._kept_count < MAX_KEPT

    @property
    def depth(self) -> int:
        """How much waits to be sent or acknowledged."""
        return len(self._news) + self._kept_count + sum(len(sent.news) for sent in self._unacked)

    @property
    def idle(self) -> bool:
        """Whether everything that must arrive was acknowledged."""
        return self._kept_count == 0

    @property
    def sendable(self) -> bool:
        """Whether take would give something, staleness aside."""
        is_open = self._wake is not None and len(self._unacked) < self._max_unacked
        return is_open and bool(self._news or self._kept)

    def put(self, report: pb.Report, now: float) -> bool:
        """Queue a report; False when its lane is full, or when it is news and no stream is open."""
        base, kind = report.base_id, report.WhichOneof("fact") or ""
        if kind in _KEPT:
            return self.has_room and self.keep(report)
        if self._wake is None:
            return False
        if kind in _ANSWERED:
            self._news.pop((base, "poll_failed", _ANSWERED[kind]), None)
        key = _key(report)
        if key not in self._news and len(self._news) >= MAX_NEWS:
            DROPPED.labels(kind="news", reason="full").inc()
            return False
        self._news[key] = report, now
        self._wake(can_wait=self._repeated.can_wait(report))
        return True

    def keep(self, item: Kept) -> bool:
        """Keep an item until it is acknowledged; False when even the overdraft for refusals is used up."""
        if self._kept_count >= 2 * MAX_KEPT:
            return False
        self._kept_count += 1
        self._kept.setdefault(item.base_id, []).append(item)
        if self._wake is not None:
            self._wake(can_wait=False)
        return True

    def withdraw(self, query: pb.Report) -> None:
        """Send a baseline query never again: its asker does not wait any more."""
        waiting = self._kept.get(query.base_id, [])
        for items in (*(sent.kept for sent in self._unacked), waiting):
            if query in items:
                items.remove(query)
                self._kept_count -= 1
        if not waiting:
            self._kept.pop(query.base_id, None)

    def hand_over(self, base: str) -> list[Kept]:
        """Give away the results and batch results of a base that are not on their way."""
        items = self._kept.pop(base, [])
        if queries := [item for item in items if _query_id(item)]:
            self._kept[base] = queries
        self._kept_count -= len(items) - len(queries)
        return [item for item in items if not _query_id(item)]

    def open(self, limits: pb.Limits, wake: Wake) -> None:
        """Begin a stream: numbers begin again, everything kept goes again. wake is called when there is work for take.

        A limit of 0 stands for the default.
        """
        self.close()
        self._max_unacked = limits.max_unacked or DEFAULT_UNACKED
        self._max_batch = limits.max_batch or DEFAULT_BATCH
        self._seq = 0
        self._wake = wake

    def close(self) -> list[str]:
        """End a stream: keep heartbeats and what must arrive, forget other news; return the bases of what is kept."""
        self._wake = None
        news = itertools.chain(*(sent.news for sent in self._unacked), self._news.values())
        self._news = OrderedDict((_key(report), (report, at)) for report, at in news if report.HasField("heartbeat"))
        # What was on its way came before what was not.
        kept = self.kept()
        self._kept.clear()
        for item in kept:
            self._kept.setdefault(item.base_id, []).append(item)
        self._unacked.clear()
        self._repeated.clear()
        return [*self._kept]

    def send_in_full(self, base: str) -> None:
        """Send the next module list of the base in full: a Watch for it came, or it is not watched any more."""
        self._repeated.forget(base)

    def ack(self, seq: int) -> list[Kept]:
        """Take note that the replica has everything up to and including seq; return what need not be kept now."""
        done: list[Kept] = []
        full = len(self._unacked) >= self._max_unacked
        while self._unacked and self._unacked[0].seq <= seq:
            done.extend(self._unacked.popleft().kept)
        self._kept_count -= len(done)
        if full and self._wake is not None:
            self._wake(can_wait=False)
        return done

    def kept(self) -> list[Kept]:
        """Return what is kept until it is acknowledged."""
        return [*itertools.chain(*(sent.kept for sent in self._unacked), *self._kept.values())]

    def take(self, now: float) -> list[pb.ConnectRequest]:
        """Return what may be sent now, in order. It counts as unacknowledged from here on."""
        messages: list[pb.ConnectRequest] = []
        while self.sendable:
            news = self._take_news(now)
            kept: list[pb.Report] = []
            while len(news) + len(kept) < self._max_batch and (report := self._next(pb.Report)) is not None:
                kept.append(report)
            if news or kept:
                reports = [*(self._repeated.sent(report) for report, _ in news), *kept]
                message = pb.Reports(seq=self._sent(news, [*kept]), reports=reports)
                messages.append(pb.ConnectRequest(reports=message))
            if self.sendable and (result := self._next(pb.OrderResult)) is not None:
                messages.append(pb.ConnectRequest(order_result=result))
                messages[-1].order_result.seq = self._sent([], [result])
        return messages

    def _sent(self, news: list[News], kept: list[Kept]) -> int:
        self._seq += 1
        self._unacked.append(_Sent(self._seq, news, kept))
        return self._seq

    def _take_news(self, now: float) -> list[News]:
        taken: list[News] = []
        weight = 0
        while self._news and len(taken) < self._max_batch:
            report, put_at = next(iter(self._news.values()))
            weight += 1 + len(report.modules.modules)
            if taken and weight > MAX_WEIGHT:
                break
            self._news.popitem(last=False)
            if now - put_at <= STALE:
                taken.append((report, put_at))
            else:
                DROPPED.labels(kind="news", reason="stale").inc()
        return taken

    def _next(self, kind: type[K]) -> K | None:
        """Take the next kept item if it is of this kind, and have the next base take its turn."""
        base, items = next(iter(self._kept.items()), ("", [None]))
        first = items[0]
        if not isinstance(first, kind):
            return None
        self._kept.move_to_end(base)
        del items[0]
        if not items:
            del self._kept[base]
        return first


class Outboxes:
    """What goes up, and to whom: one outbox for each replica that was ever welcomed, until it is forgotten.

    A replica that owns a base has a stream: routing forgets the owner with the stream.

    settled is called for each kept item that was taken or dropped, and also while one is still kept for a replica that
    has been away for ``TAKEN_OVER_WITHIN``: whoever sent it to us need not keep it, too. A broker that waits for our
    acknowledgement would deliver nothing else meanwhile.
    """

    def __init__(self, routing: Routing, settled: Callable[[Kept], None]) -> None:
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
        report.observed_at.FromMilliseconds(int(time.time() * 1000))
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

    def result(self, replica: str, result: pb.OrderResult) -> None:
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

    def keep(self, replica: str, item: Kept) -> None:
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

    def _drop(self, replica: str, items: Iterable[Kept], reason: str) -> None:
        kinds: Counter[str] = Counter()
        for item in items:
            kinds["result" if isinstance(item, pb.OrderResult) else KINDS[item.WhichOneof("fact") or ""]] += 1
            self._settled(item)
        for kind, count in kinds.items():
            DROPPED.labels(kind=kind, reason=reason).inc(count)
        if kinds:
            log.warning("outcomes dropped: nobody took them", replica=replica, reason=reason, **kinds)


def _key(report: pb.Report) -> Key:
    return report.base_id, report.WhichOneof("fact") or "", report.poll_failed.verb


def _query_id(item: Kept) -> str:
    return item.baseline_query.query_id if isinstance(item, pb.Report) else ""
