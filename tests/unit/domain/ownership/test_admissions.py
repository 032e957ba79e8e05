"""Which new base is examined next: sources take turns, and nobody keeps others from being examined."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.identity import BaseId
from controlplane.domain.ownership.admissions import AT_ONCE, EXAMINED_FOR, OF_ONE_SOURCE, Places, Waiting


def waiting(*bases: tuple[str, str], persistent: bool = False) -> Waiting:
    found = Waiting()
    for base, source in bases:
        found.add(BaseId(base), source, persistent=persistent)
    return found


def order(queue: Waiting) -> list[str]:
    taken = []
    while (chosen := queue.take(())) is not None:
        taken.append(chosen[0])
    return [str(base) for base in taken]


def test_sources_take_turns() -> None:
    assert order(waiting(("a1", "a"), ("a2", "a"), ("a3", "a"), ("b1", "b"))) == ["a1", "b1", "a2", "a3"]


def test_a_base_that_came_again_goes_before_others_of_its_source_and_once() -> None:
    queue = waiting(("a1", "a"), ("a2", "a"))
    queue.add(BaseId("a2"), "a", persistent=True)
    queue.add(BaseId("a2"), "a", persistent=True)
    assert len(queue) == 2
    assert order(queue) == ["a2", "a1"]


def test_a_source_that_is_full_is_passed_over() -> None:
    queue = waiting(("a1", "a"), ("b1", "b"))
    assert queue.take({"a"}) == (BaseId("b1"), "b")
    assert queue.take({"a"}) is None
    assert queue.take(()) == (BaseId("a1"), "a")


def test_who_was_not_heard_of_lately_waits_no_more() -> None:
    queue = waiting(("a1", "a"), ("a2", "a"), ("b1", "b"))
    queue.keep({BaseId("a2")})
    assert order(queue) == ["a2"]


def test_who_had_its_time_is_overdue() -> None:
    places = Places()
    places.give(BaseId("late"), "a", 0.0)
    places.give(BaseId("new"), "a", 1.0)
    assert places.overdue(EXAMINED_FOR) == ["late"]
    places.end(BaseId("late"))
    assert places.overdue(EXAMINED_FOR) == []


@given(st.lists(st.sampled_from("abcde"), max_size=400), st.sets(st.integers(0, 400)))
def test_no_source_has_more_than_its_part_and_all_come_to_their_turn(sources: list[str], ended: set[int]) -> None:
    queue, places, examined = Waiting(), Places(), set[str]()
    for number, source in enumerate(sources):
        queue.add(BaseId(f"{source}{number}"), source, persistent=number in ended)
    for step in range(len(sources) + 1):
        while places.free and (chosen := queue.take(places.full())) is not None:
            assert chosen[0] not in examined
            examined.add(chosen[0])
            places.give(*chosen, float(step))
            held = Counter(str(base)[0] for base in places)
            assert len(places) <= AT_ONCE
            assert max(held.values()) <= OF_ONE_SOURCE
        if len(queue):
            assert not places.free or places.full(), "nobody waits while there is a place"
        for base in list(places)[:1]:
            places.end(base)
    assert len(examined) == len(sources)
