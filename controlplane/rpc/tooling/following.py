"""ReplicaService: sends another replica what this one owns, then each change."""

import asyncio
from collections.abc import AsyncIterator, Container
from contextlib import AsyncExitStack
from dataclasses import dataclass

from koupleless.replica.v1 import replica_pb2 as rpb
from koupleless.replica.v1 import replica_pb2_grpc

from controlplane.app.changes import Subscription
from controlplane.app.events import Recorder
from controlplane.app.gateways import GatewayDirectory
from controlplane.app.roster import Roster
from controlplane.app.turns import Turns
from controlplane.rpc.refusals import Context, refusing
from controlplane.rpc.tooling import codec
from controlplane.rpc.tooling.index import GATHER, Entry, Index


@dataclass(eq=False)
class ReplicaServicer(replica_pb2_grpc.ReplicaServiceServicer):
    """Serves the other replicas; instance is random for each start of this process."""

    index: Index
    roster: Roster
    recorder: Recorder
    gateways: GatewayDirectory
    instance: str

    async def Follow(
        self, request_iterator: AsyncIterator[rpb.FollowRequest], context: Context
    ) -> AsyncIterator[rpb.FollowResponse]:
        """Send what this replica owns, then each change; end when this replica does, or the other one's questions."""
        asked, sent = _Asked(), dict[str, Entry]()
        number, answered = 0, 0
        async with refusing(context), AsyncExitStack() as stack:
            names = stack.enter_context(self.index.watched())
            reading = asyncio.create_task(asked.read(request_iterator, names), name="follow-requests")
            stack.callback(reading.cancel)
            await self.index.entries()
            async for entry in self.index.walk():
                names.note(entry.vnode.name)
            turns = Turns()
            while not asked.over:
                sync = asked.sync
                await self.index.entries()
                for name in names.take():
                    await turns.handled()
                    now = self.index.owned(name)
                    if now is not None and now is not sent.get(name):
                        sent[name] = now
                        owned = rpb.OwnedVNode(vnode=now.vnode, modules=now.modules, operations=now.operations)
                        yield rpb.FollowResponse(vnode=owned)
                    elif now is None and sent.pop(name, None) is not None:
                        yield rpb.FollowResponse(gone=name)
                    self.index.go_on()
                for happening in self.recorder.recent():
                    if happening.number > number:
                        number = happening.number
                        event = codec.event(happening)
                        yield rpb.FollowResponse(
                            event=rpb.ReplicaEvent(number=number, instance=self.instance, event=event)
                        )
                if sync > answered:
                    answered = sync
                    yield rpb.FollowResponse(synced=await self._synced(sync, sent))
                await names.wait()
                if asked.sync == answered:
                    await asyncio.sleep(GATHER)
                self.index.go_on()

    async def _synced(self, sync: int, sent: Container[str]) -> rpb.Synced:
        synced, turns = rpb.Synced(number=sync, gateways=codec.gateways(self.gateways, self.roster)), Turns()
        for base in self.roster.bases():
            await turns.handled()
            known = self.roster.heard(base.id) if base.vnode in sent else None
            if known is None:
                continue
            if (at := codec.last_seen(known)) is not None:
                synced.last_seen[known.vnode].CopyFrom(at)
            if known.usage is not None:
                synced.usage[known.vnode].CopyFrom(codec.usage(known.usage))
        return synced


@dataclass(slots=True)
class _Asked:
    """The highest sync that was asked for, and whether the other replica ended the stream."""

    sync: int = 0
    over: bool = False

    async def read(self, requests: AsyncIterator[rpb.FollowRequest], names: Subscription[str]) -> None:
        try:
            async for request in requests:
                self.sync = max(self.sync, request.sync)
                names.nudge()
        finally:
            self.over = True
            names.nudge()
