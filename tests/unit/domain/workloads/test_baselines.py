"""The baseline of a starting base, which is computed once for bases alike."""

from collections.abc import Mapping
from dataclasses import replace
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.domain.contract import BASE_CLUSTER_NAME, BASE_NAME, ENV, STRATEGY
from controlplane.domain.objects import (
    Container,
    FieldRef,
    ModuleDeployment,
    Node,
    NodeTerm,
    NotUnderstood,
    Requirement,
    SchedulingRules,
    Taint,
    Toleration,
)
from controlplane.domain.workloads import baselines
from controlplane.domain.workloads.baselines import MOST_KEPT, NOTHING, Offer
from controlplane.domain.workloads.deployments import Acceptance, acceptance, baseline_demand

TAINTS = (
    Taint("schedule.koupleless.io/virtual-node", "True", "NoExecute"),
    Taint("schedule.koupleless.io/node-env", "dev", "NoExecute"),
)
RULES = SchedulingRules(tolerations=tuple(Toleration(t.key, "Equal", t.value, t.effect) for t in TAINTS))


def spot_at(name: str, labels: Mapping[str, str], taints: tuple[Taint, ...], unschedulable: bool = False) -> Node:
    return Node(name, labels=labels, taints=taints, unschedulable=unschedulable)


HERE = spot_at("vnode.b1.dev", {BASE_CLUSTER_NAME: "default"}, TAINTS)


def deployment(name: str, created: str, *versions: str, **changes: object) -> ModuleDeployment:
    containers = tuple(
        Container(f"biz{n}", f"https://repo.example/{v}.jar", v) for n, v in enumerate(versions, start=1)
    )
    base = ModuleDeployment(
        "default", name, f"uid-{name}", "1", {ENV: "dev"}, 1, containers, RULES, creation_timestamp=created
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def given_by(*deployments: ModuleDeployment, to: Node = HERE) -> list[str]:
    answer = Offer(deployments, env="dev", peers_follow=False).to(to)
    return [f"{module.name}:{module.version}" for module in answer.modules]


def test_of_each_module_the_newest_deployment_counts() -> None:
    old, new = deployment("old", "2026-01-01T00:00:00Z", "1", "9"), deployment("new", "2026-01-02T00:00:00Z", "2")
    assert given_by(new, old) == ["biz2:9", "biz1:2"]


@pytest.mark.parametrize(
    "other",
    [
        {"labels": {ENV: "prod"}},
        {"labels": {STRATEGY: "peer"}},
        {"replicas": 0},
        {"rules": SchedulingRules()},
        {"rules": NotUnderstood("tolerations[0].operator 'Gt'")},
        {"rules": replace(RULES, node_name="elsewhere")},
        {"labels": {ENV: "dev", BASE_CLUSTER_NAME: "other"}},
        {"beyond_node": "schedulingGates"},
        {"containers": (Container("biz1", "https://repo.example/biz1.jar"),)},
    ],
)
def test_what_would_not_be_scheduled_there_is_not_given(other: dict[str, object]) -> None:
    assert given_by(deployment("a", "t", "1", **other)) == []
    assert given_by(deployment("a", "t", "1", **other), deployment("b", "t", "2")) == ["biz1:2"]


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
    assert given_by(older, newer) == []
    plain = replace(container, args=(), env=(("BIZ_VERSION", "2"),))
    assert given_by(older, replace(newer, containers=(plain,))) == ["biz1:2"]


def test_a_cordoned_node_is_given_nothing_new() -> None:
    assert given_by(deployment("a", "t", "1"), to=replace(HERE, unschedulable=True)) == []
    ready_again = Taint("node.kubernetes.io/not-ready", "", "NoSchedule")
    assert given_by(deployment("a", "t", "1"), to=replace(HERE, taints=(*TAINTS, ready_again))) == ["biz1:1"]


def test_bases_that_no_rule_distinguishes_get_one_answer_without_another_look() -> None:
    rules = replace(RULES, node_selector=(Requirement(BASE_NAME, "In", ("shop",)),))
    offer = Offer([deployment("a", "t", "1", rules=rules), deployment("b", "t", "2")], env="dev", peers_follow=False)
    with mock.patch.object(baselines, "acceptance", wraps=acceptance) as judged:
        shops = [offer.to(spot_at(f"vnode.b{n}.dev", {BASE_NAME: "shop", "n": str(n)}, TAINTS)) for n in range(100)]
        assert judged.call_count == 2
        assert {id(answer) for answer in shops} == {id(shops[0])}
        other = offer.to(spot_at("vnode.c.dev", {BASE_NAME: "bank"}, TAINTS))
        assert judged.call_count == 3
    assert other is not shops[0]
    assert offer.to(replace(HERE, taints=(*TAINTS, Taint("k", "", "NoExecute")))) is NOTHING


def test_a_rule_about_one_node_does_not_evaluate_all_rules_for_each() -> None:
    term = NodeTerm(fields=(Requirement("metadata.name", "In", ("vnode.b1.dev",)),))
    alone = deployment("one", "t1", "1", rules=replace(RULES, required_affinity=(term,)))
    many = [deployment(f"d{n}", "t2", *("" for _ in range(n)), str(n)) for n in range(1, 20)]
    offer = Offer([alone, *many], env="dev", peers_follow=False)
    with mock.patch.object(baselines, "acceptance", wraps=acceptance) as judged:
        first, second = (offer.to(replace(HERE, name=f"vnode.b{n}.dev")) for n in (1, 2))
        assert judged.call_count == 3
    assert len(first.modules) == len(second.modules) + 1


def test_a_label_that_is_called_like_the_name_is_not_taken_for_it() -> None:
    rules = replace(RULES, node_selector=(Requirement("metadata.name", "In", ("x",)),))
    offer = Offer([deployment("a", "t", "1", rules=rules)], env="dev", peers_follow=False)
    assert offer.to(replace(HERE, name="x")) is NOTHING
    assert offer.to(replace(HERE, labels={"metadata.name": "x"})).modules


def test_the_kept_answers_are_bounded() -> None:
    rules = replace(RULES, node_selector=(Requirement("host", "In", ("h1",)),))
    offer = Offer([deployment("a", "t", "1", rules=rules)], env="dev", peers_follow=False)
    for n in range(3 * MOST_KEPT):
        assert bool(offer.to(replace(HERE, labels={"host": f"h{n}"})).modules) is (n == 1)
    assert all(len(group._known) <= MOST_KEPT for group in offer._groups)


requirements = st.builds(
    Requirement,
    st.sampled_from(["a", "b", "metadata.name"]),
    st.sampled_from(["In", "NotIn", "Exists"]),
    st.lists(st.sampled_from(["1", "2"]), min_size=1, max_size=2).map(tuple),
)
names = st.builds(
    Requirement, st.just("metadata.name"), st.sampled_from(["In", "NotIn"]), st.sampled_from([("n",), ("m",)])
)
terms = st.builds(NodeTerm, st.lists(requirements, max_size=2).map(tuple), st.lists(names, max_size=1).map(tuple))
some_rules = st.builds(
    SchedulingRules,
    st.sampled_from(["", "", "", "n"]),
    st.just(()) | st.lists(requirements, max_size=1).map(tuple),
    st.none() | st.lists(terms, min_size=1, max_size=2).map(tuple),
    st.sampled_from([(), RULES.tolerations, (Toleration("", "Exists"),)]),
)
deployments = st.builds(
    lambda name, at, version, rules, replicas, labels: deployment(
        name, at, version, rules=rules, replicas=replicas, labels={ENV: "dev", **labels}
    ),
    st.sampled_from(["d1", "d2", "d3"]),
    st.sampled_from(["t1", "t2"]),
    st.sampled_from(["1", "2", ""]),
    some_rules,
    st.sampled_from([None, 0, 1]),
    st.sampled_from([{}, {}, {BASE_CLUSTER_NAME: "1"}]),
)
spots = st.builds(
    spot_at,
    st.sampled_from(["n", "m"]),
    st.dictionaries(st.sampled_from(["a", "b", "metadata.name", BASE_CLUSTER_NAME]), st.sampled_from(["1", "2"])),
    st.sampled_from([(), TAINTS]),
    st.booleans(),
)


@settings(max_examples=400)
@given(st.lists(deployments, min_size=1, max_size=3), st.lists(spots, min_size=2, max_size=8))
def test_kept_answers_equal_those_made_anew(found: list[ModuleDeployment], asking: list[Node]) -> None:
    offer = Offer(found, env="dev", peers_follow=False)
    for spot in asking:
        newest: dict[str, Container] = {}
        for each in sorted(found, key=lambda d: (d.creation_timestamp, d.namespace, d.name)):
            demand = baseline_demand(each, "dev", peers_follow=False)
            if demand is not None and acceptance(demand, spot) is Acceptance.OPEN:
                for container in each.containers:
                    if container.version:
                        newest.pop(container.name, None)
                        newest[container.name] = container
        assert offer.to(spot).modules == tuple(newest.values())
