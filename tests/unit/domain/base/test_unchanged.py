"""A base about which nothing new was said is, whenever it is looked at, as if each report had been taken at once."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from controlplane.domain.base import liveness, modules, vitals
from controlplane.domain.base.hearing import Heard
from controlplane.domain.base.modules import NO_MODULES, take_list
from controlplane.domain.base.state import Base, Phase, Signs
from controlplane.domain.base.unchanged import Unchanged, heard
from controlplane.domain.base.vitals import News
from controlplane.domain.base.vnode import Profile
from controlplane.domain.facts import (
    Address,
    BaseState,
    Fact,
    GatewayInfo,
    Health,
    Heartbeat,
    Metaspace,
    Module,
    ModuleList,
    ModuleState,
    PollFailed,
    PollFailure,
    TunnelKind,
    Way,
)
from controlplane.domain.identity import BaseId, ModuleKey, VNodeName

GATEWAY = GatewayInfo("gw", "1", TunnelKind.HTTP, "1", 0.0)
OVER_MQTT = GatewayInfo("other", "1", TunnelKind.MQTT, "1", 0.0)
ADDRESS, ELSEWHERE = Address("10.0.0.7", 1238), Address("10.0.0.8", 1238)
OWN_WAY = Way(TunnelKind.HTTP, ADDRESS.ip)
MODULE = Module(ModuleKey("biz1", "1"), ModuleState.ACTIVATED)
HEARTBEAT = Heartbeat("shop", "1", "c", "shop-0", ADDRESS, BaseState.ACTIVATED, OWN_WAY)
HEALTH = Health(BaseState.ACTIVATED, Metaspace(100, 1 << 28), "17", cpus=4, heap=1000, cpu=5.0)
LIST = ModuleList((MODULE,), complete=True, unchanged=False, epoch=1)
HEARD = {TunnelKind.HTTP: Heard(), TunnelKind.MQTT: Heard()}
SAME_LIST = ModuleList((), complete=True, unchanged=True, epoch=1)


def ready() -> Base:
    """Return a base that is Ready and has said everything once, at 10 s."""
    profile = Profile(BaseId("b1"), "dev", TunnelKind.HTTP, base_used=100).with_heartbeat(HEARTBEAT)
    base = Base(profile.base, VNodeName("vnode.b1.dev"), profile, 0.0, gateway="gw", fence=1, term_began=1.0)
    base = replace(base, modules=modules.begin_term(NO_MODULES, 1))
    for fact in (HEARTBEAT, HEALTH, replace(LIST, epoch=base.modules.epoch)):
        base = taken(base, fact, GATEWAY, 10.0)
    return replace(base, phase=Phase.READY)


def taken(base: Base, fact: Fact, source: GatewayInfo, now: float) -> Base:
    """Return the base after a look at a report."""
    news = News()
    news.add(fact, source, now)
    base = vitals.take(base, news, HEARD, now=now, wall=now)
    return replace(base, modules=take_list(base.modules, news.modules)) if news.modules is not None else base


EPOCH = ready().modules.epoch
REPORTS = st.sampled_from(
    [
        (HEARTBEAT, GATEWAY),
        (replace(HEARTBEAT, address=Address("", 0)), GATEWAY),
        (replace(HEARTBEAT, version="2"), GATEWAY),
        (replace(HEARTBEAT, address=ELSEWHERE, way=Way(TunnelKind.HTTP, ELSEWHERE.ip)), GATEWAY),
        (replace(HEARTBEAT, way=Way(TunnelKind.HTTP, ELSEWHERE.ip)), GATEWAY),
        (replace(HEARTBEAT, way=Way(TunnelKind.MQTT)), OVER_MQTT),
        (replace(HEARTBEAT, state=BaseState.DEACTIVATED), GATEWAY),
        (HEALTH, GATEWAY),
        (replace(HEALTH, cpu=9.0, heap=2000, metaspace=Metaspace(120, 1 << 28)), GATEWAY),
        (replace(HEALTH, cpu=1.0), GATEWAY),
        (replace(HEALTH, metaspace=None, java_version="", cpus=0), GATEWAY),
        (replace(HEALTH, metaspace=Metaspace(90, 1 << 29)), GATEWAY),
        (replace(HEALTH, cpus=8), GATEWAY),
        (replace(HEALTH, state=BaseState.DEACTIVATED), GATEWAY),
        (replace(LIST, epoch=EPOCH), GATEWAY),
        (replace(LIST, epoch=EPOCH, modules=()), GATEWAY),
        (replace(SAME_LIST, epoch=EPOCH), GATEWAY),
        (replace(SAME_LIST, epoch=EPOCH + 1), GATEWAY),
        (replace(SAME_LIST, complete=False), GATEWAY),
        (PollFailed("refused", failure=PollFailure.NOT_CONNECTED), GATEWAY),
        (PollFailed("negative", modules=False, failure=PollFailure.NEGATIVE), GATEWAY),
    ]
)


@pytest.mark.parametrize("fact", [HEARTBEAT, HEALTH, replace(HEALTH, heap=5, cpu=6.0), replace(SAME_LIST, epoch=EPOCH)])
def test_what_an_idle_base_says_is_nothing_new(fact: Fact) -> None:
    assert Unchanged().take(ready(), fact, GATEWAY, 20.0, 20.0)


@settings(max_examples=400)
@given(st.lists(st.tuples(REPORTS, st.integers(1, 20)), max_size=30))
def test_looking_later_shows_the_same(reports: list[tuple[tuple[Fact, GatewayInfo], int]]) -> None:
    at_once = lazy = ready()
    news, now = News(), 10.0
    for (fact, source), seconds in reports:
        now += seconds
        at_once = taken(at_once, fact, source, now)
        if news.unchanged.take(lazy, fact, source, now, now):
            assert shown(heard(lazy, news.unchanged)) == shown(at_once)
        else:
            lazy = vitals.take(lazy, news, HEARD, now=now, wall=now)
            lazy, news = taken(lazy, fact, source, now), News()
            assert shown(lazy) == shown(at_once)
    lazy = vitals.take(lazy, news, HEARD, now=now, wall=now)
    assert shown(lazy) == shown(at_once)


def shown(base: Base) -> tuple[object, ...]:
    """Return all that a base is; CPU seconds are counted up as differences of binary fractions."""
    counted = base.signs.counted
    rounded = [None if value is None else round(value, 6) for value in (counted.cpu, counted.share)]
    signs: Signs = replace(base.signs, counted=replace(counted, cpu=None, share=None))
    return replace(base, signs=signs), rounded


@settings(max_examples=400)
@given(
    st.lists(st.tuples(REPORTS, st.integers(0, 20)), max_size=12),
    st.lists(st.tuples(REPORTS, st.integers(0, 12)), max_size=6),
    st.sampled_from([0.0, 5.0]),
)
def test_where_silence_needs_no_look_a_look_changes_nothing(
    reports: list[tuple[tuple[Fact, GatewayInfo], int]], lately: list[tuple[tuple[Fact, GatewayInfo], int]], late: float
) -> None:
    base, now = ready(), 10.0
    for (fact, source), seconds in reports:
        now += seconds
        base, judge_at = judged(taken(base, fact, source, now), HEARD, now)
    base, judge_at = judged(base, HEARD, now)
    news = News()
    for (fact, source), seconds in lately:
        now = min(now + seconds, judge_at or now)
        news.unchanged.take(base, fact, source, now, now)
    base, now = heard(base, news.unchanged), judge_at or now
    tunnels = {kind: Heard(until=now - late) for kind in TunnelKind}
    silent_at = liveness.silent_at(base, tunnels, now=now)
    event("needs a look" if silent_at is None else "needs none")
    if silent_at is not None:
        assert silent_at > now
        assert judged(base, tunnels, now) == (base, silent_at)


def judged(base: Base, tunnels: Mapping[TunnelKind, Heard], now: float) -> tuple[Base, float | None]:
    """Return how a look judges the base, and when that may change without news."""
    base, outage = vitals.use_tunnel(base, tunnels, now=now), liveness.Outage()
    return vitals.judged(base, tunnels, now=now, wall=now, outage=outage, has_node=True, node_removed=False)


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.READY])
def test_a_base_that_is_not_ready_is_looked_at(phase: Phase) -> None:
    assert not Unchanged().take(replace(ready(), phase=phase), HEARTBEAT, GATEWAY, 20.0, 20.0)
