"""The next order, and what a list, a result or the lack of one changes about it."""

from dataclasses import replace

import pytest

from controlplane.domain.base import modules as book
from controlplane.domain.base import outcomes
from controlplane.domain.base.modules import Modules
from controlplane.domain.base.planner import ModulePolicy, OrphanPolicy, plan
from controlplane.domain.base.releases import UNKNOWN
from controlplane.domain.base.wishes import Wish
from controlplane.domain.facts import (
    ClientCode,
    InstallStrategy,
    Module,
    ModuleList,
    ModuleSpec,
    ModuleState,
    OrderResult,
    Reply,
    ReplyCode,
    Verb,
)
from controlplane.domain.identity import ModuleKey, OrderId
from tests.unit.domain.base.model import CONFLICT, FAILURE, World, spec

V1, V2 = spec("a", "1"), spec("a", "2")


def reported(*modules: Module, epoch: int = 1, **more: object) -> Modules:
    state = replace(Modules(), **more)  # type: ignore[arg-type]
    return book.take_list(state, ModuleList(modules, complete=True, unchanged=False, epoch=epoch))


def intents(
    state: Modules, *wishes: Wish, now: float = 0.0, policy: ModulePolicy | None = None
) -> list[tuple[Verb, str]]:
    planned = plan(state, wishes, now=now, policy=policy or ModulePolicy())
    return [(intent.verb, str(intent.spec.key)) for order in planned.orders for intent in order]


def wanting(failing: set[ModuleKey] | None = None) -> World:
    """A base that listed no modules, and a Pod that wants a:1."""
    world = World(failing=failing or set(), state=reported())
    world.pod(V1)
    return world


def active(version: str, state: ModuleState = ModuleState.ACTIVATED) -> Module:
    return Module(ModuleKey("a", version), state)


def test_nothing_is_ordered_before_the_base_lists_its_modules() -> None:
    assert intents(Modules(), Wish(V1, leaving=False)) == []


def test_a_partial_list_is_no_list() -> None:
    partial = ModuleList((), complete=False, unchanged=False, epoch=1)
    assert not book.take_list(Modules(), partial).listed


@pytest.mark.parametrize(
    ("present", "wishes", "expected"),
    [
        ((), (Wish(V1, leaving=False),), [(Verb.INSTALL, "a:1")]),
        ((active("1"),), (Wish(V1, leaving=False),), []),
        ((active("1", ModuleState.RESOLVED),), (Wish(V1, leaving=False),), []),
        ((active("1", ModuleState.BROKEN),), (Wish(V1, leaving=False),), [(Verb.UNINSTALL, "a:1")]),
        ((active("1", ModuleState.DEACTIVATED),), (Wish(V1, leaving=False),), [(Verb.SWITCH, "a:1")]),
        ((active("1"),), (Wish(V1, leaving=True),), [(Verb.UNINSTALL, "a:1")]),
        ((active("1", ModuleState.RESOLVED),), (Wish(V1, leaving=True),), []),
        ((), (Wish(V1, leaving=True),), []),
        # A leaving Pod and a new one that want the same module share it.
        ((active("1"),), (Wish(V1, leaving=True), Wish(V1, leaving=False)), []),
        # Install before uninstall, then switch to the newest, then remove the old one.
        ((active("1"),), (Wish(V1, leaving=True), Wish(V2, leaving=False)), [(Verb.INSTALL, "a:2")]),
        (
            (active("1"), active("2", ModuleState.DEACTIVATED)),
            (Wish(V1, leaving=True), Wish(V2, leaving=False)),
            [(Verb.SWITCH, "a:2")],
        ),
        ((active("1"), active("2")), (Wish(V1, leaving=True), Wish(V2, leaving=False)), [(Verb.UNINSTALL, "a:1")]),
        # The new one starts by an order unknown to us, as after a takeover: the old one serves on.
        (
            (active("1"), active("2", ModuleState.RESOLVED)),
            (Wish(V1, leaving=True), Wish(V2, leaving=False)),
            [],
        ),
        (
            (active("1", ModuleState.DEACTIVATED), active("2", ModuleState.RESOLVED)),
            (Wish(V1, leaving=True), Wish(V2, leaving=False)),
            [(Verb.UNINSTALL, "a:1")],
        ),
        # A module that nobody wants is left alone.
        ((active("1"),), (), []),
    ],
)
def test_modules_and_wishes_give_the_next_order(
    present: tuple[Module, ...], wishes: tuple[Wish, ...], expected: list[tuple[Verb, str]]
) -> None:
    assert intents(reported(*present), *wishes) == expected


def test_a_version_that_is_to_be_alone_is_activated_when_the_others_are_gone() -> None:
    alone = Wish(spec("a", "2", InstallStrategy.UNINSTALL_THEN_INSTALL), leaving=False)
    started = active("2", ModuleState.DEACTIVATED)
    assert intents(reported(active("1"), started), Wish(V1, leaving=False), alone) == [(Verb.UNINSTALL, "a:1")]
    assert intents(reported(started), Wish(V1, leaving=False), alone) == [(Verb.SWITCH, "a:2")]


@pytest.mark.parametrize("last", ["1", "3"])
def test_one_pod_that_excludes_other_versions_is_enough(last: str) -> None:
    """Otherwise each would remove the others in turn, without end."""
    exclusive = Wish(spec("a", "2", InstallStrategy.UNINSTALL_THEN_INSTALL), leaving=False)
    newest = Wish(spec("a", last), leaving=False)
    assert intents(reported(), exclusive, newest) == [(Verb.INSTALL, f"a:{last}")]
    assert intents(reported(active(last)), exclusive, newest) == []


def test_an_orphan_of_ours_goes_after_the_grace_and_no_other() -> None:
    state = reported(active("1"), active("2"), owned={ModuleKey("a", "1"): UNKNOWN})
    first = plan(state, (), now=0.0, policy=ModulePolicy())
    assert (first.orders, first.wake_at) == ((), 30.0)
    state = first.state
    assert intents(state, now=30.0) == [(Verb.UNINSTALL, "a:1")]
    assert intents(state, now=30.0, policy=ModulePolicy(orphans=OrphanPolicy.NONE)) == []


def test_the_originals_policy_uninstalls_every_orphan() -> None:
    policy = ModulePolicy(orphans=OrphanPolicy.ALL, orphan_grace=0.0)
    assert intents(reported(active("1")), policy=policy) == [(Verb.UNINSTALL, "a:1")]


def test_an_owned_version_that_was_superseded_in_place_goes_once_the_new_one_serves() -> None:
    state = reported(active("1"), owned={ModuleKey("a", "1"): UNKNOWN})
    assert intents(state, Wish(V2, leaving=False)) == [(Verb.INSTALL, "a:2")]
    state = reported(active("1"), active("2"), owned={ModuleKey("a", "1"): UNKNOWN})
    assert intents(state, Wish(V2, leaving=False)) == [(Verb.UNINSTALL, "a:1")]


def test_failed_installs_are_put_off_longer_and_longer_but_not_after_the_wish_changed() -> None:
    world = wanting(failing={V1.key})
    delays = []
    for _ in range(7):
        world.work()
        world.carry_out(0)
        world.receive_result(0, again=False)
        world.ask()
        world.receive_list(0)
        trouble = world.state.troubles[V1.key]
        assert trouble.not_before is not None
        delays.append(trouble.not_before - world.now)
        world.now = trouble.not_before
    assert delays == pytest.approx([11, 22, 44, 88, 176, 330, 330])
    changed = replace(V1, url="https://repo.example/other.jar")
    world.now -= 100
    assert intents(world.state, Wish(V1, leaving=False), now=world.now) == []
    assert intents(world.state, Wish(changed, leaving=False), now=world.now) == [(Verb.INSTALL, "a:1")]


def test_a_broken_leftover_keeps_the_count_of_failures() -> None:
    world = wanting(failing={V1.key})
    world.work()
    world.carry_out(0)
    world.receive_result(0, again=False)
    world.present[V1.key] = ModuleState.BROKEN
    world.failing.clear()
    world.ask()
    world.receive_list(0)
    world.now = 20.0
    world.work()
    assert [order.verb for order in world.sent] == [Verb.UNINSTALL]
    world.carry_out(0)
    world.receive_result(0, again=False)
    assert world.state.troubles[V1.key].failures == 1


def answered(world: World, reply: Reply) -> None:
    """End the one order under way with a reply, and list the modules after that."""
    order = world.sent.pop()
    world.results.append(OrderResult(order.order_id, reply))
    world.receive_result(0, again=False)
    world.ask()
    world.receive_list(0)


def test_a_broken_module_that_a_failed_install_left_is_ours_also_when_its_pod_is_gone() -> None:
    world = wanting()
    world.work()
    world.present[V1.key] = ModuleState.BROKEN
    answered(world, FAILURE)
    world.pods.clear()
    world.settle()
    assert not world.present


def test_an_install_that_was_refused_as_a_duplicate_may_still_be_under_way() -> None:
    world = wanting()
    world.work()
    answered(world, CONFLICT)
    world.pods.clear()
    world.work()
    world.present[V1.key] = ModuleState.ACTIVATED
    world.settle()
    assert not world.present


def test_a_failed_install_that_left_nothing_is_not_ours() -> None:
    """Somebody installs that module by hand after its Pod was deleted: it is not ours."""
    world = wanting()
    world.work()
    answered(world, FAILURE)
    world.pods.clear()
    world.work()
    world.present[V1.key] = ModuleState.ACTIVATED
    world.settle()
    assert world.present == {V1.key: ModuleState.ACTIVATED}


@pytest.mark.parametrize(
    "other", [ModuleSpec(ModuleKey("biz3", "1"), "u"), V2], ids=["another name", "another version"]
)
def test_a_jar_that_installs_as_another_module_is_removed_although_its_pod_stands(other: ModuleSpec) -> None:
    world = wanting()
    world.work()
    world.present[other.key] = ModuleState.ACTIVATED
    wrong = Reply(ReplyCode.SUCCESS, ClientCode.SUCCESS, modules=(Module(other.key, ModuleState.ACTIVATED),))
    world.results.append(OrderResult(world.sent.pop().order_id, wrong))
    world.receive_result(0, again=False)
    world.work()
    world.ask()
    world.receive_list(0)
    world.work()
    assert other.key in world.present
    trouble = world.state.troubles[V1.key]
    assert (trouble.reason, trouble.not_before) == ("IdentityMismatch", None)
    world.settle()
    assert not world.present
    assert world.state.troubles[V1.key].reason == "IdentityMismatch"


def test_what_another_pod_wants_is_not_removed_because_a_jar_installed_it_by_mistake() -> None:
    world = wanting()
    world.work()
    world.present[V2.key] = ModuleState.ACTIVATED
    answered(world, Reply(ReplyCode.SUCCESS, ClientCode.SUCCESS, modules=(Module(V2.key, ModuleState.ACTIVATED),)))
    world.pod(V2, content="2")
    world.settle()
    assert world.present == {V2.key: ModuleState.ACTIVATED}
    assert world.content[V2.key].digest == "2", "what the mistake installed came from another jar"


def test_a_module_that_was_there_before_is_not_ours_because_a_jar_names_it() -> None:
    world = wanting()
    world.present[V2.key] = ModuleState.ACTIVATED
    world.ask()
    world.receive_list(0)
    world.work()
    answered(world, Reply(ReplyCode.FAILED, ClientCode.REPEAT_BIZ, f"Biz: {V2.key} has been installed or registered."))
    assert world.state.troubles[V1.key].reason == "IdentityMismatch"
    world.settle()
    assert world.present == {V2.key: ModuleState.ACTIVATED}
    assert [order.verb for order in world.sent] == [], "it is not tried again"
    world.controller_restarts()
    world.ask()
    world.receive_list(0)
    world.work()
    answered(world, Reply(ReplyCode.FAILED, ClientCode.REPEAT_BIZ, f"Biz: {V2.key} has been installed or registered."))
    assert world.state.troubles[V1.key].reason == "IdentityMismatch"


def test_a_taken_context_path_is_tried_again_rarely_and_at_once_when_it_is_free() -> None:
    world = World()
    world.pod(V1)
    world.settle()
    world.pod(V2)
    taken = Reply(ReplyCode.INTERNAL_ERROR, message="Internal Error: x", stack_trace="Child name [biz1] is not unique")
    world.work()
    assert [order.verb for order in world.sent] == [Verb.INSTALL]
    answered(world, taken)
    began = world.now
    while not world.sent:
        world.now += 10.0
        world.work()
    assert world.now - began >= 300.0
    answered(world, taken)
    first = next(iter(world.pods.values()))
    first.leaving = True
    world.work()
    assert [order.verb for order in world.sent] == [Verb.UNINSTALL]
    world.carry_out(0)
    world.receive_result(0, again=False)
    world.ask()
    world.receive_list(0)
    world.work()
    assert [(order.verb, order.modules[0].key) for order in world.sent] == [(Verb.INSTALL, V2.key)]


def test_a_list_that_was_asked_for_before_the_result_decides_nothing() -> None:
    world = wanting()
    world.ask()
    world.work()
    world.carry_out(0)
    world.receive_result(0, again=False)
    world.receive_list(0)
    assert V1.key in world.state.present
    world.work()
    assert world.sent == []


def test_only_the_next_list_resolves_an_unknown_outcome() -> None:
    world = wanting()
    world.work()
    world.carry_out(0)
    world.lose(0)
    world.work()
    assert world.sent == []
    world.ask()
    world.receive_list(0)
    world.now += 60.0
    world.work()
    assert world.sent == []
    assert world.repeats == 0


def test_success_for_another_identity_is_not_tried_again() -> None:
    world = wanting()
    world.work()
    order = world.sent.pop()
    reply = Reply(ReplyCode.SUCCESS, ClientCode.SUCCESS, modules=(active("9"),))
    world.state, _ = outcomes.end(world.state, OrderResult(order.order_id, reply), now=0.0, chance=0.0)
    world.ask()
    world.receive_list(0)
    world.now = 1e6
    world.work()
    assert world.sent == []


def test_results_of_orders_that_are_not_under_way_change_nothing() -> None:
    state = reported(active("1"))
    after, ended = outcomes.end(state, OrderResult(OrderId("x"), Reply(ReplyCode.SUCCESS)), now=0.0, chance=0.0)
    assert after is state
    assert ended == ()
