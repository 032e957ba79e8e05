"""What a replica does about the certificates of gRPC, where a course of events would be long to play."""

from dataclasses import replace

import pytest

from controlplane.domain.certificates import (
    AUTHORITY_LIFE,
    DAY,
    GRACE,
    HOUR,
    RETIRE,
    SERVER_LIFE,
    SERVER_NAME,
    SKEW,
    Authority,
    Leaf,
    Origin,
    Published,
    Situation,
    Step,
    Stored,
)

NOW = 1_800_000_000.0
OLD = Authority("old", NOW - SKEW, NOW + AUTHORITY_LIFE)
NEW = Authority("new", NOW - SKEW, NOW + AUTHORITY_LIFE)
LEAF = Leaf("leaf", NOW - SKEW, NOW + SERVER_LIFE, "old", frozenset({SERVER_NAME}))
STORED = Stored(Origin.OURS, (OLD,), signer="old", leaf=LEAF)
PUBLISHED = Published(Origin.OURS, (OLD,), NOW)
SETTLED = Situation(STORED, PUBLISHED, NOW)


def test_what_is_as_it_should_be_is_left() -> None:
    assert SETTLED.next_step() is None
    assert SETTLED.remarks() == []
    assert SETTLED.may_serve()


@pytest.mark.parametrize(("ahead", "step"), [(SKEW, None), (SKEW + 1, Step.PUBLISH)])
def test_a_time_that_is_to_come_is_a_wrong_clock_s(ahead: float, step: Step | None) -> None:
    assert replace(SETTLED, published=replace(PUBLISHED, since=NOW + ahead)).next_step() is step


def test_a_certificate_that_begins_later_is_served_with_a_word_and_not_made_again() -> None:
    early = replace(SETTLED, now=NOW - 3 * HOUR, published=replace(PUBLISHED, since=NOW - DAY))
    assert early.next_step() is None
    assert early.may_serve()
    assert early.remarks() == ["the certificate begins later than now: a clock is wrong"]


def test_an_expired_ca_signs_nothing_be_it_the_present_or_the_next_one() -> None:
    stored = Stored(Origin.OURS, (OLD, NEW), signer="old", upcoming="new", leaf=LEAF)
    situation = Situation(stored, replace(PUBLISHED, bundle=(OLD, NEW)), OLD.not_after + DAY)
    assert situation.next_step() is Step.CREATE
    prepared = replace(NEW, not_after=NOW + DAY)
    waiting = replace(situation, stored=replace(stored, bundle=(OLD, prepared)), now=NOW + 2 * DAY)
    expired = replace(waiting, published=replace(PUBLISHED, bundle=(OLD,)))
    assert expired.next_step() is None, "the present CA is not due"


def test_a_certificate_that_ends_with_its_ca_is_not_made_again_and_again() -> None:
    last = replace(LEAF, not_after=OLD.not_after)
    theirs = Published(Origin.FOREIGN, (OLD,))
    stored = Stored(Origin.OURS, (OLD, NEW), signer="old", upcoming="new", leaf=last)
    assert Situation(stored, theirs, OLD.not_after - 60).next_step() is None


@pytest.mark.parametrize(
    ("published_for", "seen_for", "leaves"),
    [(RETIRE, GRACE, True), (RETIRE - 1, GRACE, False), (RETIRE, GRACE - 1, False)],
)
def test_a_ca_leaves_when_nobody_can_serve_what_it_signed(published_for: float, seen_for: float, leaves: bool) -> None:
    published = Published(Origin.OURS, (OLD, NEW), NOW - published_for)
    bundle = Situation(STORED, published, NOW, seen_for=seen_for).bundle()
    assert (NEW not in bundle) is leaves
    assert OLD in bundle


def test_a_running_replica_waits_and_one_that_starts_cannot() -> None:
    stored = replace(STORED, bundle=(NEW,), signer="new", leaf=replace(LEAF, id="other", authority="new"))
    published = Published(Origin.OURS, (OLD, NEW), NOW)
    assert not Situation(stored, published, NOW, serving=LEAF).may_serve()
    assert Situation(stored, published, NOW + GRACE, serving=LEAF).may_serve()
    assert Situation(stored, published, NOW).may_serve()
    assert not Situation(stored, PUBLISHED, NOW).may_serve(), "its CA is not published"
