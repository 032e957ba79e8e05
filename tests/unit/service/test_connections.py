"""Who gets a place at a listener, and who makes room."""

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from service.connections import Connections, peer_of

MOST, OF_PEER = 6, 3


@pytest.mark.parametrize(
    ("address", "peer"),
    [
        (("10.0.0.7", 4711), "10.0.0.7"),
        (("::ffff:10.0.0.7", 4711, 0, 0), "10.0.0.7"),
        (("2001:db8:1:2:3:4:5:6", 4711, 0, 0), "2001:db8:1:2::/64"),
        (("2001:db8:1:2::9", 4711, 0, 0), "2001:db8:1:2::/64"),
        (("fe80::1%eth0", 4711, 0, 2), "fe80::/64"),
        (("::1", 4711, 0, 0), "::1"),
        ("", ""),
        (b"", ""),
    ],
)
def test_a_peer_is_an_address_or_a_network_of_a_machine(address: object, peer: str) -> None:
    assert peer_of(address) == peer


def test_a_peer_with_its_share_gets_a_new_place_for_its_oldest_idle_one() -> None:
    table: Connections[str] = Connections(MOST, OF_PEER)
    for name in ("a1", "a2", "a3"):
        assert table.open(name, "a") is None
    table.busy("a1")
    assert table.open("a4", "a") == "a2"
    table.busy("a3")
    table.busy("a4")
    assert table.open("a5", "a") == "a5", "all others are at work"
    assert table.open("b1", "b") is None


def test_a_full_listener_takes_from_the_peer_with_the_most_idle_ones() -> None:
    table: Connections[str] = Connections(MOST, OF_PEER)
    for name in ("b1", "a1", "a2", "a3", "c1", "c2"):
        assert table.open(name, name[0]) is None
    assert table.open("d1", "d") == "a1"
    assert table.open("d2", "d") in ("a2", "c1")
    assert len(table) == MOST


def test_peers_of_a_unix_socket_have_no_share() -> None:
    table: Connections[int] = Connections(MOST, OF_PEER)
    assert [table.open(n, "") for n in range(MOST)] == [None] * MOST
    assert table.open(MOST, "") == 0


class Life(RuleBasedStateMachine):
    """Whatever peers do, bounds hold, and nobody is refused while somebody idles whose place it could have."""

    def __init__(self) -> None:
        super().__init__()
        self.table: Connections[int] = Connections(MOST, OF_PEER)
        self.idle: dict[int, str] = {}
        self.at_work: dict[int, str] = {}
        self.next = 0

    def of(self, peer: str) -> int:
        return [*self.idle.values(), *self.at_work.values()].count(peer)

    @rule(peer=st.sampled_from("abc"))
    def opens(self, peer: str) -> None:
        new, self.next = self.next, self.next + 1
        share = self.of(peer) >= OF_PEER
        full = len(self.idle) + len(self.at_work) >= MOST
        victim = self.table.open(new, peer)
        if victim is None:
            assert not share
            assert not full
            self.idle[new] = peer
        elif victim == new:
            assert not (peer in self.idle.values() if share else self.idle)
        else:
            assert share or full
            gone = self.idle.pop(victim)
            assert gone == peer or not share
            assert not any(other < victim for other, whose in self.idle.items() if whose == gone)
            self.idle[new] = peer

    @rule(pick=st.integers(0, 99))
    def asks(self, pick: int) -> None:
        if self.idle:
            connection = [*self.idle][pick % len(self.idle)]
            self.at_work[connection] = self.idle.pop(connection)
            self.table.busy(connection)

    @rule(pick=st.integers(0, 99))
    def ends(self, pick: int) -> None:
        every = {**self.idle, **self.at_work}
        if every:
            connection = [*every][pick % len(every)]
            self.idle.pop(connection, None)
            self.at_work.pop(connection, None)
            self.table.close(connection)
            self.table.close(connection)

    @invariant()
    def bounds_hold(self) -> None:
        assert len(self.table) == len(self.idle) + len(self.at_work) <= MOST
        assert all(self.of(peer) <= OF_PEER for peer in "abc")


TestLife = Life.TestCase
