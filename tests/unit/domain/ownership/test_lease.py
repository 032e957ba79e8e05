"""Terms over bases: which replica may begin one, and that fences only rise."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.objects import Lease
from controlplane.domain.ownership import lease as rules

FRESH = Lease("kube-node-lease", "vnode.b.dev", "", holder="me", duration_seconds=40, renew_time="t1", transitions=7)


def held(holder: str, transitions: int = 3) -> Lease:
    return Lease("kube-node-lease", "vnode.b.dev", "5", holder=holder, duration_seconds=40, transitions=transitions)


def claim(lease: Lease | None, *, unchanged_for: float) -> Lease | None:
    """The record to write, None as long as somebody else has the lease."""
    if lease is not None and rules.wait(lease, me="me", unchanged_for=unchanged_for, holder_gone=False):
        return None
    return rules.claim(lease, fresh=FRESH)


def test_no_lease_is_created_with_the_first_fence() -> None:
    assert claim(None, unchanged_for=0.0) == FRESH


def test_a_lease_of_somebody_else_is_waited_for_until_it_was_unchanged_for_its_duration() -> None:
    assert claim(held("other"), unchanged_for=15.0) is None
    assert rules.wait(held("other"), me="me", unchanged_for=15.0, holder_gone=False) == 25.0


def test_an_expired_lease_is_taken_over_with_a_higher_fence_and_the_version_as_precondition() -> None:
    taken = claim(held("other"), unchanged_for=40.0)
    assert taken is not None
    assert (taken.holder, taken.transitions, taken.resource_version) == ("me", 4, "5")


def test_our_own_lease_is_taken_up_at_once_with_a_higher_fence() -> None:
    taken = claim(held("me"), unchanged_for=0.0)
    assert taken is not None
    assert (taken.transitions, taken.resource_version) == (4, "5")


def test_a_released_lease_is_taken_at_once() -> None:
    taken = claim(held(""), unchanged_for=0.0)
    assert taken is not None
    assert taken.resource_version == "5"


def test_a_lease_without_duration_expires_after_the_default() -> None:
    strange = Lease("kube-node-lease", "vnode.b.dev", "5", holder="other", duration_seconds=0, transitions=-4)
    assert claim(strange, unchanged_for=39.0) is None
    taken = claim(strange, unchanged_for=40.0)
    assert taken is not None
    assert taken.transitions == 1


@given(st.floats(min_value=1.75e9, max_value=3.5e9), st.integers(min_value=0, max_value=2**31 - 2))
def test_a_first_fence_is_above_every_known_one_and_fits_the_api(wall: float, known: int) -> None:
    fence = rules.first_fence(wall, known)
    assert fence > known
    assert fence < 2**31


@pytest.mark.parametrize("duration", [40, 59, 60, 120, 300])
def test_acting_ends_before_anyone_else_may_begin(duration: int) -> None:
    times = rules.Times(duration)
    assert rules.may_act(times, now=times.self_fence_after - 0.1, renewed_at=0.0)
    assert not rules.may_act(times, now=times.self_fence_after, renewed_at=0.0)
    assert times.self_fence_after < duration * 0.99**2, "clocks may differ by a percent each"
    assert times.renew_every * 1.1 + 2.0 < times.self_fence_after, "a renewal may fail once"
    assert times.renew_every * 1.1 * 1.5 < 40.0, "the node controller waits so long"


def test_the_times_of_before_are_the_default() -> None:
    assert (rules.TIMES.duration, rules.TIMES.renew_every) == (40, 10.0)
    assert 26.0 < rules.TIMES.self_fence_after < 27.0


def without(last: Lease | None, absent_for: float, *, gone: bool = False, duration: int = 40) -> float:
    return rules.wait_without(last, me="me", times=rules.Times(duration), absent_for=absent_for, holder_gone=gone)


def test_a_base_whose_lease_was_deleted_is_left_alone_while_its_holder_may_act() -> None:
    for last in (held("other"), None):
        assert without(last, 0.0) == pytest.approx(40 * 2 / 3 * 1.1)
        assert without(last, 40 * 2 / 3) > 0
        assert without(last, 30.0) == 0.0
        assert without(last, 0.0, gone=True) == 0.0
    for holder in ("", "me"):
        assert without(held(holder), 0.0) == 0.0


def test_a_holder_whose_lease_lasts_longer_than_ours_is_left_alone_for_longer() -> None:
    assert without(replace(held("other"), duration_seconds=60), 39.0) > 0
    assert without(None, 39.0, duration=60) > 0
    assert without(replace(held("other"), duration_seconds=0), 30.0) == 0.0
