"""Child processes: started, asked whether they work, replaced when they do not, ended in order.

A child that ends before it ever answered could not start, and one that ends with EXIT_REFUSED may not run: either ends
the whole, and so does a first process that does not answer in time. Later, a process that ends is restarted, and one
that no longer answers is ended and replaced, both with backoff. The process before has always ended when the next one
starts, so that ports and leases are free. Children end by themselves when this process dies, whatever killed it.
"""

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
from typing import NoReturn

import aiohttp
import structlog

from controlplane.domain.backoff import Backoff
from service.process import EXIT_FAILURE, EXIT_REFUSED, StartError

log = structlog.get_logger(__name__)

RESTART = Backoff(first=0.5, longest=30.0, jitter=0.5)
HEALTHY_AFTER = 60.0
"""Seconds after which a process that ends has not failed again, but for the first time."""
ASK_EVERY, ASK_EVERY_AT_START = 0.5, 0.1
"""Seconds between two questions, if the answer does not take longer."""
UNASKED_START = 2.0
"""Seconds after which a child that answers no questions counts as started."""
CAUSES = (ENDED, SILENT) = ("ended", "silent")
"""Why a child was restarted: it ended by itself, or did not answer."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds that children are given. Those for the end fit into the 30 s that Kubernetes gives a Pod."""

    start: float = 120.0
    """From the start of a process to its first answer."""
    silence: float = 30.0
    """Without an answer of a process that has answered before."""
    answer: float = 5.0
    """For one answer."""
    stop: float = 12.0
    """From SIGTERM to SIGKILL."""
    stop_silent: float = 5.0
    """The same for a process that does not answer."""
    killed: float = 10.0
    """From SIGKILL to the end of the process, which the kernel may hold back."""


PATIENCE = Patience()


@dataclass(slots=True)
class Liveness:
    """Whether a child works: what follows from its answers, and from their absence. Its process may be replaced.

    Only time in which it was really asked counts as silence: a supervisor that stood still itself, on a frozen machine
    for example, knows nothing of that time.
    """

    patience: Patience
    answered: bool = False
    """Whether the process that runs now has answered."""
    _silent_process: float = 0.0
    """Seconds without an answer of this process."""
    _silent: float = float("-inf")
    """The same of any process; the time before the very first answer does not count."""

    def process_started(self) -> None:
        """Note that a new process runs."""
        self.answered = False
        self._silent_process = 0.0

    def process_answered(self) -> None:
        """Note an answer."""
        self.answered = True
        self._silent = self._silent_process = 0.0

    def missed(self, seconds: float) -> None:
        """Note so many seconds in which no answer came."""
        self._silent += seconds
        self._silent_process += seconds

    @property
    def fault(self) -> str:
        """Why the process has to be replaced, empty while it has not."""
        if self._silent_process < (self.patience.silence if self.answered else self.patience.start):
            return ""
        if self.answered:
            return f"has not answered for {self._silent_process:.0f} s"
        return f"did not answer within {self.patience.start:g} s of its start"

    @property
    def trouble(self) -> str:
        """What keeps the child from counting as alive, empty when nothing does."""
        return f"has not answered for {self._silent:.0f} s" if self._silent >= self.patience.silence else ""


@dataclass(frozen=True, slots=True)
class Program:
    """What to run: module is a Python module, environ what is set for it; most answer on their STATUS_SOCKET."""

    name: str
    module: str
    environ: Mapping[str, str]
    arguments: Sequence[str] = ()
    answers: bool = True


@dataclass(slots=True)
class Child:
    """One supervised child; folder is where its socket is."""

    program: Program
    folder: str
    patience: Patience = PATIENCE
    started: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once it answered, or ran for a moment if it does not answer at all."""
    restarts: Counter[str] = field(default_factory=Counter)
    """By cause."""
    trouble: Sequence[str] = ("not started yet",)
    """What keeps it from being ready, in its own words where it answers."""
    notes: Sequence[str] = ()
    """What it says besides while it is ready."""
    task: asyncio.Task[NoReturn] | None = None
    """What runs it, once it is started."""
    liveness: Liveness = field(init=False)

    def __post_init__(self) -> None:
        self.liveness = Liveness(self.patience)

    @property
    def socket(self) -> str:
        """Where it answers."""
        return f"{self.folder}/{self.program.name}.sock"

    async def run(self) -> NoReturn:
        """Keep the program running until cancelled, then have it end; raises StartError if it cannot run."""
        failures, random, clock = 0, SystemRandom(), asyncio.get_running_loop().time
        while True:
            began = clock()
            code = await self._once()
            if not self.started.is_set() or code == EXIT_REFUSED:
                why = self.liveness.fault or f"could not start (exit code {code}); its message stands above"
                # Below 0 it is the signal that ended it.
                raise StartError(f"{self.program.name} {why}", exit_code=max(code, EXIT_FAILURE))
            failures = 1 if clock() - began >= HEALTHY_AFTER else failures + 1
            delay = RESTART.delay(failures, random.random())
            cause = SILENT if self.liveness.fault else ENDED
            self.restarts[cause] += 1
            log.error(
                "child is restarted", child=self.program.name, cause=cause, exit_code=code, restart_in=round(delay, 1)
            )
            await asyncio.sleep(delay)
            self.liveness.missed(delay)

    async def ask(self, path: str) -> tuple[int, str] | None:
        """Return status and text of an answer, None when there is none in time."""
        timeout = aiohttp.ClientTimeout(total=self.patience.answer)
        try:
            async with (
                aiohttp.ClientSession(connector=aiohttp.UnixConnector(self.socket), timeout=timeout) as session,
                session.get(f"http://localhost{path}") as response,
            ):
                return response.status, await response.text()
        except (aiohttp.ClientError, OSError, TimeoutError):
            return None

    async def _once(self) -> int:
        """Run a process until it ends, has to be replaced or this is cancelled; return its exit code.

        EXIT_FAILURE, too, when the kernel has no process, memory or descriptor for it now.
        """
        try:
            process = await self._spawn()
        except OSError as error:
            log.warning("child cannot be started", child=self.program.name, cause=str(error))
            return EXIT_FAILURE
        self.liveness.process_started()
        exited = asyncio.ensure_future(process.wait())
        watching = asyncio.create_task(self._watch(), name=f"watch-{self.program.name}")
        try:
            await asyncio.wait({exited, watching}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            watching.cancel()
            self._take(None)
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
            # They log to standard error; what they announce besides is printed by us.
            stdout=asyncio.subprocess.DEVNULL,
            # Ctrl-C reaches this process only, which ends its children in order.
            start_new_session=True,
        )

    async def _watch(self) -> None:
        """Ask the process again and again, until it has to be replaced."""
        if not self.program.answers:
            await asyncio.sleep(UNASKED_START)
            self.started.set()
            await asyncio.Event().wait()
        clock = asyncio.get_running_loop().time
        while not self.liveness.fault:
            began = clock()
            answer = await self.ask("/readyz")
            # It takes longer only where we stood still ourselves.
            took = min(clock() - began, self.patience.answer)
            every = ASK_EVERY if answer or self.liveness.answered else ASK_EVERY_AT_START
            pause = max(every - took, 0.0)
            if answer:
                self.liveness.process_answered()
                self.started.set()
            else:
                self.liveness.missed(took + pause)
            self._take(answer)
            await asyncio.sleep(pause)

    def _take(self, answer: tuple[int, str] | None) -> None:
        """Keep what it says of its readiness."""
        if answer is None:
            if self.started.is_set():
                self.trouble, self.notes = ["does not answer"], []
            return
        status, text = answer
        lines = text.splitlines()
        self.trouble = [] if status == 200 else lines or [f"answers {status}"]
        self.notes = lines[1:] if status == 200 else []

    async def _end(self, process: Process, exited: asyncio.Future[int]) -> None:
        """Have a process end, by SIGKILL if need be; raises StartError when even that does not help."""
        name, patience, fault = self.program.name, self.patience, self.liveness.fault
        if exited.done():
            return
        if fault:
            log.error("child does not answer and is replaced", child=name, cause=fault, state=_state(process.pid))
        # It may have ended in this moment.
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await asyncio.wait({exited}, timeout=patience.stop_silent if fault else patience.stop)
        if exited.done():
            return
        log.error("child did not end and is killed", child=name, state=_state(process.pid))
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await asyncio.wait({exited}, timeout=patience.killed)
        if not exited.done():
            raise StartError(f"{name} cannot be ended: process {process.pid} is {_state(process.pid)}")


def _state(pid: int) -> str:
    """Return the kernel's word for the state of a process, such as "T (stopped)"; empty when it cannot be seen."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("State:")), "")
