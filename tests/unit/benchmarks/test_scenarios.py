"""Scenarios of the benchmarks: their work, their arguments, and what they count."""

import asyncio
from pathlib import Path

import pytest

from benchmarks import density
from benchmarks.__main__ import main
from benchmarks.api import Json, gone, ready
from benchmarks.install import at_rate
from benchmarks.modules import bound_pod, plan
from benchmarks.options import parser
from benchmarks.rollout import audited, daemon_set
from benchmarks.stage import identities, node


def test_modules_are_dealt_to_bases_in_turn() -> None:
    work = plan(["a", "b"], 5)
    assert [(module.base, module.name) for module in work] == [
        ("a", "biz0"),
        ("b", "biz0"),
        ("a", "biz1"),
        ("b", "biz1"),
        ("a", "biz2"),
    ]
    assert len({module.pod for module in work}) == 5


def test_a_pod_is_bound_to_the_node_of_its_base() -> None:
    (module,) = plan(identities(1), 1)
    assert bound_pod(module)["spec"]["nodeName"] == node("bench") == "vnode.bench.dev"


def test_several_bases_have_the_identities_of_the_fleet() -> None:
    assert identities(2) == ["bench-1", "bench-2"]


def test_cost_with_many_modules_on_a_base_is_a_multiple_of_that_with_few() -> None:
    few = [{"control plane": 2.0, "gateway": 1.0}, {"control plane": 4.0, "gateway": 1.0}]
    many = [{"control plane": 3.0, "gateway": 2.0}, {"control plane": 3.0, "gateway": 2.0}]
    multiples = [figure for figure in density.figures(5, few, many) if figure.target is not None]
    assert [(figure.value, figure.missed) for figure in multiples] == [(1.0, False), (2.0, True)]


@pytest.mark.looptime
async def test_work_keeps_its_rate_when_answers_are_late() -> None:
    loop = asyncio.get_running_loop()
    begun: list[float] = []

    async def act(_module: object) -> None:
        begun.append(loop.time())
        await asyncio.sleep(10)

    acts = await at_rate(plan(["a"], 3), 0, act)
    assert len(begun) == 3
    assert max(begun) - min(begun) < 1
    assert acts.sent.keys() == acts.answered.keys()


@pytest.mark.parametrize(("status", "expected"), [("True", True), ("False", False), ("Unknown", False)])
def test_a_pod_is_ready_by_its_condition(status: str, expected: bool) -> None:
    assert ready("MODIFIED", {"status": {"conditions": [{"type": "Ready", "status": status}]}}) is expected
    assert not ready("ADDED", {})


def test_only_a_deleted_object_is_gone() -> None:
    assert gone("DELETED", {})
    assert not gone("MODIFIED", {})


@pytest.mark.parametrize(
    "arguments",
    [
        ["onboarding", "--bases", "0"],
        ["onboarding", "--bases", "5001"],
        ["onboarding", "--logs", "/dev/null/none"],
        ["install", "--rate", "-1"],
        ["install", "--rate", "nan"],
        ["idle", "--seconds", "soon"],
        ["idle", "--lease-duration", "39"],
        ["mqtt", "--bases", "10001"],
        ["mqtt", "--burst", "0"],
        ["scale", "--bases", "500,10001"],
        ["scale", "--bases", "500,"],
        ["all", "--scale", "-1"],
        ["all", "--scale", "small"],
        ["all", "--only", "trust"],
        ["all", "--with", "nonsense --bases 1"],
        ["table"],
        ["tools", "--vnodes", "10001"],
        ["fly"],
    ],
)
def test_bad_arguments_end_the_program_before_anything_starts(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2


def test_help_names_all_measurements(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["--help"])
    text = capsys.readouterr().out
    assert all(name in text for name in ("onboarding", "install", "idle", "mqtt", "scale", "all", "table"))


def test_a_file_that_is_no_report_is_no_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = tmp_path / "kept.json"
    for text in ("{}", "[1]"):
        kept.write_text(text)
        assert main(["table", str(kept)]) == 1
    assert main(["table", str(tmp_path / "none")]) == 1
    assert "reports" in capsys.readouterr().err


def test_writes_are_counted_by_kind_and_pod_from_an_audit_log() -> None:
    def event(verb: str, resource: str, name: str, subresource: str = "", code: int = 200) -> Json:
        of = {"resource": resource, "name": name, "subresource": subresource}
        return {"verb": verb, "objectRef": of, "responseStatus": {"code": code}}

    log = [
        event("patch", "pods", "a", "status"),
        event("patch", "pods", "a", "status"),
        event("patch", "pods", "b", "status"),
        event("patch", "pods", "of-another-time", "status"),
        event("patch", "pods", "b", "status", code=409),
        event("create", "events", "e"),
        event("patch", "leases", "l"),
        event("watch", "pods", ""),
    ]
    figures = {figure.name: figure for figure in audited(log, {"a", "b"})}
    assert figures["audit log: patch pods/status"].value == 4
    assert figures["audit log: create events"].value == 1
    most = figures["audit log: status writes of one Pod, at most"]
    assert (most.value, most.note) == (2, "1 Pods with 1, 1 Pods with 2")
    assert len(figures) == 3
    assert audited([], {"a"}) == []


def test_a_daemon_set_goes_to_every_vnode() -> None:
    spec = daemon_set("biz0")["spec"]["template"]["spec"]
    assert "nodeName" not in spec
    assert spec["nodeSelector"] == {"virtual-kubelet.koupleless.io/component": "vnode"}
