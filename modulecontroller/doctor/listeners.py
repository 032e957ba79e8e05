"""Who listens on a TCP port of this machine, as far as /proc shows it to us."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_LISTENING = "0A"
_OURS = ("controlplane", "gateways.", "modulecontroller", "module-controller", "http-gateway", "mqtt-gateway")


@dataclass(frozen=True, slots=True)
class Listener:
    """A process that listens; command is its command line."""

    pid: int
    command: str

    @property
    def ours(self) -> bool:
        """Whether it is one of our programs, going by its command line."""
        return any(word in self.command for word in _OURS)

    def __str__(self) -> str:
        return f"process {self.pid} ({self.command[:80]})"


def listener(port: int, proc: Path = Path("/proc")) -> Listener | None:
    """Return who listens on a port, None when that cannot be seen."""
    sockets = {f"socket:[{inode}]" for inode in _inodes(port, proc)}
    if not sockets:
        return None
    for process in proc.glob("[0-9]*"):
        # Other users' processes cannot be looked into, and any may end while we look.
        with contextlib.suppress(OSError):
            if any(str(descriptor.readlink()) in sockets for descriptor in (process / "fd").iterdir()):
                return Listener(int(process.name), _command(process))
    return None


def _inodes(port: int, proc: Path) -> Iterator[str]:
    for table in ("tcp", "tcp6"):
        try:
            lines = (proc / "net" / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            columns = line.split()
            if columns[3] == _LISTENING and int(columns[1].rpartition(":")[2], 16) == port:
                yield columns[9]


def _command(process: Path) -> str:
    return (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
