"""The embedded scheduler places Pods as kube-scheduler does."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.cluster import patches, reading
from controlplane.cluster.api import Json
from controlplane.domain.base.vnode import Profile, node_spec
from controlplane.domain.facts import TunnelKind
from controlplane.domain.identity import BaseId
from controlplane.embedded.controllers.mirror import PodView, pod_view
from controlplane.embedded.controllers.nodechoice import NodeChoice
from tests.placements import CASES, NODES, Case
from tests.unit.embedded.manifests import TAINTS, TOLERATIONS, pod_spec, vnode

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


class Places:
    """Nodes, and the Pods that were placed on them."""

    def __init__(self, *nodes: Json) -> None:
        self.nodes = {node["metadata"]["name"]: reading.node(node) for node in nodes}
        self.pods: dict[str, PodView] = {}

    def choice(self) -> NodeChoice:
        return NodeChoice(self.nodes.values(), self.pods.values())

    def place(self, pod: PodView) -> tuple[str, str]:
        return self.choice().place(pod)

    def put(self, pod: PodView) -> str:
        node, why_not = self.place(pod)
        if node:
            self.pods[pod.uid] = replace(pod, node=node)
        return node or why_not


def a_pod(name: str, spec: Json | None = None, *, owner: str = "", **labels: str) -> PodView:
    metadata: Json = {"namespace": "default", "name": name, "uid": name, "creationTimestamp": "", "labels": labels}
    if owner:
        metadata["ownerReferences"] = [{"kind": "Deployment", "name": owner, "uid": owner, "controller": True}]
    return pod_view({"metadata": metadata, "spec": pod_spec() if spec is None else spec})


def test_without_nodes_there_is_no_place() -> None:
    assert Places().place(a_pod("a")) == ("", "no nodes available to schedule pods")


def test_every_refusal_is_counted() -> None:
    unschedulable = vnode("cordoned")
    unschedulable["spec"]["unschedulable"] = True
    tainted = vnode("tainted")
    tainted["spec"]["taints"] = [*TAINTS, {"key": "gpu", "value": "yes", "effect": "NoSchedule"}]
    nodes = [unschedulable, tainted, vnode("away", ready=False), vnode("other", cluster="x"), vnode("full", pods=0)]
    assert Places(*nodes).place(a_pod("a")) == (
        "",
        "0/5 nodes are available: 1 Too many pods, 1 node(s) didn't match Pod's node affinity/selector, "
        "1 node(s) had untolerated taint {gpu: yes}, 1 node(s) were not ready, 1 node(s) were unschedulable.",
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_placement_agrees_with_the_table_of_the_real_scheduler(case: Case) -> None:
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    alone = {name: Places({**node, "status": ready}) for name, node in NODES.items()}
    assert {name for name, nodes in alone.items() if nodes.place(a_pod("a", case.pod_spec))[0]} == case.nodes


def test_bases_of_one_host_take_a_pod_each_of_those_that_stay_apart_by_hostname() -> None:
    profiles = [Profile(BaseId(base), "dev", TunnelKind.HTTP, host_name="shared") for base in ("b1", "b2")]
    specs = [node_spec(profile, unreachable="", fault="", now="t", controller_version="1") for profile in profiles]
    places = Places(*(patches.new_node(spec, "t") for spec in specs))
    selector = {"matchLabels": {"app": "biz1"}}
    apart = {"podAntiAffinity": {REQUIRED: [{"labelSelector": selector, "topologyKey": "kubernetes.io/hostname"}]}}
    pods = [a_pod(name, {**pod_spec(), "affinity": apart}, app="biz1") for name in ("p1", "p2")]
    assert {places.put(pod) for pod in pods} == {"vnode.b1.dev", "vnode.b2.dev"}


def test_a_rule_that_is_not_understood_places_nowhere() -> None:
    spec = {**pod_spec(), "tolerations": [*TOLERATIONS, {"key": "k", "operator": "Gt", "value": "5"}]}
    node, why_not = Places(vnode("n1")).place(a_pod("a", spec))
    assert node == ""
    assert (
        'tolerations[2].operator (Unsupported value: "Gt": supported values: "Equal", "Exists") is not understood'
        in why_not
    )


def test_pods_that_are_gated_or_of_another_scheduler_wait() -> None:
    assert not a_pod("a").waits
    assert a_pod("a", {**pod_spec(), "schedulingGates": [{"name": "quota"}]}).waits
    assert a_pod("a", {**pod_spec(), "schedulerName": "mine"}).waits


def test_node_selector_and_tolerations_choose_the_node() -> None:
    nodes = Places(vnode("n1"), vnode("n2", tier="a"))
    assert nodes.place(a_pod("a", {**pod_spec(), "nodeSelector": {"tier": "a"}}))[0] == "n2"
    assert nodes.place(a_pod("a", {**pod_spec(), "tolerations": [{"operator": "Exists"}]}))[0] == "n1"
    assert nodes.place(a_pod("a", {**pod_spec(), "tolerations": []}))[0] == ""


def test_replicas_spread_and_the_least_loaded_node_wins() -> None:
    nodes = Places(vnode("n1"), vnode("n2"), vnode("n3"))
    assert [nodes.put(a_pod(f"a{i}", owner="a")) for i in range(3)] == ["n1", "n2", "n3"]
    del nodes.pods["a1"]
    assert nodes.put(a_pod("b0", owner="b")) == "n2"
    assert nodes.put(a_pod("b1", owner="b")) == "n1"


def test_pods_of_one_deployment_keep_apart() -> None:
    nodes = Places(vnode("n1"), vnode("n2"))
    spec = pod_spec(apart_by_app="d")
    assert [nodes.put(a_pod(f"d{i}", spec, app="d")) for i in range(2)] == ["n1", "n2"]
    assert "2 node(s) didn't match pod anti-affinity rules" in nodes.put(a_pod("d2", spec, app="d"))
    assert nodes.put(a_pod("e", app="e")) == "n1"
    del nodes.pods["d1"]
    assert nodes.put(a_pod("d2", spec, app="d")) == "n2"


def of_revisions(**keys: list[str]) -> Json:
    spec = pod_spec()
    term = {"labelSelector": {"matchLabels": {"app": "d"}}, "topologyKey": "kubernetes.io/hostname", **keys}
    spec["affinity"]["podAntiAffinity"] = {REQUIRED: [term]}
    return spec


def test_pods_of_one_revision_keep_apart_and_those_of_another_may_come_beside_them() -> None:
    nodes = Places(vnode("n1"), vnode("n2"))
    spec = of_revisions(matchLabelKeys=["revision", "nobody-has-it"])
    assert [nodes.put(a_pod(f"d{i}", spec, app="d", revision="1")) for i in range(2)] == ["n1", "n2"]
    assert "2 node(s) didn't match pod anti-affinity rules" in nodes.put(a_pod("d2", spec, app="d", revision="1"))
    assert [nodes.put(a_pod(f"e{i}", spec, app="d", revision="2")) for i in range(2)] == ["n1", "n2"]


def test_pods_keep_apart_from_other_tenants() -> None:
    nodes = Places(vnode("n1"), vnode("n2"))
    spec = of_revisions(mismatchLabelKeys=["tenant"])
    assert nodes.put(a_pod("a", spec, app="d", tenant="a")) == "n1"
    assert nodes.put(a_pod("b", spec, app="d", tenant="b")) == "n2"
    assert "anti-affinity" in nodes.put(a_pod("c", spec, app="d", tenant="c"))


def test_anti_affinity_applies_to_later_pods_too() -> None:
    nodes = Places(vnode("n1"))
    nodes.put(a_pod("loner", pod_spec(apart_by_app="d")))
    assert "existing pods anti-affinity" in nodes.put(a_pod("d0", app="d"))
    del nodes.pods["loner"]
    assert nodes.put(a_pod("d0", app="d")) == "n1"


def test_pods_with_affinity_start_anywhere_and_then_stay_together() -> None:
    spec = pod_spec()
    term = {"labelSelector": {"matchLabels": {"app": "d"}}, "topologyKey": "zone"}
    spec["affinity"]["podAffinity"] = {REQUIRED: [term]}
    nodes = Places(vnode("n1"), vnode("n2", zone="b"), vnode("n3", zone="c"), vnode("n4", zone="b"))
    assert [nodes.put(a_pod(f"d{i}", spec, owner="d", app="d")) for i in range(3)] == ["n2", "n4", "n2"]
    assert "didn't match pod affinity rules" in Places(vnode("n1", zone="a")).put(a_pod("x", spec, app="other"))


@pytest.mark.parametrize("selector", [None, "text", {"matchExpressions": ["text"]}, {"matchLabels": {"app": 1}}])
def test_a_term_whose_selector_cannot_be_read_applies_to_no_pod(selector: object) -> None:
    spec = pod_spec()
    term = {"labelSelector": selector, "topologyKey": "kubernetes.io/hostname"}
    spec["affinity"]["podAntiAffinity"] = {REQUIRED: [term]}
    nodes = Places(vnode("n1"))
    assert [nodes.put(a_pod(f"d{i}", spec, app="d")) for i in range(2)] == ["n1", "n1"]


def test_a_node_that_comes_back_counts_its_pods_again() -> None:
    nodes = Places(vnode("n1"))
    spec = pod_spec(apart_by_app="d")
    nodes.put(a_pod("d0", spec, app="d"))
    gone = nodes.nodes.pop("n1")
    assert nodes.put(a_pod("d1", spec, app="d")) == "no nodes available to schedule pods"
    nodes.nodes["n1"] = gone
    assert "anti-affinity" in nodes.put(a_pod("d1", spec, app="d"))


crowds = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.booleans()), max_size=12)


@given(st.integers(0, 4), crowds, crowds)
def test_one_choice_for_many_pods_equals_a_new_choice_for_each(
    count: int, there: list[tuple[int, int, bool]], coming: list[tuple[int, int, bool]]
) -> None:
    def made(name: str, kind: tuple[int, int, bool]) -> PodView:
        group, app, loner = kind
        return a_pod(name, pod_spec(apart_by_app=f"app{group}" if loner else None), owner=f"o{app}", app=f"app{app}")

    nodes = Places(*(vnode(f"n{number}", pods=4) for number in range(count)))
    for number, kind in enumerate(there):
        # Some are on Nodes that do not exist.
        nodes.pods[f"p{number}"] = replace(made(f"p{number}", kind), node=f"n{number % 5}")
    choice = nodes.choice()
    for number, kind in enumerate(coming):
        pod = made(f"q{number}", kind)
        node, why_not = choice.place(pod)
        assert (node, why_not) == nodes.place(pod)
        if node:
            choice.add(pod, node)
            nodes.put(pod)


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
    node = reading.node({"metadata": metadata, "spec": node_spec, "status": status})
    assert NodeChoice([node], [pod]).place(pod)[0] in ("", "n")
