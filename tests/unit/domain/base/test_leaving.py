"""A goodbye is a hint: what is believed, refused and asked, for any order of what happens."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.base import leaving
from controlplane.domain.base.hearing import Heard
from controlplane.domain.base.leaving import CONFIRM, CROSSED, OPEN, QUIET, SILENT, Judgement, Leaving
from controlplane.domain.facts import BaseState, PollFailure, TunnelKind, Way

HOME, STRANGER = Way(TunnelKind.HTTP, "10.0.0.7"), Way(TunnelKind.HTTP, "10.0.0.66")
KNOWN = leaving.heartbeat(Leaving(), HOME, 0.0)


def judge(last: Leaving, *, last_seen: float, now: float, until: float | None = None, since: float = 0.0) -> Judgement:
    heard = Heard(since, now if until is None else until)
    return leaving.judge(last, last_seen=last_seen, heard=heard, now=now)


def said(at: float = 100.0) -> Leaving:
    return judge(leaving.goodbye(KNOWN, HOME, at), last_seen=at, now=at).leaving


def test_a_goodbye_has_the_base_asked_at_once_and_again_at_growing_intervals() -> None:
    asked, now, last = [], 100.0, leaving.goodbye(KNOWN, HOME, 100.0)
    while last.said_at is not None:
        judged = judge(last, last_seen=now, now=now)
        last = judged.leaving
        if judged.ask:
            asked.append(now - 100.0)
        now = judged.next_at if judged.next_at is not None else now
    assert asked == [0.0, 1.0, 3.0, 7.0, 15.0]
    assert not last.believed


@pytest.mark.parametrize("failure", SILENT)
def test_it_is_believed_once_the_base_does_not_answer_any_more(failure: PollFailure) -> None:
    failed = leaving.failed(said(), failure)
    early = judge(failed, last_seen=90.0, now=100.0 + SILENT[failure] - 0.01)
    assert not early.leaving.believed
    assert judge(failed, last_seen=90.0, now=100.0 + SILENT[failure]).leaving.believed


def test_it_is_not_believed_before_everything_was_heard_that_may_deny_it() -> None:
    confirmed = leaving.healthy(said(), BaseState.DEACTIVATED, 100.0)
    failed = leaving.failed(said(), PollFailure.NOT_CONNECTED)
    for left, wait in ((confirmed, CONFIRM), (failed, SILENT[PollFailure.NOT_CONNECTED])):
        late = judge(left, last_seen=90.0, now=120.0, until=100.0 + wait - 0.01)
        assert not late.leaving.believed
        assert late.next_at is not None
        assert judge(left, last_seen=90.0, now=120.0, until=100.0 + wait).leaving.believed


def test_what_was_learned_before_the_base_could_not_be_heard_decides_nothing_after_it() -> None:
    confirmed = leaving.healthy(said(), BaseState.DEACTIVATED, 100.1)
    failed = leaving.failed(said(), PollFailure.NOT_CONNECTED)
    for left in (confirmed, failed):
        back = judge(left, last_seen=90.0, now=150.0, since=149.9)
        assert back.ask
        later = judge(back.leaving, last_seen=90.0, now=150.0 + CONFIRM, since=149.9)
        assert later.ask
        assert not later.leaving.believed


def test_a_base_that_is_still_gone_when_it_can_be_heard_again_is_believed_then() -> None:
    back = judge(leaving.failed(said(), PollFailure.NOT_CONNECTED), last_seen=90.0, now=150.0, since=149.9).leaving
    again = leaving.failed(back, PollFailure.NOT_CONNECTED)
    wait = SILENT[PollFailure.NOT_CONNECTED]
    assert not judge(again, last_seen=90.0, now=149.8 + wait, since=149.9).leaving.believed
    assert judge(again, last_seen=90.0, now=149.9 + wait, since=149.9).leaving.believed


@pytest.mark.parametrize("failure", [PollFailure.NEGATIVE, PollFailure.UNSPECIFIED])
def test_what_does_not_show_that_it_is_gone_does_not_count(failure: PollFailure) -> None:
    assert leaving.failed(said(), failure).failed is None


def test_it_is_believed_when_the_base_says_so_itself_and_nothing_else_meanwhile() -> None:
    confirmed = leaving.healthy(said(), BaseState.DEACTIVATED, 100.1)
    assert not judge(confirmed, last_seen=100.1, now=100.0 + CONFIRM).leaving.believed
    assert judge(confirmed, last_seen=100.1, now=100.1 + CONFIRM).leaving.believed
    denied = leaving.healthy(confirmed, BaseState.ACTIVATED, 100.2)
    assert not judge(denied, last_seen=100.2, now=100.1 + CONFIRM).leaving.believed


@pytest.mark.parametrize("way", [STRANGER, Way(TunnelKind.MQTT), Way(TunnelKind.HTTP, "")])
def test_a_goodbye_that_comes_another_way_is_refused_and_shown_once(way: Way) -> None:
    first = leaving.goodbye(KNOWN, way, 100.0)
    assert first.said_at is None
    assert first.doubt
    again = leaving.goodbye(first, way, 101.0)
    assert (again.refused, again.doubt_shown_at) == (2, 100.0)


def test_a_stranger_does_not_become_the_way_of_heartbeats_by_sending_some() -> None:
    now, known = 0.0, KNOWN
    while now < 600.0:
        known = leaving.heartbeat(leaving.heartbeat(known, STRANGER, now), HOME, now + 1)
        now += 120.0
    assert leaving.goodbye(known, STRANGER, now).said_at is None
    assert leaving.goodbye(known, HOME, now).said_at == now


def test_a_heartbeat_ends_it() -> None:
    assert leaving.heartbeat(said(), HOME, 100.0 + CROSSED - 0.1).said_at is not None, "it may have overtaken it"
    assert leaving.heartbeat(said(), HOME, 100.0 + CROSSED).said_at is None
    believed = judge(leaving.failed(said(), PollFailure.NOT_CONNECTED), last_seen=0.0, now=200.0).leaving
    assert believed.believed
    assert not leaving.heartbeat(believed, HOME, 201.0).believed


def test_goodbyes_that_turned_out_to_be_none_do_not_have_it_asked_all_the_time() -> None:
    refuted = judge(said(), last_seen=100.0 + OPEN, now=100.0 + OPEN).leaving
    assert leaving.goodbye(refuted, HOME, 100.0 + OPEN + QUIET - 1).said_at is None
    assert leaving.goodbye(refuted, HOME, 100.0 + OPEN + QUIET).said_at is not None


@dataclass
class Model:
    """A base that answers within a second of each question, and whoever else sends what."""

    leaving: Leaving = KNOWN
    now: float = 0.0
    asked: int = 0

    def look(self) -> None:
        judged = judge(self.leaving, last_seen=self.now, now=self.now)
        self.leaving = judged.leaving
        if judged.ask:
            self.asked += 1
            self.leaving = leaving.answered(leaving.healthy(self.leaving, BaseState.ACTIVATED, self.now))


HOSTILE = st.one_of(
    st.tuples(st.just("goodbye"), st.sampled_from([HOME, STRANGER, Way(TunnelKind.MQTT)])),
    st.tuples(st.just("heartbeat"), st.sampled_from([HOME, STRANGER])),
    st.tuples(st.just("wait"), st.floats(0.01, 40.0)),
)


@given(st.lists(HOSTILE, max_size=60))
def test_a_base_that_answers_is_never_removed_and_asked_rarely(steps: list[tuple[str, object]]) -> None:
    model = Model()
    for what, value in steps:
        if what == "goodbye" and isinstance(value, Way):
            model.leaving = leaving.goodbye(model.leaving, value, model.now)
        elif what == "heartbeat" and isinstance(value, Way):
            model.leaving = leaving.heartbeat(model.leaving, value, model.now)
        elif isinstance(value, float):
            model.now += value
        model.look()
        assert not model.leaving.believed
    goodbyes = sum(what == "goodbye" for what, _ in steps)
    assert model.asked <= 6 * goodbyes


EVIDENCE = st.one_of(
    st.just(("goodbye", HOME)),
    st.tuples(st.just("failed"), st.sampled_from(sorted(SILENT, key=lambda failure: failure.value))),
    st.tuples(st.just("health"), st.sampled_from(BaseState)),
    st.tuples(st.just("wait"), st.floats(0.01, 10.0)),
)


@given(st.lists(EVIDENCE, max_size=12), st.floats(0.1, 100.0), st.lists(st.floats(0.01, 10.0), max_size=20))
def test_a_base_that_came_back_while_it_could_not_be_heard_stays(
    steps: list[tuple[str, object]], gap: float, waits: list[float]
) -> None:
    last, now = KNOWN, 0.0
    for _, value in steps:
        if isinstance(value, Way):
            last = leaving.goodbye(last, value, now)
        elif isinstance(value, PollFailure):
            last = leaving.failed(last, value)
        elif isinstance(value, BaseState):
            last = leaving.healthy(last, value, now)
        elif isinstance(value, float):
            now += value
    since = now + gap
    model = Model(last, since)
    for seconds in (0.0, *waits):
        model.now += seconds
        judged = judge(model.leaving, last_seen=0.0, now=model.now, since=since)
        model.leaving = judged.leaving
        assert not model.leaving.believed
        if judged.ask:
            model.leaving = leaving.answered(leaving.healthy(model.leaving, BaseState.ACTIVATED, model.now))


@given(st.lists(HOSTILE, max_size=30), st.sampled_from(sorted(SILENT, key=lambda failure: failure.value)))
def test_a_base_that_says_goodbye_and_stops_is_removed(steps: list[tuple[str, object]], failure: PollFailure) -> None:
    """Whatever strangers sent in its name meanwhile, unless goodbyes of theirs came the very way of its own."""
    model = Model()
    for what, value in steps:
        if what == "goodbye" and isinstance(value, Way) and value != HOME:
            model.leaving = leaving.goodbye(model.leaving, value, model.now)
        elif what == "heartbeat" and value == HOME:
            model.leaving = leaving.heartbeat(model.leaving, HOME, model.now)
        model.look()
    left = leaving.failed(leaving.goodbye(model.leaving, HOME, model.now), failure)
    assert judge(left, last_seen=model.now, now=model.now + SILENT[failure]).leaving.believed
