"""Counters of CPU only rise, and never by more than a base says that it used."""

from dataclasses import replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.base.usage import COUNT_BEGINS, NOTHING_COUNTED, Counted
from controlplane.domain.facts import BaseState, Health, Metaspace

SAID = Health(BaseState.ACTIVATED, Metaspace(1, -1), "")
ANSWERS = st.lists(st.tuples(st.none() | st.floats(0, 1e9), st.integers(0, 100)), max_size=20)


def told(*answers: tuple[float | None, int]) -> list[Counted]:
    """Return what is counted after each answer: CPU seconds, and how many modules there are."""
    counted, found = NOTHING_COUNTED, []
    for at, (cpu, modules) in enumerate(answers):
        counted = counted.after(replace(SAID, cpu=cpu), modules, float(at))
        found.append(counted)
    return found


def test_a_share_is_the_part_of_one_module() -> None:
    last = told((100.0, 2), (110.0, 2), (116.0, 3), (116.0, 0))[-1]
    assert last.cpu == 116.0
    assert last.share == COUNT_BEGINS + 5.0 + 2.0


def test_a_base_that_starts_again_is_counted_on() -> None:
    assert [each.cpu for each in told((100.0, 1), (3.0, 1), (4.0, 1))] == [100.0, 103.0, 104.0]


def test_what_is_left_out_is_no_news() -> None:
    first, second = told((100.0, 1), (None, 1))
    assert (second.cpu, second.share, second.at) == (first.cpu, first.share, 1.0)
    assert told((None, 1))[0].cpu is None
    heap = NOTHING_COUNTED.after(replace(SAID, heap=5), 1, 0.0)
    assert heap.after(SAID, 1, 1.0).heap == 5


@given(ANSWERS)
def test_counters_only_rise(answers: list[tuple[float | None, int]]) -> None:
    counted = [each for each in told(*answers) if each.cpu is not None and each.share is not None]
    for before, after in pairwise(counted):
        assert before.cpu is not None
        assert before.share is not None
        assert after.cpu is not None
        assert after.share is not None
        assert after.cpu >= before.cpu
        assert before.share <= after.share <= before.share + (after.cpu - before.cpu) * (1 + 1e-9) + 1e-6


@given(ANSWERS, ANSWERS)
def test_after_a_change_of_hands_no_share_rises_by_what_was_used_before(
    before: list[tuple[float | None, int]], after: list[tuple[float | None, int]]
) -> None:
    """A replica that takes a base over begins to count anew."""
    first, then = told(*before), told(*after)
    used = [each for each in then if each.cpu is not None]
    if first and used and first[-1].share is not None:
        assert used[-1].share is not None
        assert used[0].cpu is not None
        assert used[-1].cpu is not None
        assert used[-1].share - first[-1].share <= (used[-1].cpu - used[0].cpu) * (1 + 1e-9) + COUNT_BEGINS
