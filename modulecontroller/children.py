"""Child processes: started, restarted when they die, ended in order.

A child that ends before it ever answered its probe could not start, and one that ends
with EXIT_REFUSED may not run: either ends the whole. One that dies otherwise is restarted with backoff. Children end by
themselves when this process dies, whatever killed it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import SystemRandom

import aiohttp
import structlog

from service.process import EXIT_REFUSED

log = structlog.get_logger(__name__)

RESTART_FIRST, RESTART_LONGEST = 0.5, 30.0
HEALTHY_AFTER = 60.0
STOP_WITHIN = 15.0
PROBE_EVERY, PROBE_WITHIN = 0.1, 2.0


class ChildFailed(Exception):
    """A child could not start; exit_code is what it ended with, below 0 the signal that ended it."""

    def __init__(self, name: str, exit_code: int) -> None:
        super().__init__(f"{name} could not start (exit code {exit_code}); its message stands above")
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class Program:
    """What to run: module is a Python module, environ what is set for it; most answer probes (STATUS_SOCKET)."""

    name: str
    module: str
    environ: Mapping[str, str]
    arguments: Sequence[str] = ()
    answers: bool = True


@dataclass(slots=True)
class Child:
    """One supervised child; folder is where its socket is.

    started is set once it answered its probe, or ran for a moment if it has none.
    """

    program: Program
    folder: str
    started: asyncio.Event = field(default_factory=asyncio.Event)
    process: asyncio.subprocess.Process | None = None
    restarts: int = 0
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def socket(self) -> str:
        """Where it answers probes."""
        return f"{self.folder}/{self.program.name}.sock"

    async def run(self) -> None:
        """Keep the program running until stop; raises ChildFailed if it never started."""
        failures, random = 0, SystemRandom()
        while not self.stopping.is_set():
            began = asyncio.get_running_loop().time()
            code = await self._once()
            if self.stopping.is_set():
                return
            if not self.started.is_set() or code == EXIT_REFUSED:
                raise ChildFailed(self.program.name, code)
            lived = asyncio.get_running_loop().time() - began
            failures = 1 if lived >= HEALTHY_AFTER else failures + 1
            delay = min(RESTART_FIRST * 2 ** (failures - 1), RESTART_LONGEST) * (0.75 + random.random() / 2)
            self.restarts += 1
            log.error(
                "child died and is restarted", child=self.program.name, exit_code=code, restart_in=round(delay, 1)
            )
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self.stopping.wait()

    async def stop(self) -> None:
        """Ask the program to end, and make it end if it does not within 15 s."""
        self.stopping.set()
        if self.process is not None:
            await _end(self.process, self.program.name)

    async def _once(self) -> int:
        program = self.program
        status = {"STATUS_SOCKET": self.socket} if program.answers else {}
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            program.module,
            *program.arguments,
            env={**os.environ, **program.environ, **status, "SUPERVISED": "1"},
            stdin=asyncio.subprocess.PIPE,
            # They log to standard error; what they announce besides is told by us.
            stdout=asyncio.subprocess.DEVNULL,
            # Ctrl-C reaches this process only, which ends its children in order.
            start_new_session=True,
        )
        probe = asyncio.create_task(self._probe(), name=f"probe-{program.name}")
        try:
            if self.stopping.is_set():
                await _end(self.process, program.name)
            return await self.process.wait()
        finally:
            probe.cancel()
            await _end(self.process, program.name)

    async def _probe(self) -> None:
        if not self.program.answers:
            await asyncio.sleep(PROBE_WITHIN)
            self.started.set()
            return
        while not self.started.is_set():
            answer = await ask(self.socket, "/livez")
            if answer is not None and answer[0] == 200:
                self.started.set()
                return
            await asyncio.sleep(PROBE_EVERY)


async def _end(process: asyncio.subprocess.Process, name: str) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    waiting = asyncio.ensure_future(process.wait())
    await asyncio.wait({waiting}, timeout=STOP_WITHIN)
    if not waiting.done():
        log.error("child did not end and is killed", child=name)
        process.kill()
    await waiting


async def ask(socket: str, path: str) -> tuple[int, str] | None:
    """Return status and text of a child's answer on its Unix socket, None when it does not answer."""
    timeout = aiohttp.ClientTimeout(total=PROBE_WITHIN)
    try:
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(socket), timeout=timeout) as session,
            session.get(f"http://localhost{path}") as response,
        ):
            return response.status, await response.text()
    except (aiohttp.ClientError, OSError, TimeoutError):
        return None
