"""Baselines: the modules that a starting base is given."""

from dataclasses import replace

from controlplane.app.policy import Policy
from controlplane.app.ports import Cluster
from controlplane.app.roster import Roster
from controlplane.domain import contract
from controlplane.domain.base import additions
from controlplane.domain.base.state import Base
from controlplane.domain.base.vnode import Profile, labels, taints
from controlplane.domain.facts import BaselineQuery, TunnelKind
from controlplane.domain.identity import BaseId, node_name
from controlplane.domain.objects import ModuleDeployment, Node
from controlplane.domain.workloads.baselines import Baseline, Offer
from controlplane.domain.workloads.release import under_way


class Baselines:
    """Answers from the Deployments as they are; what they offer is computed once for each change of them."""

    def __init__(self, cluster: Cluster, roster: Roster, policy: Policy) -> None:
        self._cluster = cluster
        self._roster = roster
        self._policy = policy
        self._offered: dict[str, ModuleDeployment] = {}
        """Deployments without their versions: most changes are of the status only."""
        self._offer: Offer | None = None
        self._taints = taints(policy.env)
        cluster.deployments.subscribe(self._deployment_changed)

    @property
    def ready(self) -> bool:
        """The Deployments are known."""
        return self._cluster.deployments.synced

    def node(self, base: BaseId) -> Node | None:
        """Return the Node of a base."""
        return self._cluster.nodes.get(node_name(base, self._policy.env))

    def of(self, base: BaseId, query: BaselineQuery) -> Baseline:
        """Return what the scheduler would place on such a base."""
        if self._offer is None:
            self._offer = Offer(self._offered.values(), env=self._policy.env, peers_follow=self._policy.peers_follow)
        return self._offer.to(self._node(base, query))

    def _node(self, base: BaseId, query: BaselineQuery) -> Node:
        """Return its Node as it is, or as it will be."""
        known = self._roster.get(base)
        node = self.node(base) or self._last(base, known)
        host_name = node.labels.get(contract.BASE_HOST_NAME, "")
        default = Profile(base, self._policy.env, TunnelKind.HTTP, host_name=host_name)
        profile = replace(
            known.profile if known is not None else default,
            name=query.name,
            version=query.version,
            cluster_name=query.cluster_name,
        )
        foreign = tuple(taint for taint in node.taints if taint not in self._taints)
        return replace(
            node,
            labels={**node.labels, **labels(profile, self._policy.nodes.hostname)},
            taints=(*self._taints, *foreign),
        )

    def _last(self, base: BaseId, known: Base | None) -> Node:
        """Return a Node with what others had put on that of a base before it was removed."""
        node = Node(node_name(base, self._policy.env))
        lease = self._cluster.leases.get(f"{contract.LEASE_NAMESPACE}/{node.name}")
        text = lease.annotations.get(contract.ANNOTATION_NODE_ADDITIONS, "") if lease is not None else ""
        had, host_name = additions.recorded(text), known.profile.host_name if known is not None else ""
        return additions.onto(node, had) if had.belong_to(base, host_name) else node

    def _deployment_changed(self, key: str) -> None:
        deployment = self._cluster.deployments.get(key)
        before = self._offered.pop(key, None)
        if deployment is not None and not under_way(deployment.releasing):
            self._offered[key] = replace(deployment, resource_version="", releasing=None)
        if before != self._offered.get(key):
            self._offer = None
