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
  themselves may overdraw the lane up to twice ``MAX_KEPT``.

How kept items end is the business of ``outboxes``: this class only hands them out.

A module list equal to the last one sent on the same stream under the same Watch
travels as "unchanged". Sequence numbers begin at 1 on every stream; messages with
at most ``Limits.max_unacked`` unacknowledged numbers are under way.

This class does no I/O and reads no clock.
"""

from __future__ import annotations

import itertools
from collections import Counter, OrderedDict, defaultdict, deque
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


@dataclass(frozen=True, slots=True)
class _Sent:
    """A message that is not acknowledged: its number, and what goes again with the next stream."""

    seq: int
    news: tuple[_News, ...]
    kept: dict[int, Kept]


class Outbox:
    """The queue towards one replica; all times are monotonic seconds of the caller's clock."""

    def __init__(self, *, max_news: int = MAX_NEWS, max_kept: int = MAX_KEPT) -> None:
        self._max_news = max_news
        self._max_kept = max_kept
        self._news: OrderedDict[Key, _News] = OrderedDict()
        self._numbers = itertools.count()
        self._kept: dict[int, Kept] = {}
        """Not on their way, in the order in which they came."""
        self._of_base: defaultdict[str, set[int]] = defaultdict(set)
        """Numbers in _kept, by base."""
        self._unacked: deque[_Sent] = deque()
        self._last_lists: dict[str, ModuleList] = {}
        self._limits = Limits()
        self._seq = 0
        self._open = False
        self._dropped: Counter[str] = Counter()

    @property
    def has_room(self) -> bool:
        """Whether one more result can be kept."""
        return self._kept_count() < self._max_kept

    @property
    def depth(self) -> int:
        """How much waits to be sent or acknowledged."""
        return len(self._news) + self._kept_count() + sum(len(sent.news) for sent in self._unacked)

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
            self._keep(report)
            return True
        if not self._open:
            return False
        key = _key(report)
        if isinstance(report.fact, ModuleList | Health):
            answered = Verb.HEALTH if isinstance(report.fact, Health) else Verb.QUERY_MODULES
            self._news.pop((report.base, answered), None)
        if key not in self._news and len(self._news) >= self._max_news:
            self._dropped["full"] += 1
            return False
        self._news[key] = _News(report, now)
        return True

    def put_result(self, result: Kept) -> bool:
        """Queue the outcome of an order or batch; False when even the overdraft for refusals is used up."""
        if self._kept_count() >= 2 * self._max_kept:
            return False
        self._keep(result)
        return True

    def withdraw(self, query_id: str) -> None:
        """Send a baseline question never again: its asker does not wait any more."""
        for sent in self._unacked:
            for number in [number for number, item in sent.kept.items() if _is_query(item, query_id)]:
                del sent.kept[number]
        for number in [number for number, item in self._kept.items() if _is_query(item, query_id)]:
            self._take_kept(number)

    def hand_over(self, base: str) -> tuple[Kept, ...]:
        """Give away the results and batch results of a base that are not on their way."""
        given = [number for number in sorted(self._of_base.get(base, ())) if not _is_query(self._kept[number])]
        return tuple(self._take_kept(number) for number in given)

    def bases(self) -> tuple[str, ...]:
        """Return the bases of which something is kept that is not on its way."""
        return tuple(self._of_base)

    def dropped(self) -> Counter[str]:
        """Return how much news was dropped since the last call, by reason: full or stale."""
        dropped, self._dropped = self._dropped, Counter()
        return dropped

    def open(self, welcome: Welcome) -> None:
        """Begin a stream: numbers begin anew, everything kept goes again."""
        self.close()
        self._limits = welcome.limits
        self._seq = 0
        self._open = True

    def close(self) -> None:
        """End a stream: keep what must arrive and heartbeats, forget all other news."""
        self._open = False
        beats: OrderedDict[Key, _News] = OrderedDict()
        resent: dict[int, Kept] = {}
        for sent in self._unacked:
            resent |= sent.kept
            beats.update((_key(item.report), item) for item in sent.news)
        beats.update(self._news)
        self._news = OrderedDict((key, item) for key, item in beats.items() if key[1] is Heartbeat)
        # What was on its way came before what was not.
        self._kept = resent | self._kept
        for number, item in resent.items():
            self._of_base[item.base].add(number)
        self._unacked.clear()
        self._last_lists.clear()

    def watched_anew(self, base: str) -> None:
        """Send the next module list of the base in full: a Watch for it came, or it is not watched any more."""
        self._last_lists.pop(base, None)

    def ack(self, seq: int) -> tuple[Kept, ...]:
        """Take note that the replica has everything up to and including seq; return what need not be kept now."""
        done: list[Kept] = []
        while self._unacked and self._unacked[0].seq <= seq:
            done.extend(self._unacked.popleft().kept.values())
        return tuple(done)

    def kept(self) -> tuple[Kept, ...]:
        """Return what is kept until it is acknowledged."""
        return (*(item for sent in self._unacked for item in sent.kept.values()), *self._kept.values())

    def take(self, now: float) -> list[Envelope]:
        """Return what may be sent now, in order. It counts as unacknowledged from here on."""
        envelopes: list[Envelope] = []
        while self.sendable:
            before = len(envelopes)
            news = self._take_news(now)
            queries = self._take_kept_reports(self._limits.max_batch - len(news))
            if news or queries:
                reports = tuple(item for item in queries.values() if isinstance(item, Report))
                content = (*(self._compressed(item.report) for item in news), *reports)
                envelopes.append(self._sent(content, tuple(news), queries))
            number, first = next(iter(self._kept.items()), (0, None))
            if isinstance(first, OrderResult) and self.sendable:
                envelopes.append(self._sent(first, (), {number: self._take_kept(number)}))
            if len(envelopes) == before:
                break
        return envelopes

    def _sent(
        self, content: tuple[Report, ...] | OrderResult, news: tuple[_News, ...], kept: dict[int, Kept]
    ) -> Envelope:
        self._seq += 1
        self._unacked.append(_Sent(self._seq, news, kept))
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
                self._dropped["stale"] += 1
        return taken

    def _take_kept_reports(self, most: int) -> dict[int, Kept]:
        first = itertools.takewhile(lambda entry: isinstance(entry[1], Report), self._kept.items())
        numbers = [number for number, _ in itertools.islice(first, max(most, 0))]
        return {number: self._take_kept(number) for number in numbers}

    def _keep(self, item: Kept) -> None:
        number = next(self._numbers)
        self._kept[number] = item
        self._of_base[item.base].add(number)

    def _take_kept(self, number: int) -> Kept:
        item = self._kept.pop(number)
        numbers = self._of_base[item.base]
        numbers.discard(number)
        if not numbers:
            del self._of_base[item.base]
        return item

    def _compressed(self, report: Report) -> Report:
        if not isinstance(report.fact, ModuleList) or not report.fact.epoch:
            return report
        last = self._last_lists.get(report.base)
        self._last_lists[report.base] = report.fact
        return replace(report, fact=replace(report.fact, modules=(), unchanged=True)) if last == report.fact else report

    def _kept_count(self) -> int:
        return len(self._kept) + sum(len(sent.kept) for sent in self._unacked)


def _key(report: Report) -> Key:
    return report.base, report.fact.verb if isinstance(report.fact, PollFailed) else type(report.fact)


def _weight(report: Report) -> int:
    return 1 + (len(report.fact.modules) if isinstance(report.fact, ModuleList) else 0)


def _is_query(item: Kept, query_id: str = "") -> bool:
    return isinstance(item, Report) and isinstance(item.fact, BaselineQuery) and query_id in ("", item.fact.query_id)
