"""Under attack: how long a good base waits for its heartbeat's answer, and a good Pod until it is Ready.

The attacks are those of tests/security, each for half a minute, as a process of its own on other loopback addresses.
"""

import argparse
import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn
from uuid import uuid4

import aiohttp
import grpc
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb
from koupleless.modulecontroller.v1.module_controller_pb2_grpc import ModuleControllerServiceStub

from benchmarks import machine, targets
from benchmarks.api import CALL_TIMEOUT, Api, Failed, connected
from benchmarks.attack_stage import AttackStage, attack_stage
from benchmarks.bases import IDENTITY
from benchmarks.figures import Figure, percentile
from benchmarks.progress import say
from simulatedbase.profile import Profile

BEAT_EVERY, BEAT_WITHIN = 0.1, 10.0
READY_WITHIN, LOOK_EVERY = 60.0, 0.05
PODS_EVERY = 1.0
SECONDS = 30.0
MIB = 1 << 20


@dataclass(frozen=True)
class Attack:
    """One attack: what is attacked, how often, for how long."""

    name: str
    row: str
    ports: tuple[str, ...]
    count: int
    seconds: float = SECONDS


ATTACKS = (
    Attack("invented-http", "row 8, {count:,} invented bases over HTTP", ("bases",), 6_000),
    Attack("invented-mqtt", "row 8, {count:,} invented bases over MQTT", ("broker",), 20_000, 10.0),
    Attack("answers", "row 9, {count:,} bases with hostile answers", ("bases",), 120),
    Attack(
        "crowds", "row 14, {count:,} idle connections at each port", ("health", "metrics", "reports", "grpc"), 1_224
    ),
    Attack("malformed", "row 14, malformed requests", ("health", "metrics", "reports", "bases"), 1),
)


@dataclass
class Seen:
    """Seconds that good bases waited for answers, and good Pods until they were Ready; what failed; what was done."""

    beats: list[float] = field(default_factory=list)
    pods: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    attacker: str = ""


@dataclass(frozen=True)
class Good:
    """Those who are not the attacker: bases, and a tool."""

    stage: AttackStage
    bases: Api
    client: aiohttp.ClientSession
    tools: Any  # the generated asynchronous stub has no type of its own

    async def call(self, method: str, request: object) -> Any:
        """Call as the tool; raises grpc.aio.AioRpcError."""
        shown = self.stage.tool.metadata(self.stage.control_plane.address)
        return await getattr(self.tools, method)(request, metadata=shown, timeout=CALL_TIMEOUT, wait_for_ready=True)


def measure(options: argparse.Namespace) -> tuple[dict[str, str], list[Figure]]:
    """Return where, and the figures of all attacks; raises what the stage raises, and Failed."""
    with attack_stage(options.bases, options.logs, kubernetes=options.kubernetes) as built:
        where = machine.describe(built.cluster)
        return where, asyncio.run(_attacks(built, options.share))


async def _attacks(built: AttackStage, share: float) -> list[Figure]:
    found: list[Figure] = []
    async with _good(built) as good:
        await _onboard(good)
        quiet = Attack("", "nobody attacks", (), 0, 10.0)
        for full in (quiet, *ATTACKS):
            attack = replace(full, count=max(1, round(full.count * share)))
            say(attack.row.format(count=attack.count))
            before, seen = built.log_bytes(), await _under(good, attack)
            found += _figures(attack, seen, built.log_bytes() - before)
    limits = {"control plane": targets.CONTROL_PLANE_LIMIT_MIB}
    for name, peak in built.peaks().items():
        limit = limits.get(name, targets.GATEWAY_LIMIT_MIB)
        found.append(Figure(f"most memory of {name}", peak / MIB, "MiB", limit, "the shipped limit"))
    return found


@asynccontextmanager
async def _good(built: AttackStage) -> AsyncIterator[Good]:
    timeout = aiohttp.ClientTimeout(total=BEAT_WITHIN)
    async with (
        connected(built.bases_root) as bases,
        built.tool.channel(built.control_plane.address, ()) as channel,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True), timeout=timeout) as client,
    ):
        yield Good(built, bases, client, ModuleControllerServiceStub(channel))


async def _onboard(good: Good) -> None:
    await good.bases.post("/begin?ramp=0")
    until = time.monotonic() + READY_WITHIN
    while sum(item.ready for item in (await good.call("ListVNodes", pb.ListVNodesRequest())).items) < good.stage.bases:
        if time.monotonic() > until:
            raise Failed(f"not all good bases were Ready within {READY_WITHIN:g} s")
        await asyncio.sleep(LOOK_EVERY)


async def _under(good: Good, attack: Attack) -> Seen:
    """Measure while an attack is under way; without a name nobody attacks."""
    seen, built = Seen(), good.stage
    ports = {
        "bases": built.http.port,
        "broker": built.broker_port,
        "health": built.control_plane.health,
        "metrics": built.control_plane.metrics,
        "reports": built.reports_port,
        "grpc": built.control_plane.grpc,
    }
    until = time.monotonic() + attack.seconds
    attacker = built.attacker(attack.name, [ports[name] for name in attack.ports], attack.count, attack.seconds)
    work = [asyncio.create_task(_beat(good, seen)), asyncio.create_task(_pods(good, seen))]
    try:
        if attack.name:
            await asyncio.to_thread(attacker.start)
        while time.monotonic() < until or (attack.name and attacker.running):
            if time.monotonic() > until + READY_WITHIN:
                raise Failed(f"the attack {attack.name} does not end")
            await asyncio.sleep(LOOK_EVERY)
        # What the attack left waiting counts, too.
        await asyncio.sleep(PODS_EVERY)
    finally:
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        await asyncio.to_thread(attacker.stop)
    if attack.name:
        *_, seen.attacker = attacker.log.read_text().splitlines() or [""]
        if not seen.attacker.startswith("done: "):
            raise Failed(f"the attack {attack.name} failed: {attacker.tail()}")
    return seen


async def _beat(good: Good, seen: Seen) -> NoReturn:
    """Send heartbeats of a good base, each over a connection of its own, as bases do."""
    (first, *_) = await good.bases.get("/admin/bases")
    body = Profile(identity=first["identity"]).heartbeat(first["port"])
    sending: set[asyncio.Task[None]] = set()

    async def send() -> None:
        began = time.monotonic()
        try:
            async with good.client.post(f"{good.stage.http.url}/heartbeat", json=body) as answer:
                if answer.status != 200:
                    seen.failures.append(f"heartbeat: {answer.status} {(await answer.text())[:100]}")
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            seen.failures.append(f"heartbeat: {type(error).__name__} {error}")
        seen.beats.append(time.monotonic() - began)

    while True:
        task = asyncio.create_task(send())
        sending.add(task)
        task.add_done_callback(sending.discard)
        await asyncio.sleep(BEAT_EVERY)


async def _pods(good: Good, seen: Seen) -> NoReturn:
    """Install modules on good bases one after another, each until it is Ready."""
    number = 0
    while True:
        number += 1
        base = f"{IDENTITY}-{1 + number % good.stage.bases}" if good.stage.bases > 1 else IDENTITY
        began, name = time.monotonic(), f"good{uuid4().hex[:8]}"
        try:
            await good.call(
                "InstallModule", _order(pb.InstallModuleRequest, base, name, url="https://repo.example/a.jar")
            )
            listed = pb.ListModulesRequest(vnode=base, name=name)
            while not any(item.ready for item in (await good.call("ListModules", listed)).items):
                if time.monotonic() - began > READY_WITHIN:
                    raise TimeoutError(f"{name} was not Ready within {READY_WITHIN:g} s")
                await asyncio.sleep(LOOK_EVERY)
            seen.pods.append(time.monotonic() - began)
            await good.call("UninstallModule", _order(pb.UninstallModuleRequest, base, name))
        except (grpc.aio.AioRpcError, TimeoutError) as error:
            seen.pods.append(time.monotonic() - began)
            text = error.details() if isinstance(error, grpc.aio.AioRpcError) else str(error)
            seen.failures.append(f"Pod: {text}")
        await asyncio.sleep(PODS_EVERY)


def _order(kind: Any, base: str, name: str, **more: str) -> Any:
    return kind(request_id=uuid4().hex, target=pb.Target(base=base), name=name, version="1", **more)


def _figures(attack: Attack, seen: Seen, log_bytes: int) -> Sequence[Figure]:
    beats, pods = 1000 * percentile(seen.beats, 0.99), max(seen.pods, default=float("nan"))
    note = "; ".join(sorted(set(seen.failures))[:3]) or "the aim is 0"
    return [
        Figure(attack.row.format(count=attack.count), attack.seconds, "s", note=seen.attacker),
        Figure("  a heartbeat's answer p99", beats, "ms", targets.HEARTBEAT_MS, f"{len(seen.beats)} sent"),
        Figure("  a good Pod Ready, the slowest", pods, "s", targets.POD_READY_SECONDS, f"{len(seen.pods)} Pods"),
        Figure("  heartbeats and Pods that failed", len(seen.failures), "1", note=note),
        Figure("  logged by our programs", log_bytes / 1024, "KiB"),
    ]
