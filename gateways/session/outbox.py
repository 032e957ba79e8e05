"""What waits to be sent to a replica, and what was sent and is not yet acknowledged.

An outbox has two lanes, both bounded:

- *News* (heartbeats, health, module lists, failed polls, tunnel state): a newer one of the same base and kind takes the
  place of an older unsent one; beyond ``MAX_NEWS`` news is refused. What is older than ``STALE`` seconds when its turn
  comes is dropped: a heartbeat is evidence of life only while it is fresh. The replica learns of such a gap. A lost
  stream takes its news with it, but for heartbeats that were not acknowledged.
- *Kept* (order results, baseline queries, batch results): sent again on each new stream, in order, until acknowledged.
  When ``MAX_KEPT`` wait, ``has_room`` is False: new orders and queries are refused by who asks. Refusals themselves may
  overdraw the lane up to twice ``MAX_KEPT``.

A Mark of the replica is answered with the message after which no news waits: up to there the replica has heard
everything.

News that says nothing new (``repeated``) can wait for more of its kind; anything else is to be sent at once. Numbers
begin at 1 on every stream. Nothing here does I/O. Messages that were put here must not be changed. Times are monotonic
seconds.
"""

import itertools
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from koupleless.tunnel.v1 import tunnel_pb2 as pb

from gateways.session.metrics import DROPPED
from gateways.session.repeated import Repeated

STALE = 10.0
"""Seconds after which unsent news is not worth sending."""
MAX_NEWS = 65_536
MAX_KEPT = 8_192
MAX_BYTES = 512 << 10
"""Most bytes of the reports in one message, unless one alone is larger."""
DEFAULT_UNACKED = 8
DEFAULT_BATCH = 128

Key: TypeAlias = tuple[str, str, int]
"""Of news: base, kind of fact, and verb of a failed poll."""
News: TypeAlias = tuple[pb.Report, float]
"""With the time at which it was put."""

_KEPT = frozenset({"baseline_query", "batch_install_result"})
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
    kept: list[pb.Report]


class Outbox:
    """The queue towards one replica."""

    def __init__(self) -> None:
        self._max_unacked, self._max_batch = DEFAULT_UNACKED, DEFAULT_BATCH
        self._news: OrderedDict[Key, News] = OrderedDict()
        self._kept: OrderedDict[str, list[pb.Report]] = OrderedDict()
        """By base: what is not on its way, in the order in which it came. Bases take turns."""
        self._kept_count = 0
        """How much is kept, on its way or not."""
        self._unacked: deque[_Sent] = deque()
        self._repeated = Repeated()
        self._seq = 0
        self._wake: Wake | None = None
        self._asked = False
        """Whether a Mark is to be answered."""
        self._gap = False

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
        return is_open and bool(self._news or self._kept or self._asked or self._gap)

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
            self._gap = True
            return False
        self._news[key] = report, now
        self._wake(can_wait=self._repeated.can_wait(report))
        return True

    def mark(self) -> None:
        """Answer a Mark once no news waits."""
        self._asked = True
        if self._wake is not None:
            self._wake(can_wait=False)

    def gap(self) -> None:
        """Say that something may be missing that bases said."""
        self._gap = True

    def keep(self, item: pb.Report) -> bool:
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

    def hand_over(self, base: str) -> list[pb.Report]:
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
        self._asked = False
        return [*self._kept]

    def send_in_full(self, base: str) -> None:
        """Send the next module list of the base in full: a Watch for it came, or it is not watched any more."""
        self._repeated.forget(base)

    def ack(self, seq: int) -> list[pb.Report]:
        """Take note that the replica has everything up to and including seq; return what need not be kept now."""
        done: list[pb.Report] = []
        full = len(self._unacked) >= self._max_unacked
        while self._unacked and self._unacked[0].seq <= seq:
            done.extend(self._unacked.popleft().kept)
        self._kept_count -= len(done)
        if full and self._wake is not None:
            self._wake(can_wait=False)
        return done

    def kept(self) -> list[pb.Report]:
        """Return what is kept until it is acknowledged."""
        return [*itertools.chain(*(sent.kept for sent in self._unacked), *self._kept.values())]

    def take(self, now: float) -> list[pb.ConnectRequest]:
        """Return what may be sent now, in order. It counts as unacknowledged from here on."""
        messages: list[pb.ConnectRequest] = []
        while self.sendable:
            kept = self._take_kept()
            news = self._take_news(now, self._max_batch - len(kept), MAX_BYTES - sum(item.ByteSize() for item in kept))
            self._seq += 1
            self._unacked.append(_Sent(self._seq, news, kept))
            reports = [*(self._repeated.sent(report) for report, _ in news), *kept]
            marked = self._asked and not self._news
            message = pb.Reports(seq=self._seq, reports=reports, marked=marked, gap=self._gap)
            messages.append(pb.ConnectRequest(reports=message))
            self._asked, self._gap = self._asked and not marked, False
        return messages

    def _take_kept(self) -> list[pb.Report]:
        """Take what is kept for one message: one item of each base, then again. News that waits has room for half."""
        taken: list[pb.Report] = []
        most, size = max(self._max_batch // 2, self._max_batch - len(self._news)), 0
        while self._kept and len(taken) < most:
            base, items = next(iter(self._kept.items()))
            size += items[0].ByteSize()
            if taken and size > MAX_BYTES:
                break
            taken.append(items.pop(0))
            self._kept.move_to_end(base)
            if not items:
                del self._kept[base]
        return taken

    def _take_news(self, now: float, most: int, room: int) -> list[News]:
        """Take news for one message in which so many bytes are free."""
        taken: list[News] = []
        size = 0
        while self._news and len(taken) < most:
            report, put_at = next(iter(self._news.values()))
            size += report.ByteSize()
            if size > room and (taken or room < MAX_BYTES):
                break
            self._news.popitem(last=False)
            if now - put_at <= STALE:
                taken.append((report, put_at))
            else:
                DROPPED.labels(kind="news", reason="stale").inc()
                self._gap = True
        return taken


def _key(report: pb.Report) -> Key:
    return report.base_id, report.WhichOneof("fact") or "", report.poll_failed.verb


def _query_id(item: pb.Report) -> str:
    return item.baseline_query.query_id
