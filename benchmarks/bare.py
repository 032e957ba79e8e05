"""A bare client: the least that any program has to ask of the API server for the same work, on the same stage.

It has as many requests under way as the control plane, is the same user, and knows beforehand what to write. It watches
nothing, and is done with the last answer. What users do, creating and deleting Pods, is done for both in the same way.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from statistics import median_low
from typing import TypeVar

from benchmarks.api import Json
from benchmarks.figures import Figure
from benchmarks.modules import Module, bound_pod, each
from benchmarks.progress import say
from benchmarks.stage import NODES, PODS, Line
from controlplane.cluster import api, patches
from controlplane.cluster.api import PatchType
from controlplane.domain import contract
from controlplane.domain.base.vnode import Profile, node_spec
from controlplane.domain.facts import Address, TunnelKind
from controlplane.domain.identity import BaseId
from controlplane.domain.objects import Lease
from controlplane.kube.client import KubeApiServer
from controlplane.kube.credentials import Credentials
from controlplane.kube.gate import Gate

T = TypeVar("T")

NODE = "bare"
ENV = "bare"
"""An environment whose Nodes and Leases no control plane follows."""
NOW = "2026-01-01T00:00:00Z"
_UNLIMITED = 10**6
"""Requests per second."""


@dataclass(frozen=True)
class BareClient:
    """Its calls return the seconds that the work took, and raise Failed and ClusterError."""

    line: Line
    server: KubeApiServer

    async def onboard(self) -> float:
        """Create the Lease and the Node of as many bases, then remove them, which is not counted."""
        objects = [_vnode(f"base-{number}") for number in range(self.line.stage.bases)]
        say(f"a bare client creates {len(objects)} Leases and Nodes")

        async def create(pair: tuple[Json, Json]) -> None:
            lease, node = pair
            await self.server.create(api.LEASES, lease, contract.LEASE_NAMESPACE)
            await self.server.create(api.NODES, node)

        took = await _timed(objects, create)

        async def remove(pair: tuple[Json, Json]) -> None:
            lease, node = pair
            await self.server.delete(api.NODES, node["metadata"]["name"])
            await self.server.delete(api.LEASES, lease["metadata"]["name"], namespace=contract.LEASE_NAMESPACE)

        await each(objects, remove)
        return took

    async def roll_out(self, work: Sequence[Module]) -> float:
        """Create as many Pods, on a Node that nobody serves, and patch the status of each once; they stay."""
        say(f"a bare client creates {len(work)} Pods and patches the status of each")
        await self.line.kube.post(NODES, {"metadata": {"name": NODE}})

        async def once(module: Module) -> None:
            pod = bound_pod(module)
            pod["metadata"]["name"] = f"bare-{module.pod}"
            pod["spec"]["nodeName"] = NODE
            await self.line.kube.post(PODS, pod)
            await self.server.patch(
                api.PODS,
                f"bare-{module.pod}",
                _running(module),
                namespace="default",
                subresource="status",
                patch_type=PatchType.STRATEGIC,
            )

        return await _timed(work, once)

    async def delete(self, work: Sequence[Module]) -> float:
        """Delete the Pods of roll_out as a user does, and remove each as the agent of its Node does: grace 0."""
        say(f"a bare client deletes {len(work)} Pods")

        async def once(module: Module) -> None:
            await self.line.kube.call("DELETE", f"{PODS}/bare-{module.pod}")
            await self.server.delete(api.PODS, f"bare-{module.pod}", namespace="default", grace_seconds=0)

        took = await _timed(work, once)
        await self.line.kube.call("DELETE", f"{NODES}/{NODE}")
        return took


@asynccontextmanager
async def bare_client(line: Line) -> AsyncIterator[BareClient]:
    """Connect as the control plane's user, without its limit of requests a second; raises CannotConnect."""
    gate = Gate(rate=_UNLIMITED, burst=_UNLIMITED, concurrent=Gate.concurrent)
    server = KubeApiServer(Credentials(str(line.stage.server.own_kubeconfig)), gate)
    try:
        yield BareClient(line, server)
    finally:
        await server.close()


def multiple(what: str, ours: Sequence[float], bare: Sequence[float], target: float) -> Figure:
    """Return ours as a multiple of a bare client's seconds, which were measured by turns: the median of all rounds."""
    multiples = [one / other for one, other in zip(ours, bare, strict=True)]
    of_bare, of_ours = (", ".join(f"{each:.2f}" for each in times) for times in (bare, ours))
    note = f"a bare client {of_bare} s, ours {of_ours} s"
    return Figure(f"{what}, multiple of a bare client", median_low(multiples), "1", target, note)


async def _timed(work: Sequence[T], act: Callable[[T], Awaitable[object]]) -> float:
    began = time.monotonic()
    await each(work, act)
    return time.monotonic() - began


def _vnode(base: str) -> tuple[Json, Json]:
    """Return Lease and Node as the control plane creates them."""
    profile = Profile(
        BaseId(base),
        ENV,
        TunnelKind.HTTP,
        name="simulated-base",
        version="1.0.0",
        cluster_name="default",
        host_name=base,
        address=Address("127.0.0.1", 1238),
        metaspace=268_435_456,
        base_used=65_585_152,
        java_version="1.8.0_402",
    )
    node = node_spec(profile, unreachable="", fault="", now=NOW, controller_version="0.1.0")
    lease = Lease(
        contract.LEASE_NAMESPACE,
        node.name,
        "",
        holder="bare",
        duration_seconds=40,
        renew_time="2026-01-01T00:00:00.000000Z",
        acquire_time="2026-01-01T00:00:00.000000Z",
        transitions=1,
        labels={contract.COMPONENT: contract.COMPONENT_VNODE_LEASE, contract.ENV: ENV},
    )
    return patches.new_lease(lease), patches.new_node(node, NOW)


def _running(module: Module) -> Json:
    conditions = [{"type": kind, "status": "True"} for kind in ("Initialized", "ContainersReady", "Ready")]
    container = {
        "name": module.name,
        "ready": True,
        "image": "",
        "imageID": "",
        "restartCount": 0,
        "state": {"running": {"startedAt": NOW}},
    }
    return {"status": {"phase": "Running", "conditions": conditions, "containerStatuses": [container]}}
