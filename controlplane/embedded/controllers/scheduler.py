"""Binds Pods that have no Node, and says on the others why they cannot be."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import NoReturn

import structlog

from controlplane.app.ports import ClusterError, Rejected
from controlplane.cluster.api import EVENTS, PODS, Json, PatchType
from controlplane.embedded.api.mirror import Key, Mirror
from controlplane.embedded.api.objects import timestamp
from controlplane.embedded.api.store import EmbeddedApiServer
from controlplane.embedded.api.views import NodeView, PodView
from controlplane.embedded.controllers.placement import Snapshot

log = structlog.get_logger(__name__)

BATCH = 64
"""Pods placed and bound per round."""
RETRY_DELAY = 1.0
UNPARK_DELAY = 0.1
"""Seconds; Nodes that come in a crowd make the Pods without a place look again once, not once each."""
_PLACED_BETWEEN_YIELDS = 8


class Scheduler:
    """Places Pods one after the other on a snapshot that it keeps current, and binds them in parallel.

    At most one entry per Pod waits, either to be placed or parked until something changes.
    """

    def __init__(self, store: EmbeddedApiServer, mirror: Mirror) -> None:
        self._store = store
        self._mirror = mirror
        self._snapshot = Snapshot()
        self._waiting: dict[Key, None] = {}
        self._parked: dict[Key, None] = {}
        self._parked_wants_company = False
        self._unparking: asyncio.TimerHandle | None = None
        self._some = asyncio.Event()

    def node_changed(self, before: NodeView | None, after: NodeView | None) -> None:
        """Take a Node's change."""
        if before == after:
            return
        if after is not None:
            self._snapshot.set_node(after)
        elif before is not None:
            self._snapshot.remove_node(before.name)
        self._unpark_soon()

    def pod_changed(self, before: PodView | None, after: PodView | None) -> None:
        """Take a Pod's change."""
        if before is not None and before.node:
            self._snapshot.remove(before.uid, before.node)
        if after is not None and after.node and not after.finished:
            self._snapshot.add(after, after.node)
        if after is None or after.node:
            gone = before is not None and before.node and (after is None or after.finished)
            if gone or self._parked_wants_company:
                self._unpark_soon()
            key = after.key if after is not None else before.key if before is not None else ("", "")
            self._waiting.pop(key, None)
            self._parked.pop(key, None)
        elif before is None or before.uid != after.uid:
            self._wait(after.key)

    def _wait(self, key: Key) -> None:
        self._parked.pop(key, None)
        self._waiting[key] = None
        self._some.set()

    def _unpark_soon(self) -> None:
        if self._parked and self._unparking is None:
            self._unparking = asyncio.get_running_loop().call_later(UNPARK_DELAY, self._unpark)

    def _unpark(self) -> None:
        self._unparking = None
        self._parked_wants_company = False
        self._snapshot.forget_terms()
        for key in tuple(self._parked):
            self._wait(key)

    async def run(self) -> NoReturn:
        """Schedule until cancelled."""
        try:
            while True:
                await self._some.wait()
                self._some.clear()
                while self._waiting:
                    await self._round()
        finally:
            if self._unparking is not None:
                self._unparking.cancel()

    async def _round(self) -> None:
        async with asyncio.TaskGroup() as group:
            for count, key in enumerate(tuple(self._waiting)[:BATCH]):
                self._waiting.pop(key, None)
                pod = self._mirror.pods.get(key)
                if pod is None or pod.node or not pod.active or pod.waits:
                    continue
                node, why_not = self._snapshot.place(pod)
                if node:
                    self._snapshot.add(pod, node)
                    group.create_task(self._bind(pod, node))
                else:
                    self._park(pod)
                    if pod.blocked != why_not:
                        group.create_task(self._explain(pod, why_not))
                if count % _PLACED_BETWEEN_YIELDS == 0:
                    await asyncio.sleep(0)

    def _park(self, pod: PodView) -> None:
        self._parked[pod.key] = None
        self._parked_wants_company |= bool(pod.rules.near)

    async def _bind(self, pod: PodView, node: str) -> None:
        try:
            await self._store.bind(pod.namespace, pod.name, pod.uid, node)
            await self._record(
                pod, "Normal", "Scheduled", f"Successfully assigned {pod.namespace}/{pod.name} to {node}"
            )
        except Rejected:
            self._unassume(pod, node)  # deleted, bound or another Pod meanwhile: its change has been taken
        except ClusterError as error:
            log.warning("cannot bind a Pod, will try again", pod=f"{pod.namespace}/{pod.name}", error=str(error))
            self._unassume(pod, node)
            asyncio.get_running_loop().call_later(RETRY_DELAY, self._wait, pod.key)

    def _unassume(self, pod: PodView, node: str) -> None:
        now = self._mirror.pods.get(pod.key)
        if now is None or now.uid != pod.uid or now.node != node:
            self._snapshot.remove(pod.uid, node)

    async def _explain(self, pod: PodView, why_not: str) -> None:
        condition = {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": why_not,
            "lastTransitionTime": timestamp(time.time()),
        }
        patch: Json = {"metadata": {"uid": pod.uid}, "status": {"conditions": [condition]}}
        try:
            await self._store.patch(
                PODS,
                pod.name,
                patch,
                namespace=pod.namespace,
                subresource="status",
                patch_type=PatchType.STRATEGIC,
            )
            await self._record(pod, "Warning", "FailedScheduling", why_not)
        except Rejected:
            return
        except ClusterError as error:
            log.warning("cannot say why a Pod is not placed", pod=f"{pod.namespace}/{pod.name}", error=str(error))

    async def _record(self, pod: PodView, type_: str, reason: str, message: str) -> None:
        now = timestamp(time.time())
        event: Json = {
            "metadata": {"name": f"{pod.name[:230]}.{uuid.uuid4().hex[:16]}", "namespace": pod.namespace},
            "involvedObject": {
                "apiVersion": "v1",
                "kind": "Pod",
                "namespace": pod.namespace,
                "name": pod.name,
                "uid": pod.uid,
            },
            "type": type_,
            "reason": reason,
            "message": message[:1024],
            "source": {"component": "default-scheduler"},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        await self._store.create(EVENTS, event, pod.namespace)
