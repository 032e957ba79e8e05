"""A base is alive, unreachable or dead; silence counts only while the base could be seen."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.base.hearing import LOOK_AGAIN, Heard
from controlplane.domain.base.liveness import Judgement, Outage, Verdict, judge, mass_silence
from controlplane.domain.base.state import Base, Signs
from controlplane.domain.base.vnode import Profile
from controlplane.domain.facts import TunnelKind
from controlplane.domain.identity import BaseId, VNodeName

PROFILE = Profile(BaseId("b1"), "dev", TunnelKind.HTTP)


def judged(
    now: float, *, seen: float, term: float, up: float | None, until: float = float("inf"), frozen: bool = False
) -> Judgement:
    base = Base(PROFILE.base, VNodeName("vnode.b1.dev"), PROFILE, 0.0, term_began=term, signs=Signs(last_seen=seen))
    tunnels = {TunnelKind.HTTP: Heard(up, until)} if up is not None else {}
    return judge(base, tunnels, now=now, outage=Outage(removals_frozen=frozen))


def verdict(
    now: float, *, seen: float = 0.0, term: float = 0.0, up: float | None = 0.0, frozen: bool = False
) -> Verdict:
    return judged(now, seen=seen, term=term, up=up, frozen=frozen).verdict


@pytest.mark.parametrize(
    ("now", "expected"),
    [(0.0, Verdict.ALIVE), (24.9, Verdict.ALIVE), (25.0, Verdict.UNREACHABLE), (59.9, Verdict.UNREACHABLE)],
)
def test_silence_turns_unreachable_after_25_s(now: float, expected: Verdict) -> None:
    assert verdict(now) is expected


def test_silence_turns_dead_after_60_s() -> None:
    assert verdict(60.0) is Verdict.DEAD


def test_a_takeover_begins_the_clock_anew() -> None:
    assert verdict(1000.0, seen=0.0, term=990.0) is Verdict.ALIVE


def test_a_tunnel_that_came_back_begins_the_clock_anew() -> None:
    assert verdict(1000.0, seen=0.0, up=980.0) is Verdict.ALIVE


@pytest.mark.parametrize(
    ("until", "expected"),
    [(24.9, Verdict.ALIVE), (25.0, Verdict.UNREACHABLE), (59.9, Verdict.UNREACHABLE), (60.0, Verdict.DEAD)],
)
def test_silence_counts_up_to_when_everything_was_heard(until: float, expected: Verdict) -> None:
    late = judged(1000.0, seen=0.0, term=0.0, up=0.0, until=until)
    assert late.verdict is expected
    assert late.next_at == (None if expected is Verdict.DEAD else 1000.0 + LOOK_AGAIN)


def test_commands_that_fail_count_up_to_when_everything_was_heard() -> None:
    signs = Signs(last_seen=1000.0, last_answered=0.0, failing="refused")
    base = Base(PROFILE.base, VNodeName("vnode.b1.dev"), PROFILE, 0.0, term_began=0.0, signs=signs)
    for until, expected in ((24.9, Verdict.ALIVE), (25.0, Verdict.ONE_WAY)):
        assert judge(base, {TunnelKind.HTTP: Heard(0.0, until)}, now=1000.0, outage=Outage()).verdict is expected


def test_of_two_tunnels_each_may_have_what_is_missing() -> None:
    seen = {TunnelKind.HTTP: 0.0, TunnelKind.MQTT: 0.0}
    base = Base(PROFILE.base, VNodeName("vnode.b1.dev"), PROFILE, 0.0, term_began=0.0, signs=Signs(seen_over=seen))
    tunnels = {TunnelKind.HTTP: Heard(5.0, 100.0), TunnelKind.MQTT: Heard(0.0, 29.9)}
    assert judge(base, tunnels, now=100.0, outage=Outage()).verdict is Verdict.ALIVE
    tunnels[TunnelKind.MQTT] = Heard(0.0, 30.0)
    assert judge(base, tunnels, now=100.0, outage=Outage()).verdict is Verdict.UNREACHABLE


def test_nothing_is_removed_while_most_bases_are_silent() -> None:
    assert verdict(1000.0, frozen=True) is Verdict.UNREACHABLE


@given(
    st.floats(min_value=0, max_value=1e6),
    st.floats(min_value=0, max_value=1e6),
    st.floats(min_value=0, max_value=1e6),
    st.booleans(),
)
def test_without_a_tunnel_nothing_is_concluded(now: float, seen: float, term: float, frozen: bool) -> None:
    assert verdict(now, seen=seen, term=term, up=None, frozen=frozen) is Verdict.UNHEARD


@given(
    st.floats(min_value=0, max_value=1e5), st.floats(min_value=0, max_value=1e5), st.floats(min_value=0, max_value=1e5)
)
def test_the_next_look_is_when_the_verdict_changes(now: float, seen: float, up: float) -> None:
    first = judged(now, seen=seen, term=0.0, up=up)
    if first.next_at is None:
        assert first.verdict is Verdict.DEAD
    else:
        assert first.next_at > now
        # Sums of floats are rounded.
        later = judged(first.next_at + 1e-6, seen=seen, term=0.0, up=up)
        assert later.verdict is not first.verdict


@pytest.mark.parametrize(
    ("silent", "total", "expected"),
    [(1, 1, False), (4, 4, False), (5, 5, True), (5, 9, True), (5, 10, False), (55, 100, False), (56, 100, True)],
)
def test_mass_silence_needs_five_and_more_than_55_percent(silent: int, total: int, expected: bool) -> None:
    assert mass_silence(silent, total) is expected
