"""Which Deployments are for the bases of an environment, by their labels and by what their Pods tolerate."""

from dataclasses import replace

import pytest

from controlplane.domain.contract import BASE_CLUSTER_NAME, COMPONENT, ENV, REPLICAS_CONTROL, STRATEGY
from controlplane.domain.objects import (
    ModuleDeployment,
    Node,
    NodeTerm,
    NotUnderstood,
    Requirement,
    SchedulingRules,
    Taint,
    Toleration,
)
from controlplane.domain.workloads.deployments import (
    Acceptance,
    Demand,
    acceptance,
    baseline_demand,
    ignored,
    peer_demand,
)
from controlplane.domain.workloads.placement import UNSCHEDULABLE

VIRTUAL = Taint("schedule.koupleless.io/virtual-node", "True", "NoExecute")
NODE_ENV = "schedule.koupleless.io/node-env"
TOLERATED = Toleration(VIRTUAL.key, "Equal", "True", "NoExecute")
RULES = SchedulingRules(tolerations=(TOLERATED, Toleration(NODE_ENV, "Equal", "dev", "NoExecute")))
PLACED = SchedulingRules(tolerations=(TOLERATED,))
NODE = Node("vnode.b1.dev", "uid", "1", {BASE_CLUSTER_NAME: "a"}, taints=(VIRTUAL,))


def deployment(rules: SchedulingRules | NotUnderstood, **labels: str) -> ModuleDeployment:
    names = {"component": COMPONENT, "env": ENV, "strategy": STRATEGY, "control": REPLICAS_CONTROL}
    given = {names[name]: value for name, value in labels.items()}
    return ModuleDeployment("default", "d", "uid-d", "1", given, 1, rules=rules)


@pytest.mark.parametrize(
    ("labels", "follows", "in_baselines"),
    [
        # The four combinations that the Go Module Controller V2 acts on.
        ({"component": "module-deployment", "env": "dev", "strategy": "peer"}, True, True),
        ({"env": "dev", "strategy": "peer"}, True, True),
        ({"strategy": "peer"}, True, False),
        ({"env": "dev"}, False, True),
        # And what it leaves alone.
        ({}, False, False),
        ({"component": "module-deployment"}, False, False),
        ({"env": "prod", "strategy": "peer"}, False, False),
        ({"env": "dev", "strategy": "scalable"}, False, True),
        ({"env": "dev", "strategy": "peer", "control": "true"}, False, True),
        ({"env": "dev", "strategy": "peer", "control": "false"}, True, True),
    ],
)
def test_labels_decide(labels: dict[str, str], follows: bool, in_baselines: bool) -> None:
    found = deployment(RULES, **labels)
    assert (peer_demand(found, "dev") is not None) is follows
    assert (baseline_demand(found, "dev", peers_follow=True) is not None) is in_baselines
    assert ignored(found, "dev", peers_follow=True) is None


def env_rules(*tolerations: Toleration, **selected: str) -> SchedulingRules:
    selector = tuple(Requirement(key, "In", (value,)) for key, value in selected.items())
    return SchedulingRules(node_selector=selector, tolerations=(TOLERATED, *tolerations))


EXISTS = Toleration(NODE_ENV, "Exists", "", "NoExecute")
DEV, PROD = (Toleration(NODE_ENV, "Equal", env, "NoExecute") for env in ("dev", "prod"))


def chosen(operator: str, *values: str) -> SchedulingRules:
    term = NodeTerm((Requirement(ENV, operator, values), Requirement("zone", "Exists")))
    return replace(env_rules(EXISTS), required_affinity=(term,))


@pytest.mark.parametrize(
    ("rules", "follows", "why"),
    [
        (env_rules(DEV), True, ""),
        (env_rules(DEV, replace(DEV, effect="")), True, ""),
        (env_rules(PROD), False, ""),
        (env_rules(DEV, PROD), False, "dev and prod"),
        (env_rules(EXISTS), False, "any environment"),
        (env_rules(Toleration("", "Exists")), False, "any environment"),
        (env_rules(), False, "no environment"),
        (env_rules(replace(DEV, effect="NoSchedule")), False, "no environment"),
        (env_rules(EXISTS, **{ENV: "dev"}), True, ""),
        (env_rules(EXISTS, **{ENV: "prod"}), False, ""),
        (env_rules(DEV, PROD, **{ENV: "dev"}), True, ""),
        (env_rules(PROD, **{ENV: "dev"}), False, "no environment"),
        (chosen("In", "dev"), True, ""),
        (chosen("In", "dev", "prod"), False, "dev and prod"),
        (chosen("NotIn", "prod"), False, "any environment"),
        (replace(env_rules(DEV), required_affinity=()), False, "no environment"),
    ],
)
def test_without_the_label_a_peer_is_for_the_one_environment_in_which_it_may_run(
    rules: SchedulingRules, follows: bool, why: str
) -> None:
    found = deployment(rules, strategy="peer")
    assert (peer_demand(found, "dev") is not None) is follows
    remark = ignored(found, "dev", peers_follow=True)
    assert (remark.reason if remark else "") == ("PeerDeploymentIgnored" if why else "")
    assert why in (remark.message if remark else "")
    assert ignored(found, "dev", peers_follow=False) is None
    # With the label there is nothing to find out.
    assert peer_demand(deployment(rules, strategy="peer", env="dev"), "dev") == Demand("", rules)


def test_rules_not_understood_are_neither_followed_nor_given() -> None:
    rules = NotUnderstood("tolerations[0].operator 'Gt'")
    both = deployment(rules, env="dev", strategy="peer")
    assert peer_demand(both, "dev") is None
    assert baseline_demand(both, "dev", peers_follow=True) is None
    remark = ignored(both, "dev", peers_follow=True)
    assert remark is not None
    assert remark.reason == "DeploymentNotUnderstood"
    assert "operator 'Gt' is not understood: no baseline has its modules, and its replicas are left" in remark.message
    # The message leaves out what does not concern the Deployment.
    plain = ignored(deployment(rules, env="dev"), "dev", peers_follow=True)
    assert plain is not None
    assert "replicas" not in plain.message
    assert ignored(both, "prod", peers_follow=True) is None
    alone = deployment(rules, strategy="peer")
    remark = ignored(alone, "dev", peers_follow=True)
    assert remark is not None
    assert "baseline" not in remark.message
    assert ignored(alone, "dev", peers_follow=False) is None


def test_a_deployment_at_0_is_given_only_if_its_replicas_follow() -> None:
    idle = replace(deployment(RULES, env="dev"), replicas=0)
    assert baseline_demand(idle, "dev", peers_follow=True) is None
    peer = replace(deployment(RULES, env="dev", strategy="peer"), replicas=0)
    assert baseline_demand(peer, "dev", peers_follow=False) is None
    assert baseline_demand(peer, "dev", peers_follow=True) is not None
    assert baseline_demand(replace(idle, replicas=None), "dev", peers_follow=False) is not None


def test_a_deployment_that_looks_beyond_the_node_is_in_no_baseline_but_counted() -> None:
    gated = replace(deployment(RULES, env="dev", strategy="peer"), beyond_node="schedulingGates")
    assert baseline_demand(gated, "dev", peers_follow=True) is None
    assert peer_demand(gated, "dev") is not None


def with_taint(key: str, effect: str, value: str = "") -> Node:
    return replace(NODE, taints=(VIRTUAL, Taint(key, value, effect)))


@pytest.mark.parametrize(
    ("demand", "node", "expected"),
    [
        (Demand("", PLACED), NODE, Acceptance.OPEN),
        (Demand("a", PLACED), NODE, Acceptance.OPEN),
        (Demand("b", PLACED), NODE, Acceptance.NONE),
        (Demand("a", PLACED), replace(NODE, labels={}), Acceptance.NONE),
        (Demand("", SchedulingRules()), NODE, Acceptance.NONE),
        (Demand("", replace(PLACED, node_selector=(Requirement("zone", "In", ("1",)),))), NODE, Acceptance.NONE),
        (Demand("", PLACED), replace(NODE, unschedulable=True), Acceptance.CLOSED),
        (Demand("", PLACED), with_taint("mine", "NoSchedule"), Acceptance.CLOSED),
        (Demand("", PLACED), with_taint("mine", "PreferNoSchedule"), Acceptance.OPEN),
        (Demand("", PLACED), with_taint("mine", "NoExecute"), Acceptance.NONE),
        (Demand("", PLACED), with_taint("node.kubernetes.io/not-ready", "NoSchedule"), Acceptance.OPEN),
        (Demand("", PLACED), with_taint("node.kubernetes.io/unreachable", "NoExecute"), Acceptance.OPEN),
        (
            Demand("", replace(PLACED, tolerations=(TOLERATED, Toleration(UNSCHEDULABLE.key, "Exists")))),
            replace(NODE, unschedulable=True),
            Acceptance.OPEN,
        ),
    ],
)
def test_rules_and_taints_decide_the_place(demand: Demand, node: Node, expected: Acceptance) -> None:
    assert acceptance(demand, node) is expected
