"""Alive, unreachable, dead: and that no news is never bad news while nothing could be heard."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.base.liveness import Evidence, Patience, Verdict, judge, mass_silence

PATIENCE = Patience()


def verdict(
    now: float, *, heard: float = 0.0, term: float = 0.0, up: float | None = 0.0, frozen: bool = False
) -> Verdict:
    evidence = Evidence(term_began=term, last_heard=heard, tunnel_up_since=up)
    return judge(evidence, now=now, patience=PATIENCE, removals_frozen=frozen).verdict


@pytest.mark.parametrize(
    ("now", "expected"),
    [(0.0, Verdict.ALIVE), (24.9, Verdict.ALIVE), (25.0, Verdict.UNREACHABLE), (59.9, Verdict.UNREACHABLE)],
)
def test_silence_turns_unreachable_after_25_s(now: float, expected: Verdict) -> None:
    assert verdict(now) is expected


def test_silence_turns_dead_after_60_s() -> None:
    assert verdict(60.0) is Verdict.DEAD


def test_a_takeover_begins_the_clock_anew() -> None:
    assert verdict(1000.0, heard=0.0, term=990.0) is Verdict.ALIVE


def test_a_tunnel_that_came_back_begins_the_clock_anew() -> None:
    assert verdict(1000.0, heard=0.0, up=980.0) is Verdict.ALIVE


def test_nothing_is_removed_while_most_bases_are_silent() -> None:
    assert verdict(1000.0, frozen=True) is Verdict.UNREACHABLE


@given(
    st.floats(min_value=0, max_value=1e6),
    st.floats(min_value=0, max_value=1e6),
    st.floats(min_value=0, max_value=1e6),
    st.booleans(),
)
def test_without_a_tunnel_nothing_is_concluded(now: float, heard: float, term: float, frozen: bool) -> None:
    assert verdict(now, heard=heard, term=term, up=None, frozen=frozen) is Verdict.UNHEARD


@given(
    st.floats(min_value=0, max_value=1e5), st.floats(min_value=0, max_value=1e5), st.floats(min_value=0, max_value=1e5)
)
def test_the_next_look_is_when_the_verdict_changes(now: float, heard: float, up: float) -> None:
    evidence = Evidence(term_began=0.0, last_heard=heard, tunnel_up_since=up)
    judged = judge(evidence, now=now, patience=PATIENCE, removals_frozen=False)
    if judged.next_at is None:
        assert judged.verdict is Verdict.DEAD
    else:
        assert judged.next_at > now
        # Sums of floats are rounded.
        later = judge(evidence, now=judged.next_at + 1e-6, patience=PATIENCE, removals_frozen=False)
        assert later.verdict is not judged.verdict


@pytest.mark.parametrize(
    ("silent", "total", "expected"),
    [(1, 1, False), (4, 4, False), (5, 5, True), (5, 9, True), (5, 10, False), (55, 100, False), (56, 100, True)],
)
def test_mass_silence_needs_five_and_more_than_55_percent(silent: int, total: int, expected: bool) -> None:
    assert mass_silence(silent, total) is expected


def test_patience_must_make_sense() -> None:
    with pytest.raises(ValueError, match="less than dead"):
        Patience(unreachable=60, dead=25)
