"""What a measurement was made on."""

import os
import platform
from pathlib import Path


def describe(cluster: str) -> dict[str, str]:
    """Return processor, memory, versions, and how busy the machine was before."""
    return {
        "machine": f"{len(os.sched_getaffinity(0))} cores ({_processor()}), {_memory():.0f} GB memory",
        "software": f"Python {platform.python_version()}, {cluster}, Linux {platform.release()}",
        "load before": f"{os.getloadavg()[0]:.2f} (1 min)",
    }


def _memory() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
