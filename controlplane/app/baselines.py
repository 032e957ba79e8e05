"""Baselines: the modules that a starting base is given, and what became of them."""

from __future__ import annotations

from controlplane.app.base import Base
from controlplane.app.ports import Cluster
from controlplane.domain import contract
from controlplane.domain.facts import (
    Address,
    BaselineQuery,
    BatchInstalled,
    ClientCode,
    Reply,
    ReplyCode,
    TunnelKind,
)
from controlplane.domain.identity import BaseId, node_name
from controlplane.domain.objects import Container, Taint
from controlplane.domain.placement import baseline
from controlplane.domain.vnode import Profile, labels


def baseline_of(
    base: BaseId, query: BaselineQuery, *, known: Base | None, cluster: Cluster, env: str, peers_follow: bool
) -> tuple[Container, ...]:
    """Return the modules that the scheduler would place on such a base; known is the base if it was heard before."""
    profile = Profile(
        base=base,
        env=env,
        name=query.name,
        version=query.version,
        cluster_name=query.cluster_name,
        host_name=known.profile.host_name if known else "",
        address=known.profile.address if known else Address("", 0),
        tunnel=known.profile.tunnel if known else TunnelKind.HTTP,
    )
    return baseline(
        cluster.deployments.all(),
        env=env,
        name=node_name(base, env),
        labels=labels(profile),
        taints=(
            Taint(contract.TAINT_VIRTUAL_NODE, "True", "NoExecute"),
            Taint(contract.TAINT_NODE_ENV, env, "NoExecute"),
        ),
        peers_follow=peers_follow,
    )


def failures(batch: BatchInstalled) -> list[tuple[str, Reply]]:
    """Return URL and reply of each module that is not there now; an empty URL stands for the batch as a whole."""
    if not batch.items and batch.reply.code is not ReplyCode.SUCCESS:
        return [("", batch.reply)]
    return [(url, reply) for url, reply in batch.items if not _installed(reply)]


def _installed(reply: Reply) -> bool:
    """A module that was there before counts as installed."""
    return reply.code is ReplyCode.SUCCESS or reply.client_code in (ClientCode.SUCCESS, ClientCode.REPEAT_BIZ)
