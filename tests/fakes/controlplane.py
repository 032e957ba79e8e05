"""A control plane replica for tests of gateways: serves TunnelService on loopback and records what it receives.

It keeps to the contract and checks that the gateway does. A violation ends the stream with a status and is kept in
``violations``, which must be empty when the context ends.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import NoReturn, Self, TypeGuard, TypeVar

import grpc
from google.protobuf.duration_pb2 import Duration
from grpc import aio
from koupleless.tunnel.v1 import tunnel_pb2 as pb
from koupleless.tunnel.v1 import tunnel_pb2_grpc

Context = aio.ServicerContext[pb.ConnectRequest, pb.ConnectResponse]
T = TypeVar("T")

WITHIN = 10.0
OPTIONS: list[tuple[str, int]] = [
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.max_receive_message_length", 16 << 20),
    ("grpc.so_reuseport", 0),
]


class Stream:
    """One stream of a gateway, as the replica sees it."""

    def __init__(self, hello: pb.Hello, changed: asyncio.Condition) -> None:
        self.hello = hello
        self.reports: list[pb.Report] = []
        self.batches: list[pb.Reports] = []
        self.results: list[pb.OrderResult] = []
        self.goodbye: str | None = None
        self.ended = asyncio.Event()
        self.last_seq = 0
        self.outgoing: asyncio.Queue[pb.ConnectResponse | None] = asyncio.Queue(10_000)
        self._changed = changed

    def send(self, message: pb.ConnectResponse) -> None:
        """Send a message down."""
        self.outgoing.put_nowait(message)

    def ack(self, seq: int | None = None) -> None:
        """Acknowledge everything up to seq, or all that came."""
        self.send(pb.ConnectResponse(reports_ack=pb.ReportsAck(seq=self.last_seq if seq is None else seq)))

    def cut(self) -> None:
        """End the stream without a message."""
        self.outgoing.put_nowait(None)

    async def until(self, found: Callable[[], T | None], within: float = WITHIN) -> T:
        """Wait until found gives something."""
        async with asyncio.timeout(within), self._changed:
            while True:
                value = found()
                if value is not None:
                    return value
                await self._changed.wait()

    async def report(self, kind: str, base: str = "", *, after: int = 0, within: float = WITHIN) -> pb.Report:
        """Wait for a report of a kind (the name of its field), skipping the first ``after`` reports of the stream."""
        return await self.until(lambda: next(self.matching(kind, base, after=after), None), within)

    def matching(self, kind: str, base: str = "", *, after: int = 0) -> Iterator[pb.Report]:
        """Iterate over the reports of a kind that came."""
        return (
            report
            for report in itertools.islice(self.reports, after, None)
            if report.WhichOneof("fact") == kind and base in ("", report.base_id)
        )

    async def result(self, order_id: str, *, count: int = 1, within: float = WITHIN) -> pb.OrderResult:
        """Wait until so many results of an order came and return the last."""

        def found() -> pb.OrderResult | None:
            matching = [result for result in self.results if result.order_id == order_id]
            return matching[count - 1] if len(matching) >= count else None

        return await self.until(found, within)


class FakeControlPlane(tunnel_pb2_grpc.TunnelServiceServicer):
    """One replica. auto_ack acknowledges each message as it comes; linger is the seconds from Goodbye to the end."""

    def __init__(self, replica: str = "replica-1", *, max_unacked: int = 8, max_batch: int = 128) -> None:
        self.replica = replica
        self.auto_ack = True
        self.linger = 0.0
        self.on_baseline: Callable[[pb.Report], pb.BaselineAnswer | None] = lambda _: None
        self.members: list[pb.Member] = []
        self.streams: list[Stream] = []
        self.violations: list[str] = []
        self.address = self.other_address = ""
        self._limits = pb.Limits(max_unacked=max_unacked, max_batch=max_batch)
        self._changed = asyncio.Condition()
        self._server: aio.Server | None = None
        self._port = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Serve while the context lasts; asserts that the gateway kept to the contract."""
        await self.start()
        try:
            yield self
        finally:
            await self.stop()
        assert not self.violations

    async def start(self) -> None:
        """Listen, on the same port as before if it was stopped."""
        self._server = aio.server(options=OPTIONS)
        tunnel_pb2_grpc.add_TunnelServiceServicer_to_server(self, self._server)
        self._port = self._server.add_insecure_port(f"127.0.0.1:{self._port}")
        self.address = f"127.0.0.1:{self._port}"
        self.other_address = f"127.0.0.2:{self._server.add_insecure_port(f'127.0.0.2:{self._port}')}"
        await self._server.start()

    async def stop(self) -> None:
        """End all streams at once, as a killed process does."""
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    async def stream(self, number: int = 0, within: float = WITHIN) -> Stream:
        """Wait for the stream of that number, counted from the first."""
        async with asyncio.timeout(within), self._changed:
            while len(self.streams) <= number:
                await self._changed.wait()
            return self.streams[number]

    # The stubs type only the generator form.
    async def Connect(  # type: ignore[override]
        self, request_iterator: AsyncIterator[pb.ConnectRequest], context: Context
    ) -> None:
        """Serve one stream."""
        first = await context.read()
        if not isinstance(first, pb.ConnectRequest) or first.WhichOneof("message") != "hello":
            await self._violation(context, "the first message is not Hello")
        stream = Stream(first.hello, self._changed)
        welcome = pb.Welcome(replica_id=self.replica, members=self.members, limits=self._limits)
        await context.write(pb.ConnectResponse(welcome=welcome))
        async with self._notify():
            self.streams.append(stream)
        reader = asyncio.create_task(self._read(stream, context))
        try:
            while (message := await stream.outgoing.get()) is not None:
                await context.write(message)
        finally:
            reader.cancel()
            stream.ended.set()

    async def _read(self, stream: Stream, context: Context) -> None:
        while _is_message(message := await context.read()):
            async with self._notify():
                await self._take(stream, context, message)
        async with self._notify():
            stream.ended.set()
            stream.outgoing.put_nowait(None)

    async def _take(self, stream: Stream, context: Context, message: pb.ConnectRequest) -> None:
        match message.WhichOneof("message"):
            case "reports":
                await self._number(stream, context, message.reports.seq)
                stream.batches.append(message.reports)
                for report in message.reports.reports:
                    if report.HasField("order_result"):
                        stream.results.append(report.order_result)
                    else:
                        stream.reports.append(report)
                if len(message.reports.reports) > self._limits.max_batch:
                    await self._violation(context, "a batch is larger than max_batch")
                for report in message.reports.reports:
                    self._answer_baseline(stream, report)
            case "goodbye":
                stream.goodbye = message.goodbye.reason
                await asyncio.sleep(self.linger)
                stream.outgoing.put_nowait(None)
            case other:
                await self._violation(context, f"unexpected message {other}")
        if self.auto_ack and stream.goodbye is None:
            stream.ack()

    def _answer_baseline(self, stream: Stream, report: pb.Report) -> None:
        if report.WhichOneof("fact") == "baseline_query" and (answer := self.on_baseline(report)) is not None:
            stream.send(pb.ConnectResponse(baseline_answer=answer))

    async def _number(self, stream: Stream, context: Context, seq: int) -> None:
        if seq != stream.last_seq + 1:
            await self._violation(context, f"seq {seq} follows {stream.last_seq}")
        stream.last_seq = seq

    async def _violation(self, context: Context, text: str) -> NoReturn:
        self.violations.append(text)
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, text)

    @asynccontextmanager
    async def _notify(self) -> AsyncIterator[None]:
        async with self._changed:
            yield
            self._changed.notify_all()


def _is_message(read: object) -> TypeGuard[pb.ConnectRequest]:
    """Return whether it is a message and not the end of the stream, which the stubs leave out."""
    return isinstance(read, pb.ConnectRequest)


def seconds(value: float) -> Duration:
    """Return a Duration."""
    return Duration(seconds=int(value), nanos=int(value % 1 * 1e9))


def watch(
    base: str,
    ip: str,
    port: int,
    *,
    epoch: int = 1,
    fence: int = 1,
    modules: float = 15.0,
    health: float = 30.0,
    silent: float = 10.0,
) -> pb.ConnectResponse:
    """Return a Watch; intervals are in seconds."""
    return pb.ConnectResponse(
        watch=pb.Watch(
            base_id=base,
            fence=fence,
            address=pb.Address(ip=ip, port=port),
            epoch=epoch,
            modules_interval=seconds(modules),
            health_interval=seconds(health),
            silent_health_interval=seconds(silent),
        )
    )


def order(
    order_id: str,
    base: str,
    port: int,
    verb: pb.Verb.ValueType,
    *modules: pb.OrderModule,
    fence: int = 1,
    timeout: float = 5.0,
    ip: str = "127.0.0.1",
) -> pb.ConnectResponse:
    """Return an Order; timeout is in seconds."""
    return pb.ConnectResponse(
        order=pb.Order(
            order_id=order_id,
            fence=fence,
            base_id=base,
            address=pb.Address(ip=ip, port=port),
            verb=verb,
            modules=modules,
            timeout=seconds(timeout),
        )
    )
