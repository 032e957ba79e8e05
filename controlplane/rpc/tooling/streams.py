"""One watch on every other replica: opened again when it breaks, following who comes and goes.

Each stream begins with all that is there; the mark after it says so. What a broken
one told stays until its replica told everything again: silence is no news.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Generic, Protocol, Self, TypeVar

import grpc
from grpc import aio

from controlplane.domain.ownership.replicas import Replica
from controlplane.rpc.tooling.deadlines import FOR_OTHERS
from controlplane.rpc.tooling.replicas import OWN, Others, cause, ended_by_us

if TYPE_CHECKING:
    from koupleless.modulecontroller.v1.module_controller_pb2_grpc import ModuleControllerServiceAsyncStub

FIRST_PAUSE = 0.2
LONGEST_PAUSE = 5.0
"""Seconds between tries to open a stream, before jitter."""

Q = TypeVar("Q")
R = TypeVar("R")
R_contra = TypeVar("R_contra", contravariant=True)


class _Broken(Exception):
    """A stream broke; the message says why."""


class _NothingThere(Exception):
    """A replica knows nothing of what is watched."""


class TooMuch(Exception):
    """A replica told more than is kept."""


class Listener(Protocol[R_contra]):
    """Takes what the streams bring."""

    def begun(self, replica: str) -> None:
        """A stream begins: what it brings until its mark is all that there is."""

    def heard(self, replica: str, message: R_contra) -> bool:
        """Take a message; return whether it is the mark. Raises TooMuch."""

    def complete(self, replica: str) -> None:
        """Since it began, the stream has brought all that there is."""

    def gone(self, replica: str) -> None:
        """The replica lives no more."""


class _Standing(Enum):
    PENDING = "pending"
    TOLD = "told"
    LOST = "lost"


class Streams(Generic[Q, R]):
    """The streams of one watch, open while it is entered. once: a stream that ended in order is not opened again.

    Leaving cancels their tasks and waits for them, so that nothing of a watch outlives it.
    """

    def __init__(
        self,
        others: Others,
        method: Callable[[ModuleControllerServiceAsyncStub], aio.UnaryStreamMultiCallable[Q, R]],
        request: Q,
        listener: Listener[R],
        *,
        changed: Callable[[], None] = lambda: None,
        once: bool = False,
    ) -> None:
        self._others = others
        self._method = method
        self._request = request
        self._listener = listener
        self._told = changed
        self._once = once
        self._standing: dict[str, _Standing] = {}
        self._tasks: dict[Replica, asyncio.Task[None]] = {}
        self._ended: set[asyncio.Task[None]] = set()
        self._defect: BaseException | None = None
        self._settled = asyncio.Event()
        self._unsubscribe: Callable[[], None] = lambda: None

    async def __aenter__(self) -> Self:
        self._unsubscribe = self._others.subscribe(self._members_changed)
        self._members_changed()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._unsubscribe()
        for replica in list(self._tasks):
            self._end(replica)
        # Not a TaskGroup: in the generators that serve watches its cancelling would hit gRPC's own code.
        if self._ended:
            await asyncio.wait(self._ended)

    async def settled(self) -> None:
        """Wait until each other replica told what it has or cannot be asked, at most for the deadline."""
        try:
            async with asyncio.timeout(FOR_OTHERS):
                while _Standing.PENDING in self._standing.values():
                    self._settled.clear()
                    await self._settled.wait()
        except TimeoutError:
            for replica in [name for name, standing in self._standing.items() if standing is _Standing.PENDING]:
                self._others.heard(replica, "no answer in time")
                self._stands(replica, _Standing.LOST)

    def unreachable(self) -> frozenset[str]:
        """Return the others that cannot be asked now. Raises what a task failed with through a defect."""
        if self._defect is not None:
            raise self._defect
        return frozenset(name for name, standing in self._standing.items() if standing is _Standing.LOST)

    def reachable(self) -> frozenset[str]:
        """Return the others that have told all they have."""
        return frozenset(name for name, standing in self._standing.items() if standing is _Standing.TOLD)

    def _members_changed(self) -> None:
        # As id and address: what else changes of a replica does not concern its stream.
        live = {Replica(other.id, other.address) for other in self._others.live()}
        for ended in self._tasks.keys() - live:
            self._end(ended)
        for name in self._standing.keys() - {other.id for other in live}:
            del self._standing[name]
            self._listener.gone(name)
        for other in live - self._tasks.keys():
            self._standing[other.id] = _Standing.PENDING if other.address else _Standing.LOST
            if other.address:
                task = asyncio.create_task(self._follow(other), name=f"relay-{other.id}")
                task.add_done_callback(self._over)
                self._tasks[other] = task
        self._settled.set()
        self._told()

    def _end(self, replica: Replica) -> None:
        task = self._tasks.pop(replica)
        if task.cancel():
            self._ended.add(task)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._ended.discard(task)
        if not task.cancelled() and (defect := task.exception()) is not None:
            self._defect = defect
            self._told()

    async def _follow(self, other: Replica) -> None:
        pause = FIRST_PAUSE
        while True:
            try:
                await self._read(other)
            except _NothingThere:
                self._complete(other.id)
            except _Broken as broken:
                self._others.heard(other.id, str(broken))
                if self._standing.get(other.id) is _Standing.TOLD:
                    pause = FIRST_PAUSE
                self._stands(other.id, _Standing.LOST)
            if self._once:
                return
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _read(self, other: Replica) -> None:
        """Read one stream to its end. Raises _Broken, _NothingThere."""
        call = self._method(self._others.stub(other.address))(self._request, metadata=OWN)
        self._listener.begun(other.id)
        try:
            async for message in call:
                if self._listener.heard(other.id, message):
                    self._complete(other.id)
                else:
                    self._told()
        except aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                raise _NothingThere from None
            raise _Broken(cause(error)) from None
        except TooMuch as error:
            raise _Broken(str(error)) from None
        except asyncio.CancelledError:
            if ended_by_us():
                raise
            raise _Broken("its channel was closed") from None
        finally:
            call.cancel()
        if not self._once:
            raise _Broken("its stream ended")

    def _complete(self, replica: str) -> None:
        self._listener.complete(replica)
        self._others.heard(replica)
        self._stands(replica, _Standing.TOLD)

    def _stands(self, replica: str, standing: _Standing) -> None:
        if replica in self._standing:
            self._standing[replica] = standing
        self._settled.set()
        self._told()
