"""Who listens on a TCP port of this machine, as /proc says it. Source: proc(5), /proc/net/tcp."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
_LISTENING = "0A"


@dataclass(frozen=True, slots=True)
class Listener:
    """A socket that listens: the user that opened it, and its inode."""

    uid: int
    inode: str


def on_port(port: int, proc: Path = PROC) -> Iterator[Listener]:
    """Yield who listens on a port, on any address; nobody where /proc does not say."""
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in (proc / "net" / table).read_text().splitlines()[1:]:
                columns = line.split()
                if columns[3] == _LISTENING and int(columns[1].rpartition(":")[2], 16) == port:
                    yield Listener(int(columns[7]), columns[9])
