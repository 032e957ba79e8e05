"""The intake: POST /log, where other programs report what went wrong; it is logged and goes to the hooks.

Fields and answer are those of the Go Module Controller V2.
"""

import hmac
import math
from collections.abc import Callable

import orjson
import structlog
from aiohttp import hdrs, web
from prometheus_client import Counter

from controlplane.app.ports import Clock
from controlplane.cluster import fields
from controlplane.domain.reports import Report
from controlplane.reports.posting import TOLD_BY
from service.limits import RateLimit
from service.masking import masked
from service.refusals import RequestRefused
from service.webserver import Route, WebServer, read_body, routed

log = structlog.get_logger(__name__)

LARGEST = 64 * 1024
BODY_WITHIN = 10.0
SHOWN = 4096
PEERS = 1024
MOST = 300
"""What one address may report in a minute, at once too."""

TAKEN = Counter("koupleless_reported_logs_total", "Reports that came in at /log", ["outcome"])

_TEXTS = ("traceid", "scene", "event", "result", "message", "code")


class NotAReport(Exception):
    """A body is not a report; the message says why."""


class ReportIntake:
    """Listens for reports; take is called with each. Without a token whoever reaches it may report."""

    def __init__(
        self,
        port: int,
        host: str,
        *,
        token: str,
        take: Callable[[Report], None],
        clock: Clock,
        most: int = MOST,
    ) -> None:
        self._host = host
        self._port = port
        self._token = token.encode()
        self._report = take
        self._clock = clock
        self._limit = RateLimit(most / 60, most, max_peers=PEERS)
        self._web = WebServer("reports", routed({"/log": Route(self._take, ("POST",))}))

    async def start(self) -> None:
        """Listen; raises CannotListen."""
        await self._web.bind(self._host, self._port, "REPORT_PORT")
        self._web.start()

    async def stop(self) -> None:
        """Stop listening."""
        await self._web.stop()

    async def _take(self, request: web.BaseRequest) -> web.Response:
        if self._token and not self._knows_token(request):
            raise _refusal("token", 401, "a bearer token is needed: REPORT_TOKEN", {hdrs.WWW_AUTHENTICATE: "Bearer"})
        if wait := self._limit.admit(request.remote or "", self._clock.monotonic()):
            raise _refusal("too-fast", 429, "too many reports", {hdrs.RETRY_AFTER: str(math.ceil(wait))})
        try:
            body = await read_body(request, most=LARGEST, within=BODY_WITHIN)
        except RequestRefused as refusal:
            raise _refusal(refusal.reason.replace("_", "-"), refusal.status, refusal.text) from None
        try:
            report = read(body)
        except NotAReport as error:
            raise _refusal("malformed", 400, str(error)) from None
        TAKEN.labels("taken").inc()
        log.warning("report", peer=request.remote, report=masked(orjson.dumps(report.fields()).decode())[:SHOWN])
        # A replica's own tracker may be set to post here: it has given the report to the hooks already.
        if TOLD_BY not in request.headers:
            self._report(report)
        return web.Response()

    def _knows_token(self, request: web.BaseRequest) -> bool:
        scheme, _, given = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        right = hmac.compare_digest(given.strip().encode(errors="replace"), self._token)
        return scheme.lower() == "bearer" and right


def read(body: bytes) -> Report:
    """Return the report that a body holds; raises NotAReport.

    Names of fields are read in any case; unknown ones are ignored.
    """
    given = fields.parsed(body)
    if given is None:
        raise NotAReport(f"the body is {'not a JSON object' if body.strip() else 'empty; a JSON object is needed'}")
    sent = {name.lower(): value for name, value in given.items() if value is not None}
    texts = {name: sent.get(name, "") for name in _TEXTS}
    for name, text in texts.items():
        if not isinstance(text, str):
            raise NotAReport(f"{name} is not a text")
    labels = sent.get("labels", {})
    if not isinstance(labels, dict) or not all(isinstance(value, str) for value in labels.values()):
        raise NotAReport("labels is not an object of texts")
    took = sent.get("timeused", 0)
    if not isinstance(took, int) or isinstance(took, bool):
        raise NotAReport("timeUsed is not a whole number of milliseconds")
    if not any(texts.values()):
        raise NotAReport("none of traceID, scene, event, result, message and code is there")
    key = orjson.dumps([texts, labels], option=orjson.OPT_SORT_KEYS).decode()
    trace = texts.pop("traceid")
    return Report(key=key, **texts, labels=labels, trace_id=trace, milliseconds=took)


def _refusal(outcome: str, status: int, text: str, headers: dict[str, str] | None = None) -> RequestRefused:
    TAKEN.labels(outcome).inc()
    return RequestRefused(status, outcome.replace("-", "_"), text, headers)
