"""What waits to be sent to one replica, and what was sent and not yet acknowledged.

Two lanes, both bounded:

- *News* (heartbeats, health, module lists, failed polls, tunnel state): a newer
  one of the same base and kind takes the place of an older unsent one, so the lane
  is bounded by bases x kinds, and by ``MAX_NEWS``, beyond which news is refused.
  News older than ``STALE`` seconds when its turn comes is dropped: a heartbeat is
  evidence of life only while it is fresh. A lost stream takes its news with it,
  except for unsent or unacknowledged heartbeats, which go again while fresh.
- *Kept* (order results, baseline questions, batch results): kept until
  acknowledged, and sent again on each new stream, in order. When ``MAX_KEPT`` wait,
  ``has_room`` is False: new orders and questions are refused by who asks. Refusals
  themselves may overdraw the lane up to twice ``MAX_KEPT``; what exceeds that is
  dropped, and its sender finds out by its own deadline.

A module list equal to the last one sent on the same stream under the same Watch
travels as "unchanged". Sequence numbers begin at 1 on every stream; messages with
at most ``Limits.max_unacked`` unacknowledged numbers are under way.

This class does no I/O and reads no clock.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, replace
from typing import TypeAlias

from gateways.arklet.facts import BatchReply, Health, Heartbeat, Verb
from gateways.session.messages import BaselineQuery, Limits, ModuleList, OrderResult, PollFailed, Report, Welcome

STALE = 10.0
"""Seconds after which unsent news is not worth sending."""
MAX_NEWS = 65_536
MAX_KEPT = 8_192
MAX_WEIGHT = 1_000
"""Most modules and reports in one message, which keeps it far below gRPC's limit of 4 MiB."""

Key: TypeAlias = tuple[str, type | Verb]
Kept: TypeAlias = OrderResult | Report


@dataclass(frozen=True, slots=True)
class Envelope:
    """One numbered message: either a batch of reports or one order result."""

    seq: int
    content: tuple[Report, ...] | OrderResult


@dataclass(frozen=True, slots=True)
class _News:
    report: Report
    put_at: float


class Outbox:
    """The queue towards one replica; all times are monotonic seconds of the caller's clock."""

    def __init__(self, *, max_news: int = MAX_NEWS, max_kept: int = MAX_KEPT) -> None:
        self._max_news = max_news
        self._max_kept = max_kept
        self._news: OrderedDict[Key, _News] = OrderedDict()
        self._kept: deque[Kept] = deque()
        self._unacked: deque[tuple[int, tuple[_News, ...], tuple[Kept, ...]]] = deque()
        self._last_lists: dict[str, ModuleList] = {}
        self._limits = Limits()
        self._seq = 0
        self._open = False
        self.dropped = 0

    @property
    def has_room(self) -> bool:
        """Whether one more result can be kept."""
        return self._kept_count() < self._max_kept

    @property
    def depth(self) -> int:
        """How much waits to be sent or acknowledged."""
        return len(self._news) + self._kept_count() + sum(len(news) for _, news, _ in self._unacked)

    @property
    def idle(self) -> bool:
        """Whether everything that must arrive was acknowledged."""
        return self._kept_count() == 0

    @property
    def sendable(self) -> bool:
        """Whether take would give something, staleness aside."""
        return self._open and len(self._unacked) < self._limits.max_unacked and bool(self._news or self._kept)

    def put(self, report: Report, now: float) -> bool:
        """Queue a report; False when its lane is full, or when it is news and no stream is open."""
        if isinstance(report.fact, BaselineQuery | BatchReply):
            if not self.has_room:
                return False
            self._kept.append(report)
            return True
        if not self._open:
            return False
        key = _key(report)
        if isinstance(report.fact, ModuleList | Health):
            answered = Verb.HEALTH if isinstance(report.fact, Health) else Verb.QUERY_MODULES
            self._news.pop((report.base, answered), None)
        if key not in self._news and len(self._news) >= self._max_news:
            self.dropped += 1
            return False
        self._news[key] = _News(report, now)
        return True

    def put_result(self, result: Kept) -> bool:
        """Queue the outcome of an order or batch; False when even the overdraft for refusals is used up."""
        if self._kept_count() >= 2 * self._max_kept:
            self.dropped += 1
            return False
        self._kept.append(result)
        return True

    def hand_over(self, base: str) -> tuple[Kept, ...]:
        """Give away the results and batch results of a base that are not on their way."""
        given = tuple(item for item in self._kept if item.base == base and not _is_query(item))
        if given:
            self._kept = deque(item for item in self._kept if item.base != base or _is_query(item))
        return given

    def open(self, welcome: Welcome) -> None:
        """Begin a stream: numbers begin anew, everything kept goes again."""
        self.close()
        self._limits = welcome.limits
        self._seq = 0
        self._open = True

    def close(self) -> None:
        """End a stream: keep what must arrive and heartbeats, forget all other news."""
        self._open = False
        resent: deque[Kept] = deque()
        beats: OrderedDict[Key, _News] = OrderedDict()
        for _, news, kept in self._unacked:
            resent.extend(kept)
            beats.update((_key(item.report), item) for item in news)
        beats.update(self._news)
        self._news = OrderedDict((key, item) for key, item in beats.items() if key[1] is Heartbeat)
        self._kept = resent + self._kept
        self._unacked.clear()
        self._last_lists.clear()

    def watched_anew(self, base: str) -> None:
        """Send the next module list of the base in full: a Watch for it came, or it is not watched any more."""
        self._last_lists.pop(base, None)

    def ack(self, seq: int) -> tuple[Kept, ...]:
        """Take note that the replica has everything up to and including seq; return what need not be kept now."""
        done: list[Kept] = []
        while self._unacked and self._unacked[0][0] <= seq:
            done.extend(self._unacked.popleft()[2])
        return tuple(done)

    def kept(self) -> tuple[Kept, ...]:
        """Return what is kept until it is acknowledged."""
        return (*(item for _, _, kept in self._unacked for item in kept), *self._kept)

    def take(self, now: float) -> list[Envelope]:
        """Return what may be sent now, in order. It counts as unacknowledged from here on."""
        envelopes: list[Envelope] = []
        while self.sendable:
            before = len(envelopes)
            news = self._take_news(now)
            queries = self._take_kept_reports(self._limits.max_batch - len(news))
            if news or queries:
                content = (*(self._compressed(item.report) for item in news), *queries)
                envelopes.append(self._sent(content, tuple(news), tuple(queries)))
            if self._kept and isinstance(self._kept[0], OrderResult) and self.sendable:
                result = self._kept.popleft()
                assert isinstance(result, OrderResult)  # noqa: S101 - for the type checker
                envelopes.append(self._sent(result, (), (result,)))
            if len(envelopes) == before:
                break
        return envelopes

    def _sent(
        self, content: tuple[Report, ...] | OrderResult, news: tuple[_News, ...], kept: tuple[Kept, ...]
    ) -> Envelope:
        self._seq += 1
        self._unacked.append((self._seq, news, kept))
        return Envelope(self._seq, content)

    def _take_news(self, now: float) -> list[_News]:
        taken: list[_News] = []
        weight = 0
        while self._news and len(taken) < self._limits.max_batch:
            key, item = next(iter(self._news.items()))
            weight += _weight(item.report)
            if taken and weight > MAX_WEIGHT:
                break
            del self._news[key]
            if now - item.put_at <= STALE:
                taken.append(item)
            else:
                self.dropped += 1
        return taken

    def _take_kept_reports(self, most: int) -> list[Report]:
        taken: list[Report] = []
        while self._kept and len(taken) < most and isinstance(self._kept[0], Report):
            report = self._kept.popleft()
            assert isinstance(report, Report)  # noqa: S101 - for the type checker
            taken.append(report)
        return taken

    def _compressed(self, report: Report) -> Report:
        if not isinstance(report.fact, ModuleList) or not report.fact.epoch:
            return report
        last = self._last_lists.get(report.base)
        self._last_lists[report.base] = report.fact
        return replace(report, fact=replace(report.fact, modules=(), unchanged=True)) if last == report.fact else report

    def _kept_count(self) -> int:
        return len(self._kept) + sum(len(kept) for _, _, kept in self._unacked)


def _key(report: Report) -> Key:
    return report.base, report.fact.verb if isinstance(report.fact, PollFailed) else type(report.fact)


def _weight(report: Report) -> int:
    return 1 + (len(report.fact.modules) if isinstance(report.fact, ModuleList) else 0)


def _is_query(item: Kept) -> bool:
    return isinstance(item, Report) and isinstance(item.fact, BaselineQuery)
