"""Module Deployments: which bases they ask for, and for which of them nothing is done, and why.

As in the Go Module Controller V2 the label of the environment puts a Deployment into baselines, and the strategy "peer"
alone has its replicas follow the bases. One of that strategy without the environment's label is left to the one
environment in which its Pods may run: its replicas are the number of all its bases, and a control plane knows those of
its own environment only.
"""

from dataclasses import dataclass, replace
from enum import Enum

from controlplane.domain.contract import BASE_CLUSTER_NAME, ENV, TAINT_NODE_ENV
from controlplane.domain.objects import ModuleDeployment, Node, NotUnderstood, Requirement, SchedulingRules, Taint
from controlplane.domain.remarks import Remark
from controlplane.domain.workloads.placement import admits, keeps, matches, untolerated

OF_READINESS = frozenset({"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"})
"""Taints that repeat what the Ready condition says, some moments later."""
_ANY = "*"
"""Stands for an environment that no rule names; no environment is called so."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What Deployments ask of a Node. An empty cluster_name asks nothing."""

    cluster_name: str
    rules: SchedulingRules


class Acceptance(Enum):
    """Whether a Node takes Pods. CLOSED is one that keeps those that it has, but gets no new ones (cordoned)."""

    OPEN = "open"
    CLOSED = "closed"
    NONE = "none"


def acceptance(demand: Demand, node: Node) -> Acceptance:
    """Judge one Node, whether it is ready or not."""
    if demand.cluster_name and node.labels.get(BASE_CLUSTER_NAME) != demand.cluster_name:
        return Acceptance.NONE
    if any(taint.key in OF_READINESS for taint in node.taints):
        node = replace(node, taints=tuple(taint for taint in node.taints if taint.key not in OF_READINESS))
    if admits(demand.rules, node):
        return Acceptance.OPEN
    return Acceptance.CLOSED if keeps(demand.rules, node) else Acceptance.NONE


def demand_of(deployment: ModuleDeployment) -> Demand | None:
    """Return what a Deployment asks of a Node; None if that is not understood."""
    if isinstance(deployment.rules, NotUnderstood):
        return None
    return Demand(deployment.labels.get(BASE_CLUSTER_NAME, ""), deployment.rules)


def baseline_demand(deployment: ModuleDeployment, env: str, *, peers_follow: bool) -> Demand | None:
    """Return which starting bases get the modules of a Deployment; None if none does.

    One that is scaled to 0 gives none, but for a peer one if peers_follow: it will have a replica for the base.
    """
    if deployment.labels.get(ENV) != env or deployment.beyond_node:
        return None
    if deployment.replicas == 0 and not (peers_follow and deployment.is_peer):
        return None
    return demand_of(deployment)


def peer_demand(deployment: ModuleDeployment, env: str) -> Demand | None:
    """Return which bases of an environment the replicas of a Deployment follow; None if they are left as they are."""
    demand = demand_of(deployment) if deployment.is_peer else None
    if demand is None or deployment.labels.get(ENV, env) != env:
        return None
    return demand if ENV in deployment.labels or _environments(demand.rules) == frozenset({env}) else None


def ignored(deployment: ModuleDeployment, env: str, *, peers_follow: bool) -> Remark | None:
    """Say why nothing is done for a Deployment that may be meant for an environment; None where that is not so."""
    label, follows = deployment.labels.get(ENV), peers_follow and deployment.is_peer
    if label != env and (label is not None or not follows):
        return None
    if isinstance(deployment.rules, NotUnderstood):
        left = ["no baseline has its modules"] if label is not None else []
        left += ["its replicas are left as they are"] if follows else []
        message = f"{deployment.rules.what} is not understood: {', and '.join(left)}"
        return Remark(True, "DeploymentNotUnderstood", message)
    if label is not None:
        return None
    environments = _environments(deployment.rules)
    if environments == frozenset({env}) or (environments and env not in environments):
        return None
    run = "any environment" if environments is None else " and ".join(sorted(environments)) or "no environment"
    why = f"it has no label {ENV} that says whose bases count, and its Pods may run in {run}"
    return Remark(True, "PeerDeploymentIgnored", f"its replicas are left as they are: {why}")


def _environments(rules: SchedulingRules) -> frozenset[str] | None:
    """Return in which environments Pods may run; None for any, whatever it is called."""
    if _may_run(rules, _ANY):
        return None
    named = {toleration.value for toleration in rules.tolerations if toleration.key == TAINT_NODE_ENV}
    terms = (rules.node_selector, *(term.labels for term in rules.required_affinity or ()))
    named |= {value for term in terms for requirement in _about_env(term) for value in requirement.values}
    return frozenset(env for env in named if env and _may_run(rules, env))


def _may_run(rules: SchedulingRules, env: str) -> bool:
    """Return whether the rules allow an environment; what else they ask is not looked at."""
    if untolerated(rules, (Taint(TAINT_NODE_ENV, env, "NoExecute"),)) is not None:
        return False
    labels, affinity = {ENV: env}, rules.required_affinity
    return matches(_about_env(rules.node_selector), labels) and (
        affinity is None or any(matches(_about_env(term.labels), labels) for term in affinity)
    )


def _about_env(requirements: tuple[Requirement, ...]) -> tuple[Requirement, ...]:
    return tuple(requirement for requirement in requirements if requirement.key == ENV)
