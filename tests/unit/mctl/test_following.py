from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mctl.errors import NoAnswer, Unreachable
from mctl.following import Seen, follow, follow_events, poll
from mctl.records import Change, ChangeType, Event, Replica

T = TypeVar("T")


class Stop(Exception):
    pass


class Clock:
    def __init__(self, *, most: int = 1000) -> None:
        self.now = 0.0
        self._most = most

    def sleep(self, seconds: float) -> None:
        assert 0 < seconds <= 2.0
        self.now += seconds
        self._most -= 1
        if not self._most:
            raise Stop

    def __call__(self) -> float:
        return self.now


def replica(name: str, vnodes: int = 0) -> Replica:
    return Replica(name, "", vnodes, False)


def added(*items: Replica) -> list[Change[Replica]]:
    return [Change(ChangeType.ADDED, item) for item in items]


def cut(changes: list[Change[Replica]]) -> Iterator[Change[Replica]]:
    yield from changes
    raise Unreachable("cut")


def until_stop(items: Iterator[T]) -> Iterator[T]:
    """Yield what is told before the clock stops the watcher."""
    try:
        yield from items
    except Stop:
        return
    pytest.fail("the watcher ended by itself")


def test_a_cut_stream_is_compared_with_a_full_list() -> None:
    clock = Clock(most=2)
    streams = iter([cut(added(replica("a"), replica("b"))), cut(added(replica("b", 5), replica("c")))])
    changes = follow(lambda _: next(streams), lambda _: [replica("b", 5)], patience=60, wait=clock.sleep, clock=clock)
    told = [(change.type.value, change.item.id) for change in until_stop(changes)]
    assert told == [("ADDED", "a"), ("ADDED", "b"), ("DELETED", "a"), ("MODIFIED", "b"), ("ADDED", "c")]


def test_patience_ends_when_nothing_answers() -> None:
    clock = Clock()

    def away(left: float) -> list[Replica]:
        assert 0 < left <= 10
        raise Unreachable("away")

    with pytest.raises(Unreachable):
        list(follow(lambda _: cut([]), away, patience=10, wait=clock.sleep, clock=clock))
    assert 10 <= clock.now <= 12


def test_no_answer_in_the_time_that_is_left_ends_it() -> None:
    clock = Clock()
    given: list[float] = []

    def silent(left: float) -> list[Replica]:
        given.append(left)
        clock.now += left
        raise NoAnswer("no answer")

    with pytest.raises(NoAnswer):
        list(follow(lambda _: cut([]), silent, patience=10, wait=clock.sleep, clock=clock))
    assert clock.now == pytest.approx(10)
    assert len(given) == 1


def test_an_idle_stream_that_is_cut_after_hours_is_opened_again() -> None:
    clock = Clock(most=5)

    def idle(_left: float) -> Iterator[Change[Replica]]:
        clock.now += 10_000
        return cut([])

    with pytest.raises(Stop):
        list(follow(idle, lambda _: [], patience=10, wait=clock.sleep, clock=clock))


def test_a_stream_that_ends_in_order_is_opened_again() -> None:
    clock = Clock(most=3)
    with pytest.raises(Stop):
        list(follow(lambda _: iter(()), lambda _: [], patience=10, wait=clock.sleep, clock=clock))


def test_events_are_told_once() -> None:
    clock = Clock(most=3)
    first, second = (Event(None, "Normal", reason, "", "", "", "") for reason in ("First", "Second"))
    streams = iter([[first], [first, second], [second]])
    events = follow_events(lambda _: iter(next(streams)), lambda _: [], patience=10, wait=clock.sleep, clock=clock)
    assert [event.reason for event in until_stop(events)] == ["First", "Second"]


def test_polling_tells_differences() -> None:
    clock = Clock(most=3)
    lists = iter([[replica("a")], [replica("a")], [replica("b")]])
    changes = poll(lambda: next(lists), 2.0, wait=clock.sleep)
    told = [(change.type.value, change.item.id) for change in until_stop(changes)]
    assert told == [("ADDED", "a"), ("DELETED", "a"), ("ADDED", "b")]


replicas = st.builds(replica, st.sampled_from("abcd"), st.integers(0, 2))
replica_changes = st.builds(Change, st.sampled_from(ChangeType), replicas)


@given(history=st.lists(replica_changes | st.lists(replicas, unique_by=lambda r: r.id)))
def test_what_was_told_always_adds_up(history: list[Change[Replica] | list[Replica]]) -> None:
    """A reader who applies what it is told holds what the server said last; no change is told in vain."""
    seen: Seen[Replica] = Seen()
    held: dict[str, Replica] = {}
    truth: dict[str, Replica] = {}
    for entry in history:
        batch = seen.against(entry) if isinstance(entry, list) else [entry]
        if isinstance(entry, list):
            truth = {r.id: r for r in entry}
        elif entry.type is ChangeType.DELETED:
            truth.pop(entry.item.id, None)
        else:
            truth[entry.item.id] = entry.item
        for raw in batch:
            for change in seen.take(raw):
                match change.type:
                    case ChangeType.ADDED:
                        assert change.item.id not in held
                        held[change.item.id] = change.item
                    case ChangeType.MODIFIED:
                        assert held[change.item.id] != change.item
                        held[change.item.id] = change.item
                    case ChangeType.DELETED:
                        del held[change.item.id]
        assert held == truth
