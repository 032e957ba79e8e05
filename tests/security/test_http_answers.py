"""Row 9: answers as weapons. Hostile answers cost little, and bases that send them are asked less and less often."""

import asyncio
import os
import time
from pathlib import Path

import pytest
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from simulatedbase.base import SimulatedBase
from simulatedbase.profile import Profile
from tests.fakes.controlplane import watch
from tests.security.attackers.answers import ATTACKS, hostile
from tests.security.http_stage import Stage, eventually, stage

MANY = 120


def cpu_seconds(scene: Stage) -> float:
    """Return the CPU time of the gateway."""
    fields = Path(f"/proc/{scene.gateway.server.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_megabytes(scene: Stage) -> float:
    """Return the most memory that the gateway had."""
    status = Path(f"/proc/{scene.gateway.server.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


REASONS = {"pieces": "pieces", "values": "values", "holding": "memory", "dripping": "pieces"}
"""Why the answers of each attack are given up."""


@pytest.mark.parametrize("attack", ATTACKS)
async def test_an_answer_is_no_weapon(tmp_path: Path, attack: str) -> None:
    """120 bases that should be asked two questions every second are asked each once in 10 s or more."""
    reason = REASONS[attack]
    good = SimulatedBase(Profile(identity="good", port=0))
    await good.start()
    async with hostile(ATTACKS[attack]) as attacker, stage(tmp_path) as scene:
        before, began = cpu_seconds(scene), time.monotonic()
        for number in range(MANY):
            scene.stream.send(watch(f"bad-{number}", "127.0.0.1", attacker.port, modules=1, silent=1, health=1))
        scene.stream.send(watch("good", "127.0.0.1", good.port, modules=0.5, silent=0.5, health=0.5))
        await scene.stream.report("modules", "good")
        await asyncio.sleep(6)
        lists = len(list(scene.stream.matching("modules", "good")))
        await scene.stream.report("modules", "good", after=len(scene.stream.reports))
        spent, peak = cpu_seconds(scene) - before, peak_megabytes(scene)
        failed = await scene.stream.report("poll_failed")

        async def found_out() -> bool:
            counted = await scene.count(f'koupleless_http_tunnel_excessive_answers_total{{reason="{reason}"}}')
            if attack == "dripping":
                # On a busy machine drops come together: too few pieces, and no whole answer in time.
                counted += await scene.count('koupleless_http_tunnel_calls_total{verb="queryAllBiz",end="lost"}')
            return counted >= 1

        await eventually(found_out)
        elapsed = time.monotonic() - began
    await good.stop()
    print(f"{reason}: {spent:.1f} s of CPU, peak {peak:.0f} MB, asked {attacker.asked}, good lists {lists}")
    assert lists >= 5
    assert attacker.asked <= 0.8 * MANY * elapsed, "without rests it is two in each second"
    assert failed.poll_failed.failure in (pb.POLL_FAILURE_NOT_A_BASE, pb.POLL_FAILURE_NO_ANSWER)
    assert spent < 6
    assert peak < 256
