"""What happened, for people: Kubernetes Events, the log, and the tooling's event stream.

Recording never blocks work and is bounded: when Events come faster than the cluster takes them the oldest waiting ones
are dropped and counted.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple, NoReturn

import structlog

from controlplane.app.metrics import EVENTS_DROPPED
from controlplane.app.ports import Clock, Cluster, ClusterError, Transient, Unknown
from controlplane.domain import contract
from controlplane.domain.backoff import Backoff
from controlplane.domain.identity import base_of_node
from controlplane.domain.objects import ClusterEvent, ModuleDeployment, Node, Pod
from controlplane.domain.remarks import Remark
from service.masking import masked

log = structlog.get_logger(__name__)

KEPT = 2000
WAITING = 2000
WRITERS = 4
ATTEMPTS = 8
"""To write one Event: about a minute and a half in all."""
RETRY = Backoff(first=1.0, longest=30.0)


@dataclass(frozen=True, slots=True)
class Happening:
    """One event as tools see it.

    wall is seconds since the epoch, labels those of the Pod or Deployment that it is about. vnode is empty for what is
    about no single one. number rises by one with each event of this process.
    """

    remark: Remark
    wall: float = 0.0
    number: int = 0
    vnode: str = ""
    module: str = ""
    pod: str = ""
    deployment: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    trace_id: str = ""
    user: str = ""
    """Who asked for it."""


class About(NamedTuple):
    """The object that an Event is about; uid is empty where it is not known, and kubectl describe has no Event then."""

    kind: str
    namespace: str
    name: str
    uid: str = ""


def member_lease(cluster: Cluster, key: str) -> About:
    """Return a replica's member lease as what an Event is about; key is that of the lease."""
    namespace, _, name = key.partition("/")
    known = cluster.members.get(key)
    return About("Lease", namespace, name, known.uid if known is not None else "")


class Recorder:
    """Records happenings; run writes them to the cluster. own is the key of this replica's member lease."""

    def __init__(self, cluster: Cluster, clock: Clock, *, env: str, own: str) -> None:
        self._cluster = cluster
        self._clock = clock
        self._env = env
        self._own = own
        self._kept: deque[Happening] = deque(maxlen=KEPT)
        self._number = 0
        self._waiting: asyncio.Queue[ClusterEvent] = asyncio.Queue(WAITING)
        self._subscribers: list[Callable[[Happening], None]] = []

    def recent(self) -> tuple[Happening, ...]:
        """Return the happenings kept, oldest first."""
        return tuple(self._kept)

    def subscribe(self, handler: Callable[[Happening], None]) -> None:
        """Call handler with each happening from now on."""
        self._subscribers.append(handler)

    def node(self, node: Node | None, vnode: str, remark: Remark, *, written: bool = True) -> None:
        """Something happened to a VNode; an Event may be about a Node that is not there yet, or not any more.

        written: it is worth an Event in the cluster.
        """
        uid = node.uid if node is not None else ""
        self._record(Happening(remark, vnode=vnode), About("Node", "", vnode, uid) if written else None)

    def pod(self, pod: Pod, remark: Remark, *, module: str = "", written: bool = True, event: str = "") -> None:
        """Something happened to a module of a Pod, or to the Pod; written: it is worth an Event in the cluster.

        event is the Event's message, if that is another one: with the same message it is counted up.
        """
        happening = Happening(
            remark,
            vnode=pod.node_name,
            module=module,
            pod=pod.key,
            labels=pod.labels,
            trace_id=pod.labels.get(contract.TRACE_ID) or pod.annotations.get(contract.TRACE_ID, ""),
        )
        self._record(happening, About("Pod", pod.namespace, pod.name, pod.uid) if written else None, event=event)

    def deployment(self, deployment: ModuleDeployment, remark: Remark) -> None:
        """Something happened to a module Deployment."""
        happening = Happening(
            replace(remark, message=f"{deployment.key}: {remark.message}"),
            deployment=deployment.key,
            labels=deployment.labels,
            trace_id=deployment.labels.get(contract.TRACE_ID, ""),
        )
        about = About("Deployment", deployment.namespace, deployment.name, deployment.uid)
        self._record(happening, about, event=remark.message)

    def module(self, vnode: str, module: str, remark: Remark) -> None:
        """Something happened to a module without a Pod."""
        self._record(Happening(remark, vnode=vnode, module=module))

    def change(self, about: About, remark: Remark, *, user: str, vnode: str = "", pod: str = "") -> None:
        """A user had an object changed; the audit has the line in the log."""
        self._record(Happening(remark, vnode=vnode, pod=pod, user=user), about, logged=True)

    def replica(self, remark: Remark) -> None:
        """Something happened to this replica as a whole."""
        self._record(Happening(remark), member_lease(self._cluster, self._own))

    def _record(
        self, happening: Happening, about: About | None = None, *, event: str = "", logged: bool = False
    ) -> None:
        """Keep a happening, and log it unless it is logged; about is the object that gets an Event, if one does.

        Log, Events, tools, hooks and tracker all get it from here, and so without secrets.
        """
        self._number += 1
        remark = replace(happening.remark, message=masked(happening.remark.message))
        happening = replace(
            happening, remark=remark, module=masked(happening.module), wall=self._clock.wall(), number=self._number
        )
        write = log.warning if remark.warning else log.info
        base = base_of_node(happening.vnode, self._env)
        names = {"base": base, "module": happening.module, "pod": happening.pod}
        if not logged:
            write(remark.message, reason=remark.reason, **{name: value for name, value in names.items() if value})
        self._kept.append(happening)
        for handler in self._subscribers:
            handler(happening)
        if about is not None:
            if self._waiting.full():
                self._waiting.get_nowait()
                EVENTS_DROPPED.inc()
            self._waiting.put_nowait(ClusterEvent(*about, remark.type, remark.reason, masked(event) or remark.message))

    async def run(self) -> NoReturn:
        """Write what waits, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(WRITERS):
                group.create_task(self._write(), name=f"event-writer-{number}")
        raise AssertionError("event writers never return")

    async def _write(self) -> NoReturn:
        while True:
            event = await self._waiting.get()
            try:
                await self._written(event)
            except ClusterError as error:
                EVENTS_DROPPED.inc()
                log.debug("event not written", reason=event.reason, cause=str(error))

    async def _written(self, event: ClusterEvent) -> None:
        """Write an Event, again while the cluster turns it away for now; raises ClusterError.

        What it does not take by then is given up: an Event is news, not state.
        """
        for attempt in range(1, ATTEMPTS):
            try:
                return await self._cluster.record_event(event)
            except (Transient, Unknown) as error:
                pause = max(RETRY.delay(attempt, random.random()), error.retry_after or 0.0)  # noqa: S311 - jitter
            await asyncio.sleep(pause)
        return await self._cluster.record_event(event)
