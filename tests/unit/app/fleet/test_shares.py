"""Gateways of one tunnel share the bases evenly: soon after one came or went, and then nothing moves."""

from collections import Counter
from dataclasses import dataclass, field, replace
from random import Random
from unittest.mock import Mock

import pytest

from controlplane.app.gateways import GatewayDirectory
from controlplane.app.outages import Outages
from controlplane.app.roster import Roster
from controlplane.domain.base.state import Base, Phase
from controlplane.domain.base.vnode import Profile
from controlplane.domain.facts import TunnelKind
from controlplane.domain.identity import BaseId, VNodeName
from tests.fakes.gateway import FakeLink

LOOK_EVERY = 25.0
"""Seconds in which each base is looked at once: the longest pause of an idle one."""


@dataclass
class World:
    """Bases that are looked at in turn, and the gateways that they choose."""

    bases: int
    tunnel: TunnelKind
    now: float = 0.0
    random: Random = field(default_factory=lambda: Random(3))
    moves: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.roster = Roster(Outages(Mock()))
        self.gateways = GatewayDirectory(lambda: self.now, self.roster)
        self.links: dict[str, FakeLink] = {}

    def join(self, name: str) -> None:
        self.links[name] = FakeLink(name, tunnel=self.tunnel)
        self.gateways.connected(self.links[name])

    def add_bases(self) -> None:
        for number in range(self.bases):
            profile = Profile(BaseId(f"b{number}"), "dev", self.tunnel)
            base = Base(profile.base, VNodeName(f"vnode.b{number}.dev"), profile, 0.0, phase=Phase.READY)
            self.roster.begin(base)
            self.look(base.id)

    def look(self, identity: BaseId, *, movable: bool = True) -> None:
        base = self.roster.get(identity)
        assert base is not None
        link = self.gateways.choose(self.tunnel, base.gateway, movable=movable)
        assert link is not None
        if link.info.gateway_id != base.gateway:
            self.moves.append(self.now)
            self.roster.publish(replace(base, gateway=link.info.gateway_id))

    def live(self, seconds: float, *, movable: bool = True) -> None:
        identities = [base.id for base in self.roster.bases()]
        for _ in range(int(seconds / LOOK_EVERY * len(identities))):
            self.now += LOOK_EVERY / len(identities)
            self.look(self.random.choice(identities), movable=movable)

    def evenness(self) -> float:
        """Return how many times the mean the gateway with most bases has."""
        loads = [self.roster.load[name] for name in self.links]
        return max(loads) / (sum(loads) / len(loads))


def with_one_gateway(bases: int, tunnel: TunnelKind = TunnelKind.HTTP) -> World:
    """Return a world in which gateway a has all bases."""
    world = World(bases, tunnel)
    world.join("a")
    world.add_bases()
    world.moves.clear()
    return world


@pytest.mark.parametrize("tunnel", TunnelKind)
@pytest.mark.parametrize("bases", [20, 1000])
def test_gateways_that_join_get_their_share_within_a_minute(tunnel: TunnelKind, bases: int) -> None:
    world = with_one_gateway(bases, tunnel)
    for name in ("b", "c"):
        world.join(name)
        world.live(60.0)
        assert world.evenness() <= 1.2
    world.moves.clear()
    world.live(600.0)
    assert world.moves == []


def test_bases_move_one_after_the_other() -> None:
    world = with_one_gateway(1000)
    world.join("b")
    world.live(60.0)
    in_each_second = Counter(int(at) for at in world.moves)
    assert 450 <= len(world.moves) <= 550
    assert max(in_each_second.values()) <= 40


def test_what_is_not_to_be_moved_stays() -> None:
    world = with_one_gateway(100)
    world.join("b")
    world.live(60.0, movable=False)
    assert world.moves == []


def test_a_gateway_of_another_tunnel_gets_nothing() -> None:
    world = with_one_gateway(100)
    world.gateways.connected(FakeLink("m", tunnel=TunnelKind.MQTT))
    world.live(60.0)
    assert world.roster.load["m"] == 0


def test_a_gateway_without_its_tunnel_gets_nothing() -> None:
    world = with_one_gateway(100)
    down = FakeLink("b")
    world.gateways.connected(down)
    world.gateways.tunnel_state(down, up=False, reason="no broker")
    world.live(60.0)
    assert world.roster.load["b"] == 0
