"""Files that may change while a program runs: read at the start, and again whenever they changed.

What cannot be used leaves the old in place; it is counted, and logged once.
"""

import asyncio
from collections.abc import Callable
from typing import Generic, NoReturn, TypeVar

import structlog
from prometheus_client import Counter

from service.process import StartError

log = structlog.get_logger(__name__)

LOOK_EVERY = 10.0
"""Seconds between two looks at the files."""

RELOADS = Counter("koupleless_file_reloads_total", "Changed files that programs follow", ["files", "outcome"])

T = TypeVar("T")


class Followed(Generic[T]):
    """What some files say now. read blocks, and raises StartError; files names them in metrics and logs."""

    def __init__(self, read: Callable[[], T], files: str, *, look_every: float = LOOK_EVERY) -> None:
        self._read = read
        self._files = files
        self._look_every = look_every
        self._read_last: list[T] = []
        self.changed = asyncio.Event()
        """Set with each change; who waits for it clears it."""

    @property
    def current(self) -> T:
        """What is in use; load comes first."""
        if not self._read_last:
            raise RuntimeError(f"the files of {self._files} were not read")
        return self._read_last[-1]

    async def load(self) -> None:
        """Read the files for the first time. Raises StartError."""
        self._read_last = [await asyncio.to_thread(self._read)]

    async def follow(self) -> NoReturn:
        """Look at the files at intervals and take what changed; until cancelled."""
        problem = ""
        while True:
            await asyncio.sleep(self._look_every)
            try:
                read = await asyncio.to_thread(self._read)
                problem = ""
                if read != self.current:
                    self._read_last = [read]
                    self.changed.set()
                    RELOADS.labels(self._files, "taken").inc()
                    log.info("changed files are used from now on", files=self._files)
            except StartError as error:
                if str(error) != problem:
                    problem = str(error)
                    RELOADS.labels(self._files, "unusable").inc()
                    log.warning("changed files cannot be used; the old stay in use", files=self._files, cause=problem)
