"""Would the scheduler place it there? And what a starting base is given."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controlplane.domain.contract import ENV
from controlplane.domain.objects import (
    Container,
    FieldRef,
    ModuleDeployment,
    Requirement,
    SchedulingRules,
    Taint,
    Toleration,
)
from controlplane.domain.placement import InvalidSelector, baseline, fits, matches, parse_selector, tolerates

TAINTS = (
    Taint("schedule.koupleless.io/virtual-node", "True", "NoExecute"),
    Taint("schedule.koupleless.io/node-env", "dev", "NoExecute"),
)
TOLERATIONS = (
    Toleration("schedule.koupleless.io/virtual-node", "Equal", "True", "NoExecute"),
    Toleration("schedule.koupleless.io/node-env", "Equal", "dev", "NoExecute"),
)
LABELS = {"base.koupleless.io/cluster-name": "default", "n": "5"}
RULES = SchedulingRules(tolerations=TOLERATIONS)


def required(*requirements: Requirement) -> SchedulingRules:
    return replace(RULES, required_affinity=(requirements,))


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (RULES, True),
        (SchedulingRules(), False),
        (replace(RULES, tolerations=TOLERATIONS[:1]), False),
        (replace(RULES, tolerations=(Toleration("", "Exists"),)), True),
        (replace(RULES, node_name="other"), False),
        (replace(RULES, node_name="node"), True),
        (replace(RULES, node_selector={"n": "5"}), True),
        (replace(RULES, node_selector={"n": "6"}), False),
        (replace(RULES, required_affinity=()), False),
        (replace(RULES, required_affinity=((),)), False),
        (required(Requirement("base.koupleless.io/cluster-name", "In", ("a", "default"))), True),
        (required(Requirement("base.koupleless.io/cluster-name", "NotIn", ("default",))), False),
        (required(Requirement("absent", "NotIn", ("x",))), True),
        (required(Requirement("n", "Exists")), True),
        (required(Requirement("absent", "Exists")), False),
        (required(Requirement("absent", "DoesNotExist")), True),
        (required(Requirement("n", "Gt", ("4",))), True),
        (required(Requirement("n", "Lt", ("4",))), False),
        (required(Requirement("n", "Gt", ())), False),
        (required(Requirement("n", "Gt", ("x",))), False),
        (required(Requirement("n", "Like", ("5",))), False),
    ],
)
def test_fits(rules: SchedulingRules, expected: bool) -> None:
    assert fits(rules, name="node", labels=LABELS, taints=TAINTS) is expected


def test_soft_taints_repel_nobody() -> None:
    assert fits(SchedulingRules(), name="n", labels={}, taints=[Taint("k", "v", "PreferNoSchedule")])


def test_a_toleration_without_key_needs_exists() -> None:
    assert not tolerates(Toleration("", "Equal", ""), TAINTS[0])


def deployment(name: str, created: str, *versions: str, **changes: object) -> ModuleDeployment:
    containers = tuple(
        Container(f"biz{n}", f"https://repo.example/{v}.jar", v) for n, v in enumerate(versions, start=1)
    )
    base = ModuleDeployment(
        "default", name, f"uid-{name}", "1", {ENV: "dev"}, 1, containers, RULES, creation_timestamp=created
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def given(*deployments: ModuleDeployment) -> list[str]:
    found = baseline(deployments, env="dev", name="node", labels=LABELS, taints=TAINTS)
    return [f"{c.name}:{c.version}" for c in found]


def test_of_each_module_the_newest_deployment_counts() -> None:
    old, new = deployment("old", "2026-01-01T00:00:00Z", "1", "9"), deployment("new", "2026-01-02T00:00:00Z", "2")
    assert given(new, old) == ["biz2:9", "biz1:2"]


def test_what_would_not_be_scheduled_there_is_not_given() -> None:
    assert given(deployment("a", "t", "1", labels={ENV: "prod"})) == []
    assert given(deployment("a", "t", "1", replicas=0)) == []
    assert given(deployment("a", "t", "1", replicas=None)) == ["biz1:1"]
    assert given(deployment("a", "t", "1", rules=SchedulingRules())) == []
    assert given(deployment("a", "t", "")) == []


@pytest.mark.parametrize(
    "container",
    [
        Container("biz1", "u", "2", args=("--x",)),
        Container("biz1", "u", "2", env=(("BIZ_VERSION", "2"), ("NAME", FieldRef("metadata.name")))),
    ],
    ids=["arguments", "variables"],
)
def test_what_a_baseline_cannot_carry_is_left_to_the_pod(container: Container) -> None:
    older = deployment("old", "2026-01-01T00:00:00Z", "1")
    newer = deployment("new", "2026-01-02T00:00:00Z", containers=(container,))
    assert given(older, newer) == []
    plain = replace(container, args=(), env=(("BIZ_VERSION", "2"),))
    assert given(older, replace(newer, containers=(plain,))) == ["biz1:2"]


@pytest.mark.parametrize(
    ("text", "labels", "expected"),
    [
        ("", {}, True),
        ("a=1", {"a": "1"}, True),
        ("a==1", {"a": "2"}, False),
        ("a!=1", {}, True),
        ("a", {"a": ""}, True),
        ("!a", {"a": "1"}, False),
        ("a in (1, 2)", {"a": "2"}, True),
        ("a notin (1,2)", {"a": "2"}, False),
        ("a=1,b in (x),!c", {"a": "1", "b": "x"}, True),
        ("x.io/a=", {"x.io/a": ""}, True),
    ],
)
def test_selectors(text: str, labels: dict[str, str], expected: bool) -> None:
    assert matches(parse_selector(text), labels) is expected


@pytest.mark.parametrize("text", ["a=b=c", ",", "a,", "a in", "a in (x", "=b", "a b", "a=1;b", "é=1"])
def test_selectors_that_cannot_be_read(text: str) -> None:
    with pytest.raises(InvalidSelector):
        parse_selector(text)
