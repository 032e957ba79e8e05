"""A process that cannot go on ends itself; one that can is left alone."""

import asyncio
import sys
import threading
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from structlog.testing import capture_logs

from service import heap, watchdog
from service.watchdog import BLOCKED, HEAP_LOOKS, SHORT_LOOKS, STACKS_LOOKS, STUCK_LOOKS, Watchdog


class Ended(SystemExit):
    """Stands for the end of the process; the text is the line that is printed."""


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether there is memory at each look; there is after the last one."""

    def end(line: bytes) -> NoReturn:
        raise Ended(line.decode())

    answers: list[bool] = []
    monkeypatch.setattr(watchdog, "end", end)
    monkeypatch.setattr(watchdog, "has_memory", lambda: answers.pop(0) if answers else True)
    return answers


class Loop:
    """A loop that turns only when it is asked to."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], object]] = []
        self.closed = False

    def call_soon_threadsafe(self, call: Callable[..., object], *arguments: object) -> None:
        if self.closed:
            raise RuntimeError("Event loop is closed")
        self.calls.append(partial(call, *arguments))

    def turn(self) -> None:
        for call in self.calls:
            call()
        self.calls.clear()


class Clock:
    """Stands for the module time."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def dog(memory: list[bool], loop: Loop) -> Watchdog:
    return Watchdog(loop)  # type: ignore[arg-type]  # the one method that is used


def test_memory_that_is_short_for_a_moment_ends_nothing(dog: Watchdog, memory: list[bool]) -> None:
    memory += [*[False] * (SHORT_LOOKS - 1), True] * 5
    for _ in range(len(memory)):
        dog.look()


def test_memory_that_stays_short_ends_the_process(dog: Watchdog, memory: list[bool]) -> None:
    memory += [False] * SHORT_LOOKS
    for _ in range(SHORT_LOOKS - 1):
        dog.look()
    with pytest.raises(Ended, match="no memory is left"):
        dog.look()


def test_memory_is_given_back_once_in_a_while(
    dog: Watchdog, loop: Loop, monkeypatch: pytest.MonkeyPatch, written: list[bytes]
) -> None:
    given: list[int] = []
    monkeypatch.setattr(heap, "give_back", lambda: given.append(dog._looks))
    look_on(dog, 2 * HEAP_LOOKS + 1)
    assert given == [HEAP_LOOKS, 2 * HEAP_LOOKS]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What is written to standard error."""
    found: list[bytes] = []

    def write(descriptor: int, text: bytes) -> int:
        assert descriptor == watchdog.STANDARD_ERROR
        found.append(text)
        return len(text)

    monkeypatch.setattr(watchdog, "os", SimpleNamespace(write=write))
    return found


def look_on(dog: Watchdog, times: int) -> None:
    for _ in range(times):
        dog.look()
    for thread in threading.enumerate():
        if thread.name == "stacks":
            thread.join()


def test_a_loop_that_stands_still_is_reported_once_and_ends_nothing(dog: Watchdog, written: list[bytes]) -> None:
    look_on(dog, STACKS_LOOKS)
    assert written == []
    look_on(dog, 3 * STACKS_LOOKS)
    (text,) = written
    assert text.startswith(b"the event loop does not turn; where all threads are:\nThread ")
    assert b"Thread MainThread:\n" in text
    assert b"in test_a_loop_that_stands_still_is_reported_once" in text


def test_a_loop_that_turns_and_one_that_turns_again_are_left_alone(
    dog: Watchdog, loop: Loop, written: list[bytes]
) -> None:
    for _ in range(3):
        look_on(dog, STACKS_LOOKS)
        loop.turn()
    assert written == []
    look_on(dog, STACKS_LOOKS + 1)
    loop.turn()
    look_on(dog, STACKS_LOOKS + 1)
    assert len(written) == 2


def test_that_a_loop_was_blocked_is_logged_afterwards(
    dog: Watchdog, loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(watchdog, "time", clock)
    with capture_logs() as logged:
        for late in (0.1, BLOCKED, 0.1):
            dog.look()
            clock.now += late
            loop.turn()
    assert logged == [{"event": "the event loop was blocked", "seconds": BLOCKED, "log_level": "warning"}]


def test_after_a_signal_a_loop_that_stands_still_ends_the_process(dog: Watchdog) -> None:
    dog.look()
    dog.signalled(15, None)
    for _ in range(STUCK_LOOKS):
        dog.look()
    with pytest.raises(Ended, match="does not turn"):
        dog.look()


def test_an_orderly_end_takes_its_time(dog: Watchdog, loop: Loop) -> None:
    dog.signalled(15, None)
    for _ in range(STUCK_LOOKS * 3):
        dog.look()
        loop.turn()
    dog.signalled(15, None)
    for _ in range(STUCK_LOOKS):
        dog.look()
    loop.turn()
    dog.look()


def test_what_lingers_after_the_end_of_the_work_is_cut_off(dog: Watchdog, loop: Loop) -> None:
    dog.signalled(15, None)
    dog.look()
    dog.finished()
    loop.turn()
    loop.closed = True
    for _ in range(STUCK_LOOKS):
        dog.look()
    with pytest.raises(Ended, match="its work is done"):
        dog.look()


def test_a_closed_loop_is_no_failure_of_the_watchdog(dog: Watchdog, loop: Loop) -> None:
    dog.signalled(15, None)
    loop.closed = True
    dog.look()


@pytest.mark.parametrize(
    ("error", "ends"),
    [
        (MemoryError(), True),
        (RuntimeError("can't start new thread"), True),
        (RuntimeError("another"), False),
        (RecursionError(), False),
        (None, False),
    ],
)
def test_hooks_end_the_process_for_exhaustion_alone(
    error: BaseException | None, ends: bool, memory: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    passed_on: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    monkeypatch.setattr(threading, "__excepthook__", passed_on.append)
    monkeypatch.setattr(sys, "__unraisablehook__", passed_on.append)
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        monkeypatch.setattr(loop, "default_exception_handler", passed_on.append)
        watchdog.install(loop)
        hooks: list[Callable[[], object]] = [
            lambda: loop.call_exception_handler({"message": "m", "exception": error}),
            lambda: threading.excepthook(SimpleNamespace(exc_value=error)),  # type: ignore[arg-type]  # what is read
            lambda: sys.unraisablehook(SimpleNamespace(exc_value=error)),
        ]
        for hook in hooks:
            if ends:
                with pytest.raises(Ended, match="no memory"):
                    hook()
            else:
                hook()
    assert len(passed_on) == (0 if ends else len(hooks))


def test_this_process_has_memory() -> None:
    assert watchdog.has_memory()
