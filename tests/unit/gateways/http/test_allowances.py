"""What answers may cost, and how long a base that costs more is left alone."""

from hypothesis import given
from hypothesis import strategies as st

from gateways.http.allowances import BYTES, FIRST_REST, FORGIVEN, JITTER, LONGEST_REST, SECONDS, Allowances


def test_four_large_lists_a_minute_are_within_the_allowance() -> None:
    allowances = Allowances()
    assert not any(allowances.charge("a", SECONDS / 4, BYTES // 4, at * 15.0) for at in range(100))
    assert allowances.rest("a", 1500.0) == (0.0, "")


def test_beyond_it_a_base_is_left_alone_by_itself() -> None:
    allowances = Allowances(lambda: 0.5)
    assert allowances.charge("a", SECONDS + 0.1, 1, 0.0)
    assert allowances.charge("b", 0.0, BYTES + 1, 0.0)
    assert allowances.rest("a", 4.0)[0] == FIRST_REST - 4
    assert allowances.rest("a", FIRST_REST) == (0.0, "")
    assert allowances.rest("c", 0.0) == (0.0, "")


def test_rests_grow_and_are_forgiven() -> None:
    allowances, now, rests = Allowances(lambda: 0.5), 0.0, list[float]()
    for _ in range(9):
        allowances.exceeded("a", "why", now)
        rest, why = allowances.rest("a", now)
        assert why == "why"
        rests.append(rest)
        now += 1.0
    assert rests == sorted(rests)
    assert (rests[0], rests[-1]) == (FIRST_REST, LONGEST_REST)
    now += 10 * FORGIVEN
    allowances.exceeded("a", "why", now)
    assert allowances.rest("a", now)[0] == FIRST_REST


@given(st.lists(st.tuples(st.floats(0, 1000), st.floats(0, 3), st.integers(0, 1 << 22))), st.floats(0, 1))
def test_a_rest_is_bounded_and_a_base_comes_back(charges: list[tuple[float, float, int]], chance: float) -> None:
    allowances, now = Allowances(lambda: chance), 0.0
    for passed, seconds, size in charges:
        now += passed
        allowances.charge("a", seconds, size, now)
        rest, _ = allowances.rest("a", now)
        assert 0 <= rest <= LONGEST_REST * (1 + JITTER)
    assert allowances.rest("a", now + LONGEST_REST * 2) == (0.0, "")
