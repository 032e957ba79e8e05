"""mctl follows streams and lists, and shows each change once."""

from collections.abc import Iterator
from typing import TypeVar

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

from mctl.errors import ServerUnreachable
from mctl.following import KnownItems, follow, poll, unseen
from mctl.kinds import ADDED, DELETED, MODIFIED, REPLICA, ItemChange

T = TypeVar("T")
Message = ItemChange[pb.Replica] | None


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


def replica(name: str, vnodes: int = 0) -> pb.Replica:
    return pb.Replica(id=name, vnodes=vnodes)


def added(*items: pb.Replica) -> list[Message]:
    """Return the beginning of a stream: all items, and the mark that the list is complete."""
    return [*(ItemChange(ADDED, item) for item in items), None]


def cut(messages: list[Message]) -> Iterator[Message]:
    yield from messages
    raise ServerUnreachable("cut")


def until_stop(items: Iterator[T]) -> Iterator[T]:
    """Yield what comes before the clock stops the watcher."""
    try:
        yield from items
    except Stop:
        return
    pytest.fail("the watcher ended by itself")


def shown(changes: Iterator[ItemChange[pb.Replica]]) -> list[tuple[str, str]]:
    return [(change.type, change.item.id) for change in until_stop(changes)]


def test_a_new_stream_is_compared_with_what_is_known() -> None:
    clock = Clock(most=2)
    later: Message = ItemChange(DELETED, replica("c"))
    streams = iter([cut(added(replica("a"), replica("b"))), cut([*added(replica("b", 5), replica("c")), None, later])])
    known = KnownItems(REPLICA)
    changes = follow(lambda _: next(streams), known.read, 60, wait=clock.sleep, clock=clock)
    assert shown(changes) == [
        ("ADDED", "a"),
        ("ADDED", "b"),
        ("DELETED", "a"),
        ("MODIFIED", "b"),
        ("ADDED", "c"),
        ("DELETED", "c"),
    ]


def test_a_stream_that_is_cut_midway_deletes_nothing() -> None:
    clock = Clock(most=3)
    everything = added(replica("a"), replica("b"))
    streams = iter([cut(everything), cut(everything[:1]), cut(everything)])
    changes = follow(lambda _: next(streams), KnownItems(REPLICA).read, 60, wait=clock.sleep, clock=clock)
    assert shown(changes) == [("ADDED", "a"), ("ADDED", "b")]


def test_following_ends_when_nothing_answers() -> None:
    clock = Clock()

    def away(left: float) -> Iterator[Message]:
        assert 0 < left <= 10
        return cut([])

    with pytest.raises(ServerUnreachable):
        list(follow(away, KnownItems(REPLICA).read, 10, wait=clock.sleep, clock=clock))
    assert 10 <= clock.now <= 12


@pytest.mark.parametrize("first", [[], [added()]])
def test_following_ends_without_an_answer_in_the_time_left(first: list[list[Message]]) -> None:
    """The time counts from the start, or from the moment at which a stream was cut."""
    clock = Clock()
    streams = [cut(messages) for messages in first]
    timeouts: list[float] = []

    def silent(left: float) -> Iterator[Message]:
        if streams:
            return streams.pop()
        timeouts.append(left)
        clock.now += left
        return cut([])

    with pytest.raises(ServerUnreachable):
        list(follow(silent, KnownItems(REPLICA).read, 10, wait=clock.sleep, clock=clock))
    assert clock.now == pytest.approx(10)
    assert len(timeouts) == 1


def test_a_server_with_too_much_to_do_is_left_alone_for_the_time_that_it_names() -> None:
    clock = Clock(most=1)

    def busy(_left: float) -> Iterator[Message]:
        raise ServerUnreachable("busy", retry_after=1.0)

    with pytest.raises(Stop):
        list(follow(busy, KnownItems(REPLICA).read, 10, wait=clock.sleep, clock=clock))
    assert 1.0 < clock.now <= 2.0
    with pytest.raises(ServerUnreachable):
        list(follow(busy, KnownItems(REPLICA).read, 0.5, wait=clock.sleep, clock=clock))


def test_an_idle_stream_that_is_cut_after_hours_is_opened_again() -> None:
    clock = Clock(most=5)

    def idle(_left: float) -> Iterator[Message]:
        yield from added()
        clock.now += 10_000
        raise ServerUnreachable("cut")

    with pytest.raises(Stop):
        list(follow(idle, KnownItems(REPLICA).read, 10, wait=clock.sleep, clock=clock))


def test_a_stream_that_ends_normally_is_opened_again() -> None:
    clock = Clock(most=3)
    with pytest.raises(Stop):
        list(follow(lambda _: iter(()), KnownItems(REPLICA).read, 10, wait=clock.sleep, clock=clock))


def test_events_are_shown_once() -> None:
    clock = Clock(most=3)
    first, second, again = (
        ItemChange(ADDED, pb.Event(reason=reason, time=Timestamp(seconds=at)))
        for reason, at in (("First", 1), ("Second", 2), ("First", 3))
    )
    streams = iter([[first, None], [first, second, None], [second, None, again]])
    events = follow(lambda _: next(streams), unseen(), 10, wait=clock.sleep, clock=clock)
    assert [event.item.reason for event in until_stop(events)] == ["First", "Second", "First"]


def test_polling_shows_differences() -> None:
    clock = Clock(most=3)
    lists = iter([[replica("a")], [replica("a")], [replica("b")]])
    changes = poll(lambda: next(lists), REPLICA, 2.0, wait=clock.sleep)
    assert shown(changes) == [("ADDED", "a"), ("DELETED", "a"), ("ADDED", "b")]


replicas = st.builds(replica, st.sampled_from("abcd"), st.integers(0, 2))
replica_changes = st.builds(ItemChange, st.sampled_from([ADDED, MODIFIED, DELETED]), replicas)


@given(history=st.lists(replica_changes | st.lists(replicas, unique_by=lambda r: r.id)))
def test_shown_changes_add_up_to_the_state_of_the_server(
    history: list[ItemChange[pb.Replica] | list[pb.Replica]],
) -> None:
    """A reader who applies the shown changes has the last state of the server, and no change is redundant."""
    known = KnownItems(REPLICA)
    applied: dict[str, pb.Replica] = {}
    expected: dict[str, pb.Replica] = {}
    for entry in history:
        if isinstance(entry, list):
            expected = {r.id: r for r in entry}
        elif entry.type == DELETED:
            expected.pop(entry.item.id, None)
        else:
            expected[entry.item.id] = entry.item
        for change in known.replace(entry) if isinstance(entry, list) else known.take(entry):
            match change.type:
                case "ADDED":
                    assert change.item.id not in applied
                    applied[change.item.id] = change.item
                case "MODIFIED":
                    assert applied[change.item.id] != change.item
                    applied[change.item.id] = change.item
                case "DELETED":
                    del applied[change.item.id]
        assert applied == expected
