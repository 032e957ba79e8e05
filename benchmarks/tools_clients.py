"""Tools in a process of their own: they do what each line on standard input says, and answer with a line.

A line is a word and numbers; the answer is what it took, in seconds.
"""

import asyncio
import sys
import time
from typing import Any

from grpc import aio
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb
from koupleless.modulecontroller.v1.module_controller_pb2_grpc import ModuleControllerServiceStub

UNLIMITED = (("grpc.max_receive_message_length", -1),)
PAGE = 500
SLOW_READ = 0.01
"""Seconds between two messages that a slow reader takes."""


class Watcher:
    """Reads one watch; half of the watchers read VNodes, the others modules."""

    def __init__(self, tools: ModuleControllerServiceStub, number: int, pause: float = 0.0) -> None:
        vnodes = number % 2 == 0
        self.stream: Any = (
            tools.WatchVNodes(pb.WatchVNodesRequest()) if vnodes else tools.WatchModules(pb.WatchModulesRequest())
        )
        self.vnodes = vnodes
        self.complete = asyncio.Event()
        self.changes = 0
        self.more = asyncio.Condition()
        self.task = asyncio.create_task(self._read(pause))

    async def _read(self, pause: float) -> None:
        async for message in self.stream:
            if message.type == pb.CHANGE_TYPE_UNSPECIFIED:
                self.complete.set()
            else:
                self.changes += 1
                async with self.more:
                    self.more.notify_all()
            if pause:
                await asyncio.sleep(pause)


class Tools:
    """All tools."""

    def __init__(self, channel: aio.Channel) -> None:
        self._tools: Any = ModuleControllerServiceStub(channel)
        self._watchers: list[Watcher] = []

    async def watch(self, count: float) -> None:
        """Open watches at once, until each had all that there is."""
        self._watchers = [Watcher(self._tools, number) for number in range(int(count))]
        for watcher in self._watchers:
            await watcher.complete.wait()
            watcher.changes = 0

    async def changed(self, count: float) -> None:
        """Wait until each watch of VNodes had so many changes."""
        for watcher in self._watchers:
            async with watcher.more:
                await watcher.more.wait_for(lambda of=watcher: not of.vnodes or of.changes >= count)  # type: ignore[misc]
            watcher.changes = 0

    async def vnodes(self, pages: float) -> None:
        """List VNodes, at most so many pages."""
        await self._pages(self._tools.ListVNodes, pb.ListVNodesRequest(page_size=PAGE), pages)

    async def modules(self, pages: float) -> None:
        """List modules, at most so many pages."""
        await self._pages(self._tools.ListModules, pb.ListModulesRequest(page_size=PAGE), pages)

    async def none(self, pages: float) -> None:
        """List what a selector or a name chooses that nothing has."""
        await self._pages(self._tools.ListVNodes, pb.ListVNodesRequest(selector="zone=none"), pages)
        await self._pages(self._tools.ListModules, pb.ListModulesRequest(name="none"), pages)

    async def at_once(self, count: float) -> None:
        """List so many first pages of VNodes at once."""
        request = pb.ListVNodesRequest(page_size=PAGE)
        await asyncio.gather(*(self._pages(self._tools.ListVNodes, request, 1) for _ in range(int(count))))

    async def slow(self, seconds: float) -> None:
        """Read one more watch slowly."""
        watcher = Watcher(self._tools, 0, SLOW_READ)
        await asyncio.sleep(seconds)
        watcher.task.cancel()

    async def close(self, _: float) -> None:
        """End all watches."""
        for watcher in self._watchers:
            watcher.task.cancel()
        await asyncio.wait([watcher.task for watcher in self._watchers])

    async def _pages(self, method: Any, request: Any, most: float) -> None:
        while most > 0:
            answer = await method(request)
            request.page_token, most = answer.next_page_token, most - 1
            if not answer.next_page_token:
                return


async def main(address: str) -> None:
    """Do what is said until standard input ends."""
    async with aio.insecure_channel(address, options=UNLIMITED) as channel:
        tools = Tools(channel)
        while line := await asyncio.to_thread(sys.stdin.readline):
            word, number = line.split()
            began = time.monotonic()
            await getattr(tools, word)(float(number))
            print(time.monotonic() - began, flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
