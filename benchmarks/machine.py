"""What a measurement was made on, and of which code."""

import os
import platform
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]


def describe(cluster: str) -> dict[str, str]:
    """Return commit, processor, memory, versions, how fast Python is here, and how busy the machine was before."""
    return {
        "commit": _commit(),
        "machine": f"{len(os.sched_getaffinity(0))} cores ({_processor()}), {_memory():.0f} GB memory",
        "loop of Python": f"{_loop():.0f} ms",
        "software": f"Python {platform.python_version()}, {cluster}, Linux {platform.release()}",
        "load before": f"{os.getloadavg()[0]:.2f} (1 min)",
    }


def _commit() -> str:
    try:
        commit = _git("rev-parse", "--short=10", "HEAD")
        return f"{commit}, with changes that are not committed" if _git("status", "--porcelain") else commit
    except (OSError, subprocess.SubprocessError):
        return "unknown: not a git checkout"


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, timeout=30, check=True)
    return done.stdout.strip()


def _loop() -> float:
    """Return the CPU time, in ms, of a fixed loop in Python: machines differ by it, and so do builds of Python."""
    times = []
    for _ in range(5):
        began = time.process_time()
        numbers: dict[int, str] = {}
        for number in range(200_000):
            numbers[number & 255] = f"{number}:{len([part for part in (1, 2, 3) if part > 1])}"
        times.append(time.process_time() - began)
    return min(times) * 1000


def _memory() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
