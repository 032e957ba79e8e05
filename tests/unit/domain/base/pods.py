"""Pods, and the state after a module list, for tests of decisions about Pods."""

from collections.abc import Mapping

from controlplane.domain.base import modules as book
from controlplane.domain.base import vpod
from controlplane.domain.base.environment import Place
from controlplane.domain.base.modules import InFlight, Modules
from controlplane.domain.base.releases import UNKNOWN, Release
from controlplane.domain.base.state import Base, Phase
from controlplane.domain.base.vnode import Profile
from controlplane.domain.base.wishes import wishes
from controlplane.domain.contract import ANNOTATION_INSTALL_STRATEGY
from controlplane.domain.facts import Address, Module, ModuleList, Order, TunnelKind
from controlplane.domain.identity import BaseId, ModuleKey, VNodeName
from controlplane.domain.objects import Container, Pod, PodStatus

PLACE = Place("10.0.0.7", "128Mi")
VNODE = VNodeName("vnode.b1.dev")
PROFILE = Profile(BaseId("b1"), "dev", TunnelKind.HTTP, address=Address(PLACE.ip, 1238))


def pod(
    name: str = "p",
    *containers: Container,
    age: int = 0,
    strategy: str = "",
    annotations: Mapping[str, str] | None = None,
    gates: tuple[str, ...] = (),
    deleting: bool = False,
) -> Pod:
    """A module Pod on a base; a higher age is an older one."""
    strategies = {ANNOTATION_INSTALL_STRATEGY: strategy} if strategy else {}
    return Pod(
        namespace="default",
        name=name,
        uid=f"uid-{name}",
        resource_version="1",
        node_name="vnode.b1.dev",
        containers=containers or (biz(),),
        annotations={**strategies, **(annotations or {})},
        readiness_gates=gates,
        creation_timestamp=f"2026-01-01T00:{59 - age:02d}:00Z",
        deleting=deleting,
    )


def biz(name: str = "a", version: str = "1", image: str = "", **env: str) -> Container:
    """A container for a module."""
    url = image or f"https://repo.example/{name}-{version}.jar"
    return Container(name, url, version, env=(("BIZ_VERSION", version), *env.items()))


def reported(*modules: Module, state: Modules | None = None) -> Modules:
    """The state once the base listed these modules."""
    known = state or Modules()
    return book.take_list(known, ModuleList(modules, complete=True, unchanged=False, epoch=known.epoch))


def begun(
    state: Modules,
    order: Order,
    releases: Mapping[ModuleKey, Release] | None = None,
    *,
    now: float = 0.0,
    deadline: float = 600.0,
    ask_at: float | None = None,
) -> Modules:
    """The state once an order was sent."""
    flights = (
        InFlight(
            order.order_id,
            order.verb,
            spec,
            (releases or {}).get(spec.key, UNKNOWN),
            deadline=deadline,
            sent_at=now,
            gateway="g/1",
            ask_at=ask_at,
        )
        for spec in order.modules
    )
    return book.begin(state, flights)


def pod_status(
    which: Pod,
    modules: Modules,
    *,
    unreachable: str = "",
    now: float,
    wall: float,
    superseded: vpod.Superseded = frozenset(),
    readings: vpod.Readings | None = None,
) -> PodStatus | None:
    """The status to write to a Pod, which wants the releases of its own containers."""
    wanted = {(wish.pod, wish.spec.key.name): wish.release for wish in wishes([which], PLACE)}
    phase = Phase.UNREACHABLE if unreachable else Phase.READY
    base = Base(PROFILE.base, VNODE, PROFILE, 0.0, phase=phase, why=unreachable, modules=modules)
    return vpod.pod_status(which, vpod.Situation(base, wanted, superseded, readings or {}, now, wall))
