"""Other replicas without sockets: their answers and streams are written by the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Generic, TypeVar, cast

import grpc
from grpc import aio

from controlplane.domain.ownership.replicas import Replica
from controlplane.rpc.tooling.replicas import OWN, Others

R = TypeVar("R")


def failure(code: grpc.StatusCode) -> aio.AioRpcError:
    return aio.AioRpcError(code, aio.Metadata(), aio.Metadata(), details="on order")


class FakeMembers:
    """Implements ``others.Members``."""

    def __init__(self, *names: str, me: str = "me") -> None:
        self.me = me
        self.known: tuple[Replica, ...] = ()
        self._handlers: list[Callable[[], None]] = []
        self.become(*names)

    def replicas(self) -> tuple[Replica, ...]:
        return self.known

    def subscribe(self, handler: Callable[[], None]) -> None:
        self._handlers.append(handler)

    def become(self, *names: str) -> None:
        """Let these others live, at addresses that are their names."""
        self.known = (Replica(self.me, self.me), *(Replica(name, name) for name in names))
        for handler in self._handlers:
            handler()


class Told(Generic[R]):
    """One stream: what the test puts in comes out; an exception breaks it, None ends it in order."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.queue: asyncio.Queue[R | Exception | None] = asyncio.Queue()
        self.cancelled = False

    def cancel(self) -> bool:
        self.cancelled = True
        return True

    async def __aiter__(self) -> AsyncIterator[R]:
        while (message := await self.queue.get()) is not None:
            if isinstance(message, Exception):
                raise message
            yield message

    def tell(self, *messages: R | Exception | None) -> None:
        for message in messages:
            self.queue.put_nowait(message)


class FakeOthers(Others):
    """Others without channels: a stub is the address that it would call."""

    def stub(self, address: str) -> Any:
        return address


class Network(Generic[R]):
    """All streams that were opened, in order."""

    def __init__(self, *names: str) -> None:
        self.members = FakeMembers(*names)
        self.others = FakeOthers(self.members)
        self.opened: list[Told[R]] = []

    def method(self, stub: object) -> aio.UnaryStreamMultiCallable[Any, R]:
        def call(_request: object, *, metadata: object) -> Told[R]:
            assert metadata == OWN
            self.opened.append(Told(str(stub)))
            return self.opened[-1]

        return cast("aio.UnaryStreamMultiCallable[Any, R]", call)

    def last(self, name: str) -> Told[R]:
        """Return the stream to a replica that was opened last."""
        return next(told for told in reversed(self.opened) if told.address == name)
