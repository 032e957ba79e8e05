"""One channel to the control plane: deadlines, retries, errors in words.

Every question ends by its deadline, however many calls it takes. What a server that
is away or stops makes of a call is retried until then, with jittered, capped backoff;
nothing else is.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NoReturn, TypeVar

import grpc

from mctl.rpc.status import failure, may_pass, no_answer

Request = TypeVar("Request")
Response = TypeVar("Response")

_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),  # retried here, where the request id is known to stay the same
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    # A server lets a client without traffic ping every five minutes, not oftener.
    ("grpc.keepalive_time_ms", 330_000),
    ("grpc.keepalive_timeout_ms", 10_000),
)

_FIRST_DELAY = 0.1
_LONGEST_DELAY = 2.0
_SHORTEST = 0.001


def backoff(attempt: int) -> float:
    """Return the seconds to wait before the attempt after this one (0 is the first), jittered."""
    ceiling = min(_LONGEST_DELAY, _FIRST_DELAY * 2.0 ** min(attempt, 10))
    return random.uniform(ceiling / 2, ceiling)  # noqa: S311 - jitter


@dataclass(frozen=True, slots=True)
class Deadline:
    """When a question must have been answered: the moment, by the connection's clock, and the seconds it was given."""

    at: float
    seconds: float


class Connection:
    """A channel; server is host:port, timeout the seconds that a question may take, all its calls and retries."""

    def __init__(
        self,
        server: str,
        timeout: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._server = server
        self.timeout = timeout
        self._clock = clock
        self._sleep = sleep
        self.channel = grpc.insecure_channel(server, options=_OPTIONS)

    def close(self) -> None:
        """Close the channel and cancel its calls."""
        self.channel.close()

    def deadline(self, seconds: float | None = None) -> Deadline:
        """Return the deadline of a question that is asked now; seconds can only shorten the connection's."""
        given = self.timeout if seconds is None else min(seconds, self.timeout)
        return Deadline(self._clock() + given, given)

    def call(
        self, method: grpc.UnaryUnaryMultiCallable[Request, Response], request: Request, deadline: Deadline
    ) -> Response:
        """Return the answer. Raises Failure."""
        attempt = 0
        while True:
            try:
                return method(request, timeout=self._left(deadline))
            except grpc.RpcError as error:
                self._wait(error, attempt, deadline)
            attempt += 1

    def stream(
        self, method: grpc.UnaryStreamMultiCallable[Request, Response], request: Request, deadline: Deadline
    ) -> Iterator[Response]:
        """Yield what the server sends until it ends the stream, by the deadline; raises Failure."""
        attempt = 0
        while True:
            told = False
            call = method(request, timeout=self._left(deadline))
            try:
                for message in call:
                    told = True
                    yield message
            except grpc.RpcError as error:
                if told:
                    self._give_up(error, deadline)
                self._wait(error, attempt, deadline)
            else:
                return
            finally:
                call.cancel()
            attempt += 1

    def watch(
        self, method: grpc.UnaryStreamMultiCallable[Request, Response], request: Request, deadline: Deadline
    ) -> Iterator[Response]:
        """Yield what the server sends, the first of it by the deadline; raises Failure, Unreachable when it is cut."""
        call = method(request)
        late = threading.Event()

        def end() -> None:
            late.set()
            call.cancel()

        limit = threading.Timer(self._left(deadline), end)
        limit.daemon = True
        limit.start()
        try:
            for message in call:
                limit.cancel()
                yield message
        except grpc.RpcError as error:
            if late.is_set():
                raise no_answer(self._server, deadline.seconds) from None
            self._give_up(error, deadline)
        finally:
            limit.cancel()
            call.cancel()

    def _left(self, deadline: Deadline) -> float:
        return max(_SHORTEST, deadline.at - self._clock())

    def _wait(self, error: grpc.RpcError, attempt: int, deadline: Deadline) -> None:
        """Wait before the next attempt; raises the failure where there is none."""
        delay = backoff(attempt)
        if not may_pass(error) or self._clock() + delay >= deadline.at:
            self._give_up(error, deadline)
        self._sleep(delay)

    def _give_up(self, error: grpc.RpcError, deadline: Deadline) -> NoReturn:
        raise failure(error, self._server, deadline.seconds) from None
