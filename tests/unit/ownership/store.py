"""The API server of the model, and connections to it: delayed, lost or cut off; watches are in order, but late."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Container, Coroutine
from functools import lru_cache
from typing import Any

from controlplane.app.ports import ClusterError, Transient, Unknown
from controlplane.cluster.api import EVENTS, Expired, Json, ObjectList, PatchType, Resource, WatchEvent
from controlplane.domain.workloads.placement import matches, parse_selector
from tests.fakes.apiserver import Call, FakeApiServer, echoed
from tests.unit.ownership.world import Process, World

_selector = lru_cache(parse_selector)


class Store(FakeApiServer):
    """The cluster's state. Watchers get events through the world."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.away_until = 0.0
        self.watchers: list[SimWatch] = []
        self.touched: Callable[[Resource, WatchEvent], None] = lambda _resource, _event: None

    def _called(self, call: Call) -> None:
        """Calls are not recorded: no test reads them."""

    def _publish(self, resource: Resource, event: WatchEvent) -> None:
        self._history.append((self.version, resource, event))
        self.touched(resource, event)
        for watcher in self.watchers:
            if watcher.resource == resource:
                watcher.notify(event)

    def named(self, resource: Resource, name: str, namespace: str = "") -> Json | None:
        return self._objects.get((resource, namespace, name))

    def every(self, resource: Resource) -> list[Json]:
        return [obj for key, obj in self._objects.items() if key[0] == resource]

    def since(self, resource: Resource, version: int) -> list[WatchEvent]:
        return [event for at, kind, event in self._history if kind == resource and at > version]


def perform(request: Coroutine[Any, Any, Any]) -> Any:
    """Carry a request out at once."""
    try:
        request.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("the store does not wait")


class SimWatch:
    """One watch of one process: events arrive in order, some time after they happened."""

    def __init__(self, api: "SimApi", resource: Resource, labels: str, echoes: Container[str]) -> None:
        self._api, self.resource, self._labels, self._echoes = api, resource, _selector(labels), echoes
        self._arrived: deque[WatchEvent | ClusterError] = deque()
        self._queue: deque[WatchEvent] = deque()
        self._something = asyncio.Event()
        self._last = 0.0
        self.ended = False

    def notify(self, event: WatchEvent) -> None:
        if matches(self._labels, event.object["metadata"].get("labels", {})):
            self._send(event)

    def end(self) -> None:
        """Break the connection: the reader finds out after the lag."""
        if not self.ended:
            self.ended = True
            self._api.store.watchers.remove(self)
            # Events under way are lost: the next watch begins after the last one that arrived.
            self._queue.clear()
            broke = Transient("the watch broke")
            self._api.world.after(self._api.lag(), lambda: self._api.process.deliver(lambda: self._take(broke)))

    def _send(self, event: WatchEvent) -> None:
        world = self._api.world
        self._last = max(self._last + 1e-6, world.now + self._api.lag())
        self._queue.append(event)
        world.at(self._last, self._arrive)

    def _arrive(self) -> None:
        """Deliver the first of the queue; a cut connection goes on, in order, when it is back."""
        if not self._queue:
            return
        if self._api.cut:
            self._api.world.at(self._api.reached_at + 1e-3, self._arrive)
            return
        event = self._queue.popleft()
        self._api.process.deliver(lambda: self._take(event))

    def _take(self, what: WatchEvent | ClusterError) -> None:
        self._arrived.append(what)
        self._something.set()

    def __aiter__(self) -> AsyncIterator[WatchEvent]:
        return self

    async def __anext__(self) -> WatchEvent:
        while not self._arrived:
            self._something.clear()
            await self._something.wait()
        what = self._arrived.popleft()
        if isinstance(what, ClusterError):
            raise what
        return echoed(what, self._echoes)


class SimApi:
    """The store, as one process sees it. Implements ``cluster.api.ApiServer``."""

    def __init__(self, store: Store, process: Process) -> None:
        self.store, self.process, self.world = store, process, store.world
        self.cut_until = 0.0
        self.lag_until, self.lagging = 0.0, 0.0
        self._watches: list[SimWatch] = []

    @property
    def cut(self) -> bool:
        return self.world.now < self.reached_at

    @property
    def reached_at(self) -> float:
        return max(self.cut_until, self.store.away_until)

    def lag(self) -> float:
        """Seconds that a watch is behind."""
        slow = self.lagging if self.world.now < self.lag_until else 0.0
        return self.world.random.uniform(0.001, 0.03) + slow

    def cut_off(self, seconds: float) -> None:
        self.cut_until = max(self.cut_until, self.world.now + seconds)
        for watch in self._watches:
            if self.world.chance(0.7):
                watch.end()

    def fall_behind(self, lag: float, seconds: float) -> None:
        """Delay the events of watches for a while."""
        self.lagging, self.lag_until = lag, self.world.now + seconds

    async def _ask(self, request: Callable[[], Coroutine[Any, Any, Any]], *, writes: bool = False) -> Any:
        if not self.process.alive:
            raise Transient("the process has ended")
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if writes and self.world.chance(self.world_pause):
            self.process.pause(self.world.random.choice((0.5, 6.0, 9.0, 30.0, 50.0)))
        self.process.send(lambda: self._travel(request, answer, writes=writes))
        return await answer

    world_pause = 0.0
    """How probable it is that a process is stopped right before a write leaves it."""
    loss = 0.0
    """How probable it is that a request or a reply gets lost."""

    def _travel(
        self, request: Callable[[], Coroutine[Any, Any, Any]], answer: asyncio.Future[Any], *, writes: bool
    ) -> None:
        world = self.world
        delay = world.random.uniform(0.001, 0.02) + (world.random.uniform(0.0, 3.0) if world.chance(self.loss) else 0.0)
        if self.cut or world.chance(self.loss):
            self._answer(world.random.uniform(0.05, 5.0), answer, Transient("no connection"))
        else:
            world.after(delay, lambda: self._arrive(request, answer, writes=writes))

    def _arrive(
        self, request: Callable[[], Coroutine[Any, Any, Any]], answer: asyncio.Future[Any], *, writes: bool
    ) -> None:
        world = self.world
        if self.cut:
            self._answer(world.random.uniform(0.05, 5.0), answer, Unknown("no answer") if writes else Transient("cut"))
            return
        try:
            result: Any = perform(request())
        except ClusterError as error:
            result = error
        if world.chance(self.loss):
            self._answer(world.random.uniform(0.5, 6.0), answer, Unknown("the answer was lost"))
        else:
            self._answer(world.random.uniform(0.001, 0.02), answer, result)

    def _answer(self, delay: float, answer: asyncio.Future[Any], result: Any) -> None:
        def arrive() -> None:
            if answer.done():
                return
            if isinstance(result, Exception):
                answer.set_exception(result)
            else:
                answer.set_result(result)

        self.world.after(delay, lambda: self.process.deliver(arrive))

    async def get(self, resource: Resource, name: str, namespace: str = "") -> Json:
        found: Json = await self._ask(lambda: self.store.get(resource, name, namespace))
        return found

    async def list(
        self,
        resource: Resource,
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        from_memory: bool = False,
    ) -> ObjectList:
        found: ObjectList = await self._ask(
            lambda: self.store.list(
                resource, namespace=namespace, label_selector=label_selector, field_selector=field_selector
            )
        )
        return found

    def watch(
        self,
        resource: Resource,
        *,
        resource_version: str,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        echoes: Container[str] = (),
    ) -> AsyncIterator[WatchEvent]:
        watch = SimWatch(self, resource, label_selector, echoes)
        if self.cut or not self.process.alive:
            watch.ended = True
            watch._arrived.append(Transient("no connection"))
        elif int(resource_version) < self.store._oldest:
            watch.ended = True
            watch._arrived.append(Expired("too old"))
        else:
            self._watches = [*(known for known in self._watches if not known.ended), watch]
            self.store.watchers.append(watch)
            # The real API server confirms a watch at once with a bookmark.
            watch._send(WatchEvent("BOOKMARK", {"metadata": {"resourceVersion": resource_version}}))
            for event in self.store.since(resource, int(resource_version)):
                watch.notify(event)
        return watch

    async def create(self, resource: Resource, obj: Json, namespace: str = "") -> Json:
        if resource == EVENTS:
            return obj
        made: Json = await self._ask(lambda: self.store.create(resource, obj, namespace), writes=True)
        return made

    async def patch(
        self,
        resource: Resource,
        name: str,
        patch: Json,
        *,
        namespace: str = "",
        subresource: str = "",
        patch_type: PatchType = PatchType.MERGE,
        urgent: bool = False,
    ) -> Json:
        made: Json = await self._ask(
            lambda: self.store.patch(
                resource,
                name,
                patch,
                namespace=namespace,
                subresource=subresource,
                patch_type=patch_type,
                urgent=urgent,
            ),
            writes=True,
        )
        return made

    async def delete(
        self,
        resource: Resource,
        name: str,
        *,
        namespace: str = "",
        uid: str = "",
        resource_version: str = "",
        grace_seconds: int | None = None,
    ) -> None:
        await self._ask(
            lambda: self.store.delete(
                resource,
                name,
                namespace=namespace,
                uid=uid,
                resource_version=resource_version,
                grace_seconds=grace_seconds,
            ),
            writes=True,
        )
