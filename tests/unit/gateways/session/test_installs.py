"""What a gateway remembers of installs for the next owner of a base."""

from __future__ import annotations

from gateways.arklet.facts import BaselineModule, BatchReply, ModuleOrder, Reply, ReplyCode, Verb
from gateways.session.installs import KEPT, Installs
from gateways.session.messages import Address, Order, OrderResult, Outcome, OutcomeUnknown, Refusal, Refused

SUCCESS, FAILED = Reply(ReplyCode.SUCCESS), Reply(ReplyCode.FAILED)


class Scene:
    def __init__(self, **limits: int) -> None:
        self.installs = Installs(**limits)
        self.count = 0

    def end(self, verb: Verb, *names: str, outcome: Outcome = SUCCESS, base: str = "b", at: float = 0.0) -> None:
        self.count += 1
        modules = tuple(ModuleOrder(name, "1") for name in names)
        order = Order(str(self.count), 1, base, Address("10.0.0.1", 1), verb, modules, 60.0)
        self.installs.note(order, OrderResult(order.order_id, base, outcome), at)

    def told(self, base: str = "b", at: float = 0.0) -> list[str]:
        return [result.order_id for result in self.installs.of(base, at)]


def test_installs_are_remembered_for_a_while() -> None:
    scene = Scene()
    scene.end(Verb.INSTALL, "biz1")
    scene.end(Verb.INSTALL, "biz2")
    assert scene.told() == ["1", "2"]
    assert scene.told("another") == []
    assert scene.told(at=KEPT + 1) == []


def test_what_was_uninstalled_since_is_forgotten() -> None:
    scene = Scene()
    scene.end(Verb.INSTALL, "biz1")
    scene.end(Verb.UNINSTALL, "biz1")
    assert scene.told() == []


def test_what_installed_nothing_is_not_remembered() -> None:
    scene = Scene()
    for outcome in (FAILED, Refused(Refusal.BUSY), OutcomeUnknown("lost")):
        scene.end(Verb.INSTALL, "biz1", outcome=outcome)
    scene.end(Verb.SWITCH, "biz1")
    assert scene.told() == []


def test_a_batch_counts_once_also_where_a_part_of_it_failed() -> None:
    scene = Scene()
    scene.end(Verb.BATCH_INSTALL, "biz1", "biz2", outcome=BatchReply(FAILED, (("u", SUCCESS),)))
    assert scene.told() == ["1"]


def test_what_a_starting_base_was_given_is_remembered_as_installed() -> None:
    scene = Scene()
    scene.installs.note_baseline(
        "b", "query", [BaselineModule("biz1", "1", "u1"), BaselineModule("biz2", "1", "u2")], 0.0
    )
    (result,) = scene.installs.of("b", 1.0)
    assert isinstance(result.outcome, Reply)
    assert [(module.name, module.version) for module in result.outcome.modules] == [("biz1", "1"), ("biz2", "1")]
    scene.end(Verb.UNINSTALL, "biz1")
    scene.end(Verb.UNINSTALL, "biz2")
    assert scene.told() == []
    scene.installs.note_baseline("b", "query", [], 0.0)
    assert scene.told() == []


def test_memory_is_bounded() -> None:
    scene = Scene(max_bases=2)
    for base in "abc":
        scene.end(Verb.INSTALL, "biz1", base=base)
    assert [scene.told(base) for base in "abc"] == [[], ["2"], ["3"]]
    scene.end(Verb.INSTALL, "biz1", base="c", at=KEPT + 1)
    assert len(scene.installs._bases) == 1
