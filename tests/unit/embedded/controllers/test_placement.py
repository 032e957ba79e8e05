from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.cluster.api import Json
from controlplane.embedded.api.views import PodView, node_view, pod_view
from controlplane.embedded.controllers.placement import Snapshot
from tests.placements import CASES, NODES, Case
from tests.unit.embedded.manifests import TAINTS, TOLERATIONS, pod_spec, vnode

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def snapshot(*nodes: Json) -> Snapshot:
    made = Snapshot()
    for node in nodes:
        made.set_node(node_view(node))
    return made


def a_pod(name: str, spec: Json | None = None, *, owner: str = "", **labels: str) -> PodView:
    metadata: Json = {"namespace": "default", "name": name, "uid": name, "creationTimestamp": "", "labels": labels}
    if owner:
        metadata["ownerReferences"] = [{"uid": owner, "controller": True}]
    return pod_view({"metadata": metadata, "spec": pod_spec() if spec is None else spec})


def put(snapshot: Snapshot, pod: PodView) -> str:
    node, why_not = snapshot.place(pod)
    if node:
        snapshot.add(pod, node)
    return node or why_not


def test_without_nodes_there_is_no_place() -> None:
    assert Snapshot().place(a_pod("a")) == ("", "no nodes available to schedule pods")


def test_every_refusal_is_counted() -> None:
    unschedulable = vnode("cordoned")
    unschedulable["spec"]["unschedulable"] = True
    tainted = vnode("tainted")
    tainted["spec"]["taints"] = [*TAINTS, {"key": "gpu", "value": "yes", "effect": "NoSchedule"}]
    nodes = [unschedulable, tainted, vnode("away", ready=False), vnode("other", cluster="x"), vnode("full", pods=0)]
    assert snapshot(*nodes).place(a_pod("a")) == (
        "",
        "0/5 nodes are available: 1 Too many pods, 1 node(s) didn't match Pod's node affinity/selector, "
        "1 node(s) had untolerated taint {gpu: yes}, 1 node(s) were not ready, 1 node(s) were unschedulable.",
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_table_that_the_real_scheduler_agrees_with(case: Case) -> None:
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    alone = {name: snapshot({**node, "status": ready}) for name, node in NODES.items()}
    assert {name for name, nodes in alone.items() if nodes.place(a_pod("a", case.pod_spec))[0]} == case.nodes


def test_a_rule_that_is_not_understood_places_nowhere() -> None:
    spec = {**pod_spec(), "tolerations": [*TOLERATIONS, {"key": "k", "operator": "Gt", "value": "5"}]}
    node, why_not = snapshot(vnode("n1")).place(a_pod("a", spec))
    assert node == ""
    assert "tolerations[2].operator 'Gt' is not understood" in why_not


def test_pods_that_are_gated_or_somebody_elses_wait() -> None:
    assert not a_pod("a").waits
    assert a_pod("a", {**pod_spec(), "schedulingGates": [{"name": "quota"}]}).waits
    assert a_pod("a", {**pod_spec(), "schedulerName": "mine"}).waits


def test_node_selector_and_tolerations() -> None:
    nodes = snapshot(vnode("n1"), vnode("n2", tier="a"))
    assert nodes.place(a_pod("a", {**pod_spec(), "nodeSelector": {"tier": "a"}}))[0] == "n2"
    assert nodes.place(a_pod("a", {**pod_spec(), "tolerations": [{"operator": "Exists"}]}))[0] == "n1"
    assert nodes.place(a_pod("a", {**pod_spec(), "tolerations": []}))[0] == ""


def test_replicas_spread_and_the_least_loaded_node_wins() -> None:
    nodes = snapshot(vnode("n1"), vnode("n2"), vnode("n3"))
    assert [put(nodes, a_pod(f"a{i}", owner="a")) for i in range(3)] == ["n1", "n2", "n3"]
    nodes.remove("a1", "n2")
    assert put(nodes, a_pod("b0", owner="b")) == "n2"
    assert put(nodes, a_pod("b1", owner="b")) == "n1"


def test_pods_of_one_deployment_keep_apart() -> None:
    nodes = snapshot(vnode("n1"), vnode("n2"))
    spec = pod_spec(apart_by_app="d")
    assert [put(nodes, a_pod(f"d{i}", spec, app="d")) for i in range(2)] == ["n1", "n2"]
    assert "2 node(s) didn't match pod anti-affinity rules" in put(nodes, a_pod("d2", spec, app="d"))
    assert put(nodes, a_pod("e", app="e")) == "n1"
    nodes.remove("d1", "n2")
    assert put(nodes, a_pod("d2", spec, app="d")) == "n2"


def test_anti_affinity_binds_those_who_come_later_too() -> None:
    nodes = snapshot(vnode("n1"))
    put(nodes, a_pod("loner", pod_spec(apart_by_app="d")))
    assert "existing pods anti-affinity" in put(nodes, a_pod("d0", app="d"))
    nodes.remove("loner", "n1")
    assert put(nodes, a_pod("d0", app="d")) == "n1"


def test_pods_that_want_company_start_anywhere_and_then_stay_together() -> None:
    spec = pod_spec()
    term = {"labelSelector": {"matchLabels": {"app": "d"}}, "topologyKey": "zone"}
    spec["affinity"]["podAffinity"] = {REQUIRED: [term]}
    nodes = snapshot(vnode("n1"), vnode("n2", zone="b"), vnode("n3", zone="c"), vnode("n4", zone="b"))
    assert [put(nodes, a_pod(f"d{i}", spec, owner="d", app="d")) for i in range(3)] == ["n2", "n4", "n2"]
    assert "didn't match pod affinity rules" in put(snapshot(vnode("n1", zone="a")), a_pod("x", spec, app="other"))


def test_a_node_that_comes_back_counts_its_pods_again() -> None:
    nodes = snapshot(vnode("n1"))
    spec = pod_spec(apart_by_app="d")
    put(nodes, a_pod("d0", spec, app="d"))
    nodes.remove_node("n1")
    nodes.set_node(node_view(vnode("n1")))
    assert "anti-affinity" in put(nodes, a_pod("d1", spec, app="d"))


steps = st.lists(st.tuples(st.sampled_from(["put", "take", "node", "drop"]), st.integers(0, 7)), max_size=40)


@given(steps)
def test_incremental_counts_equal_those_made_afresh(moves: list[tuple[str, int]]) -> None:
    nodes = Snapshot()
    placed: dict[str, tuple[PodView, str]] = {}
    there: set[str] = set()
    for move, number in moves:
        pod = a_pod(f"p{number}", pod_spec(apart_by_app=f"app{number % 2}"), owner="o", app=f"app{number % 3}")
        name = f"n{number % 4}"
        if move == "node":
            nodes.set_node(node_view(vnode(name)))
            there.add(name)
        elif move == "drop":
            nodes.remove_node(name)
            there.discard(name)
        elif move == "take" and pod.uid in placed:
            nodes.remove(pod.uid, placed.pop(pod.uid)[1])
        elif move == "put" and pod.uid not in placed:
            node, _ = nodes.place(pod)
            if node:
                nodes.add(pod, node)
                placed[pod.uid] = (pod, node)
    fresh = snapshot(*(vnode(name) for name in sorted(there)))
    for pod, node in placed.values():
        fresh.add(pod, node)
    probes = [a_pod(f"probe{i}", pod_spec(apart_by_app=f"app{i % 2}"), owner="o", app=f"app{i}") for i in range(3)]
    assert [nodes.place(p) for p in probes] == [fresh.place(p) for p in probes]


hostile: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "affinity",
                    "nodeAffinity",
                    "podAntiAffinity",
                    "nodeSelectorTerms",
                    "matchExpressions",
                    "key",
                    "tolerations",
                    "nodeSelector",
                    "requiredDuringSchedulingIgnoredDuringExecution",
                    "labelSelector",
                    "topologyKey",
                    "values",
                    "conditions",
                    "capacity",
                    "allocatable",
                    "pods",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(hostile, hostile, hostile)
def test_reading_views_never_raises(spec: Any, status: Any, node_spec: Any) -> None:
    metadata = {"namespace": "d", "name": "n", "uid": "u", "creationTimestamp": ""}
    pod = pod_view({"metadata": metadata, "spec": spec, "status": status})
    node = node_view({"metadata": metadata, "spec": node_spec, "status": status})
    made = Snapshot()
    made.set_node(node)
    assert made.place(pod)[0] in ("", "n")
