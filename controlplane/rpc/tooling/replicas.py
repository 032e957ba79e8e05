"""The other replicas, asked for what only they know: each holds live state for the VNodes that it owns.

Guarantee: a question costs at most its deadline, whatever the others do. One that is
asked in this way answers from what it owns and asks nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Protocol, TypeVar

import grpc
import structlog
from grpc import aio
from koupleless.modulecontroller.v1.module_controller_pb2_grpc import ModuleControllerServiceStub

from controlplane.app.metrics import REPLICA_QUESTIONS
from controlplane.domain.ownership.replicas import Replica
from controlplane.rpc.tooling.deadlines import FOR_OTHERS
from service.wording import plain

if TYPE_CHECKING:
    from koupleless.modulecontroller.v1.module_controller_pb2_grpc import ModuleControllerServiceAsyncStub

log = structlog.get_logger(__name__)

OWN = (("koupleless-part", "own"),)
"""Metadata of a question about what the asked replica owns itself."""

_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
)

Q = TypeVar("Q")
M = TypeVar("M")


class Members(Protocol):
    """Who lives."""

    @property
    def me(self) -> str:
        """The name of this replica."""

    def replicas(self) -> tuple[Replica, ...]:
        """Return all that live, this one included."""

    def subscribe(self, handler: Callable[[], None]) -> None:
        """Call handler whenever that changed."""


@dataclass(frozen=True, slots=True)
class Answers(Generic[M]):
    """What the others said, by replica, None where one knows nothing of it; and those that could not be asked."""

    given: Mapping[str, M | None] = field(default_factory=dict)
    unreachable: frozenset[str] = frozenset()


def own_part(context: aio.ServicerContext[Any, Any]) -> bool:
    """Tell whether only what this replica owns is asked for."""
    return any(pair in OWN for pair in context.invocation_metadata() or ())


class Others:
    """Channels to the other live replicas, one for each address."""

    def __init__(self, members: Members) -> None:
        self._members = members
        self._channels: dict[str, aio.Channel] = {}
        self._silent: set[str] = set()
        self._changed = asyncio.Event()
        self._subscribers: set[Callable[[], None]] = set()
        members.subscribe(self._members_changed)

    @property
    def me(self) -> str:
        """The name of this replica."""
        return self._members.me

    def live(self) -> tuple[Replica, ...]:
        """Return the other replicas that live, by name."""
        return tuple(replica for replica in self._members.replicas() if replica.id != self._members.me)

    def subscribe(self, handler: Callable[[], None]) -> Callable[[], None]:
        """Call handler whenever others came, went or moved; returns what ends that."""
        self._subscribers.add(handler)
        return lambda: self._subscribers.discard(handler)

    def addresses(self) -> set[str]:
        """Return to which addresses there are channels."""
        return set(self._channels)

    def stub(self, address: str) -> ModuleControllerServiceAsyncStub:
        """Return what calls the replica at an address."""
        channel = self._channels.get(address)
        if channel is None:
            channel = self._channels[address] = aio.insecure_channel(address, options=_OPTIONS)
        return ModuleControllerServiceStub(channel)

    async def ask(
        self,
        method: Callable[[ModuleControllerServiceAsyncStub], aio.UnaryUnaryMultiCallable[Q, M]],
        request: Q,
        within: float = FOR_OTHERS,
    ) -> Answers[M]:
        """Ask all others at once for what they own; they have so many seconds."""
        others = self.live()
        if not others:
            return Answers()
        given: dict[str, M | None] = {}
        async with asyncio.TaskGroup() as group:
            for other in others:
                group.create_task(self._ask(other, method, request, within, given), name=f"ask-{other.id}")
        return Answers(given, frozenset(other.id for other in others if other.id not in given))

    async def _ask(
        self,
        other: Replica,
        method: Callable[[ModuleControllerServiceAsyncStub], aio.UnaryUnaryMultiCallable[Q, M]],
        request: Q,
        within: float,
        given: dict[str, M | None],
    ) -> None:
        if not other.address:
            self.heard(other.id, "it tells no address; set POD_IP or ADVERTISE_ADDRESS")
            return
        try:
            given[other.id] = await method(self.stub(other.address))(request, timeout=within, metadata=OWN)
        except aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                self.heard(other.id, cause(error))
                return
            given[other.id] = None
        except asyncio.CancelledError:
            if ended_by_us():
                raise
            # The channel was closed: the replica is gone.
            return
        self.heard(other.id)

    def heard(self, replica: str, trouble: str = "") -> None:
        """Count an attempt to ask a replica, and say when it begins or ceases to fail."""
        REPLICA_QUESTIONS.labels("unreachable" if trouble else "answered").inc()
        if trouble and replica not in self._silent:
            self._silent.add(replica)
            log.warning("replica cannot be asked for what it owns", replica=replica, cause=trouble)
        elif not trouble and replica in self._silent:
            self._silent.discard(replica)
            log.info("replica can be asked again", replica=replica)

    def _members_changed(self) -> None:
        self._changed.set()
        for handler in tuple(self._subscribers):
            handler()

    async def run(self) -> NoReturn:
        """Close the channels of replicas that are gone, for ever."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            others = self.live()
            self._silent &= {other.id for other in others}
            for address in self._channels.keys() - {other.address for other in others}:
                await self._channels.pop(address).close()

    async def close(self) -> None:
        """Close all channels."""
        while self._channels:
            _, channel = self._channels.popitem()
            await channel.close()


def cause(error: aio.AioRpcError) -> str:
    """Say in words why a replica did not answer."""
    return f"{error.code().name}: {plain(error.details() or '')[:200]}"


def ended_by_us() -> bool:
    """Tell, of a CancelledError, whether this task is meant: gRPC raises it also where a channel was closed."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
