"""The tracker: every install, uninstall, update and removal as a line of a file, failures as posts to links."""

import asyncio
from collections import deque
from collections.abc import Sequence
from datetime import datetime
from typing import NoReturn

import structlog

from controlplane.app.events import Happening
from controlplane.app.metrics import TRACKED
from controlplane.app.ports import EventFile
from controlplane.app.reporting.hooks import HookQueue, report_of

log = structlog.get_logger(__name__)

WAITING = 10_000
AT_ONCE = 1000
"""Lines that are written in one go."""


class Tracker:
    """Writes lines and posts to links; everything: successes are posted too."""

    def __init__(
        self, file: EventFile, links: Sequence[HookQueue], *, replica: str, env: str, everything: bool
    ) -> None:
        self._file = file
        self._links = tuple(links)
        self._replica = replica
        self._env = env
        self._everything = everything
        self._lines: deque[str] = deque()
        self._came = asyncio.Event()
        self._failing = False

    def happened(self, happening: Happening) -> None:
        """Track what happened to a module, and any failure; when too many lines wait the oldest is left out."""
        report = report_of(happening, replica=self._replica, env=self._env)
        if report is None:
            return
        if report.failed or self._everything:
            for link in self._links:
                link.put(report)
        if len(self._lines) >= WAITING:
            self._lines.popleft()
            TRACKED.labels("dropped").inc()
        self._lines.append(report.line(local_stamp(happening.wall)))
        self._came.set()

    async def run(self) -> NoReturn:
        """Write what waits and serve the links, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number, link in enumerate(self._links, 1):
                group.create_task(link.run(), name=f"link-{number}")
            group.create_task(self._write(), name="event-file")
        raise AssertionError("events are tracked until cancelled")

    async def _write(self) -> NoReturn:
        while True:
            await self._came.wait()
            lines = [self._lines.popleft() for _ in range(min(len(self._lines), AT_ONCE))]
            if not self._lines:
                self._came.clear()
            try:
                await self._file.append("".join(lines))
            except (OSError, TimeoutError) as error:
                TRACKED.labels("failed").inc(len(lines))
                if not self._failing:
                    self._failing = True
                    log.warning(
                        "events cannot be written to the tracker's file", cause=str(error) or "it takes too long"
                    )
            else:
                TRACKED.labels("written").inc(len(lines))
                if self._failing:
                    self._failing = False
                    log.info("events are written to the tracker's file again")


def local_stamp(wall: float) -> str:
    """Return seconds since the epoch as events.log has them: local time with milliseconds."""
    return datetime.fromtimestamp(wall).astimezone().strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
