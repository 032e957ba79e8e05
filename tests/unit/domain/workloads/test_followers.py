"""The number of bases of a peer Deployment, and the replicas that it therefore gets."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.contract import BASE_CLUSTER_NAME, STRATEGY
from controlplane.domain.objects import (
    Condition,
    ModuleDeployment,
    Node,
    NodeStatus,
    Pod,
    Requirement,
    SchedulingRules,
    Taint,
    Toleration,
)
from controlplane.domain.workloads.deployments import Demand, demand_of
from controlplane.domain.workloads.followers import Census, Count, Peak, has_pod, replicas_for

VIRTUAL = Taint("schedule.koupleless.io/virtual-node", "True", "NoExecute")
TOLERATIONS = (Toleration(VIRTUAL.key, "Equal", "True", "NoExecute"),)
RULES = SchedulingRules(tolerations=TOLERATIONS)
READY = NodeStatus(conditions=(Condition("Ready", "True"),))
SILENT = NodeStatus(conditions=(Condition("Ready", "False"),))
UNKNOWN = NodeStatus(conditions=(Condition("Ready", "Unknown"),))
NODE = Node("vnode.b1.dev", "uid", "1", {BASE_CLUSTER_NAME: "a"}, taints=(VIRTUAL,), status=READY)
DEPLOYMENT = ModuleDeployment(
    "default", "d", "uid-d", "1", {STRATEGY: "peer"}, 1, rules=RULES, selector=(Requirement("app", "In", ("d",)),)
)
DEMAND = Demand("", RULES)
POD = Pod("default", "d-1", "uid-p", "1", NODE.name, (), labels={"app": "d"})


def test_a_silent_base_is_present_but_not_ready() -> None:
    census = Census(DEMAND, [NODE])
    assert census.count() == Count(1, 1)
    for status in (SILENT, UNKNOWN, NodeStatus()):
        census.take(NODE.name, replace(NODE, status=status))
        assert census.count() == Count(0, 1)
    census.take(NODE.name, None)
    assert census.count() == Count(0, 0)


def test_a_cordoned_node_counts_where_a_pod_is() -> None:
    census = Census(DEMAND, [replace(NODE, unschedulable=True)])
    assert census.count() == Count(0, 0)
    assert census.count(census.closed) == Count(1, 1)
    assert has_pod(DEPLOYMENT, [POD])
    assert not has_pod(DEPLOYMENT, [replace(POD, namespace="other")])
    assert not has_pod(DEPLOYMENT, [replace(POD, labels={})])
    assert not has_pod(DEPLOYMENT, [replace(POD, deleting=True)])
    assert not has_pod(replace(DEPLOYMENT, selector=None), [POD])


def test_deployments_that_ask_the_same_share_a_census() -> None:
    other = replace(DEPLOYMENT, name="e", uid="uid-e", rules=replace(RULES, tolerations=(*TOLERATIONS,)))
    assert {demand_of(DEPLOYMENT): 1}[demand_of(other)] == 1
    selector = (Requirement("a", "In", ("b",)),)
    assert demand_of(replace(other, rules=replace(RULES, node_selector=selector))) != demand_of(other)


NODES = st.builds(
    lambda name, cluster, status, unschedulable, taints: Node(
        name, "u", "1", {BASE_CLUSTER_NAME: cluster}, taints=taints, unschedulable=unschedulable, status=status
    ),
    st.sampled_from(["n1", "n2", "n3", "n4"]),
    st.sampled_from(["a", "b"]),
    st.sampled_from([READY, SILENT, UNKNOWN]),
    st.booleans(),
    st.sampled_from([(), (VIRTUAL,), (Taint("k", "", "NoSchedule"),), (Taint("k", "", "NoExecute"),)]),
)


@given(st.lists(st.tuples(NODES, st.booleans())))
def test_a_census_kept_current_is_one_made_anew(changes: list[tuple[Node, bool]]) -> None:
    demand, nodes = Demand("a", RULES), dict[str, Node]()
    census = Census(demand, ())
    for node, gone in changes:
        nodes.pop(node.name, None)
        if not gone:
            nodes[node.name] = node
        census.take(node.name, nodes.get(node.name))
    anew = Census(demand, nodes.values())
    assert (census.count(), census.closed) == (anew.count(), anew.closed)
    assert census.count(census.closed) == anew.count(anew.closed)
    assert census.count().ready <= census.count().present


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9)), min_size=1), st.integers(0, 100))
def test_the_peak_is_the_greatest_of_the_window(steps: list[tuple[int, int]], later: int) -> None:
    window, peak, history, now = 60.0, Peak(60.0, 0), [(0.0, 0)], 0.0
    for gap, value in steps:
        now += gap
        peak.set(now, value)
        history.append((now, value))
    now += later
    ends = [at for at, _ in history[1:]] + [float("inf")]
    greatest = max(value for (_, value), end in zip(history, ends, strict=True) if end > now - window)
    assert peak.at(now) == greatest
    next_at = peak.next_at
    assert (next_at is None) == (greatest == history[-1][1])
    if next_at is not None:
        assert next_at > now
        assert peak.at(next_at - 0.5) == greatest
        assert peak.at(next_at) < greatest


@pytest.mark.parametrize(
    ("current", "ready", "peak", "may_lower", "expected"),
    [
        (1, 3, 3, False, 3),
        (3, 3, 3, True, 3),
        (5, 3, 4, True, 4),
        (5, 3, 4, False, 5),
        (4, 3, 4, True, 4),
        (3, 0, 0, False, 3),
        (3, 0, 0, True, 0),
        (0, 2, 2, False, 2),
        (None, 1, 1, True, 1),
        (None, 0, 0, True, 0),
        (None, 2, 2, False, 2),
        (2_147_483_647, 2, 2, True, 2),
        (-1, 0, 0, True, 0),
    ],
)
def test_replicas_rise_at_once_and_fall_when_they_may(
    current: int | None, ready: int, peak: int, may_lower: bool, expected: int
) -> None:
    assert replicas_for(current, ready=ready, peak=peak, may_lower=may_lower) == expected
