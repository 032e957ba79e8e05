"""The connections of the gRPC server: at most so many, in all and of each peer, and who has to make room.

gRPC itself bounds them in all (grpc.max_allowed_incoming_connections), and closes what is beyond that without a word:
one stranger could keep everybody out. So half of its places stay free. Twice a second we look at the open connections
of this process, and where they are too many, those go on which nobody known has made a call (service.connections).
"""

import asyncio
import ipaddress
from collections.abc import Sequence
from typing import Any, NoReturn

from service import descriptors
from service.accepted import Accepted, AcceptedConnections
from service.connections import Connections, peer_of
from service.listening import cause_of
from service.refusals import CONNECTIONS, Refusals, RequestRefused

LISTENER = "grpc"
LOOK_EVERY = 0.5
"""Seconds."""
TOO_MANY = RequestRefused(503, "connections", "too many connections; one on which nobody known called is closed")


class ServerConnections:
    """The connections of some ports, which run looks at."""

    def __init__(self, ports: Sequence[int]) -> None:
        self.of_port = max(2, descriptors.of_callers() // len(ports))
        """How many connections gRPC may take on each port."""
        most = self.of_port * len(ports) // 2
        self._found = AcceptedConnections(frozenset(ports))
        self._table: Connections[Accepted] = Connections(most, most // 2)
        self._open: dict[Accepted, str] = {}
        self._known: set[str] = set()
        self._refusals = Refusals(LISTENER)
        CONNECTIONS.labels(LISTENER).set_function(lambda: len(self._open))

    def known(self, peer: str) -> None:
        """Note that somebody known has called; peer as gRPC writes it."""
        self._known.add(peer)

    def look(self) -> None:
        """Take the connections that are new, and end those that are too many."""
        try:
            found = self._found.look()
        except OSError as error:
            self._refusals.refused(
                "", RequestRefused(503, "look", f"connections cannot be looked at: {cause_of(error)}")
            )
            return
        for gone in self._open.keys() - found:
            self._table.close(gone)
            del self._open[gone]
        new = found - self._open.keys()
        self._open |= {each: _written(each.address) for each in new}
        self._known.intersection_update(self._open.values())
        # Callers who are known come before strangers, then who came first.
        for each in sorted(new, key=lambda one: (self._open[one] not in self._known, one.inode)):
            self._make_room(self._table.open(each, peer_of(each.address)))
            self._note_caller(each)
        for each in self._open:
            self._note_caller(each)

    async def run(self) -> NoReturn:
        """Look again and again, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            self.look()

    def _make_room(self, victim: Accepted | None) -> None:
        if victim is not None:
            self._found.cut(victim)
            self._refusals.refused(peer_of(victim.address), TOO_MANY)

    def _note_caller(self, connection: Accepted) -> None:
        if self._open[connection] in self._known:
            self._table.busy(connection)


def _written(address: tuple[Any, ...]) -> str:
    """Return a peer's socket address as gRPC writes it, without a zone."""
    host = ipaddress.ip_address(str(address[0]).partition("%")[0])
    host = getattr(host, "ipv4_mapped", None) or host
    return f"ipv4:{host}:{address[1]}" if host.version == 4 else f"ipv6:%5B{host}%5D:{address[1]}"
