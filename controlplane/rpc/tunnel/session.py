"""TunnelService: one session for each gateway stream.

Guarantees: everything is acknowledged only after the fleet took it; one task reads and one writes; what waits to be
sent is bounded by the bases and orders there are, newer Watches and claims replacing older ones. End of stream without
Goodbye means lost.

The gateway is asked once a second, with a Mark, when everything was sent that it had learned. So it is known up to when
bases were heard, however late messages come: what was not heard yet is not silence.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace
from typing import NoReturn

import grpc
import structlog
from google.protobuf.message import DecodeError
from grpc import aio
from koupleless.tunnel.v1 import tunnel_pb2 as pb
from koupleless.tunnel.v1 import tunnel_pb2_grpc

from controlplane.access.refusals import Forbidden
from controlplane.app.fleet.router import ReportRouter
from controlplane.app.gateways import GatewayDirectory
from controlplane.app.metrics import GAPS, LATENESS, REFUSED_REPORTS
from controlplane.app.ownership.membership import Membership
from controlplane.app.policy import Policy
from controlplane.app.ports import Clock
from controlplane.domain.access import Caller
from controlplane.domain.base.hearing import Heard
from controlplane.domain.facts import GatewayInfo, Order, TunnelState, Watch
from controlplane.domain.identity import BaseId
from controlplane.domain.ownership.replicas import Replica
from controlplane.domain.workloads.baselines import Baseline
from controlplane.rpc.access.guard import CALLER
from controlplane.rpc.tunnel import decoding, encoding
from controlplane.rpc.tunnel.decoding import Unreadable
from service.limits import LogLimit

log = structlog.get_logger(__name__)

HELLO_WITHIN = 10.0
MAX_UNACKED = 32
MAX_BATCH = 256
LONGEST_STRETCH = 0.005
"""Seconds for which reports of one batch are taken without a break."""
LOG_EVERY = 60.0
MARK_EVERY = 1.0
"""Seconds between two looks whether a Mark was answered and another is to be sent."""
LATE = 10.0
"""Seconds by which reports may come late before that is logged."""
MUTE_LOOKS = 30
"""Looks after which a gateway that sends nothing, not even the answer to a Mark, is given up. Looks, not seconds: when
this program stood still, the gateway may have said a lot."""
MOST_WAITING = 200_000
"""Messages that may wait for one gateway; only a gateway that does not read comes near."""

_UNDOES = {"watch": "unwatch", "unwatch": "watch", "claim": "release", "release": "claim"}

Context = aio.ServicerContext[pb.ConnectRequest, pb.ConnectResponse]


class _Ended(Exception):
    """The session is over; orderly says whether the gateway said so."""

    def __init__(self, why: str, *, orderly: bool) -> None:
        super().__init__(why)
        self.orderly = orderly


class Session:
    """One gateway's session. Implements ``gateways.Link``.

    replaced is set to end it for a newer one: cancelling its task would leave the stream open without a status. Times
    are monotonic seconds.
    """

    def __init__(self, info: GatewayInfo, caller: Caller, now: float) -> None:
        self.info = info
        self.caller = caller
        self.heard = Heard(until=now)
        self.mute_looks = 0
        """How often it was looked at since it last sent anything."""
        self._marked_at: float | None = None
        """When the Mark was sent that is not answered."""
        self._waiting: dict[tuple[str, str], pb.ConnectResponse] = {}
        self._something = asyncio.Event()
        self._acked = 0
        self.replaced = asyncio.Event()

    def order(self, order: Order) -> None:
        """Send an order."""
        self._put(order.order_id, pb.ConnectResponse(order=encoding.order(order)))

    def watch(self, watch: Watch) -> None:
        """Have a base polled."""
        self._put(watch.base, pb.ConnectResponse(watch=encoding.watch(watch)))

    def unwatch(self, base: BaseId, fence: int) -> None:
        """Have a base polled no more."""
        self._put(base, pb.ConnectResponse(unwatch=pb.Unwatch(base_id=base, fence=fence)))

    def claim(self, base: BaseId, fence: int) -> None:
        """Say that this replica owns the base."""
        self._put(base, pb.ConnectResponse(claim=pb.Claim(base_id=base, fence=fence)))

    def release(self, base: BaseId, fence: int) -> None:
        """Say that this replica owns the base no more."""
        self._put(base, pb.ConnectResponse(release=pb.Release(base_id=base, fence=fence)))

    def baseline(self, base: BaseId, query_id: str, given: Baseline) -> None:
        """Answer a baseline query."""
        answer = encoding.baseline_answer(base, query_id, given)
        self._put(query_id, pb.ConnectResponse(baseline_answer=answer))

    def drain(self, reason: str) -> None:
        """Say that this replica will end the stream."""
        self._put("", pb.ConnectResponse(drain=pb.Drain(reason=reason)))

    def members(self, members: Iterable[Replica]) -> None:
        """Say which replicas live."""
        self._put("", pb.ConnectResponse(members=pb.Members(members=encoding.members(members))))

    def mark(self, now: float) -> None:
        """Ask when everything is sent that was learned until now, unless that is asked already."""
        if self._marked_at is None:
            self._marked_at = now
            self._put("", pb.ConnectResponse(mark=pb.Mark()))

    def took(self, message: pb.Reports, now: float) -> None:
        """Reports of the gateway were taken: note up to when it was heard, and acknowledge them."""
        if message.gap:
            self.heard = replace(self.heard, since=now)
        if message.marked and self._marked_at is not None:
            self.heard = replace(self.heard, until=self._marked_at)
            self._marked_at = None
        self.acknowledge(message.seq)

    def acknowledge(self, seq: int) -> None:
        """Say that everything up to seq was taken."""
        self._acked = max(self._acked, seq)
        self._put("", pb.ConnectResponse(reports_ack=pb.ReportsAck(seq=self._acked)))

    @property
    def overflowing(self) -> bool:
        """More waits than any gateway that reads would leave."""
        return len(self._waiting) > MOST_WAITING

    async def write(self, context: Context) -> NoReturn:
        """Send what waits, until cancelled."""
        while True:
            await self._something.wait()
            self._something.clear()
            while self._waiting:
                key = next(iter(self._waiting))
                await context.write(self._waiting.pop(key))

    def _put(self, key: str, message: pb.ConnectResponse) -> None:
        """Have a message wait in place of one of its kind and key, and of what it undoes."""
        kind = message.WhichOneof("message") or ""
        self._waiting.pop((_UNDOES.get(kind, ""), key), None)
        self._waiting[kind, key] = message
        self._something.set()


class TunnelServicer(tunnel_pb2_grpc.TunnelServiceServicer):
    """Serves Connect."""

    def __init__(
        self, *, router: ReportRouter, gateways: GatewayDirectory, members: Membership, policy: Policy, clock: Clock
    ) -> None:
        self._router = router
        self._members = members
        self._gateways = gateways
        self._policy = policy
        self._clock = clock
        self._sessions: dict[str, Session] = {}
        self._lines = LogLimit(LOG_EVERY)
        members.subscribe(self._members_changed)

    def _members_changed(self) -> None:
        for session in self._sessions.values():
            session.members(self._known())

    def _known(self) -> tuple[Replica, ...]:
        """Return all replicas that live; this one is among them even before it joined."""
        others = [replica for replica in self._members.replicas() if replica.id != self._policy.replica]
        return (self._members.self, *others)

    async def drain(self, reason: str) -> None:
        """Say to all gateways that this replica goes away, and give the messages a moment to leave."""
        for session in self._sessions.values():
            session.drain(reason)
        await asyncio.sleep(0.1)

    # The stubs type only the generator form; the coroutine form ends a stream with the right status.
    async def Connect(  # type: ignore[override]
        self, request_iterator: AsyncIterator[pb.ConnectRequest], context: Context
    ) -> None:
        """Serve one gateway until its stream ends."""
        session = Session(await self._hello(context), CALLER.get(), self._clock.monotonic())
        info = session.info
        self._must_be_itself(session)
        bound = log.bind(gateway=info.gateway_id, instance=info.instance)
        self._replace(info)
        self._sessions[info.gateway_id] = session
        LATENESS.labels(info.gateway_id).set(0.0)
        why = _Ended("its stream broke off", orderly=False)
        try:
            await self._welcome(context)
            self._gateways.connected(session)
            bound.info("gateway connected", tunnel=info.tunnel.value, version=info.version)
            async with asyncio.TaskGroup() as group:
                group.create_task(session.write(context), name=f"session-write-{info.gateway_id}")
                group.create_task(self._read(session, context), name=f"session-read-{info.gateway_id}")
                group.create_task(self._until_replaced(session), name=f"session-replaced-{info.gateway_id}")
                group.create_task(self._keep_marking(session), name=f"session-mark-{info.gateway_id}")
        except* _Ended as endings:
            why = next(each for each in endings.exceptions if isinstance(each, _Ended))
        except* (aio.InternalError, aio.UsageError):
            pass  # A write saw that the call is over before this task was cancelled for it.
        finally:
            (bound.info if why.orderly else bound.warning)("gateway left", cause=str(why))
            if self._sessions.get(info.gateway_id) is session:
                del self._sessions[info.gateway_id]
                LATENESS.remove(info.gateway_id)
            self._gateways.lost(session)
        if session.replaced.is_set():
            await context.abort(grpc.StatusCode.ABORTED, "a newer stream of this gateway is served")

    async def _hello(self, context: Context) -> GatewayInfo:
        try:
            async with asyncio.timeout(HELLO_WITHIN):
                first = await context.read()
        except TimeoutError:
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "Hello did not come")
        except DecodeError:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the first message is not of the contract")
        if not isinstance(first, pb.ConnectRequest) or first.WhichOneof("message") != "hello":
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the first message must be Hello")
        try:
            env, info = decoding.hello(first.hello, connected_wall=self._clock.wall())
        except decoding.Unreadable as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"Hello: {error}")
        if env.lower() != self._policy.env:
            await context.abort(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"the gateway serves ENV={env}, this control plane ENV={self._policy.env}: set them alike",
            )
        return info

    async def _welcome(self, context: Context) -> None:
        await context.write(
            pb.ConnectResponse(
                welcome=pb.Welcome(
                    replica_id=self._policy.replica,
                    members=encoding.members(self._known()),
                    limits=pb.Limits(max_unacked=MAX_UNACKED, max_batch=MAX_BATCH),
                )
            )
        )

    def _must_be_itself(self, session: Session) -> None:
        """Refuse a gateway that says it is another one: a Pod is itself, and nobody takes over a session.

        Raises Forbidden.
        """
        name, caller = session.info.gateway_id, session.caller
        old = self._sessions.get(name)
        why = ""
        if caller.pod and caller.pod != name:
            why = f"its token is bound to the Pod {caller.pod}: set CLIENT_ID to that name"
        elif old is not None and (old.caller.user, old.caller.pod) != (caller.user, caller.pod):
            why = "another user has a session of this gateway"
        if why:
            raise Forbidden("gateway_id", f"{caller.user} is not the gateway {name!r}: {why}")

    def _replace(self, info: GatewayInfo) -> None:
        """A gateway that connects again has lost its old stream, whatever this side still thinks of it."""
        old = self._sessions.get(info.gateway_id)
        if old is None:
            return
        if old.info.instance != info.instance:
            log.warning("a second process says it is this gateway: the newer one is served", gateway=info.gateway_id)
        old.replaced.set()

    async def _until_replaced(self, session: Session) -> NoReturn:
        await session.replaced.wait()
        raise _Ended("a newer stream of it is served", orderly=False)

    async def _keep_marking(self, session: Session) -> NoReturn:
        """Keep asking how late reports come."""
        gateway = session.info.gateway_id
        late = False
        while True:
            now = self._clock.monotonic()
            if session.mute_looks >= MUTE_LOOKS:
                raise _Ended(f"it sent nothing for {MUTE_LOOKS * MARK_EVERY:g} s", orderly=False)
            session.mute_looks += 1
            behind = now - session.heard.until
            LATENESS.labels(gateway).set(behind)
            if behind >= LATE and not late:
                log.warning("reports of a gateway come late", gateway=gateway, seconds=round(behind, 1))
            late = behind >= LATE
            session.mark(now)
            await asyncio.sleep(MARK_EVERY)

    async def _read(self, session: Session, context: Context) -> None:
        while True:
            try:
                message = await context.read()
                session.mute_looks = 0
            except DecodeError:
                self._refused(session, Unreadable("unparsable", "a message that is not of the contract"))
                continue
            if not isinstance(message, pb.ConnectRequest):
                raise _Ended("its stream ended without Goodbye", orderly=False)
            match message.WhichOneof("message"):
                case "reports":
                    await self._take_batch(session, message.reports.reports)
                    self._took(session, message.reports)
                case "goodbye":
                    raise _Ended(decoding.people(message.goodbye.reason) or "Goodbye", orderly=True)
                case _:
                    self._refused(session, Unreadable("unexpected-message", "a message that is out of place"))
            if session.overflowing:
                raise _Ended("it does not read what it is sent", orderly=False)

    async def _take_batch(self, session: Session, reports: Sequence[pb.Report]) -> None:
        """Take reports one by one, with breaks, in which everything else goes on."""
        began = self._clock.monotonic()
        for report in reports[:MAX_BATCH]:
            self._take(session, report)
            if self._clock.monotonic() - began >= LONGEST_STRETCH:
                await asyncio.sleep(0)
                began = self._clock.monotonic()
        if len(reports) > MAX_BATCH:
            text = f"{len(reports)} reports in one message: those after the first {MAX_BATCH} are not looked at"
            self._refused(session, Unreadable("count", text))

    def _take(self, session: Session, message: pb.Report) -> None:
        try:
            report = decoding.report(message, env=self._policy.env, tunnel=session.info.tunnel)
        except Unreadable as error:
            self._refused(session, error, message.base_id)
            return
        if isinstance(report, TunnelState):
            self._gateways.tunnel_state(session, up=report.up, reason=report.reason)
        else:
            self._router.report(session, *report)

    def _took(self, session: Session, message: pb.Reports) -> None:
        now = self._clock.monotonic()
        session.took(message, now)
        if message.gap:
            gateway = session.info.gateway_id
            GAPS.labels(session.info.tunnel.value).inc()
            held = self._lines.admit(f"{gateway} gap", now)
            if held is not None:
                log.warning("reports of bases were lost: silence counts from now", gateway=gateway, more=held)

    def _refused(self, session: Session, error: Unreadable, base: str = "") -> None:
        """Count what cannot be used; of one gateway and kind one line in LOG_EVERY seconds is enough."""
        REFUSED_REPORTS.labels(error.reason).inc()
        gateway = session.info.gateway_id
        held = self._lines.admit(f"{gateway} {error.reason}", self._clock.monotonic())
        if held is not None:
            cause = decoding.people(str(error))
            log.warning("report refused", gateway=gateway, base=decoding.people(base, 64), cause=cause, more=held)
