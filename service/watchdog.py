"""Watches a process: reports an event loop that stands still, ends a process that can do nothing any more, and gives
memory back that it does not use.

One that can do nothing is out of memory, or was asked to end while its event loop stands still. A loop that stands
still for long is reported with the stacks of all threads. A thread of Python reads them, with the interpreter's lock: a
thread in C (faulthandler.dump_traceback_later) reads them while they change, which crashed processes that had only been
paused.

Exhaustion is a state of the process and not only an exception. Whoever meets the MemoryError may catch it with others,
a library may give it another name (orjson: JSONDecodeError), and CPython waits without end for a thread that had no
memory to begin. So a thread of its own looks every second whether memory can still be had. Where an exception does
arrive with nobody to catch it, hooks end the process at once.

The end allocates nothing: a prepared line and the stacks go to standard error, then the process exits.
"""

import asyncio
import faulthandler
import mmap
import os
import select
import signal
import sys
import threading
import time
import traceback
from contextlib import suppress
from types import FrameType
from typing import Any, NoReturn

import structlog

from service import heap

log = structlog.get_logger(__name__)

EXIT_CANNOT_GO_ON = 70
"""What a process ends with that gave itself up: EX_SOFTWARE of sysexits.h. A supervisor starts it again."""
STANDARD_ERROR = 2
LOOK_EVERY = 1.0
"""Seconds between two looks of the watchdog."""
RESERVE = 8 << 20
"""Bytes of address space without which the process counts as exhausted: the stack of one more thread."""
SHORT_LOOKS = 2
"""Looks one after the other that must find no memory."""
STUCK_LOOKS = 10
"""Looks after a signal to end without a turn of the event loop, and after the end of the loop."""
STACKS_LOOKS = 20
"""Looks without a turn of the event loop, after which the stacks are written."""
HEAP_LOOKS = 60
"""Looks after which free memory is given back to the system."""
BLOCKED = 5.0
"""Seconds for which the event loop must have been blocked to be logged afterwards."""
WRITTEN_WITHIN = 5
"""Seconds for the last lines, which a full pipe could hold up; the kernel's alarm ends the process then."""

_NO_MEMORY = b"the process ends: no memory is left (see ulimit -v, RLIMIT_AS and the limits of its service)\n"
_STUCK = b"the process ends: it was asked to, and its event loop does not turn\n"
_STANDS = b"the event loop does not turn; where all threads are:\n"
_LINGERS = b"the process ends: its work is done, but something keeps it\n"
_NO_THREAD = "can't start new thread"


def end(line: bytes) -> NoReturn:
    """End the process at once, with a line and the stacks of all threads on standard error."""
    signal.alarm(WRITTEN_WITHIN)
    try:
        os.write(STANDARD_ERROR, line)
        faulthandler.dump_traceback(STANDARD_ERROR, all_threads=True)
    finally:
        os._exit(EXIT_CANNOT_GO_ON)


def is_exhaustion(error: BaseException | None) -> bool:
    """Return whether an exception says that the process has no memory, or may have no more threads."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and str(error) == _NO_THREAD)


def has_memory() -> bool:
    """Return whether the kernel still gives address space; no page of it is touched."""
    try:
        mmap.mmap(-1, RESERVE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
    except (OSError, MemoryError):
        return False
    return True


def end_if_exhausted(error: BaseException | None) -> None:
    """End the process if an exception says that it is exhausted."""
    if is_exhaustion(error):
        end(_NO_MEMORY)


def stacks() -> bytes:
    """Return where all threads are."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    found = []
    for ident, frame in sys._current_frames().items():
        found += [f"Thread {names.get(ident, ident)}:\n", *traceback.format_stack(frame)]
    return "".join(found).encode(errors="backslashreplace")


def install(loop: asyncio.AbstractEventLoop) -> None:
    """Have the process end when it is exhausted and nobody catches that, in the loop, a thread or a finaliser."""

    def in_loop(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        end_if_exhausted(context.get("exception"))
        loop.default_exception_handler(context)

    def in_thread(arguments: threading.ExceptHookArgs) -> None:
        end_if_exhausted(arguments.exc_value)
        threading.__excepthook__(arguments)

    def nowhere(arguments: "sys.UnraisableHookArgs") -> None:
        end_if_exhausted(arguments.exc_value)
        sys.__unraisablehook__(arguments)

    loop.set_exception_handler(in_loop)
    threading.excepthook = in_thread
    sys.unraisablehook = nowhere


class Watchdog(threading.Thread):
    """Looks every second, from its own thread, whether the process can go on.

    What it counts are looks and not seconds, so that the time in which a whole machine stood still counts for nothing.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(name="watchdog", daemon=True)
        self._loop = loop
        self._short = 0
        self._waited = 0
        """Looks since the loop last turned."""
        self._asked = False
        """The loop was asked to turn, and did not yet."""
        self._why = b""
        self._looks = 0

    def run(self) -> None:
        """Look until the process ends."""
        try:
            while True:
                # Not time.sleep, which some environments refuse (libfaketime: EINVAL).
                select.select((), (), (), LOOK_EVERY)
                self.look()
        except MemoryError:
            end(_NO_MEMORY)

    def look(self) -> None:
        """Look once; does not return when the process cannot go on."""
        self._short = 0 if has_memory() else self._short + 1
        if self._short >= SHORT_LOOKS:
            end(_NO_MEMORY)
        if self._asked or self._why is _LINGERS:
            self._waited += 1
        if self._why and self._waited > STUCK_LOOKS:
            end(self._why)
        if self._waited == STACKS_LOOKS:
            # Not in this thread: nobody may read standard error.
            text = _STANDS + stacks()
            threading.Thread(target=os.write, args=(STANDARD_ERROR, text), name="stacks", daemon=True).start()
        self._looks += 1
        if self._looks % HEAP_LOOKS == 0:
            heap.give_back()
        if not self._asked:
            self._asked = True
            with suppress(RuntimeError):  # it is closed
                self._loop.call_soon_threadsafe(self._turned, time.monotonic())

    def signalled(self, _number: int, _frame: FrameType | None) -> None:
        """From now on the event loop has to turn; as a handler of Python it runs although the loop stands still."""
        if not self._why:
            self._why, self._waited = _STUCK, 0

    def finished(self) -> None:
        """The work is done: the process has to end."""
        self._why, self._waited = _LINGERS, 0

    def _turned(self, asked: float) -> None:
        self._asked = False
        if self._why is not _LINGERS:
            self._waited = 0
        if (late := time.monotonic() - asked) >= BLOCKED:
            log.warning("the event loop was blocked", seconds=round(late, 1))
