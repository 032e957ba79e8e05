"""How often the same is written again, because somebody else keeps changing it."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.repairs import APART, FORGOTTEN_AFTER, Repairs

LONGEST = APART.longest * (1 + APART.jitter)


def kept_changing(repairs: Repairs, what: object, *, since: float, until: float) -> list[float]:
    """Return when something is written that is changed again at once each time."""
    times, now = [], since
    while now <= until:
        times.append(now)
        repairs.written(what, now, 0.0)
        now = max(now + 0.001, repairs.held_until(what))
    return times


def test_it_is_put_right_less_and_less_often() -> None:
    times = kept_changing(Repairs(), "ready", since=0.0, until=600.0)
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert [round(gap, 2) for gap in gaps[:9]] == [0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    assert len(times) < 20


def test_what_is_new_is_written_at_once() -> None:
    repairs = Repairs()
    kept_changing(repairs, "ready", since=0.0, until=600.0)
    assert repairs.held_until("ready") > 600.0
    assert repairs.held_until("not ready") < 0.0
    assert repairs.written("not ready", 600.0, 0.0) == 0


def test_a_change_after_a_while_is_put_right_at_once() -> None:
    repairs = Repairs()
    kept_changing(repairs, "ready", since=0.0, until=600.0)
    at = repairs.held_until("ready") + FORGOTTEN_AFTER
    assert repairs.written("ready", at, 0.0) == 0
    assert repairs.held_until("ready") <= at


def test_what_was_refused_waits_and_is_no_repair_then() -> None:
    repairs = Repairs()
    repairs.refused("ready", 30.0)
    assert repairs.held_until("ready") == 30.0
    assert repairs.held_until("not ready") < 0.0
    assert repairs.written("ready", 30.0, 0.0) == 0
    assert repairs.written("ready", 31.0, 0.0) == 1


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0.0, 100.0), st.floats(0.0, 0.99)), max_size=60))
def test_nothing_waits_longer_than_the_longest_delay_and_what_is_new_never(
    steps: list[tuple[str, float, float]],
) -> None:
    repairs, now, last = Repairs(), 0.0, ""
    for what, gap, chance in steps:
        held = repairs.held_until(what)
        assert held <= now + LONGEST
        if what != last:
            assert held < 0.0
        now = max(now + gap, held)
        repairs.written(what, now, chance)
        last = what
