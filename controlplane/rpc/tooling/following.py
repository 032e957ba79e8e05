"""ReplicaService: sends another replica what this one owns, then each change."""

import asyncio
from collections.abc import AsyncIterator, Container
from contextlib import AsyncExitStack
from dataclasses import dataclass

from google.protobuf.timestamp_pb2 import Timestamp
from koupleless.replica.v1 import replica_pb2 as rpb
from koupleless.replica.v1 import replica_pb2_grpc

from controlplane.app.changes import Subscription
from controlplane.app.events import Recorder
from controlplane.app.gateways import GatewayDirectory
from controlplane.app.roster import Roster
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
            while not asked.over:
                sync = asked.sync
                self.index.entries()
                for name in names.take():
                    entry = self.index.owned(name)
                    if entry is not None and entry is not sent.get(name):
                        sent[name] = entry
                        owned = rpb.OwnedVNode(vnode=entry.vnode, modules=entry.modules, operations=entry.operations)
                        yield rpb.FollowResponse(vnode=owned)
                    elif entry is None and sent.pop(name, None) is not None:
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
                    yield rpb.FollowResponse(synced=self._synced(sync, sent))
                await names.wait()
                if asked.sync == answered:
                    await asyncio.sleep(GATHER)
                self.index.go_on()

    def _synced(self, sync: int, sent: Container[str]) -> rpb.Synced:
        seen: dict[str, Timestamp] = {
            base.vnode: at
            for base in self.roster.bases()
            if base.vnode in sent and (at := codec.last_seen(base)) is not None
        }
        return rpb.Synced(number=sync, last_seen=seen, gateways=codec.gateways(self.gateways, self.roster))


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
