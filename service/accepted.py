"""The connections that this process accepted on some of its ports, also where a library accepts them.

Source: proc(5), /proc/PID/fd.
"""

import os
import socket
from collections.abc import Set
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

OPEN = "/proc/self/fd"
_SOCKET = "socket:["
_NONE = -1


@dataclass(frozen=True, slots=True)
class Accepted:
    """A connection: its inode, and the peer's socket address."""

    inode: int
    address: tuple[Any, ...]


class AcceptedConnections:
    """Finds the connections of some ports. It looks closely only at sockets that it has not seen yet."""

    def __init__(self, ports: Set[int]) -> None:
        self._ports = ports
        self._seen: dict[int, Accepted | None] = {}
        self._numbers: dict[Accepted, int] = {}

    def look(self) -> Set[Accepted]:
        """Return those that are open now; raises OSError where no descriptor is left to look with."""
        seen, numbers = dict[int, Accepted | None](), dict[Accepted, int]()
        for number in map(int, os.listdir(OPEN)):
            inode = _inode(number)
            if inode == _NONE:
                continue
            if inode in self._seen:
                found = self._seen[inode]
            else:
                try:
                    found = self._of(number, inode)
                except OSError:
                    continue  # it was closed meanwhile
            seen[inode] = found
            if found is not None:
                numbers[found] = number
        self._seen, self._numbers = seen, numbers
        return numbers.keys()

    def cut(self, connection: Accepted) -> None:
        """End a connection that was found: whoever reads from it finds its end."""
        with suppress(OSError), _duplicate(self._numbers.get(connection, _NONE)) as ours:
            # The number may be another's by now; the duplicate stays what it is.
            if _inode(ours.fileno()) == connection.inode:
                ours.shutdown(socket.SHUT_RDWR)

    def _of(self, number: int, inode: int) -> Accepted | None:
        with _duplicate(number) as ours:
            if ours.family not in (socket.AF_INET, socket.AF_INET6) or ours.getsockname()[1] not in self._ports:
                return None
            try:
                return Accepted(inode, ours.getpeername())
            except OSError:
                return None  # it listens


def _duplicate(number: int) -> socket.socket:
    """Return a socket of one's own for a descriptor; raises OSError where it is none."""
    duplicate = os.dup(number)
    try:
        return socket.socket(fileno=duplicate)
    except OSError:
        os.close(duplicate)
        raise


def _inode(number: int) -> int:
    """Return the inode of the socket that a descriptor is, -1 where it is none."""
    try:
        link = os.readlink(f"{OPEN}/{number}")
    except OSError:
        return _NONE
    return int(link[len(_SOCKET) : -1]) if link.startswith(_SOCKET) else _NONE
