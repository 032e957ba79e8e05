"""Sends the log of a module: that of the container in which its base runs, as it comes."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

import structlog
from aiohttp import web
from prometheus_client import Counter, Gauge

from controlplane.app.ports import ClusterError, NotFound, Rejected
from controlplane.cluster.api import PodLogs
from controlplane.domain.access import Caller
from controlplane.kubelet.access import LOGS
from controlplane.kubelet.basepods import BasePod, NoBasePod
from controlplane.kubelet.logsource import LogSource
from controlplane.kubelet.lookup import Lookup, NotRun
from controlplane.kubelet.requests import explanation, log_options
from service.refusals import RequestRefused

log = structlog.get_logger(__name__)

MOST_STREAMS = 128
IDLE = 60.0
"""Seconds without a byte after which a log that is not followed is given up."""
TAKEN_WITHIN = 900.0
"""Seconds that a reader may leave one piece lying: somebody may well look at a page of it."""

STREAMS = Gauge("koupleless_kubelet_logs_open", "Logs that are being sent")
STREAMED = Counter("koupleless_kubelet_logs_total", "Logs that were sent, by how that ended", ["outcome"])
SENT = Counter("koupleless_kubelet_log_bytes_total", "Bytes of logs that were sent")


Opened = AbstractAsyncContextManager[AsyncIterator[bytes]]


@dataclass(slots=True)
class ModuleLogs:
    """Answers /containerLogs for the module Pods on our VNodes; elsewhere has logs of bases that run in no Pod."""

    lookup: Lookup
    source: PodLogs
    elsewhere: LogSource | None = None
    _slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MOST_STREAMS), init=False)

    async def send(self, request: web.BaseRequest, caller: Caller, names: tuple[str, ...]) -> web.StreamResponse:
        """Answer with a log; names are namespace, Pod and container. Raises RequestRefused.

        Where there is none the log is one line that says so: a refusal would end `kubectl logs` for all other Pods of a
        selector, too. It ends at once, also for who follows, as that of a container that ended.
        """
        options = log_options(request.query.items())
        absent: NoBasePod | None = None
        try:
            _, base = await self.lookup.find(caller, "get", LOGS, names)
            what, opened = f"Pod {base.key}, container {base.container}", self._of_pod(base, options)
        except NoBasePod as no_pod:
            if self.elsewhere is None:
                return _explained(f"{no_pod}: its log is where it runs", options)
            absent, what = no_pod, f"the base of {no_pod.vnode}"
            opened = self.elsewhere.log(_fields(no_pod, names), options)
        except NotRun as not_run:
            return _explained(str(not_run), options)
        if self._slots.locked():
            raise RequestRefused(429, "streams", f"{MOST_STREAMS} logs are being sent", {"Retry-After": "5"})
        log.info("log is sent", user=caller.user, pod="/".join(names[:2]), of=what, query=options)
        async with self._slots:
            with STREAMS.track_inprogress():
                try:
                    return await _send(request, opened)
                except NotFound as error:
                    if absent is not None:
                        return _explained(f"{absent}: its log is where it runs", options)
                    raise RequestRefused(400, "source_gone", f"the log of {what}: {error}") from error
                except ClusterError as error:
                    status, reason = (400, "source_refused") if isinstance(error, Rejected) else (500, "source_failed")
                    raise RequestRefused(status, reason, f"the log of {what}: {error}") from error

    def _of_pod(self, base: BasePod, options: Mapping[str, str]) -> Opened:
        idle = None if "follow" in options else IDLE
        return self.source.pod_log(base.namespace, base.name, {"container": base.container, **options}, idle=idle)


async def _send(request: web.BaseRequest, opened: Opened) -> web.StreamResponse:
    """Answer with a log; raises ClusterError where it cannot be opened."""
    response = web.StreamResponse(headers={"Content-Type": "text/plain; charset=utf-8"})
    response.force_close()
    outcome = "left"
    try:
        async with opened as pieces:
            await response.prepare(request)
            await _copy(pieces, response)
            await response.write_eof()
        outcome = "sent"
    except TimeoutError:
        outcome = "not_taken"
        _cut(request)
    except ClusterError as error:
        if not response.prepared:
            outcome = ""
            raise
        outcome = "broken"
        # Ending the answer as if it were whole would hide that lines are missing.
        log.warning("a log broke off", cause=str(error))
        _cut(request)
    finally:
        if outcome:
            STREAMED.labels(outcome).inc()
    return response


def _explained(text: str, options: Mapping[str, str]) -> web.Response:
    STREAMED.labels("explained").inc()
    return web.Response(text=explanation(text, options, datetime.now(UTC)))


def _fields(absent: NoBasePod, names: tuple[str, ...]) -> dict[str, str]:
    namespace, pod, container = names
    of_module = {"namespace": namespace, "pod": pod, "container": container}
    return {"host": absent.host, "ip": absent.ip, "node": absent.vnode, **of_module}


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
