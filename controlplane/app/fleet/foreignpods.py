"""Pods on VNodes that are not modules: left alone, and reported once.

A DaemonSet that tolerates everything puts a Pod on every VNode, where nothing can run it. Such Pods are no part of what
is watched: a watch of all Pods of the cluster would cost more than they are worth. Instead VNodes are looked at one by
one, new ones first, each at most once in ``EVERY`` and all together at most once a second: one short list of one Node,
which the API server answers from an index.
"""

import asyncio
import heapq
from dataclasses import dataclass, field
from typing import NoReturn

import structlog

from controlplane.app.events import Recorder
from controlplane.app.metrics import FOREIGN_PODS
from controlplane.app.ports import Clock, Cluster, ClusterError
from controlplane.app.roster import Roster
from controlplane.domain.base.state import Base, Phase
from controlplane.domain.contract import COMPONENT, COMPONENT_MODULE, COMPONENT_VNODE
from controlplane.domain.identity import VNodeName
from controlplane.domain.remarks import Remark

log = structlog.get_logger(__name__)

EVERY = 600.0
"""Seconds between two looks at one VNode."""

APART = 1.0
"""Seconds between two looks at any."""

AT_ONCE = 10
"""VNodes that are chosen at a time, as choosing means to go through all of them."""

SETTLED = 10.0
"""Seconds that others are given to put their Pods on a new VNode before the first look."""

REMEMBERED = 64
"""Pods of one VNode that are remembered as reported."""


@dataclass(slots=True)
class ForeignPods:
    """Reports Pods that are not modules, each once as long as it is there."""

    cluster: Cluster
    roster: Roster
    recorder: Recorder
    clock: Clock
    _looked: dict[VNodeName, float] = field(default_factory=dict)
    _reported: dict[VNodeName, frozenset[str]] = field(default_factory=dict)

    async def run(self) -> NoReturn:
        """Look at VNodes in turn."""
        while True:
            chosen = self._next()
            for base in chosen:
                await asyncio.sleep(APART)
                await self._look(base.vnode)
            if len(chosen) < AT_ONCE:
                await asyncio.sleep(APART * AT_ONCE)

    def _next(self) -> list[Base]:
        """Return some VNodes for which a look is due, those that wait longest for it first."""
        now = self.clock.monotonic()
        ours = {
            base.vnode: base
            for base in self.roster.bases()
            if base.phase is Phase.READY and now - base.term_began >= SETTLED
        }
        for gone in self._looked.keys() - ours.keys():
            del self._looked[gone]
            self._reported.pop(gone, None)
        due = [vnode for vnode in ours if self._looked.get(vnode, float("-inf")) + EVERY <= now]
        chosen = heapq.nsmallest(AT_ONCE, due, key=lambda vnode: self._looked.get(vnode, float("-inf")))
        return [ours[vnode] for vnode in chosen]

    async def _look(self, vnode: VNodeName) -> None:
        self._looked[vnode] = self.clock.monotonic()
        try:
            pods = await self.cluster.foreign_pods(vnode)
        except ClusterError as error:
            log.info("Pods that are not modules could not be looked for", vnode=vnode, cause=str(error))
            return
        before = self._reported.get(vnode, frozenset())
        found = [pod for pod in pods if not pod.deleting and pod.status.phase not in ("Succeeded", "Failed")]
        for pod in found[:REMEMBERED]:
            if pod.uid not in before:
                FOREIGN_PODS.inc()
                self.recorder.pod(pod, Remark(False, "NotAModule", _why(vnode)))
        self._reported[vnode] = frozenset(pod.uid for pod in found[:REMEMBERED])


def _why(vnode: VNodeName) -> str:
    return (
        f"{vnode} is a virtual node: it runs modules, which are Pods with the label {COMPONENT}={COMPONENT_MODULE}; "
        f"this Pod has not, so nothing is done for it. To keep others off virtual nodes, do not tolerate their taints, "
        f"or require by node affinity that {COMPONENT} is not {COMPONENT_VNODE}"
    )
