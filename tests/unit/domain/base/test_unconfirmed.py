"""Orders without an answer: when the base is asked about them, and what a late answer changes."""

from dataclasses import replace

import pytest

from controlplane.domain.base import modules as book
from controlplane.domain.base import outcomes, unconfirmed
from controlplane.domain.base.modules import Modules
from controlplane.domain.base.planner import ModulePolicy, plan
from controlplane.domain.base.replies import Effect
from controlplane.domain.base.wishes import Wish
from controlplane.domain.facts import (
    Address,
    Module,
    ModuleList,
    ModuleState,
    Order,
    OrderResult,
    Reply,
    ReplyCode,
    Verb,
)
from controlplane.domain.identity import BaseId, ModuleKey, OrderId
from tests.unit.domain.base.model import CONFLICT, spec
from tests.unit.domain.base.pods import begun as sent
from tests.unit.domain.base.pods import reported

SPEC = spec("a", "1")
KEY = SPEC.key
FAILURE = Reply(ReplyCode.INTERNAL_ERROR, message="Internal Error: java.lang.IllegalStateException: no bean")


def begun(state: Modules, number: str, *, now: float) -> Modules:
    order = Order(OrderId(number), 1, BaseId("b"), Address("10.0.0.1", 0), Verb.INSTALL, (SPEC,))
    return sent(state, order, now=now, deadline=now + 600.0, ask_at=now + 30.0)


def listed(state: Modules, *states: ModuleState, epoch: int | None = None) -> ModuleList:
    modules = tuple(Module(KEY, each) for each in states)
    return ModuleList(modules, complete=True, unchanged=False, epoch=state.epoch if epoch is None else epoch)


def asked_before() -> Modules:
    return unconfirmed.ask(begun(reported(), "1", now=0.0), 30.0)


def given_up() -> Modules:
    state = asked_before()
    state, lost = unconfirmed.undelivered(state, listed(state), again_at=45.0)
    assert lost == (OrderId("1"),)
    state, _ = outcomes.end(state, outcomes.lost(lost[0], "lost"), now=30.0, chance=0.0)
    return book.take_list(state, listed(state))


def ended(state: Modules, number: str, reply: Reply, *, now: float) -> tuple[Modules, list[Effect]]:
    state, ends = outcomes.end(state, OrderResult(OrderId(number), reply), now=now, chance=0.0)
    return state, [end.meaning.effect for end in ends]


def due(state: Modules, now: float) -> bool:
    return bool(plan(state, (Wish(SPEC, leaving=False),), now=now, policy=ModulePolicy()).orders)


def test_an_order_in_doubt_asks_for_a_list_once_and_in_its_time() -> None:
    state = begun(reported(), "1", now=0.0)
    assert unconfirmed.ask(state, 29.0) is state
    asked = unconfirmed.ask(state, 30.0)
    assert asked.epoch == state.epoch + 1
    assert unconfirmed.ask(asked, 100.0) is asked


def test_a_list_that_was_asked_for_before_the_doubt_says_nothing_of_it() -> None:
    state = asked_before()
    assert unconfirmed.undelivered(state, listed(state, epoch=state.epoch - 1), again_at=45.0)[1] == ()
    part = replace(listed(state), complete=False)
    assert unconfirmed.undelivered(state, part, again_at=45.0)[1] == ()


def test_a_base_that_works_on_the_module_is_asked_again_later() -> None:
    state = asked_before()
    state, lost = unconfirmed.undelivered(state, listed(state, ModuleState.RESOLVED), again_at=45.0)
    assert lost == ()
    assert state.in_flight["a"].ask_at == 45.0
    assert unconfirmed.ask(state, 45.0).epoch == state.epoch + 1


@pytest.mark.parametrize("state_there", [(), (ModuleState.ACTIVATED,), (ModuleState.BROKEN,)])
def test_an_order_is_lost_in_every_other_state_of_its_module(state_there: tuple[ModuleState, ...]) -> None:
    state = asked_before()
    assert unconfirmed.undelivered(state, listed(state, *state_there), again_at=45.0)[1] == (OrderId("1"),)


def test_an_order_that_was_lost_is_given_again_long_before_its_deadline() -> None:
    state = given_up()
    assert not due(state, 31.0)
    assert due(state, 40.0)


def test_a_base_that_still_loads_the_jar_refuses_the_second_order_and_gets_no_third_at_once() -> None:
    """A list does not show a module that is still being loaded; the lock does."""
    state = begun(given_up(), "2", now=36.0)
    state, effects = ended(state, "2", CONFLICT, now=46.0)
    assert effects == [Effect.BUSY]
    assert state.troubles[KEY].failures == 0
    state = book.take_list(state, listed(state))
    assert not due(state, 48.0)
    # It may appear after its Pod was deleted: then it is still known as ours.
    assert KEY in book.forget(state, (), 100.0).owned


def test_the_failure_of_an_order_that_was_given_up_shows_why() -> None:
    state, effects = ended(given_up(), "1", FAILURE, now=60.0)
    assert effects == [Effect.FAILED]
    assert state.troubles[KEY].failures == 1
    assert "no bean" in state.troubles[KEY].message
    assert not due(state, 65.0)
    assert due(state, 75.0)
    assert ended(state, "1", FAILURE, now=61.0) == (state, [])


def test_a_late_failure_counts_for_nothing_once_something_newer_is_known() -> None:
    state = begun(given_up(), "2", now=36.0)
    assert ended(state, "1", FAILURE, now=37.0)[0].troubles == state.troubles
    state = given_up()
    running = book.take_list(state, listed(state, ModuleState.ACTIVATED))
    assert ended(running, "1", FAILURE, now=41.0)[0].troubles == {}


def test_what_is_remembered_of_orders_that_were_given_up_is_bounded() -> None:
    state = reported()
    for number in range(outcomes.GIVEN_UP_KEPT + 10):
        state = begun(state, str(number), now=0.0)
        state, _ = outcomes.end(state, outcomes.lost(OrderId(str(number)), "lost"), now=0.0, chance=0.0)
    assert len(state.given_up) == outcomes.GIVEN_UP_KEPT


def test_an_install_that_nobody_wants_is_doubted_sooner_and_once() -> None:
    state = unconfirmed.ask_by(begun(reported(), "1", now=0.0), OrderId("1"), 10.0)
    assert state.in_flight["a"].ask_at == 10.0
    assert unconfirmed.ask_by(state, OrderId("1"), 20.0) is state
    asked = unconfirmed.ask(state, 10.0)
    assert unconfirmed.ask_by(asked, OrderId("1"), 5.0) is asked


@pytest.mark.parametrize(("starts", "asked"), [(1.0, 5.0), (4.9, 5.0), (20.0, 20.0), (40.0, 30.0)])
def test_what_is_under_way_to_a_base_that_starts_is_doubted_soon(starts: float, asked: float) -> None:
    state = unconfirmed.started(begun(reported(), "1", now=0.0), starts)
    assert state.in_flight["a"].ask_at == asked


def test_other_modules_in_the_list_change_nothing() -> None:
    other = Module(ModuleKey("b", "1"), ModuleState.ACTIVATED)
    state = unconfirmed.ask(begun(reported(other), "1", now=0.0), 30.0)
    other_list = ModuleList((other,), complete=True, unchanged=False, epoch=state.epoch)
    assert unconfirmed.undelivered(state, other_list, again_at=45.0)[1] == (OrderId("1"),)
