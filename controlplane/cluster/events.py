"""Kubernetes Events (core/v1), with repetitions counted instead of repeated.

The same word about the same object within five minutes raises the count of the
Event that is there. What has been said is remembered for so many Events only;
one that was forgotten, or pruned by the cluster, is simply written anew.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime

from controlplane.app.ports import Clock, NotFound
from controlplane.cluster.api import EVENTS, ApiServer, Json
from controlplane.domain.objects import ClusterEvent

SAME_WITHIN = 300.0
"""Seconds after its last repetition during which an Event is counted up."""
REMEMBERED = 4096
MESSAGE_LIMIT = 1024
REASON_LIMIT = 128
NAME_LIMIT = 236
"""Characters of the object's name that stand in the Event's, which may have 253."""
COMPONENT = "module-controller"
API_VERSIONS = {"Deployment": "apps/v1"}
"""Of the kinds that are not in v1."""
CLUSTER_NAMESPACE = "default"
"""Where Events about Nodes are kept."""


@dataclass(slots=True)
class _Said:
    name: str
    count: int
    at: float


class EventWriter:
    """Writes Events."""

    def __init__(self, api: ApiServer, clock: Clock, *, remembered: int = REMEMBERED) -> None:
        self._api = api
        self._clock = clock
        self._said: OrderedDict[ClusterEvent, _Said] = OrderedDict()
        self._remembered = remembered

    async def write(self, event: ClusterEvent) -> None:
        """Write an Event or count it up; raises ClusterError."""
        now = self._clock.monotonic()
        said = self._said.get(event)
        if said is not None and now - said.at <= SAME_WITHIN:
            said.count += 1
            said.at = now
            self._said.move_to_end(event)
            patch: Json = {"count": said.count, "lastTimestamp": timestamp(self._clock.wall())}
            try:
                await self._api.patch(EVENTS, said.name, patch, namespace=_namespace(event))
            except NotFound:
                self._said.pop(event, None)
            else:
                return
        name = f"{event.name[:NAME_LIMIT]}.{secrets.token_hex(8)}"
        await self._api.create(EVENTS, _event(event, name, timestamp(self._clock.wall())), _namespace(event))
        self._remember(event, _Said(name, 1, now))

    def _remember(self, event: ClusterEvent, said: _Said) -> None:
        self._said[event] = said
        self._said.move_to_end(event)
        if len(self._said) > self._remembered:
            self._said.popitem(last=False)


def timestamp(seconds: float) -> str:
    """Return a time as Kubernetes writes it, to the second."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _namespace(event: ClusterEvent) -> str:
    return event.namespace or CLUSTER_NAMESPACE


def _event(event: ClusterEvent, name: str, now: str) -> Json:
    involved = {
        "apiVersion": API_VERSIONS.get(event.kind, "v1"),
        "kind": event.kind,
        "name": event.name,
        "uid": event.uid,
    }
    if event.namespace:
        involved["namespace"] = event.namespace
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": _namespace(event)},
        "involvedObject": involved,
        "type": event.type,
        "reason": event.reason[:REASON_LIMIT],
        "message": event.message[:MESSAGE_LIMIT],
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
        "reportingInstance": "",
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
