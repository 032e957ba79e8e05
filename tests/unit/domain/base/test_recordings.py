"""Recorded replies of real bases lead through gateway and contract to the right decision."""

from collections.abc import Mapping
from typing import Any

import pytest
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from controlplane.domain.base import modules as book
from controlplane.domain.base import outcomes
from controlplane.domain.base.modules import Modules
from controlplane.domain.base.planner import ModulePolicy, plan
from controlplane.domain.base.releases import UNKNOWN
from controlplane.domain.base.wishes import Wish
from controlplane.domain.facts import (
    Address,
    InstallStrategy,
    ModuleList,
    ModuleSpec,
    Order,
    OrderResult,
    TunnelKind,
    Verb,
)
from controlplane.domain.identity import BaseId, ModuleKey, OrderId
from controlplane.rpc.tunnel import decoding
from gateways.arklet import envelopes, payloads
from gateways.arklet.fields import first_object
from gateways.session.orders import unknown
from tests.recordings import HTTP, MQTT
from tests.unit.domain.base.pods import begun

ORDERED = {
    "installBiz": Verb.INSTALL,
    "batchInstallBiz": Verb.INSTALL,
    "uninstallBiz": Verb.UNINSTALL,
    "switchBiz": Verb.SWITCH,
}

DONE = ("done", "")
FAILED = ("failed", "InstallFailed")
INVALID = ("permanent", "InvalidModule")

MEANINGS: Mapping[str, tuple[str, str] | dict[str, tuple[str, str]]] = {
    "installBiz-success": DONE,
    "installBiz-success-second-version": DONE,
    "installBiz-success-strategy": DONE,
    "installBiz-success-client-gone": ("ask", "OutcomeUnknown"),
    "installBiz-identity-mismatch": ("permanent", "IdentityMismatch"),
    "installBiz-repeat-itself": ("ask", "AlreadyPresent"),
    "installBiz-repeat-other": ("permanent", "IdentityMismatch"),
    "installBiz-url-404": ("failed", "ArtifactUnavailable"),
    "installBiz-not-a-zip": FAILED,
    "installBiz-no-biz": FAILED,
    "installBiz-main-throws": FAILED,
    "installBiz-path-clash": ("failed", "ContextPathTaken"),
    "installBiz-invalid": INVALID,
    "uninstallBiz-success": DONE,
    "uninstallBiz-not-found": DONE,
    "uninstallBiz-invalid": INVALID,
    "switchBiz-success": DONE,
    "switchBiz-not-found": ("ask", ""),
    "batchInstallBiz-success": {"biz3": DONE, "bizclash": DONE},
    # A batch gives no cause for a failed module: it is installed alone, which gives one.
    "batchInstallBiz-one-failed": {"biz2": ("alone", "BatchFailed"), "biz3": DONE, "bizclash": DONE},
    "batchInstallBiz-no-modules": {},
    "batchInstallBiz-invalid": {},
    "mqtt-bizOperation-install-success": DONE,
    "mqtt-bizOperation-install-main-throws": FAILED,
    "mqtt-bizOperation-install-url-404": ("failed", "ArtifactUnavailable"),
    "mqtt-bizOperation-uninstall-success": DONE,
}
CAUSES = {
    "installBiz-main-throws": "Caused by: java.lang.IllegalStateException: boom of bizbad: no database",
    "mqtt-bizOperation-install-main-throws": "Caused by: java.lang.IllegalStateException: boom of bizbad: no database",
    "installBiz-path-clash": "Child name [biz1] is not unique",
    "installBiz-identity-mismatch": "biz3:0.0.1",
    "installBiz-repeat-other": "biz3:0.0.1",
    "installBiz-url-404": "FileNotFoundException: http://127.0.0.1:28899/none.jar",
    "installBiz-not-a-zip": "zip END header not found",
    "installBiz-no-biz": "Biz Name must not be empty!",
}
"""What a Pod must show of a failure."""


def _operation(recorded: str) -> tuple[str, list[Any], pb.OrderResult]:
    """Return the command of a recorded outcome, the modules that were asked for, and what the gateway makes of it."""
    if recorded in MQTT:
        operation = envelopes.operation(envelopes.envelope(MQTT[recorded].payload))
        data = MQTT[recorded].json()["data"]
        return data["command"], [data], pb.OrderResult(reply=operation.reply)
    exchange = HTTP[recorded]
    asked = exchange.asked()
    items = asked.get("bizList", []) if exchange.verb == "batchInstallBiz" else [asked]
    if not exchange.close.startswith("base closes"):
        return exchange.verb, items, unknown("the gateway was gone")
    answer = first_object(exchange.reply_body or b"")
    if exchange.verb == "batchInstallBiz":
        return exchange.verb, items, pb.OrderResult(batch=payloads.batch_reply(answer))
    return exchange.verb, items, pb.OrderResult(reply=payloads.reply(answer))


def _over_the_contract(outcome: pb.OrderResult) -> OrderResult:
    outcome.order_id = "1"
    sent = pb.Report(base_id="b", order_result=outcome).SerializeToString()
    read = decoding.report(pb.Report.FromString(sent), env="dev", tunnel=TunnelKind.HTTP)
    assert isinstance(read, tuple)
    assert isinstance(read[1], OrderResult)
    return read[1]


def _spec(asked: Any) -> ModuleSpec:
    key = ModuleKey(asked["bizName"], asked.get("bizVersion", "1"))
    return ModuleSpec(key, url=asked.get("bizUrl", ""))


def ended(recorded: str) -> tuple[outcomes.Ended, ...]:
    """Begin the order of a recording and take its result."""
    command, items, outcome = _operation(recorded)
    specs = tuple(_spec(item) for item in items)
    order = Order(OrderId("1"), 1, BaseId("b"), Address("10.0.0.1", 1238), ORDERED[command], specs)
    state = begun(Modules(listed=True), order)
    return outcomes.end(state, _over_the_contract(outcome), now=1.0, chance=0.0)[1]


@pytest.mark.parametrize("recorded", MEANINGS)
def test_each_outcome_has_its_meaning(recorded: str) -> None:
    found = {item.spec.key.name: (item.meaning.effect.value, item.meaning.reason) for item in ended(recorded)}
    expected = MEANINGS[recorded]
    assert found == expected if isinstance(expected, dict) else list(found.values()) == [expected]


@pytest.mark.parametrize("recorded", CAUSES)
def test_a_failure_shows_its_cause(recorded: str) -> None:
    (item,) = ended(recorded)
    assert CAUSES[recorded] in item.meaning.message


def test_every_outcome_is_in_the_table() -> None:
    answered = {exchange.id for exchange in HTTP.values() if exchange.verb in ORDERED}
    assert MEANINGS.keys() == answered | {name for name in MQTT if name.startswith("mqtt-bizOperation")}


def _listed(recorded: str) -> Modules:
    """Return what is known of a base after a recorded list."""
    if recorded in MQTT:
        modules = payloads.simple_modules(envelopes.envelope(MQTT[recorded].payload).data)
    else:
        modules = payloads.modules(first_object(HTTP[recorded].reply_body or b""))
    modules.epoch = 1
    report = pb.Report(base_id="b", modules=modules)
    sent = pb.ConnectRequest(reports=pb.Reports(seq=1, reports=[report])).SerializeToString()
    (taken,) = pb.ConnectRequest.FromString(sent).reports.reports
    read = decoding.report(taken, env="dev", tunnel=TunnelKind.HTTP)
    assert isinstance(read, tuple)
    _, listed = read
    assert isinstance(listed, ModuleList)
    assert listed == ModuleList(listed.modules, complete=True, unchanged=False, epoch=1)
    return book.take_list(Modules(), listed)


def wanted(*modules: str, strategy: InstallStrategy = InstallStrategy.DEFAULT) -> tuple[Wish, ...]:
    """Return the wishes of Pods, oldest first; a minus marks one that leaves."""
    wishes = []
    for module in modules:
        name, _, version = module.lstrip("-").partition(":")
        spec = ModuleSpec(ModuleKey(name, version), url=f"http://r/{name}-{version}.jar", strategy=strategy)
        wishes.append(Wish(spec, leaving=module.startswith("-"), release=UNKNOWN, pod=f"pod-{module}"))
    return tuple(wishes)


ALONE = InstallStrategy.UNINSTALL_THEN_INSTALL

PLANS = [
    ("queryAllBiz-empty", wanted("biz1:0.0.1"), [(Verb.INSTALL, "biz1:0.0.1")]),
    ("queryAllBiz-empty", wanted("-biz1:0.0.1"), []),
    ("queryAllBiz-activated", wanted("biz1:0.0.1"), []),
    ("queryAllBiz-activated", wanted("-biz1:0.0.1"), [(Verb.UNINSTALL, "biz1:0.0.1")]),
    ("queryAllBiz-activated", wanted("-biz1:0.0.1", "biz1:0.0.2"), [(Verb.INSTALL, "biz1:0.0.2")]),
    ("queryAllBiz-activated", wanted("biz1:0.0.2", strategy=ALONE), [(Verb.INSTALL, "biz1:0.0.2")]),
    ("queryAllBiz-activated", (), []),
    # A module that starts is waited for, whatever is wanted.
    ("queryAllBiz-resolved", wanted("biz1:0.0.1"), []),
    ("queryAllBiz-resolved", wanted("-biz1:0.0.1"), []),
    ("queryAllBiz-resolved-beside-activated", wanted("biz1:0.0.1", "biz1:0.0.2"), []),
    ("queryAllBiz-deactivated-new", wanted("-biz1:0.0.4", "biz1:0.0.5"), [(Verb.SWITCH, "biz1:0.0.5")]),
    ("queryAllBiz-deactivated-old", wanted("-biz1:0.0.4", "biz1:0.0.5"), [(Verb.UNINSTALL, "biz1:0.0.4")]),
    (
        "queryAllBiz-many",
        wanted("-biz1:0.0.2", "bizclash:0.0.1", "biz3:0.0.1", "biz2:0.0.1"),
        [(Verb.UNINSTALL, "biz1:0.0.2"), (Verb.INSTALL, "biz2:0.0.1")],
    ),
    ("queryAllBiz-held-up", wanted("biz1:0.0.5", "bizslow:0.0.1"), []),
    ("queryAllBiz-empty-body", wanted("biz1:0.0.5", "bizslow:0.0.1"), []),
    ("mqtt-simpleBiz-empty", wanted("biz2:0.0.1"), [(Verb.INSTALL, "biz2:0.0.1")]),
    ("mqtt-simpleBiz-resolved", wanted("biz2:0.0.1", "-biz3:0.0.1"), []),
    ("mqtt-simpleBiz-activated", wanted("biz2:0.0.1", "-biz3:0.0.1"), [(Verb.UNINSTALL, "biz3:0.0.1")]),
    ("mqtt-simpleBiz-mixed", wanted("biz1:0.0.1", "biz2:0.0.1", "biz3:0.0.1"), []),
]


@pytest.mark.parametrize(("recorded", "wishes", "expected"), PLANS, ids=[f"{n}-{p[0]}" for n, p in enumerate(PLANS)])
def test_each_list_gives_its_orders(recorded: str, wishes: tuple[Wish, ...], expected: list[tuple[Verb, str]]) -> None:
    planned = plan(_listed(recorded), wishes, now=0.0, policy=ModulePolicy())
    assert [(intent.verb, str(intent.spec.key)) for order in planned.orders for intent in order] == expected


def test_every_list_is_in_the_table() -> None:
    lists = {exchange.id for exchange in HTTP.values() if exchange.verb == "queryAllBiz" and exchange.reply_body}
    assert {recorded for recorded, *_ in PLANS} == lists | {name for name in MQTT if name.startswith("mqtt-simpleBiz")}
