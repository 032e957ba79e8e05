"""One channel to the control plane: deadlines, retries, errors in words.

Every unary call ends within the request timeout. UNAVAILABLE is retried within
it, with jittered, capped backoff; nothing else is.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import grpc

from mctl.rpc.status import failure

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


def backoff(attempt: int) -> float:
    """Return the seconds to wait before the attempt after this one (0 is the first), jittered."""
    ceiling = min(_LONGEST_DELAY, _FIRST_DELAY * 2.0 ** min(attempt, 10))
    return random.uniform(ceiling / 2, ceiling)  # noqa: S311 - jitter


class Connection:
    """A channel; server is host:port, timeout the seconds that a call may take, retries included."""

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

    def call(
        self,
        method: grpc.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        timeout: float | None = None,
    ) -> Response:
        """Return the answer; timeout, in seconds, replaces the connection's. Raises Failure."""
        limit = self.timeout if timeout is None else min(timeout, self.timeout)
        deadline = self._clock() + limit
        attempt = 0
        while True:
            try:
                return method(request, timeout=max(0.001, deadline - self._clock()))
            except grpc.RpcError as error:
                delay = backoff(attempt)
                if error.code() is not grpc.StatusCode.UNAVAILABLE or self._clock() + delay >= deadline:
                    raise failure(error, self._server, limit) from None
            self._sleep(delay)
            attempt += 1

    def stream(self, method: grpc.UnaryStreamMultiCallable[Request, Response], request: Request) -> Iterator[Response]:
        """Yield what the server sends until it ends the stream; raises Failure, Unreachable when it is cut."""
        call = method(request)
        try:
            yield from call
        except grpc.RpcError as error:
            raise failure(error, self._server, self.timeout) from None
        finally:
            call.cancel()
