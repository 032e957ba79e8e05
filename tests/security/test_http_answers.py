"""Row 9: answers as weapons. Hostile answers cost little, and bases that send them are asked less and less often."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from simulatedbase.base import SimulatedBase
from simulatedbase.profile import Profile
from tests.fakes.controlplane import watch
from tests.integration.http_gateway.hostile import OK, Behave, says
from tests.security.http_stage import Stage, stage

MANY = 120
CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 600_000 + b"0\r\n\r\n"
"""3.6 MB in chunks of one byte."""
VALUES = OK + b'{"code":"SUCCESS","data":[' + b"[]," * 1_380_000 + b"[]]}"
"""4 MB of empty lists."""


async def sends_much_and_stops(_: bytes, writer: asyncio.StreamWriter) -> None:
    """Send nearly as much as an answer may have, and never end."""
    writer.write(OK + b"x" * (4_000_000))
    await asyncio.sleep(3600)


async def drips(_: bytes, writer: asyncio.StreamWriter) -> None:
    """Send byte by byte."""
    writer.write(OK)
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.001)


@dataclass
class Hostile:
    """A server on which many bases are, and how often it was asked."""

    port: int
    asked: int = 0


@asynccontextmanager
async def hostile(behave: Behave) -> AsyncIterator[Hostile]:
    """Serve without an end of its own."""
    tasks: set[asyncio.Task[None]] = set()
    there = Hostile(0)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there.asked += 1
        try:
            command = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1]
            await behave(command, writer)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()

    def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(answer(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    there.port = server.sockets[0].getsockname()[1]
    try:
        yield there
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.1)  # aborted connections are closed soon, not at once


def cpu_seconds(scene: Stage) -> float:
    """Return the CPU time of the gateway."""
    fields = Path(f"/proc/{scene.gateway.server.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_megabytes(scene: Stage) -> float:
    """Return the most memory that the gateway had."""
    status = Path(f"/proc/{scene.gateway.server.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


ATTACKS: list[tuple[str, Behave, str]] = [
    ("chunks", says(CHUNKS), "pieces"),
    ("values", says(VALUES), "values"),
    ("hold", sends_much_and_stops, "memory"),
    ("drip", drips, "pieces"),
]


@pytest.mark.parametrize(("behave", "reason"), [each[1:] for each in ATTACKS], ids=[each[0] for each in ATTACKS])
async def test_an_answer_is_no_weapon(tmp_path: Path, behave: Behave, reason: str) -> None:
    """120 bases that should be asked two questions every second are asked each once in 10 s or more."""
    good = SimulatedBase(Profile(identity="good", port=0))
    await good.start()
    async with hostile(behave) as attacker, stage(tmp_path) as scene:
        before = cpu_seconds(scene)
        for number in range(MANY):
            scene.stream.send(watch(f"bad-{number}", "127.0.0.1", attacker.port, modules=1, silent=1, health=1))
        scene.stream.send(watch("good", "127.0.0.1", good.port, modules=0.5, silent=0.5, health=0.5))
        await scene.stream.report("modules", "good")
        await asyncio.sleep(6)
        lists = len(list(scene.stream.matching("modules", "good")))
        await scene.stream.report("modules", "good", after=len(scene.stream.reports))
        spent, peak = cpu_seconds(scene) - before, peak_megabytes(scene)
        failed = await scene.stream.report("poll_failed")
        excesses = await scene.count(f'koupleless_http_tunnel_excessive_answers_total{{reason="{reason}"}}')
    await good.stop()
    print(f"{reason}: {spent:.1f} s of CPU, peak {peak:.0f} MB, asked {attacker.asked}, good lists {lists}")
    assert lists >= 5
    assert excesses >= 1
    assert attacker.asked <= 5 * MANY, "without rests it is more than 12"
    assert failed.poll_failed.failure in (pb.POLL_FAILURE_NOT_A_BASE, pb.POLL_FAILURE_NO_ANSWER)
    assert spent < 6
    assert peak < 256
