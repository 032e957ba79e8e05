"""Placement decides as the Kubernetes scheduler does."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.cluster import reading, scheduling
from controlplane.domain.objects import Node, Requirement, SchedulingRules, Taint, Toleration
from controlplane.domain.workloads.placement import (
    InvalidSelector,
    admits,
    int64,
    keeps,
    matches,
    parse_selector,
    tolerates,
)
from tests.placements import CASES, NODES, REQUIRED, Case, affinity, labelled

NAMES, VALUES = ["a", "b", "size"], ["", "x", "5", "-3", "007", "9223372036854775808", "no number"]


def spot_at(name: str, labels: Mapping[str, str], taints: tuple[Taint, ...], unschedulable: bool = False) -> Node:
    return Node(name, labels=labels, taints=taints, unschedulable=unschedulable)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_placement_agrees_with_the_table_of_the_real_scheduler(case: Case) -> None:
    rules = scheduling.rules(case.pod_spec)
    assert isinstance(rules, SchedulingRules)
    assert {name for name, node in NODES.items() if admits(rules, reading.node(node))} == case.nodes


def test_a_pod_that_names_its_node_bypasses_the_scheduler() -> None:
    rules = SchedulingRules(node_name="n", tolerations=(Toleration("soft", "Exists"),))
    there = spot_at("n", {}, (Taint("k", "", "NoSchedule"),), unschedulable=True)
    assert admits(rules, there)
    assert not admits(rules, spot_at("other", {}, ()))
    # Taints still evict such a Pod, and its kubelet still checks the selector.
    assert not admits(rules, spot_at("n", {}, (Taint("k", "", "NoExecute"),)))
    assert not admits(SchedulingRules(node_name="n", node_selector=(Requirement("a", "Exists"),)), there)


def test_pods_stay_where_new_ones_do_not_come() -> None:
    rules = SchedulingRules()
    assert keeps(rules, spot_at("n", {}, (Taint("k", "", "NoSchedule"),), unschedulable=True))
    assert not keeps(rules, spot_at("n", {}, (Taint("k", "", "NoExecute"),)))


def test_a_toleration_without_key_needs_exists() -> None:
    taint = Taint("k", "", "NoExecute")
    assert tolerates(Toleration("", "Exists"), taint)
    assert not tolerates(Toleration("", "Equal", ""), taint)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("-0", 0),
        ("+5", 5),
        ("007", 7),
        ("9223372036854775807", 2**63 - 1),
        ("9223372036854775808", None),
        ("-9223372036854775808", -(2**63)),
        ("-9223372036854775809", None),
        ("", None),
        ("-", None),
        ("1.0", None),
        (" 1", None),
        ("1_0", None),
        ("٣", None),
    ],
)
def test_numbers_are_those_of_64_bits(text: str, number: int | None) -> None:
    assert int64(text) == number


# An independent judge, written from the documentation alone, and manifests for it.

requirement = st.one_of(
    st.fixed_dictionaries(
        {
            "key": st.sampled_from(NAMES),
            "operator": st.sampled_from(["In", "NotIn"]),
            "values": st.lists(st.sampled_from(VALUES[:-1]), min_size=1, max_size=3),
        }
    ),
    st.fixed_dictionaries({"key": st.sampled_from(NAMES), "operator": st.sampled_from(["Exists", "DoesNotExist"])}),
    st.fixed_dictionaries(
        {
            "key": st.sampled_from(NAMES),
            "operator": st.sampled_from(["Gt", "Lt"]),
            "values": st.lists(st.sampled_from(VALUES), min_size=1, max_size=1),
        }
    ),
)
field = st.fixed_dictionaries(
    {
        "key": st.just("metadata.name"),
        "operator": st.sampled_from(["In", "NotIn"]),
        "values": st.lists(st.sampled_from(["n", "other"]), min_size=1, max_size=1),
    }
)
term = st.fixed_dictionaries(
    {}, optional={"matchExpressions": st.lists(requirement, max_size=2), "matchFields": st.lists(field, max_size=2)}
)
toleration = st.one_of(
    st.fixed_dictionaries(
        {"key": st.sampled_from(["a", "node.kubernetes.io/unschedulable"])},
        optional={
            "operator": st.just("Equal"),
            "value": st.sampled_from(["", "x"]),
            "effect": st.sampled_from(["NoSchedule", "NoExecute", "PreferNoSchedule"]),
        },
    ),
    st.fixed_dictionaries(
        {"operator": st.just("Exists")},
        optional={
            "key": st.sampled_from(["a", "node.kubernetes.io/unschedulable"]),
            "effect": st.sampled_from(["NoSchedule", "NoExecute", "PreferNoSchedule"]),
        },
    ),
)


def required(terms: st.SearchStrategy[list[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return terms.map(lambda found: {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": found}}})


selector = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(["", "x", "5"]), max_size=2)
tolerations = st.lists(toleration, max_size=3)
pod = st.one_of(
    # One kind of rule alone: of all kinds together, some rule mostly fails.
    requirement.map(lambda one: affinity(labelled(one))),
    st.fixed_dictionaries({"affinity": required(st.lists(term, min_size=1, max_size=2))}),
    st.fixed_dictionaries({"tolerations": tolerations}),
    st.fixed_dictionaries({"nodeSelector": selector}),
    st.fixed_dictionaries(
        {},
        optional={
            "nodeSelector": selector,
            "tolerations": tolerations,
            "affinity": required(st.lists(term, min_size=1, max_size=3)),
        },
    ),
)
taint = st.builds(
    Taint,
    st.sampled_from(["a", "b"]),
    st.sampled_from(["", "x"]),
    st.sampled_from(["NoSchedule", "NoExecute", "PreferNoSchedule"]),
)
spot = st.builds(
    spot_at,
    st.just("n"),
    st.dictionaries(st.sampled_from(NAMES), st.sampled_from(["", "x", "5", "-3", "007"])),
    st.just(()) | st.lists(taint, max_size=2).map(tuple),
    st.sampled_from([False, False, True]),
)


class Judge:
    """Decides by the Kubernetes documentation whether a Node admits a Pod."""

    def __init__(self, spec: dict[str, Any], node: Node) -> None:
        self.spec, self.node = spec, node

    def admits(self) -> bool:
        for name, value in self.spec.get("nodeSelector", {}).items():
            if name not in self.node.labels or self.node.labels[name] != value:
                return False
        required = self.spec.get("affinity", {}).get("nodeAffinity", {}).get(REQUIRED)
        if required is not None and not [t for t in required["nodeSelectorTerms"] if self.term(t)]:
            return False
        against = [taint for taint in self.node.taints if taint.effect != "PreferNoSchedule"]
        if self.node.unschedulable:
            against.append(Taint("node.kubernetes.io/unschedulable", "", "NoSchedule"))
        return not [taint for taint in against if not self.tolerated(taint)]

    def term(self, term: dict[str, Any]) -> bool:
        expressions, fields = term.get("matchExpressions", []), term.get("matchFields", [])
        if len(expressions) + len(fields) == 0:
            return False
        for each in expressions:
            numeric = each["operator"] in ("Gt", "Lt")
            for value in each.get("values", []):
                # A label value begins with a letter or digit; with one that is none the term is void.
                if value.startswith("-") or " " in value or (numeric and self.number(value) is None):
                    return False
        verdicts = [self.expression(e, self.node.labels) for e in expressions]
        verdicts += [self.expression(f, {"metadata.name": self.node.name}) for f in fields]
        return False not in verdicts

    def expression(self, e: dict[str, Any], labels: Any) -> bool:
        there, values = e["key"] in labels, e.get("values", [])
        value = labels.get(e["key"], "")
        if e["operator"] in ("Gt", "Lt"):
            left, right = self.number(value) if there else None, self.number(values[0])
            if left is None or right is None:
                return False
            return left > right if e["operator"] == "Gt" else left < right
        return {
            "In": there and value in values,
            "NotIn": not there or value not in values,
            "Exists": there,
            "DoesNotExist": not there,
        }[e["operator"]]

    def number(self, text: str) -> int | None:
        try:
            number = int(text)
        except ValueError:
            return None
        return number if number.bit_length() <= 63 else None

    def tolerated(self, taint: Taint) -> bool:
        for t in self.spec.get("tolerations", []):
            effect = t.get("effect", "") in ("", taint.effect)
            key = t.get("key", "") in ("", taint.key)
            value = t.get("operator", "Equal") == "Exists" or t.get("value", "") == taint.value
            if effect and key and value:
                return True
        return False


@settings(max_examples=400)
@given(pod, spot)
def test_any_rules_are_judged_as_the_documentation_says(spec: dict[str, Any], node: Node) -> None:
    rules = scheduling.rules(spec)
    assert isinstance(rules, SchedulingRules)
    assert admits(rules, node) == Judge(spec, node).admits()


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
def test_selectors_match_labels(text: str, labels: dict[str, str], expected: bool) -> None:
    assert matches(parse_selector(text), labels) is expected


@pytest.mark.parametrize("text", ["a=b=c", ",", "a,", "a in", "a in (x", "=b", "a b", "a=1;b", "é=1"])
def test_selectors_that_cannot_be_read_are_refused(text: str) -> None:
    with pytest.raises(InvalidSelector):
        parse_selector(text)
