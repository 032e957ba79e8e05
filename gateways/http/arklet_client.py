"""Calls arklet's HTTP server in a base: one command, one connection.

The sending side is never closed early, which arklet would take for a client that left. No redirect is followed, no name
resolved. A client of HTTP cannot say whether bytes of a request were sent, on which the outcome of an order depends.

An answer is read under a budget (``responses``, ``memory``). Large ones have their turn one at a time, for half of the
time at most, so that bases with much to say, or hostile ones, leave the event loop to others.
"""

import asyncio
import time
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

from koupleless.tunnel.v1 import tunnel_pb2 as pb

from gateways.http.memory import AnswerMemory
from gateways.http.metrics import ANSWER_BYTES, call_seconds, calls
from gateways.http.responses import Excessive, Lost, NotSent, Response
from service.listening import cause_of, host_port

DEFAULT_PORT = 1238
"""Where arklet listens if it can: what an address over HTTP means that names no port."""
MAX_REQUEST = 1 << 20
"""Bytes of a body that arklet takes; it drops the connection of a longer one."""
LARGE = 64 << 10
"""Bytes from which on an answer waits for its turn."""


def with_port(address: pb.Address) -> pb.Address:
    """Give an address its port: heartbeats may leave it out, and so may Nodes of the original. Returns it."""
    address.port = address.port or DEFAULT_PORT
    return address


class ArkletClient:
    """Sends commands to bases. connect_timeout is in seconds."""

    def __init__(self, *, connect_timeout: float, memory: AnswerMemory | None = None) -> None:
        self._connect_timeout = connect_timeout
        self._memory = memory or AnswerMemory()
        self._turn = asyncio.Lock()
        ANSWER_BYTES.set_function(lambda: self._memory.used)

    def answer(
        self, address: pb.Address, command: str, body: bytes, timeout: float
    ) -> AbstractAsyncContextManager["Answer"]:
        """Have the answer to a command, to be read within the context and without waiting there.

        timeout covers connecting and answering, and once more the wait of a large answer for its turn. Raises NotSent
        or Lost. When cancelled, the command may or may not have been sent.
        """
        return _Call(address, command, body, timeout, self._connect_timeout, self._memory, self._turn)


@dataclass(slots=True)
class _Call:
    """One command and its answer."""

    address: pb.Address
    command: str
    body: bytes
    timeout: float
    connect_timeout: float
    memory: AnswerMemory
    turn: asyncio.Lock
    _exchange: "Exchange" = field(init=False)
    _turn_since: float | None = None

    async def __aenter__(self) -> "Answer":
        if len(self.body) > MAX_REQUEST:
            raise NotSent(f"the command has {len(self.body)} bytes, a base takes {MAX_REQUEST}")
        self._exchange = exchange = Exchange(self.memory)
        end = "failed"
        try:
            await self._ask()
            if len(exchange.body) >= LARGE:
                await self._wait_for_turn()
            answer = Answer(exchange.take(), exchange.seconds, time.thread_time())
            end = "answered"
        except (NotSent, Lost) as error:
            end = error.end
            raise
        finally:
            calls(self.command, end).inc()
            if end != "answered":
                self._end()
        return answer

    async def __aexit__(self, *_: object) -> None:
        self._end()

    async def _ask(self) -> None:
        loop, exchange, address = asyncio.get_running_loop(), self._exchange, self.address
        began, connecting, sent = loop.time(), min(self.timeout, self.connect_timeout), False
        try:
            async with asyncio.timeout(connecting) as limit:
                transport, _ = await loop.create_connection(lambda: exchange, address.ip, address.port)
                transport.write(_request(address, self.command, self.body))
                sent = True
                limit.reschedule(began + self.timeout)
                await exchange.ended
        except TimeoutError:
            if sent:
                raise Lost(f"no answer within {self.timeout:g} s") from None
            raise NotSent(f"no connection within {connecting:g} s") from None
        except OSError as error:
            raise NotSent(f"no connection: {cause_of(error)}") from None
        finally:
            call_seconds(self.command).observe(loop.time() - began)
        exchange.finish()

    async def _wait_for_turn(self) -> None:
        """Wait for the turn of a large answer."""
        try:
            async with asyncio.timeout(self.timeout):
                await self.turn.acquire()
        except TimeoutError:
            raise Lost(f"the answer had to wait behind others for more than {self.timeout:g} s") from None
        self._turn_since = asyncio.get_running_loop().time()

    def _end(self) -> None:
        self._exchange.close()
        if self._turn_since is not None:
            # Nobody has the turn for as long as the answer took.
            loop = asyncio.get_running_loop()
            loop.call_later(loop.time() - self._turn_since, self.turn.release)
            self._turn_since = None


@dataclass(slots=True)
class Answer:
    """The body of an answer. seconds is the CPU time that receiving it took."""

    body: bytes
    seconds: float
    handed: float
    """CPU time of the thread when it was handed out."""

    @property
    def spent(self) -> float:
        """Seconds of CPU time until now."""
        return self.seconds + time.thread_time() - self.handed


class Exchange(asyncio.Protocol):
    """One connection: what a base sends is read at once, and no more of it than the budget allows."""

    def __init__(self, memory: AnswerMemory) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.seconds = 0.0
        self.body = b""
        self._share = memory.share(self._cut)
        self._response = Response(self._share)
        self._cut_off = False
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Read what came."""
        if self.ended.done():
            return
        began = time.thread_time()
        try:
            if self._response.feed(data):
                self._end(None)
        except Lost as error:
            self._end(error)
        self.seconds += time.thread_time() - began

    def connection_lost(self, exc: Exception | None) -> None:
        """End the answer where the base ended it."""
        broken = f"the connection broke: {cause_of(exc) if isinstance(exc, OSError) else exc}"
        self._end(Lost(broken) if exc is not None else None)

    def finish(self) -> None:
        """Have the body, which may have to wait for its turn. Raises Lost."""
        if not self._cut_off:
            self.body = self._response.end()

    def take(self) -> bytes:
        """Return the body. Raises Excessive when it had to give way to others meanwhile."""
        if self._cut_off:
            raise _no_room()
        return self.body

    def close(self) -> None:
        """End the connection, and give back what the answer took."""
        self._end(None)
        self._forget()
        self._share.close()

    def _cut(self) -> None:
        self._cut_off = True
        self._end(_no_room())
        self._forget()

    def _forget(self) -> None:
        # Not left to the garbage collector: parser and exchange refer to each other.
        self.body = b""
        self._response.close()

    def _end(self, error: Lost | None) -> None:
        if not self.ended.done():
            if error is None:
                self.ended.set_result(None)
            else:
                self.ended.set_exception(error)
                self.ended.exception()  # it counts as seen, also when nobody waits for it any more
                self._forget()
        if isinstance(self._transport, asyncio.Transport):
            self._transport.abort()


def _no_room() -> Excessive:
    return Excessive("memory", "the answer is the largest one where all together have no more room")


def _request(address: pb.Address, command: str, body: bytes) -> bytes:
    head = (
        f"POST /{command} HTTP/1.1\r\n"
        f"Host: {host_port(address.ip, address.port)}\r\n"
        "Content-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n"
        "Connection: close\r\n"
        "\r\n"
    )
    return head.encode("ascii") + body
