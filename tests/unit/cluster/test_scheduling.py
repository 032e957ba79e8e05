"""Scheduling rules are read whole or not at all."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.cluster import scheduling
from controlplane.domain.objects import NodeTerm, NotUnderstood, Requirement, SchedulingRules, Toleration
from tests.placements import CASES, PREFERRED, REQUIRED, affinity, expression, labelled, named
from tests.unit.cluster.distorted import absurd, distorted

Json = dict[str, Any]


def test_known_rules_are_read() -> None:
    spec = {
        "nodeName": "n",
        "nodeSelector": {"b": "2", "a": "1"},
        "tolerations": [
            {"key": "k", "effect": "NoExecute", "tolerationSeconds": 5, "value": None},
            {"operator": "Exists"},
        ],
        **affinity({**labelled(expression("zone", "In", "a", "b")), **named("NotIn", "n")}, {}),
        "topologySpreadConstraints": [{"maxSkew": 1}],
        "priorityClassName": "high",
    }
    assert scheduling.rules(spec) == SchedulingRules(
        node_name="n",
        node_selector=(Requirement("a", "In", ("1",)), Requirement("b", "In", ("2",))),
        required_affinity=(
            NodeTerm(
                (Requirement("zone", "In", ("a", "b")),),
                (Requirement("metadata.name", "NotIn", ("n",)),),
            ),
        ),
        tolerations=(Toleration("k", "Equal", "", "NoExecute"), Toleration("", "Exists")),
    )
    assert scheduling.rules({}) == SchedulingRules()
    assert scheduling.rules({"affinity": {"nodeAffinity": {PREFERRED: [{"anything": 1}]}}}) == SchedulingRules()


@pytest.mark.parametrize(
    ("spec", "what"),
    [
        (
            {"tolerations": [{}, {"key": "k", "operator": "Gt", "value": "5"}]},
            'tolerations[0].operator (Invalid value: "": operator must be Exists when `key` is empty)',
        ),
        (
            {"tolerations": [{"key": "k", "operator": "Gt", "value": "5"}]},
            'tolerations[0].operator (Unsupported value: "Gt": supported values: "Equal", "Exists")',
        ),
        ({"tolerations": [{"key": "k", "effect": "Later"}]}, 'tolerations[0].effect (Unsupported value: "Later"'),
        ({"tolerations": [{"key": "k", "until": "noon"}]}, "tolerations[0].until (unknown field)"),
        ({"tolerations": ["k"]}, 'tolerations[0] (Invalid value: "k": must be an object)'),
        ({"tolerations": {"key": "k"}}, 'tolerations (Invalid value: {"key": "k"}: must be a list)'),
        ({"nodeSelector": {"a": 1}}, "nodeSelector[a] (Invalid value: 1: must be a string)"),
        ({"nodeSelector": ["a"]}, 'nodeSelector (Invalid value: ["a"]: must be an object)'),
        ({"nodeName": 5}, "nodeName (Invalid value: 5: must be a string)"),
        ({"affinity": {"rackAffinity": {}}}, "affinity.rackAffinity"),
        (
            {"affinity": {"nodeAffinity": {"requiredDuringSchedulingRequiredDuringExecution": {}}}},
            "affinity.nodeAffinity.requiredDuringSchedulingRequiredDuringExecution",
        ),
        ({"affinity": {"nodeAffinity": {REQUIRED: {"terms": []}}}}, f"affinity.nodeAffinity.{REQUIRED}.terms"),
        (affinity({"matchTaints": []}), "nodeSelectorTerms[0].matchTaints"),
        (affinity(labelled(expression("a", "Like", "b"))), 'matchExpressions[0].operator (Unsupported value: "Like"'),
        (
            affinity(labelled(expression("a", "In"))),
            "matchExpressions[0].values (Required value: must be specified when `operator` is 'In'",
        ),
        (
            affinity(labelled(expression("a", "Exists", "b"))),
            'matchExpressions[0].values (Invalid value: ["b"]: may not be specified when',
        ),
        (
            affinity(labelled(expression("a", "Gt", "1", "2"))),
            "matchExpressions[0].values (Required value: must be specified single value",
        ),
        (affinity(labelled({**expression("a", "Exists"), "weight": 1})), "matchExpressions[0].weight"),
        (affinity(named("Exists", "n")), 'matchFields[0].operator (Unsupported value: "Exists"'),
        (
            affinity({"matchFields": [expression("spec.providerID", "In", "x")]}),
            'matchFields[0].key (Invalid value: "spec.providerID": not a valid field selector key)',
        ),
        (
            affinity({"matchFields": [expression("metadata.name", "In", "a", "b")]}),
            'matchFields[0].values (Invalid value: ["a", "b"]: must be only one value',
        ),
    ],
)
def test_what_is_not_understood_is_named(spec: Json, what: str) -> None:
    rules = scheduling.rules(spec)
    assert isinstance(rules, NotUnderstood)
    assert what in rules.what


def test_what_is_nested_too_deeply_to_be_shown_is_not_understood() -> None:
    deep: Any = []
    for _ in range(200_000):
        deep = [deep]
    assert scheduling.rules({"tolerations": [deep]}) == NotUnderstood(
        "tolerations[0] (Invalid value: ...: must be an object)"
    )


def test_a_label_value_that_cannot_be_one_makes_its_term_match_nothing() -> None:
    spec = affinity(labelled(expression("a", "In", "x", "no label")), labelled(expression("a", "Exists")))
    rules = scheduling.rules(spec)
    assert isinstance(rules, SchedulingRules)
    assert rules.required_affinity == (NodeTerm((Requirement("a", "Exists"),)),)


def test_label_selectors_are_read_whole_or_not_at_all() -> None:
    assert scheduling.label_selector({}) is None
    assert scheduling.label_selector({"selector": {}}) == ()
    selector = {"matchLabels": {"a": "b"}, "matchExpressions": [expression("c", "NotIn", "d")]}
    assert scheduling.label_selector({"selector": selector}) == (
        Requirement("a", "In", ("b",)),
        Requirement("c", "NotIn", ("d",)),
    )
    unknowns: list[Any] = [
        {"matchExpressions": [expression("c", "Gt", "5")]},
        {"matchNames": []},
        [1],
        {"matchLabels": 1},
    ]
    for unknown in unknowns:
        assert isinstance(scheduling.label_selector({"selector": unknown}), NotUnderstood)


TERM = {"labelSelector": {"matchLabels": {"a": "b"}}, "topologyKey": "kubernetes.io/hostname"}
ZONE = {**TERM, "topologyKey": "zone"}


@pytest.mark.parametrize(
    ("spec", "beyond"),
    [
        ({}, ""),
        ({"schedulingGates": []}, ""),
        ({"schedulingGates": [{"name": "quota"}]}, "schedulingGates"),
        ({"affinity": {"podAntiAffinity": {REQUIRED: [TERM]}}}, ""),
        ({"affinity": {"podAntiAffinity": {REQUIRED: [TERM, ZONE]}}}, "podAntiAffinity"),
        ({"affinity": {"podAntiAffinity": {PREFERRED: [ZONE]}}}, ""),
        ({"affinity": {"podAffinity": {REQUIRED: [TERM]}}}, "podAffinity"),
        ({"affinity": {"podAffinity": {PREFERRED: [TERM]}}}, ""),
        ({"topologySpreadConstraints": [{**TERM, "whenUnsatisfiable": "DoNotSchedule"}]}, ""),
        ({"topologySpreadConstraints": [{**ZONE, "whenUnsatisfiable": "DoNotSchedule"}]}, "topologySpreadConstraints"),
        ({"topologySpreadConstraints": [{**ZONE, "whenUnsatisfiable": "ScheduleAnyway"}]}, ""),
    ],
)
def test_rules_that_look_beyond_the_node_are_named(spec: Json, beyond: str) -> None:
    assert scheduling.beyond_node(spec) == beyond


@given(st.one_of([distorted(case.pod_spec) for case in CASES]) | absurd)
def test_a_distorted_specification_gives_rules_or_what_is_not_understood(spec: Any) -> None:
    if isinstance(spec, dict):
        assert isinstance(scheduling.rules(spec), SchedulingRules | NotUnderstood)
        assert isinstance(scheduling.beyond_node(spec), str)
        scheduling.label_selector({"selector": spec})


names = st.sampled_from(["key", "operator", "values", "effect", "weight", "matchExpressions", "nodeSelectorTerms"])


@given(st.sampled_from(CASES), names, st.data())
def test_an_unknown_field_anywhere_in_a_rule_is_not_ignored(case: Any, name: str, data: st.DataObject) -> None:
    spec = _copy(case.pod_spec)
    objects = _objects({key: spec[key] for key in ("affinity", "tolerations") if key in spec})
    target = data.draw(st.sampled_from(objects))
    target[f"{name}Too"] = "x"
    assert isinstance(scheduling.rules(spec), NotUnderstood)


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(inner) for key, inner in value.items() if key != PREFERRED}
    return [_copy(inner) for inner in value] if isinstance(value, list) else value


def _objects(value: Any) -> list[Json]:
    """Return all objects inside a value, without the value itself."""
    inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    return [each for each in inner if isinstance(each, dict)] + [found for each in inner for found in _objects(each)]
