"""The life of a process: event loop, signals, exit code.

SIGTERM and SIGINT ask once for an orderly end; a second one cuts it short. Under a
supervisor (SUPERVISED=1) standard input is a pipe whose end means that the
supervisor died: that asks for an orderly end too, so that nothing is left behind.
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from importlib.metadata import PackageNotFoundError, version

import structlog
import uvloop

from service import output, watchdog
from service.folders import give_home
from service.listening import CannotListen
from service.masking import masked
from service.settings import Settings, describe

log = structlog.get_logger(__name__)

EXIT_FAILURE = 1
EXIT_REFUSED = 3
"""What a program ends with that may not run beside another one: starting it again does not help."""

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


def arguments(program: str, purpose: str, settings: type[Settings], argv: Sequence[str] | None = None) -> None:
    """Answer --help (with the table of variables) and --version; refuse anything else."""
    parser = argparse.ArgumentParser(
        prog=program,
        description=purpose,
        epilog=f"environment variables:\n{describe(settings)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"{program} {software_version()}")

    def parse() -> int:
        parser.parse_args(argv)
        return 0

    if code := output.run(program, parse):
        raise SystemExit(code)


def run(main: Main, *, loop: str = "uvloop") -> int:
    """Run main with an event that is set when the process should end; return the exit code.

    A StartError or CannotListen becomes one message on standard error, CannotWrite is
    raised, any other exception is logged with its trace. The exit code is 1 unless a
    StartError names another. loop "asyncio" selects the standard loop.
    """
    give_home()
    # A crash of compiled code leaves the stacks on standard error, too.
    faulthandler.enable(file=watchdog.STANDARD_ERROR)
    factory = uvloop.new_event_loop if loop == "uvloop" else None
    try:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(_guarded(main))
    except asyncio.CancelledError:
        return EXIT_FAILURE
    except Exception as error:
        causes = _leaves(error)
        if unwritable := next((cause for cause in causes if isinstance(cause, output.CannotWrite)), None):
            raise unwritable from None
        if all(isinstance(cause, StartError | CannotListen) for cause in causes):
            for cause in causes:
                output.complain(f"cannot start: {masked(str(cause))}")
            return max(cause.exit_code if isinstance(cause, StartError) else EXIT_FAILURE for cause in causes)
        log.exception("the process ends because shared machinery failed")
        return EXIT_FAILURE
    return 0


async def _guarded(main: Main) -> None:
    stop = asyncio.Event()
    task = asyncio.ensure_future(main(stop))
    watching = asyncio.create_task(watchdog.watch(), name="watchdog")
    loop = asyncio.get_running_loop()

    def on_signal(number: signal.Signals) -> None:
        if stop.is_set():
            log.warning("second signal: ending at once", signal=number.name)
            task.cancel()
            return
        log.info("ending", signal=number.name)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    if os.environ.get("SUPERVISED") == "1":
        loop.add_reader(sys.stdin.fileno(), _orphaned, loop, stop)
    try:
        await task
    finally:
        watching.cancel()


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
