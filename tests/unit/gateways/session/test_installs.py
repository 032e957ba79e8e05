"""A gateway keeps recent installs for the next owner of a base."""

import pytest
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from gateways.session.orders import KEPT, Installs, of_order, refused, unknown
from tests.unit.gateways import said

SUCCESS, FAILED = pb.OrderResult(reply=said.reply()), pb.OrderResult(reply=said.reply("FAILED"))
BASELINE = [pb.ModuleRef(name=name, version="1", url="u") for name in ("biz1", "biz2")]


class Scene:
    def __init__(self) -> None:
        self.installs = Installs()
        self.count = 0

    def end(
        self,
        verb: pb.Verb.ValueType,
        *names: str,
        outcome: pb.OrderResult = SUCCESS,
        base: str = "b",
        at: float = 0.0,
    ) -> None:
        self.count += 1
        order, result = said.order(str(self.count), verb, *names, base=base), pb.OrderResult()
        result.CopyFrom(outcome)
        self.installs.note(order, of_order(order, result), at)

    def kept(self, base: str = "b", at: float = 0.0) -> list[str]:
        return [report.order_result.order_id for report in self.installs.of(base, at)]


def test_installs_are_remembered_for_a_while() -> None:
    scene = Scene()
    scene.end(pb.VERB_INSTALL, "biz1")
    scene.end(pb.VERB_INSTALL, "biz2")
    assert scene.kept() == ["1", "2"]
    assert scene.kept("another") == []
    assert scene.kept(at=KEPT + 1) == []


def test_uninstalled_modules_are_forgotten() -> None:
    scene = Scene()
    scene.end(pb.VERB_INSTALL, "biz1")
    scene.end(pb.VERB_UNINSTALL, "biz1")
    assert scene.kept() == []


def test_orders_that_installed_nothing_are_not_remembered() -> None:
    scene = Scene()
    for outcome in (FAILED, refused(pb.REFUSAL_REASON_BUSY, "full"), unknown("lost")):
        scene.end(pb.VERB_INSTALL, "biz1", outcome=outcome)
    scene.end(pb.VERB_SWITCH, "biz1")
    assert scene.kept() == []


def test_a_batch_counts_once_even_if_a_part_of_it_failed() -> None:
    scene = Scene()
    item = pb.BatchInstallResult.Item(url="u", reply=said.reply())
    batch = pb.BatchInstallResult(reply=said.reply("FAILED"), items=[item])
    scene.end(pb.VERB_BATCH_INSTALL, "biz1", "biz2", outcome=pb.OrderResult(batch=batch))
    assert scene.kept() == ["1"]


def test_the_baseline_of_a_starting_base_is_remembered_as_installed() -> None:
    scene = Scene()
    scene.installs.note_baseline("b", "query", BASELINE, 0.0)
    (report,) = scene.installs.of("b", 1.0)
    result = report.order_result
    assert (result.order_id, report.base_id, result.reply.code) == ("query", "b", pb.REPLY_CODE_SUCCESS)
    assert [(module.name, module.version) for module in result.reply.modules] == [("biz1", "1"), ("biz2", "1")]
    scene.end(pb.VERB_UNINSTALL, "biz1")
    scene.end(pb.VERB_UNINSTALL, "biz2")
    assert scene.kept() == []
    scene.installs.note_baseline("b", "query", [], 0.0)
    assert scene.kept() == []


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateways.session.orders.MAX_BASES", 2)
    scene = Scene()
    for base in "abc":
        scene.end(pb.VERB_INSTALL, "biz1", base=base)
    assert [scene.kept(base) for base in "abc"] == [[], ["2"], ["3"]]
    scene.end(pb.VERB_INSTALL, "biz2", base="c", at=KEPT + 1)
    assert len(scene.installs._bases) == 2
    assert list(scene.installs._bases["c"]) == [("biz2", "1")]
