"""What happened, for people: Kubernetes Events, the log, and the tooling's event stream.

Recording never blocks work and is bounded: when Events come faster than the cluster
takes them the oldest waiting ones are dropped and counted.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import NoReturn

import structlog

from controlplane.app.metrics import EVENTS_DROPPED
from controlplane.app.ports import Clock, Cluster, ClusterError
from controlplane.domain import contract
from controlplane.domain.identity import base_of_node
from controlplane.domain.objects import ClusterEvent, ModuleDeployment, Node, Pod

log = structlog.get_logger(__name__)

KEPT = 2000
WAITING = 2000
WRITERS = 4
_NONE: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Happening:
    """One event as tools see it.

    wall is seconds since the epoch, seconds how long it took where that is known,
    labels those of the Pod or Deployment that it is about. vnode is empty for what is about no single one.
    """

    wall: float
    type: str
    reason: str
    message: str
    vnode: str
    module: str = ""
    pod: str = ""
    deployment: str = ""
    seconds: float = 0.0
    labels: Mapping[str, str] = field(default_factory=lambda: _NONE)
    trace_id: str = ""
    number: int = 0
    """Rises by one with each event of this process."""


class Recorder:
    """Records happenings; run writes them to the cluster."""

    def __init__(self, cluster: Cluster, clock: Clock, *, env: str) -> None:
        self._cluster = cluster
        self._clock = clock
        self._env = env
        self._kept: deque[Happening] = deque(maxlen=KEPT)
        self._number = 0
        self._waiting: asyncio.Queue[ClusterEvent] = asyncio.Queue(WAITING)
        self._subscribers: set[Callable[[Happening], None]] = set()

    def recent(self) -> tuple[Happening, ...]:
        """Return the happenings kept, oldest first."""
        return tuple(self._kept)

    def subscribe(self, handler: Callable[[Happening], None]) -> Callable[[], None]:
        """Call handler with each happening from now on; returns what ends that."""
        self._subscribers.add(handler)
        return lambda: self._subscribers.discard(handler)

    def node(self, node: Node | None, vnode: str, *, warning: bool, reason: str, message: str) -> None:
        """Something happened to a VNode; an Event may be about a Node that is not there yet, or not any more."""
        uid = node.uid if node is not None else ""
        target = ClusterEvent("Node", "", vnode, uid, _type(warning), reason, message)
        self._tell(Happening(self._clock.wall(), _type(warning), reason, message, vnode), target)

    def pod(
        self,
        pod: Pod,
        module: str,
        *,
        warning: bool,
        reason: str,
        message: str,
        seconds: float = 0.0,
        written: bool = True,
    ) -> None:
        """Something happened to a module of a Pod, or to the Pod; written: it is worth an Event in the cluster."""
        happening = Happening(
            wall=self._clock.wall(),
            type=_type(warning),
            reason=reason,
            message=message,
            vnode=pod.node_name,
            module=module,
            pod=pod.key,
            seconds=seconds,
            labels=pod.labels,
            trace_id=pod.labels.get(contract.TRACE_ID) or pod.annotations.get(contract.TRACE_ID, ""),
        )
        event = ClusterEvent("Pod", pod.namespace, pod.name, pod.uid, _type(warning), reason, message)
        self._tell(happening, event if written else None)

    def deployment(self, deployment: ModuleDeployment, *, warning: bool, reason: str, message: str) -> None:
        """Something happened to a module Deployment."""
        kind = _type(warning)
        happening = Happening(
            wall=self._clock.wall(),
            type=kind,
            reason=reason,
            message=f"{deployment.key}: {message}",
            vnode="",
            deployment=deployment.key,
            labels=deployment.labels,
            trace_id=deployment.labels.get(contract.TRACE_ID, ""),
        )
        about = ("Deployment", deployment.namespace, deployment.name, deployment.uid)
        self._tell(happening, ClusterEvent(*about, kind, reason, message))

    def module(
        self, vnode: str, module: str, *, warning: bool, reason: str, message: str, seconds: float = 0.0
    ) -> None:
        """Something happened to a module without a Pod."""
        happening = Happening(self._clock.wall(), _type(warning), reason, message, vnode, module, seconds=seconds)
        self._tell(happening, None)

    def replica(self, *, warning: bool, reason: str, message: str) -> None:
        """Something happened to this replica as a whole."""
        self._tell(Happening(self._clock.wall(), _type(warning), reason, message, ""), None)

    def _tell(self, happening: Happening, event: ClusterEvent | None) -> None:
        write = log.warning if happening.type == "Warning" else log.info
        about = {
            "base": base_of_node(happening.vnode, self._env),
            "module": happening.module,
            "pod": happening.pod,
        }
        write(happening.message, reason=happening.reason, **{name: value for name, value in about.items() if value})
        self._number += 1
        happening = replace(happening, number=self._number)
        self._kept.append(happening)
        for handler in tuple(self._subscribers):
            handler(happening)
        if event is not None:
            if self._waiting.full():
                self._waiting.get_nowait()
                EVENTS_DROPPED.inc()
            self._waiting.put_nowait(event)

    async def run(self) -> NoReturn:
        """Write what waits; an Event that the cluster does not take is dropped, it is news, not state."""
        async with asyncio.TaskGroup() as group:
            for number in range(WRITERS):
                group.create_task(self._write(), name=f"event-writer-{number}")
        raise AssertionError("event writers never return")

    async def _write(self) -> NoReturn:
        while True:
            event = await self._waiting.get()
            try:
                await self._cluster.record_event(event)
            except ClusterError as error:
                EVENTS_DROPPED.inc()
                log.debug("event not written", reason=event.reason, cause=str(error))


def _type(warning: bool) -> str:
    return "Warning" if warning else "Normal"
