"""How long tools block the loop of a control plane with a large fleet, and what a page costs.

The index and the servicer are those of the control plane, in this process, behind a real gRPC server on loopback and
without the guard; the fleet is in memory, and the tools are another process.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Self

import uvloop
from grpc import aio
from koupleless.modulecontroller.v1 import module_controller_pb2_grpc

from benchmarks import machine, targets
from benchmarks.figures import Figure
from benchmarks.progress import say
from benchmarks.tools_fleet import Fleet
from service.process import tune_garbage_collector

LOOK = 0.001
"""Seconds between two looks at the loop."""


class Lateness:
    """Sleeps again and again, and notes how late it woke at most, and the most CPU time that others took meanwhile."""

    def __init__(self) -> None:
        self.longest = self.longest_cpu = 0.0

    async def __aenter__(self) -> Self:
        self._cpu, self._began = time.process_time(), time.monotonic()
        self._task = asyncio.create_task(self._look())
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.sleep(2 * LOOK)
        self.cpu, self.took = time.process_time() - self._cpu, time.monotonic() - self._began
        self._task.cancel()

    async def _look(self) -> None:
        while True:
            began, cpu = time.monotonic(), time.thread_time()
            await asyncio.sleep(LOOK)
            self.longest = max(self.longest, time.monotonic() - began - LOOK)
            self.longest_cpu = max(self.longest_cpu, time.thread_time() - cpu)


class Client:
    """The tools' process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def do(self, word: str, number: float) -> float:
        """Have it do something; return the seconds that this took."""
        if self._process.stdin is None or self._process.stdout is None:
            raise AssertionError("its pipes are ours")
        self._process.stdin.write(f"{word} {number}\n".encode())
        return float(await self._process.stdout.readline())


@asynccontextmanager
async def _client(address: str) -> AsyncIterator[Client]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.tools_clients", address),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield Client(process)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@asynccontextmanager
async def _served(fleet: Fleet) -> AsyncIterator[str]:
    server, tooling = aio.server(), fleet.tooling
    module_controller_pb2_grpc.add_ModuleControllerServiceServicer_to_server(tooling.servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    tasks = [asyncio.create_task(tooling.index.run()), asyncio.create_task(tooling.links.run())]
    try:
        yield f"127.0.0.1:{port}"
    finally:
        for task in tasks:
            task.cancel()
        await server.stop(0)


async def _measured(options: argparse.Namespace) -> list[Figure]:
    fleet, found = Fleet(options.bases, options.modules), list[Figure]()
    tune_garbage_collector()

    async with _served(fleet) as address, _client(address) as tools:

        async def measure(what: str, word: str, number: float, *, change: int = 0) -> None:
            async with Lateness() as late:
                if change:
                    await fleet.lose(change)
                seconds = await (tools.do(word, number) if word else asyncio.sleep(number, number))
            note = f"of CPU {1000 * late.longest_cpu:.1f} ms; in all {seconds:.2f} s, {late.cpu:.2f} s of CPU"
            say(f"{what}: {1000 * late.longest:.1f} ms, {note}")
            found.append(Figure(what, 1000 * late.longest, "ms", targets.TOOLS_BLOCK_MS, note))

        await measure("first page, nothing kept", "vnodes", 1)
        await measure("all pages of VNodes", "vnodes", 1000)
        await measure("all pages of modules", "modules", 1000)
        await measure("filters that match nothing", "none", 1)
        await measure(f"{options.watchers} first pages at once", "at_once", options.watchers)
        await measure(f"{options.watchers} watches open", "watch", options.watchers)
        await measure("a fleet at rest", "", 5.0)
        await measure("one VNode changes", "changed", 1, change=1)
        many = min(1000, options.bases)
        await measure(f"{many} VNodes change at once", "changed", many, change=many)
        await measure("a page beside the watches", "vnodes", 1)
        await measure("one more watch, read slowly", "slow", 5.0)
        await measure("all watches end", "close", 0)
    return found


def measure(options: argparse.Namespace) -> tuple[dict[str, str], list[Figure]]:
    """Return where, and the figures: the longest time for which the loop did not turn."""
    where = machine.describe("no cluster")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return where, runner.run(_measured(options))
