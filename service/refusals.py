"""Why a request or a connection is refused, and how refusals are counted and logged."""

import time
from collections.abc import Mapping

import structlog
from prometheus_client import Counter, Gauge

from service.limits import LogLimit, RateLimit

log = structlog.get_logger(__name__)

LOG_INTERVAL = 60.0
"""Seconds between two log lines about one peer."""
LONGEST_TEXT = 2000
"""Characters of a refusal's text: errors of libraries may quote all of a request."""
LOG_RATE, LOG_BURST = 1.0, 20.0
"""Log lines a second about refusals of all peers of a listener together."""

CONNECTIONS = Gauge("koupleless_listener_connections", "Open connections of a listener", ["listener"])
REFUSED = Counter("koupleless_listener_refused_total", "Connections and requests refused", ["listener", "reason"])


class RequestRefused(Exception):
    """A request is not answered: HTTP status, reason for metrics, text for people, headers of the answer.

    What is longer than LONGEST_TEXT is cut.
    """

    def __init__(self, status: int, reason: str, text: str, headers: Mapping[str, str] | None = None) -> None:
        self.text = text[:LONGEST_TEXT]
        super().__init__(self.text)
        self.status = status
        self.reason = reason
        self.headers = dict(headers or {})


class Refusals:
    """Counts the refusals of one listener, and logs them at a limited rate."""

    def __init__(self, listener: str) -> None:
        self._listener = listener
        self._logged = LogLimit(LOG_INTERVAL)
        self._rate = RateLimit(LOG_RATE, LOG_BURST, max_peers=1)

    def refused(self, peer: str, refusal: RequestRefused) -> None:
        """Count and log a refusal."""
        REFUSED.labels(self._listener, refusal.reason).inc()
        now = time.monotonic()
        held_back = self._logged.admit(peer, now)
        if held_back is not None and not self._rate.admit("", now):
            log.warning(
                "request refused",
                listener=self._listener,
                peer=peer,
                status=refusal.status,
                reason=refusal.reason,
                text=refusal.text,
                held_back=held_back,
            )

    def defect(self, peer: str, error: BaseException | None) -> None:
        """Count a defect of ours; its trace is logged once a minute."""
        REFUSED.labels(self._listener, "defect").inc()
        if self._logged.admit("defect", time.monotonic()) is not None:
            log.error("a request met a defect", listener=self._listener, peer=peer, exc_info=error)
