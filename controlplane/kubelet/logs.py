"""Sends the log of a module: that of the container in which its base runs, as it comes."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import structlog
from aiohttp import web
from prometheus_client import Counter, Gauge

from controlplane.app.ports import ClusterError, Informer, NotFound, Rejected
from controlplane.cluster.api import ApiServer, PodLogs
from controlplane.domain.access import Caller
from controlplane.domain.objects import Node, Pod
from controlplane.kubelet import basepods
from controlplane.kubelet.access import KubeletAccess
from controlplane.kubelet.basepods import BasePod
from controlplane.kubelet.requests import log_options
from service.refusals import RequestRefused

log = structlog.get_logger(__name__)

MOST_STREAMS = 128
LOOK_UP_WITHIN = 20.0
"""Seconds for finding out whether and where the log is."""
IDLE = 60.0
"""Seconds without a byte after which a log that is not followed is given up."""
TAKEN_WITHIN = 900.0
"""Seconds that a reader may leave one piece lying: somebody may well look at a page of it."""

STREAMS = Gauge("koupleless_kubelet_logs_open", "Logs that are being sent")
STREAMED = Counter("koupleless_kubelet_logs_total", "Logs that were sent, by how that ended", ["outcome"])
SENT = Counter("koupleless_kubelet_log_bytes_total", "Bytes of logs that were sent")


@dataclass(slots=True)
class ModuleLogs:
    """Answers /containerLogs for the module Pods on our VNodes; bases are looked for in a namespace, too."""

    pods: Informer[Pod]
    nodes: Informer[Node]
    access: KubeletAccess
    api: ApiServer
    namespace: str
    source: PodLogs
    _slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MOST_STREAMS), init=False)

    async def send(self, request: web.BaseRequest, caller: Caller, path: tuple[str, str, str]) -> web.StreamResponse:
        """Answer with a log; path is namespace, Pod and container. Raises RequestRefused."""
        try:
            async with asyncio.timeout(LOOK_UP_WITHIN):
                pod, base = await self._look_up(caller, path)
        except TimeoutError:
            raise RequestRefused(500, "slow", f"not found out within {LOOK_UP_WITHIN:g} s where the log is") from None
        except ClusterError as error:
            raise RequestRefused(500, "cluster", f"the Pod of the base cannot be looked up: {error}") from error
        options = log_options(request.query.items())
        if self._slots.locked():
            raise RequestRefused(429, "streams", f"{MOST_STREAMS} logs are being sent", {"Retry-After": "5"})
        log.info("log is sent", user=caller.user, pod=pod.key, base_pod=base.key, query=options)
        async with self._slots:
            with STREAMS.track_inprogress():
                return await self._send(request, base, options)

    async def _look_up(self, caller: Caller, path: tuple[str, str, str]) -> tuple[Pod, BasePod]:
        namespace, name, container = path
        if not (self.pods.synced and self.nodes.synced):
            raise RequestRefused(500, "not_synced", "the Pods are not known yet, try again in a moment")
        pod = self.pods.get(f"{namespace}/{name}")
        node = self.nodes.get(pod.node_name) if pod is not None else None
        # Whoever may not read logs does not learn which Pods there are.
        await self.access.must_read_logs(caller, node.name if node is not None else "")
        if pod is None or node is None:
            raise RequestRefused(404, "no_module", f"there is no module Pod {namespace}/{name} on a VNode")
        if all(each.name != container for each in pod.containers):
            raise RequestRefused(404, "no_container", f"Pod {pod.key} has no container {container}")
        return pod, await basepods.find(self.api, node, (pod.namespace, self.namespace))

    async def _send(self, request: web.BaseRequest, base: BasePod, options: Mapping[str, str]) -> web.StreamResponse:
        query = {"container": base.container, **options}
        idle = None if "follow" in options else IDLE
        response = web.StreamResponse(headers={"Content-Type": "text/plain; charset=utf-8"})
        response.force_close()
        outcome = "left"
        try:
            async with self.source.pod_log(base.namespace, base.name, query, idle=idle) as pieces:
                await response.prepare(request)
                await _copy(pieces, response)
                await response.write_eof()
            outcome = "sent"
        except TimeoutError:
            outcome = "not_taken"
            _cut(request)
        except ClusterError as error:
            outcome = "broken"
            if not response.prepared:
                raise _refused_by_source(base, error) from error
            # Ending the answer as if it were whole would hide that lines are missing.
            log.warning("a log broke off", base_pod=base.key, cause=str(error))
            _cut(request)
        finally:
            STREAMED.labels(outcome).inc()
        return response


async def _copy(pieces: AsyncIterator[bytes], response: web.StreamResponse) -> None:
    """Write each piece before the next is read: a slow reader slows its own log, and nothing piles up."""
    async for piece in pieces:
        async with asyncio.timeout(TAKEN_WITHIN):
            await response.write(piece)
        SENT.inc(len(piece))


def _cut(request: web.BaseRequest) -> None:
    if request.transport is not None:
        with suppress(OSError):
            request.transport.abort()


def _refused_by_source(base: BasePod, error: ClusterError) -> RequestRefused:
    status, reason = 500, "source_failed"
    if isinstance(error, Rejected):
        status, reason = 400, "source_gone" if isinstance(error, NotFound) else "source_refused"
    return RequestRefused(status, reason, f"the log of Pod {base.key}, container {base.container}: {error}")
