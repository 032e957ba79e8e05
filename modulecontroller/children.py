"""Child processes: started, asked whether they work, replaced when they do not, ended in order.

A child that ends before it ever answered its probe could not start, and one that ends with EXIT_REFUSED may not run:
either ends the whole, and so does a first process that does not answer in time. Later, a process that ends is
restarted, and one that no longer answers is ended and replaced, both with backoff. The process before has always ended
when the next one starts, so that ports and leases are free. Children end by themselves when this process dies,
whatever killed it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from asyncio.subprocess import Process
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import SystemRandom

import aiohttp
import structlog

from modulecontroller.liveness import PATIENCE, Liveness, Patience
from service.process import EXIT_FAILURE, EXIT_REFUSED

log = structlog.get_logger(__name__)

RESTART_FIRST, RESTART_LONGEST = 0.5, 30.0
HEALTHY_AFTER = 60.0
PROBE_EVERY, PROBE_WITHIN = 0.1, 2.0
CAUSES = (ENDED, SILENT) = ("ended", "silent")
"""Why a child was restarted: it ended by itself, or did not answer."""


class ChildFailed(Exception):
    """A child cannot run; exit_code is what it ended with, below 0 the signal that ended it."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
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
    patience: Patience = PATIENCE
    started: asyncio.Event = field(default_factory=asyncio.Event)
    restarts: Counter[str] = field(default_factory=Counter)
    """By cause."""
    liveness: Liveness = field(init=False)
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _ended: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.liveness = Liveness(self.patience)
        self._ended.set()

    @property
    def socket(self) -> str:
        """Where it answers probes."""
        return f"{self.folder}/{self.program.name}.sock"

    async def run(self) -> None:
        """Keep the program running until stop; raises ChildFailed if it cannot run."""
        self._ended.clear()
        try:
            await self._keep_running()
        finally:
            self._ended.set()

    async def stop(self) -> None:
        """Have the program end, and wait until it has."""
        self._stopping.set()
        await self._ended.wait()

    async def _keep_running(self) -> None:
        failures, random = 0, SystemRandom()
        while not self._stopping.is_set():
            began = asyncio.get_running_loop().time()
            code = await self._once()
            if self._stopping.is_set():
                return
            cause = SILENT if self.liveness.fault else ENDED
            if not self.started.is_set() or code == EXIT_REFUSED:
                raise self._failed(code)
            lived = asyncio.get_running_loop().time() - began
            failures = 1 if lived >= HEALTHY_AFTER else failures + 1
            delay = min(RESTART_FIRST * 2 ** (failures - 1), RESTART_LONGEST) * (0.75 + random.random() / 2)
            self.restarts[cause] += 1
            log.error(
                "child is restarted", child=self.program.name, cause=cause, exit_code=code, restart_in=round(delay, 1)
            )
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._stopping.wait()
            self.liveness.missed(delay)

    def _failed(self, code: int) -> ChildFailed:
        name = self.program.name
        if fault := self.liveness.fault:
            return ChildFailed(f"{name} {fault}", code)
        return ChildFailed(f"{name} could not start (exit code {code}); its message stands above", code)

    async def _once(self) -> int:
        """Run a process until it ends, has to be replaced or is to stop; return its exit code."""
        process = await self._spawn()
        self.liveness.process_started()
        exited = asyncio.ensure_future(process.wait())
        others = [
            asyncio.create_task(self._watch(), name=f"watch-{self.program.name}"),
            asyncio.create_task(self._stopping.wait(), name=f"stop-{self.program.name}"),
        ]
        try:
            await asyncio.wait({exited, *others}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in others:
                task.cancel()
            await self._end(process, exited)
        return exited.result()

    async def _spawn(self) -> Process:
        program = self.program
        status = {"STATUS_SOCKET": self.socket} if program.answers else {}
        return await asyncio.create_subprocess_exec(
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

    async def _watch(self) -> None:
        """Ask the process again and again, until it has to be replaced."""
        if not self.program.answers:
            await asyncio.sleep(PROBE_WITHIN)
            self.started.set()
            await self._stopping.wait()
        clock = asyncio.get_running_loop().time
        longest = self.patience.ask_every
        while not self.liveness.fault:
            began = clock()
            answer = await ask(self.socket, "/livez", within=longest)
            took = clock() - began
            if answer is not None and answer[0] == 200:
                self.liveness.heard()
                self.started.set()
                pause = longest
            else:
                pause = max((longest if self.liveness.answered else PROBE_EVERY) - took, 0.0)
                self.liveness.missed(min(took + pause, longest))
            await asyncio.sleep(pause)

    async def _end(self, process: Process, exited: asyncio.Future[int]) -> None:
        """Have a process end, by SIGKILL if need be; raises ChildFailed when even that does not help."""
        name, patience, fault = self.program.name, self.patience, self.liveness.fault
        if exited.done():
            return
        if fault:
            log.error("child does not answer and is replaced", child=name, cause=fault, state=_state(process.pid))
        # It may have ended in this moment.
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        if await _done(exited, within=patience.stop_silent if fault else patience.stop):
            return
        log.error("child did not end and is killed", child=name, state=_state(process.pid))
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        if not await _done(exited, within=patience.killed):
            raise ChildFailed(f"{name} cannot be ended: process {process.pid} is {_state(process.pid)}", EXIT_FAILURE)


async def _done(future: asyncio.Future[int], *, within: float) -> bool:
    await asyncio.wait({future}, timeout=within)
    return future.done()


def _state(pid: int) -> str:
    """Return the kernel's word for the state of a process, such as "T (stopped)"; empty when it cannot be seen."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("State:")), "")


async def ask(socket: str, path: str, *, within: float = PROBE_WITHIN) -> tuple[int, str] | None:
    """Return status and text of a child's answer on its Unix socket, None when it does not answer in time."""
    timeout = aiohttp.ClientTimeout(total=within)
    try:
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(socket), timeout=timeout) as session,
            session.get(f"http://localhost{path}") as response,
        ):
            return response.status, await response.text()
    except (aiohttp.ClientError, OSError, TimeoutError):
        return None
