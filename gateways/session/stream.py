"""One Connect stream to one endpoint, kept up: connect, Hello, Welcome, talk, reconnect.

The reader task alone owns ``read()`` and nothing puts a timeout on it: a read that is timed out ends the whole call.
The reader also decides how the stream ended; the writer merely stops when a write fails. A peer that is silently gone
is noticed by HTTP/2 keepalive pings.
"""

import asyncio
import random
import time
from typing import NoReturn, Protocol

import grpc
import grpc.aio
import structlog
from koupleless.tunnel.v1 import tunnel_pb2 as pb
from koupleless.tunnel.v1.tunnel_pb2_grpc import TunnelServiceStub

from gateways.session.metrics import STREAM_ENDS
from gateways.session.outbox import Outbox
from grpcclient.access import ClientAccess, NoAccess

log = structlog.get_logger(__name__)

FLUSH_INTERVAL = 0.02
"""Seconds between two sends, in which reports gather to a batch."""
CALM_INTERVAL = 1.0
"""The same where all of them say nothing new."""
WELCOME_TIMEOUT = 10.0
"""Seconds that connecting and Welcome may take together."""
GOODBYE_TIMEOUT = 1.0
"""Seconds that a replica has to end the stream after Goodbye."""
FIRST_DELAY = 0.2
LONGEST_DELAY = 5.0
"""Seconds between two attempts to connect, before jitter."""
HEALTHY_AFTER = 5.0
"""Seconds after which a welcomed stream resets the delay."""

CHANNEL_OPTIONS: list[tuple[str, str | int]] = [
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_send_message_length", 16 << 20),
    ("grpc.max_receive_message_length", 16 << 20),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
]


class Owner(Protocol):
    """Who the stream belongs to. All calls come from the stream's own task and must not block."""

    def welcomed(self, stream: "ReplicaStream", welcome: pb.Welcome) -> Outbox | None:
        """Return the outbox to serve, opened; None when another stream serves this replica already."""

    def received(self, stream: "ReplicaStream", message: pb.ConnectResponse) -> None:
        """Take a message other than Welcome."""

    def ended(self, stream: "ReplicaStream", failures: int) -> None:
        """The stream ended or could not be made; failures in a row, 0 after a healthy one."""


class _Ended(Exception):
    """The stream ended; the message says how."""


class ReplicaStream:
    """Keeps one stream to the replica at one endpoint."""

    def __init__(self, endpoint: str, hello: pb.Hello, access: ClientAccess, owner: Owner) -> None:
        self.endpoint = endpoint
        self._access = access
        self.replica = ""
        self._hello = hello
        self._owner = owner
        self._wake = asyncio.Event()
        self._later: asyncio.TimerHandle | None = None
        self._welcome = asyncio.Event()
        self._outbox: Outbox | None = None
        self._goodbye = ""
        self._troubled = False

    def wake(self, *, can_wait: bool) -> None:
        """Look into the outbox: something was queued or acknowledged."""
        if not can_wait:
            self._wake.set()
        elif self._later is None:
            self._later = asyncio.get_running_loop().call_later(CALM_INTERVAL, self._wake.set)

    def leave(self, reason: str) -> bool:
        """Say Goodbye once the outbox is flushed, if there is a stream; return whether run returns by itself."""
        if self._outbox is not None:
            self._goodbye = reason
            self._wake.set()
        return bool(self._goodbye)

    async def run(self) -> None:
        """Keep the stream until goodbye was said."""
        failures = 0
        while True:
            began = time.monotonic()
            reason = await self._connect()
            welcomed, self._outbox = self._welcome.is_set(), None
            failures = 0 if welcomed and time.monotonic() - began >= HEALTHY_AFTER else failures + 1
            STREAM_ENDS.labels(welcomed=str(welcomed).lower()).inc()
            self._owner.ended(self, failures)
            if self._goodbye:
                return
            if welcomed or not self._troubled:
                log.warning("no stream to the control plane", endpoint=self.endpoint, reason=reason)
            self._troubled = True
            delay = min(FIRST_DELAY * 2.0 ** min(max(failures, 1) - 1, 16), LONGEST_DELAY)
            await asyncio.sleep(delay * (0.5 + random.random()))  # noqa: S311 - jitter

    async def _connect(self) -> str:
        """Hold one stream from beginning to end; return how it ended."""
        self._welcome.clear()
        reason = ""
        try:
            metadata = self._access.metadata(self.endpoint)
            opened = self._access.channel(self.endpoint, CHANNEL_OPTIONS)
        except NoAccess as error:
            return str(error)
        async with opened as channel:
            call = TunnelServiceStub(channel).Connect(metadata=metadata)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._read(call), name=f"read {self.endpoint}")
                    group.create_task(self._write(call), name=f"write {self.endpoint}")
            except* _Ended as ended:
                reason = str(ended.exceptions[0])
            finally:
                call.cancel()
        return reason

    async def _read(self, call: grpc.aio.StreamStreamCall[pb.ConnectRequest, pb.ConnectResponse]) -> NoReturn:
        while True:
            try:
                message = await call.read()
            except grpc.aio.AioRpcError as error:
                raise _Ended(f"{error.code().name}: {error.details()}") from None
            if not isinstance(message, pb.ConnectResponse):
                raise _Ended("the replica ended the stream")
            if message.HasField("welcome"):
                self._take_welcome(message.welcome)
            elif not self._welcome.is_set():
                raise _Ended("the replica did not begin with Welcome")
            elif self._outbox is not None:
                self._owner.received(self, message)

    def _take_welcome(self, welcome: pb.Welcome) -> None:
        if self._welcome.is_set():
            raise _Ended("the replica said Welcome twice")
        if not welcome.replica_id:
            raise _Ended("the replica said Welcome without its name")
        self.replica = welcome.replica_id
        self._outbox = self._owner.welcomed(self, welcome)
        if self._outbox is None:
            self._goodbye = "another stream serves this replica"
        else:
            self._troubled = False
            log.info("stream to the control plane", endpoint=self.endpoint, replica=self.replica)
        self._welcome.set()
        self._wake.set()

    async def _write(self, call: grpc.aio.StreamStreamCall[pb.ConnectRequest, pb.ConnectResponse]) -> None:
        try:
            async with asyncio.timeout(WELCOME_TIMEOUT):
                await call.write(pb.ConnectRequest(hello=self._hello))
                await self._welcome.wait()
            while True:
                await self._wake.wait()
                self._wake.clear()
                if self._later is not None:
                    self._later.cancel()
                    self._later = None
                if self._outbox is not None:
                    for message in self._outbox.take(time.monotonic()):
                        await call.write(message)
                if self._goodbye:
                    await call.write(pb.ConnectRequest(goodbye=pb.Goodbye(reason=self._goodbye)))
                    await call.done_writing()
                    await asyncio.sleep(GOODBYE_TIMEOUT)
                    raise _Ended("said goodbye")
                await asyncio.sleep(FLUSH_INTERVAL)
        except TimeoutError:
            raise _Ended(f"no Welcome within {WELCOME_TIMEOUT:g} s") from None
        except (grpc.aio.AioRpcError, grpc.aio.InternalError, asyncio.InvalidStateError):
            return
