"""Replicas over one API server, each with a connection of its own that can be cut, slow, or behind."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from controlplane.app.policy import Policy
from controlplane.app.ports import Transient
from controlplane.cluster.api import LEASES, Json, Resource, WatchEvent
from controlplane.domain.contract import LEASE_NAMESPACE
from controlplane.domain.identity import BaseId
from tests.unit.app.harness import Api, Stage


class Connection:
    """The connection of one replica to the API server, which can be cut or slow, and whose watch of leases can lag."""

    def __init__(self, api: Api) -> None:
        self._api, self.cut = api, False
        self.create_after = 0.0
        self.keeps_up = asyncio.Event()
        self.keeps_up.set()

    def __getattr__(self, name: str) -> Any:
        if self.cut and name in ("get", "list", "create", "patch", "delete", "watch"):
            raise Transient("cut off from the API server")
        return getattr(self._api, name)

    async def create(self, resource: Resource, obj: Json, namespace: str = "") -> Json:
        await asyncio.sleep(self.create_after)
        if self.cut:
            raise Transient("cut off from the API server")
        return await self._api.create(resource, obj, namespace)

    async def watch(self, resource: Resource, *, namespace: str = "", **how: Any) -> AsyncIterator[WatchEvent]:
        if self.cut:
            raise Transient("cut off from the API server")
        async for event in self._api.watch(resource, namespace=namespace, **how):
            if resource == LEASES and namespace == LEASE_NAMESPACE:
                await self.keeps_up.wait()
            yield event


class Counting(Api):
    """An API server that counts how often the holder of a VNode's Lease changed."""

    def __init__(self) -> None:
        super().__init__()
        self.moves = 0
        self._holders: dict[str, str] = {}

    def _publish(self, resource: Resource, event: WatchEvent) -> None:
        name = event.object["metadata"]["name"]
        if resource == LEASES and name.startswith("vnode."):
            holder = event.object["spec"]["holderIdentity"]
            self.moves += self._holders.get(name, holder) != holder
            self._holders[name] = holder
        super()._publish(resource, event)


class Replicas:
    """Replicas that can be started and ended one by one."""

    def __init__(self, *, clustered: bool = False) -> None:
        self.api = Counting()
        self.stages: dict[str, Stage] = {}
        self.connections: dict[str, Connection] = {}
        self._clustered = clustered
        self._running: dict[str, AsyncExitStack] = {}

    async def start(self, *names: str) -> None:
        for name in names:
            self.connections[name] = Connection(self.api)
            policy = Policy(replica=name, env="dev", version="test", clustered=self._clustered)
            stage = Stage(self.connections[name], policy, sole=False)  # type: ignore[arg-type]
            self._running[name] = AsyncExitStack()
            await self._running[name].enter_async_context(stage.running())
            self.stages[name] = stage

    async def end(self, name: str) -> None:
        """End it abruptly: it releases nothing."""
        del self.stages[name]
        await self._running.pop(name).aclose()

    async def leave(self, name: str) -> None:
        """End it gracefully."""
        await self.stages[name].fleet.retire()
        await self.stages[name].members.leave()
        await self.end(name)

    async def close(self) -> None:
        for name in tuple(self.stages):
            await self.end(name)

    def add(self, *bases: str) -> None:
        """Have bases send heartbeats through gateways that are connected to all replicas."""
        for base in bases:
            for stage in self.stages.values():
                stage.bases.add(base)

    def owners(self) -> dict[str, list[str]]:
        bases = {base for stage in self.stages.values() for base in stage.bases.modules}
        return {
            base: [name for name, stage in self.stages.items() if stage.leases.fence(BaseId(base)) is not None]
            for base in sorted(bases)
        }

    def loads(self) -> Counter[str]:
        return Counter(owner for owners in self.owners().values() for owner in owners)

    def each_has_one_owner(self) -> bool:
        return all(len(owners) == 1 for owners in self.owners().values())


@asynccontextmanager
async def replicas(*names: str, bases: int = 0, clustered: bool = False) -> AsyncIterator[Replicas]:
    those = Replicas(clustered=clustered)
    try:
        await those.start(*names)
        those.add(*(f"b{number}" for number in range(bases)))
        await asyncio.sleep(2.0)
        yield those
    finally:
        await those.close()
