"""Leads exec, attach and port-forward of a module's Pod into its base's Pod.

The upgraded connection is passed through to the API server, which leads it to the kubelet of the base's Pod: what is
said on it, in SPDY or over WebSockets, is not read here.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import structlog
from aiohttp import web
from prometheus_client import Counter, Gauge

from controlplane.app.ports import ClusterError, Rejected
from controlplane.cluster.api import PodStreams, Upgrade
from controlplane.domain.access import Caller
from controlplane.domain.contract import ANNOTATION_EXEC_FROM
from controlplane.kubelet.access import STREAMS
from controlplane.kubelet.basepods import BasePod, NoBasePod
from controlplane.kubelet.lookup import Lookup
from controlplane.kubelet.relay import relay
from controlplane.kubelet.requests import handshake, stream_options
from controlplane.kubelet.routes import Route
from service.refusals import RequestRefused
from service.upgraded import UpgradedConnection

log = structlog.get_logger("audit")

MOST = 64
"""Streams at once."""
OPENS_WITHIN = 20.0
"""Seconds for the API server and the kubelet of the base's Pod to answer."""
IDLE = 4 * 3600.0
"""Seconds without a byte after which a stream is given up: kubelets' --streaming-connection-idle-timeout."""
VERBS = {"GET": "get", "POST": "create"}
"""Verb of Kubernetes by method; WebSockets come with GET, SPDY with POST."""

OPEN = Gauge("koupleless_kubelet_streams_open", "Streams into bases that are open", ["kind"])
STREAMED = Counter("koupleless_kubelet_streams_total", "Streams into bases, by how they ended", ["kind", "outcome"])


@dataclass(slots=True)
class ModuleStreams:
    """Answers /exec, /attach and /portForward for the module Pods on our VNodes."""

    lookup: Lookup
    source: PodStreams
    _slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MOST), init=False)

    def routes(self) -> list[Route]:
        """Return the rows of the table of routes; their last part is the container, where there is one."""
        paths = {"exec": "/exec/*/*/*", "attach": "/attach/*/*/*", "portforward": "/portForward/*/*"}
        return [Route(path, partial(self._lead, kind), tuple(VERBS)) for kind, path in paths.items()]

    async def _lead(
        self, kind: str, request: web.BaseRequest, caller: Caller, names: tuple[str, ...]
    ) -> web.StreamResponse:
        try:
            pod, base = await self.lookup.find(caller, "create", STREAMS, names)
        except NoBasePod as absent:
            raise RequestRefused(400, absent.reason, f"{absent.text}: {kind} needs one") from None
        if not base.may_be_entered_from(pod.namespace):
            text = f"{kind} from namespace {pod.namespace} leads into Pod {base.key} only if that has the annotation "
            raise RequestRefused(403, "other_namespace", f"{text}{ANNOTATION_EXEC_FROM}: {pod.namespace}")
        if not (headers := handshake(request.headers.items())):
            raise RequestRefused(400, "no_upgrade", f"{kind} needs an upgrade of the connection")
        if self._slots.locked():
            raise RequestRefused(429, "streams", f"{MOST} streams are open", {"Retry-After": "5"})
        # Neither the command nor its output: they may have secrets in them.
        log.info("stream", user=caller.user, verb=kind, pod=pod.key, base_pod=base.key, container=base.container)
        options = stream_options(kind, request.query.items(), base.container)
        upgrade = Upgrade(VERBS[request.method], kind, options, headers)
        async with self._slots:
            with OPEN.labels(kind).track_inprogress():
                return await self._stream(request, base, upgrade)

    async def _stream(self, request: web.BaseRequest, base: BasePod, upgrade: Upgrade) -> web.StreamResponse:
        outcome, response = "left", web.StreamResponse(status=101)
        response.force_close()
        source = self.source.pod_stream(base.namespace, base.name, upgrade, opens_within=OPENS_WITHIN)
        try:
            async with source as (answered, inner):
                outer = UpgradedConnection.of_request(request)
                response.headers.extend(handshake(answered.items()))
                await response.prepare(request)
                await relay(outer, inner, idle=IDLE)
            outcome = "ended"
        except ClusterError as error:
            outcome = "refused"
            raise _refused(upgrade.subresource, base, error) from error
        except (TimeoutError, ConnectionError) as error:
            outcome = "idle" if isinstance(error, TimeoutError) else "broken"
            if request.transport is not None:
                with suppress(OSError):
                    request.transport.abort()
        finally:
            STREAMED.labels(upgrade.subresource, outcome).inc()
        return response


def _refused(kind: str, base: BasePod, error: ClusterError) -> RequestRefused:
    status, reason = (400, "source_refused") if isinstance(error, Rejected) else (500, "source_failed")
    return RequestRefused(status, reason, f"{kind} in Pod {base.key}, container {base.container}: {error}")
