"""What targets of connections stand on: a loop in which nothing may go wrong, and a peer without a socket."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager

PEER = "10.0.0.9"
_TURNS = 30
"""Turns of the loop in which a server answers."""


class Defects(logging.Handler):
    """What libraries log as errors: an exception that nobody took."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.met: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.met.append(record.getMessage())


@contextmanager
def no_defects() -> Iterator[None]:
    """Assert that no library met an exception that nobody took."""
    defects = Defects()
    logging.getLogger().addHandler(defects)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(defects)
    assert not defects.met


def in_loop(read: Callable[[bytes], Coroutine[None, None, object]]) -> Callable[[bytes], object]:
    """Return a reader that runs in a loop of its own, in which nothing may go wrong."""

    def of_bytes(data: bytes) -> object:
        with no_defects():
            return asyncio.run(read(data))

    return of_bytes


class Wire(asyncio.Transport):
    """A connection of a peer; sent is what the server wrote."""

    def __init__(self) -> None:
        super().__init__({"peername": (PEER, 1)})
        self.sent = bytearray()
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent += data

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def is_reading(self) -> bool:
        return True

    def pause_reading(self) -> None:
        """Everything came already."""

    def resume_reading(self) -> None:
        """Everything came already."""


async def talk(connection: asyncio.Protocol, data: bytes) -> bytes:
    """Send bytes in two pieces; return the answer, which must be one if there is any."""
    wire = Wire()
    connection.connection_made(wire)
    for piece in (data[: len(data) // 2], data[len(data) // 2 :]):
        if piece and not wire.closed:
            connection.data_received(piece)
        for _ in range(_TURNS):
            await asyncio.sleep(0)
    connection.connection_lost(None)
    for _ in range(_TURNS):
        await asyncio.sleep(0)
    assert not wire.sent or wire.sent.startswith(b"HTTP/")
    assert b" 500 " not in wire.sent.partition(b"\r\n")[0], "a defect that the peer was shown"
    return bytes(wire.sent)
