"""The life of a process: event loop, signals, exit code.

SIGTERM and SIGINT ask once for an orderly end; a second one cuts it short. Under a supervisor (SUPERVISED=1) standard
input is a pipe whose end means that the supervisor died: that asks for an orderly end too, so that nothing is left
behind.

A blocked event loop writes no log, so a thread watches it (service.watchdog): who restarts the process
(module-controller, or Kubernetes by /livez) does so after 30 s at the earliest, when the stacks of all threads are on
standard error already. A process that is out of memory, or asked to end while its loop stands still, ends itself.
"""

import argparse
import asyncio
import faulthandler
import gc
import os
import resource
import signal
import sys
from collections.abc import Awaitable, Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import structlog
import uvloop

from service import output
from service.masking import masked
from service.settings import Settings, describe
from service.watchdog import STANDARD_ERROR, Watchdog, end_if_exhausted, install

log = structlog.get_logger(__name__)

EXIT_FAILURE = 1
EXIT_REFUSED = 3
"""What a program ends with that may not run beside another one: starting it again does not help."""
GARBAGE = (10_000, 20, 20)
"""Objects that were made more than freed, and younger collections, until Python looks for cycles."""
PRIVATE = 0o077
"""The mask of files and folders that programs make: whatever is in them is the owner's."""

Main = Callable[[asyncio.Event], Awaitable[None]]


class StartError(Exception):
    """The program cannot start; the message says cause and fix, exit_code is what the process ends with."""

    def __init__(self, message: str, *, exit_code: int = EXIT_FAILURE) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def software_version() -> str:
    """Return the version of this software as installed."""
    try:
        return version("koupleless-module-controller")
    except PackageNotFoundError:
        return "unknown"


def parser(program: str, purpose: str, settings: type[Settings]) -> argparse.ArgumentParser:
    """Return a parser for --help (with the table of variables) and --version."""
    made = argparse.ArgumentParser(
        prog=program,
        description=purpose,
        epilog=f"environment variables:\n{describe(settings)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--version", action="version", version=f"{program} {software_version()}")
    return made


def arguments(program: str, purpose: str, settings: type[Settings]) -> None:
    """Answer --help and --version, if asked for; refuse anything else."""

    def parse() -> int:
        parser(program, purpose, settings).parse_args()
        return 0

    if code := output.run(program, parse):
        raise SystemExit(code)


def run(main: Main, *, loop: str = "uvloop") -> int:
    """Run main with an event that is set when the process should end; return the exit code.

    A StartError becomes one message on standard error, CannotWrite is raised, any other exception is logged with its
    trace. The exit code is 1 unless a StartError names another. loop "asyncio" selects the standard loop.
    """
    give_home()
    raise_file_limit()
    os.umask(PRIVATE)
    # A crash of compiled code leaves the stacks on standard error, too.
    faulthandler.enable(file=STANDARD_ERROR)
    factory = uvloop.new_event_loop if loop == "uvloop" else None
    try:
        with asyncio.Runner(loop_factory=factory) as runner:
            watchdog = Watchdog(runner.get_loop())
            watchdog.start()
            runner.run(_guarded(main, watchdog))
    except asyncio.CancelledError:
        return EXIT_FAILURE
    except Exception as error:
        causes = _leaves(error)
        for cause in causes:
            end_if_exhausted(cause)
        if unwritable := next((cause for cause in causes if isinstance(cause, output.CannotWrite)), None):
            raise unwritable from None
        refused = [cause for cause in causes if isinstance(cause, StartError)]
        if len(refused) < len(causes):
            log.exception("the process ends because shared machinery failed")
            return EXIT_FAILURE
        for cause in refused:
            output.complain(f"cannot start: {masked(str(cause))}")
        return max(cause.exit_code for cause in refused)
    return 0


def raise_file_limit() -> None:
    """Let the process open as many files, sockets included, as its hard limit allows."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def give_home() -> None:
    """Set HOME to / where nobody knows a home folder, as container runtimes do: libraries look for files there."""
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = "/"


def tune_garbage_collector() -> None:
    """Leave alone what the modules made, which lives as long as the process, and look for cycles less often.

    Reference counts free nearly all; cycles are those of errors and of closed connections.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE)


async def _guarded(main: Main, watchdog: Watchdog) -> None:
    tune_garbage_collector()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    install(loop)
    task = asyncio.ensure_future(main(stop))

    def on_signal(number: signal.Signals) -> None:
        if stop.is_set():
            log.warning("second signal: ending at once", signal=number.name)
            task.cancel()
            return
        log.info("ending", signal=number.name)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
        # The loop hears of signals through a file descriptor, whatever their handler is. Unlike the loop's own handler
        # this one interrupts system calls: in a main thread that waits for a lock none would run otherwise.
        signal.signal(number, watchdog.signalled)
    if os.environ.get("SUPERVISED") == "1":
        loop.add_reader(sys.stdin.fileno(), _orphaned, loop, stop)
    try:
        await task
    finally:
        watchdog.finished()


def _orphaned(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    if os.read(sys.stdin.fileno(), 4096):
        return
    loop.remove_reader(sys.stdin.fileno())
    log.warning("the supervisor is gone: ending")
    stop.set()


def _leaves(error: BaseException) -> list[BaseException]:
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
