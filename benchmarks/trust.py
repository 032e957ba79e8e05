"""What TLS and tokens cost: the same rest once in plaintext with tokens of this machine, once with those of a cluster.

A tool lists a VNode once a second meanwhile. The API server is asked who it is and what it may do, at most once in ten
seconds.
"""

import argparse
import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

import grpc
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb
from koupleless.modulecontroller.v1.module_controller_pb2_grpc import ModuleControllerServiceStub

from benchmarks import machine, targets
from benchmarks.api import CALL_TIMEOUT, Failed
from benchmarks.figures import Figure
from benchmarks.idle import Rest, rest
from benchmarks.progress import say
from benchmarks.stage import Line, Stage, line, stage

CALL_EVERY = 1.0
WAYS = {False: "plaintext", True: "TLS"}


def compare(options: argparse.Namespace) -> tuple[dict[str, str], list[Figure]]:
    """Return where, and the figures of all rounds; raises what the stage raises, and Failed."""
    where: dict[str, str] = {}
    rests: dict[bool, list[Rest]] = {tls: [] for tls in WAYS}
    for number in range(options.rounds):
        for tls in WAYS:
            say(f"round {number + 1} of {options.rounds}, {WAYS[tls]}")
            with stage(options.bases, options.logs, tls=tls) as built:
                where = where or machine.describe(built.server.version)
                rests[tls].append(asyncio.run(_rest(built, options.seconds)))
    return where, figures(rests, options.bases)


async def _rest(built: Stage, seconds: float) -> Rest:
    async with line(built) as connected, _tool(connected):
        return await rest(connected, seconds)


@asynccontextmanager
async def _tool(connected: Line) -> AsyncIterator[None]:
    """Have a tool call; raises Failed afterwards where a call failed."""
    built = connected.stage
    address = next(iter(built.replicas.values())).address

    async def call() -> None:
        async with built.tool.channel(address, ()) as channel:
            tools = ModuleControllerServiceStub(channel)
            while True:
                request, metadata = pb.ListVNodesRequest(page_size=1), built.tool.metadata(address)
                await tools.ListVNodes(request, metadata=metadata, timeout=CALL_TIMEOUT)
                await asyncio.sleep(CALL_EVERY)

    calling = asyncio.create_task(call())
    try:
        yield
    finally:
        calling.cancel()
        with suppress(asyncio.CancelledError):
            try:
                await calling
            except grpc.aio.AioRpcError as error:
                raise Failed(f"a tool's call: {error.code().name} {error.details()}") from error


def figures(rests: Mapping[bool, Sequence[Rest]], bases: int) -> list[Figure]:
    """Return the figures of rests, of which True are those with TLS."""
    found = []
    for name in ("control plane", "gateway"):
        cores = {tls: sum(each.cores[name] for each in of) / len(of) for tls, of in rests.items()}
        note = f"CPU seconds a minute, {bases} bases"
        found += [Figure(f"CPU of {name}, {WAYS[tls]}", 60 * cores[tls], "s", note=note) for tls in cores]
        more = cores[True] / cores[False] - 1
        found.append(Figure(f"  more with TLS: {name}", 100 * more, "%", 100 * targets.TLS_SHARE))
    minutes = sum(each.took for each in rests[True]) / 60
    for kind, what in (("token", "token"), ("access", "right")):
        asked = sum(_reviews(each, kind) for each in rests[True])
        note = "it calls once a second"
        found.append(Figure(f"reviews of a tool's {what}", asked / minutes, "1/min", targets.REVIEWS_PER_MINUTE, note))
    return found


def _reviews(rest: Rest, kind: str) -> float:
    counts = rest.metrics.by("koupleless_access_reviews_total", "kind")
    return counts.get((kind,), 0.0)
