"""Kubernetes Events (core/v1), with repetitions counted instead of repeated.

The same message about the same object within five minutes raises the count of the Event that is there. A bounded number
of Events is remembered; one that was forgotten, or pruned by the cluster, is simply written again.
"""

import secrets
from contextlib import suppress

from controlplane.app.ports import Clock, NotFound, Unknown
from controlplane.cluster import fields
from controlplane.cluster.api import DAEMON_SETS, DEPLOYMENTS, EVENTS, LEASES, ApiServer, Json
from controlplane.domain.objects import ClusterEvent
from controlplane.domain.times import rfc3339
from service.limits import Recent

SAME_WITHIN = 300.0
"""Seconds after its last repetition during which an Event is counted up."""
REMEMBERED = 4096
MESSAGE_LIMIT = 1024
REASON_LIMIT = 128
NAME_LIMIT = 236
"""Characters of the object's name that stand in the Event's, which may have 253."""
COMPONENT = "module-controller"
CLUSTER_NAMESPACE = "default"
"""Where Events about Nodes are kept."""
_GROUP_VERSIONS = {resource.kind: resource.group_version for resource in (DAEMON_SETS, DEPLOYMENTS, LEASES)}


class EventWriter:
    """Writes Events."""

    def __init__(self, api: ApiServer, clock: Clock, *, remembered: int = REMEMBERED) -> None:
        self._api = api
        self._clock = clock
        self._written: Recent[ClusterEvent, tuple[str, int, float]] = Recent(remembered)
        """Name, count, and until when it is counted up."""

    async def write(self, event: ClusterEvent) -> None:
        """Write an Event or count it up; raises ClusterError."""
        stamp, namespace = rfc3339(self._clock.wall()), event.namespace or CLUSTER_NAMESPACE
        now = self._clock.monotonic()
        name, count, until = self._written.get(event, ("", 0, now))
        if until > now:
            self._written[event] = (name, count + 1, now + SAME_WITHIN)
            with suppress(NotFound):  # the cluster has pruned it
                await self._api.patch(EVENTS, name, {"count": count + 1, "lastTimestamp": stamp}, namespace=namespace)
                return
        obj = manifest(event, stamp, COMPONENT)
        name = obj["metadata"]["name"]
        try:
            await self._api.create(EVENTS, obj, namespace)
        except Unknown:
            # It may be there: the next time it is counted up, if so.
            self._written[event] = (name, 0, self._clock.monotonic() + SAME_WITHIN)
            raise
        self._written[event] = (name, 1, self._clock.monotonic() + SAME_WITHIN)


def manifest(event: ClusterEvent, now: str, component: str) -> Json:
    """Return a new Event with a name of its own, written by a component."""
    about = {
        "apiVersion": _GROUP_VERSIONS.get(event.kind, "v1"),
        "kind": event.kind,
        "namespace": event.namespace,
        "name": event.name,
        "uid": event.uid,
    }
    return EVENTS.manifest(
        {
            "name": f"{event.name[:NAME_LIMIT]}.{secrets.token_hex(8)}",
            "namespace": event.namespace or CLUSTER_NAMESPACE,
        },
        involvedObject=fields.filled(about),
        type=event.type,
        reason=event.reason[:REASON_LIMIT],
        message=event.message[:MESSAGE_LIMIT],
        source={"component": component},
        reportingComponent=component,
        reportingInstance="",
        firstTimestamp=now,
        lastTimestamp=now,
        count=1,
    )
