"""The modules of one Pod are installed in one order; what the base did not take is installed again."""

import pytest

from controlplane.domain.base import modules as book
from controlplane.domain.base import outcomes
from controlplane.domain.base.modules import Modules
from controlplane.domain.base.planner import Intent, ModulePolicy, plan
from controlplane.domain.base.wishes import wishes
from controlplane.domain.facts import (
    Address,
    BatchInstalled,
    ClientCode,
    Module,
    ModuleList,
    ModuleState,
    Order,
    OrderResult,
    Outcome,
    OutcomeUnknown,
    Refusal,
    Refused,
    Reply,
    ReplyCode,
    Verb,
)
from controlplane.domain.identity import BaseId, ModuleKey, OrderId
from controlplane.domain.objects import Pod
from tests.unit.domain.base.pods import PLACE, begun, biz, pod, reported

GROUP = pod("group", biz("a"), biz("b"), biz("c"))
DONE = Reply(ReplyCode.SUCCESS, ClientCode.SUCCESS)
NO_JAR = Reply(ReplyCode.FAILED, ClientCode.FAILED, "internal exception: java.io.FileNotFoundException: b")


def orders(state: Modules, *pods: Pod, batches: bool = True, now: float = 0.0) -> list[list[str]]:
    planned = plan(state, wishes(pods, PLACE), now=now, policy=ModulePolicy(), batches=batches)
    return [[intent.spec.key.name for intent in order] for order in planned.orders]


def send(state: Modules, *pods: Pod) -> tuple[Modules, Order]:
    """Begin the first order."""
    intents = plan(state, wishes(pods, PLACE), now=0.0, policy=ModulePolicy(), batches=True).orders[0]
    order = _order("1", intents)
    releases = {intent.spec.key: intent.release for intent in intents}
    return begun(state, order, releases), order


def _order(number: str, intents: tuple[Intent, ...]) -> Order:
    specs = tuple(intent.spec for intent in intents)
    return Order(OrderId(number), 1, BaseId("b"), Address("10.0.0.1", 1238), Verb.INSTALL, specs)


def answered(outcome: Outcome) -> Modules:
    state, order = send(reported(), GROUP)
    state, _ = outcomes.end(state, OrderResult(order.order_id, outcome), now=1.0, chance=0.0)
    return state


def listed(state: Modules, *names: str) -> Modules:
    modules = tuple(Module(ModuleKey(name, "1"), ModuleState.ACTIVATED) for name in names)
    return book.take_list(state, ModuleList(modules, complete=True, unchanged=False, epoch=state.epoch))


def test_the_modules_of_a_pod_are_one_order_where_the_base_offers_batches() -> None:
    assert orders(reported(), GROUP) == [["a", "b", "c"]]
    assert orders(reported(), GROUP, batches=False) == [["a"], ["b"], ["c"]]


def test_a_batch_is_of_one_pod_and_only_one_is_under_way() -> None:
    other = pod("other", biz("d"), biz("e"))
    assert orders(reported(), GROUP, other) == [["a", "b", "c"], ["d"], ["e"]]
    state, _ = send(reported(), GROUP)
    assert orders(state, GROUP, other) == [["d"], ["e"]]


def test_two_modules_from_one_url_are_not_one_batch() -> None:
    same = pod("same", biz("a", image="https://r/x.jar"), biz("b", image="https://r/x.jar"), biz("c"))
    assert sorted(orders(reported(), same)) == [["a", "c"], ["b"]]


def test_each_module_has_its_own_answer() -> None:
    items = (
        ("https://repo.example/a-1.jar", DONE),
        ("https://repo.example/b-1.jar", NO_JAR),
        ("https://repo.example/c-1.jar", Reply(ReplyCode.FAILED, ClientCode.REPEAT_BIZ)),
    )
    state = answered(BatchInstalled(Reply(ReplyCode.FAILED, message="install biz not success!"), items))
    assert {key.name: trouble.reason for key, trouble in state.troubles.items()} == {
        "a": "",
        "b": "ArtifactUnavailable",
        "c": "AlreadyPresent",
    }
    state = listed(state, "a", "c")
    assert orders(state, GROUP, now=5.0) == []
    # The failed module is installed again alone, after its delay.
    assert orders(state, GROUP, now=30.0) == [["b"]]


@pytest.mark.parametrize(
    "outcome",
    [
        Refused(Refusal.UNSUPPORTED, "the base does not offer batchInstallBiz"),
        BatchInstalled(Reply(ReplyCode.INTERNAL_ERROR, message="Internal Error: java.net.UnknownHostException"), ()),
        Reply(ReplyCode.CMD_NOT_FOUND, message="please follow the doc"),
        Reply(ReplyCode.FAILED, message="FAILED:null:null batchInstallBiz conflict, exist unfinished command("),
    ],
)
def test_a_batch_that_failed_as_a_whole_is_installed_one_by_one_at_once(outcome: Outcome) -> None:
    state = listed(answered(outcome))
    assert sorted(orders(state, GROUP, now=1.0)) == [["a"], ["b"], ["c"]]
    assert all(trouble.failures == 0 for trouble in state.troubles.values())


def test_a_batch_with_an_unknown_outcome_is_not_sent_again_before_a_list() -> None:
    state = answered(OutcomeUnknown("cut"))
    assert orders(state, GROUP, now=900.0) == []
    state = listed(state, "a", "b", "c")
    assert orders(state, GROUP, now=900.0) == []


def test_items_without_details_and_items_of_others_are_taken() -> None:
    """The original indexes the first detail of each item, and fails on an item without one."""
    items = (("https://repo.example/x.jar", DONE), ("", NO_JAR))
    state = listed(answered(BatchInstalled(Reply(ReplyCode.SUCCESS), items)))
    assert sorted(orders(state, GROUP, now=60.0)) == [["a"], ["b"], ["c"]]
