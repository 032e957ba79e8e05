"""Records of asynchronous commands, which queryBizOps tells. Times are epoch milliseconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gateways.arklet.fields import Json
from simulatedbase.rendering import bean
from simulatedbase.request import BizRequest

KEPT = 4096
"""How many records are kept; a Java base keeps them all."""


@dataclass(slots=True)
class Process:
    """One asynchronous command: INITIALIZED, EXECUTING, then SUCCEEDED or FAILED."""

    request: BizRequest
    started_at: int
    status: str = "INITIALIZED"
    message: str = ""
    ended_at: int = 0

    def execute(self) -> None:
        """Note that the command runs."""
        self.status = "EXECUTING"

    def finish(self, envelope: Json, now: int) -> None:
        """Note the answer; of a negative one only the outer message is kept."""
        if envelope["code"] == "SUCCESS":
            self.status = "SUCCEEDED"
        else:
            self.status, self.message = "FAILED", envelope["message"]
        self.end(now)

    def fail(self, reason: str, now: int) -> None:
        """Note an exception."""
        self.status, self.message = "FAILED", reason
        self.end(now)

    def end(self, now: int) -> None:
        """Note the end alone."""
        self.ended_at = now

    def rendered(self) -> Json:
        """Return the record as arklet tells it."""
        return bean(
            arkBizMeta=self.request.echo(),
            elapsedTime=self.ended_at - self.started_at if self.ended_at else 0,
            endTime=self.ended_at or None,
            endTimestamp=self.ended_at,
            message=self.message or None,
            requestId=self.request.request_id,
            startTime=self.started_at,
            startTimestamp=self.started_at,
            status=self.status,
            threadName="arklet-ops-1" if self.status != "INITIALIZED" else None,
        )


class Processes:
    """The records by request id."""

    def __init__(self, now: Callable[[], int]) -> None:
        self._now = now
        self._records: dict[str, Process] = {}

    def begin(self, request: BizRequest) -> Process | None:
        """Make a record; None when the request id was used before."""
        if request.request_id in self._records:
            return None
        if len(self._records) >= KEPT:
            del self._records[next(iter(self._records))]
        process = Process(request, self._now())
        self._records[request.request_id] = process
        return process

    def get(self, request_id: str) -> Process | None:
        """Return the record of a request id."""
        return self._records.get(request_id)
