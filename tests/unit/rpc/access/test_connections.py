"""Which connections of the gRPC server have to make room."""

from collections.abc import Set

import pytest

from controlplane.rpc.access.connections import ServerConnections, _written
from service.accepted import Accepted

MOST = 8


class Sockets:
    """Connections that are there; those that are cut go at the next look, as gRPC closes them later."""

    def __init__(self) -> None:
        self.open: set[Accepted] = set()
        self.cuts: list[Accepted] = []

    def look(self) -> Set[Accepted]:
        found = frozenset(self.open)
        self.open -= {*self.cuts}
        return found

    def cut(self, connection: Accepted) -> None:
        self.cuts.append(connection)

    def connect(self, host: str, count: int) -> list[Accepted]:
        begin = 1 + max((each.inode for each in self.open), default=0)
        new = [Accepted(begin + number, (host, begin + number)) for number in range(count)]
        self.open |= {*new}
        return new


@pytest.fixture
def sockets() -> Sockets:
    return Sockets()


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch, sockets: Sockets) -> ServerConnections:
    monkeypatch.setattr("service.descriptors.of_callers", lambda: 2 * MOST)
    monkeypatch.setattr("controlplane.rpc.access.connections.AcceptedConnections", lambda _ports: sockets)
    return ServerConnections((1,))


def known(connections: ServerConnections, *callers: Accepted) -> None:
    for each in callers:
        connections.known(f"ipv4:{each.address[0]}:{each.address[1]}")


def test_half_of_the_places_of_grpc_stay_free(connections: ServerConnections, sockets: Sockets) -> None:
    assert connections.of_port == 2 * MOST
    for host in ("10.0.0.1", "10.0.0.2", "10.0.0.3"):
        sockets.connect(host, MOST // 2)
    connections.look()
    connections.look()
    assert len(sockets.open) == MOST


def test_of_one_peer_the_oldest_on_which_nobody_known_called_go(
    connections: ServerConnections, sockets: Sockets
) -> None:
    first, second, *rest = sockets.connect("10.0.0.1", MOST // 2)
    connections.look()
    known(connections, first)
    connections.look()
    sockets.connect("10.0.0.1", 1)
    connections.look()
    assert sockets.cuts == [second]
    assert {first, *rest} <= sockets.open


def test_a_caller_who_is_known_at_once_comes_before_strangers(connections: ServerConnections, sockets: Sockets) -> None:
    strangers = sockets.connect("10.0.0.1", MOST)
    (caller,) = sockets.connect("10.0.0.1", 1)
    known(connections, caller)
    connections.look()
    assert caller not in sockets.cuts
    assert {*sockets.cuts} < {*strangers}


def test_a_peer_that_is_known_everywhere_gets_no_more_than_its_share(
    connections: ServerConnections, sockets: Sockets
) -> None:
    mine = sockets.connect("10.0.0.1", MOST // 2)
    known(connections, *mine)
    connections.look()
    (more,) = sockets.connect("10.0.0.1", 1)
    connections.look()
    assert sockets.cuts == [more]


def test_who_is_gone_is_forgotten(connections: ServerConnections, sockets: Sockets) -> None:
    known(connections, *sockets.connect("10.0.0.1", MOST // 2))
    connections.look()
    sockets.open.clear()
    connections.look()
    again = sockets.connect("10.0.0.1", MOST // 2)
    connections.look()
    assert not sockets.cuts
    assert not connections._known, "a port of the peer says nothing of its next connection"
    assert {*connections._open} == {*again}


def test_where_nothing_can_be_looked_at_it_goes_on(
    connections: ServerConnections, sockets: Sockets, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> Set[Accepted]:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(sockets, "look", fail)
    connections.look()


@pytest.mark.parametrize(
    ("address", "written"),
    [
        (("10.0.0.7", 5), "ipv4:10.0.0.7:5"),
        (("::ffff:10.0.0.7", 5, 0, 0), "ipv4:10.0.0.7:5"),
        (("::1", 5, 0, 0), "ipv6:%5B::1%5D:5"),
    ],
)
def test_addresses_are_written_as_grpc_writes_them(address: tuple[object, ...], written: str) -> None:
    assert _written(address) == written
