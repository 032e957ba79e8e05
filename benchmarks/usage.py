"""What processes use, from /proc: CPU time and resident memory."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Usage:
    """cpu in seconds since the process began, resident memory in bytes."""

    cpu: float
    resident: int


def of(pid: int, proc: Path = Path("/proc")) -> Usage:
    """Return what a process uses; raises OSError when there is no such process."""
    # The name, in parentheses, may hold anything; fields 14 and 15 are user and system time in ticks.
    fields = (proc / str(pid) / "stat").read_text().rpartition(")")[2].split()
    status = (proc / str(pid) / "status").read_text()
    resident = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return Usage((int(fields[11]) + int(fields[12])) / _TICK, int(resident.split()[1]) * 1024)


def peak(pid: int, proc: Path = Path("/proc")) -> int:
    """Return the most resident memory that a process has had, in bytes; raises OSError when there is none."""
    lines = (proc / str(pid) / "status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024


def children(parent: int, proc: Path = Path("/proc")) -> dict[str, int]:
    """Return the processes that a process started, by the name of their program."""
    found = {}
    for folder in proc.glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            program = (folder / "cmdline").read_bytes().partition(b"\0")[0].decode(errors="replace")
        except OSError:
            continue  # it has ended
        if int(fields[1]) == parent:
            found[Path(program).name] = int(folder.name)
    return found


def snapshot(pids: Mapping[str, int]) -> dict[str, Usage]:
    """Return what each of some processes uses now."""
    return {name: of(pid) for name, pid in pids.items()}
