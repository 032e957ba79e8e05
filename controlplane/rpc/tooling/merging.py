"""One answer from the parts of several replicas: of each VNode, the word of the one that owns it counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

M = TypeVar("M")


@dataclass(frozen=True, slots=True)
class Part(Generic[M]):
    """What one replica tells of the VNodes that it owns.

    until, if not empty, is the key after which there is more that it did not tell.
    """

    replica: str
    items: Sequence[M]
    until: str = ""


@dataclass(frozen=True, slots=True)
class Kind(Generic[M]):
    """How items of one kind are ordered, and which VNode each is of."""

    key: Callable[[M], str]
    vnode: Callable[[M], str]


def merge(kind: Kind[M], parts: Iterable[Part[M]], rest: Part[M], holder: Callable[[str], str]) -> Part[M]:
    """Return all items by key, as far as every part tells.

    Where several replicas speak of one VNode, as while it changes hands, its holder
    counts, else whose part comes first. rest is what is known of VNodes without
    their owner, and counts where no part speaks of them.
    """
    told: dict[str, dict[str, list[M]]] = {}
    ends = [rest.until] if rest.until else []
    for part in parts:
        if part.until:
            ends.append(part.until)
        for item in part.items:
            told.setdefault(kind.vnode(item), {}).setdefault(part.replica, []).append(item)
    found = [item for item in rest.items if kind.vnode(item) not in told]
    for vnode, said in told.items():
        found += said[next(iter(said))] if len(said) == 1 else said.get(holder(vnode)) or said[next(iter(said))]
    until = min(ends, default="")
    return Part("", sorted((i for i in found if not until or kind.key(i) <= until), key=kind.key), until)


def cut(kind: Kind[M], merged: Part[M], size: int) -> tuple[Sequence[M], str]:
    """Return a page of at most size items, and the token of the next one."""
    if len(merged.items) > size:
        return merged.items[:size], kind.key(merged.items[size - 1])
    return merged.items, merged.until


def _of_module(item: pb.Module) -> str:
    return "\n".join((item.vnode, item.name, item.version, f"{item.namespace}/{item.pod}" if item.pod else ""))


def _of_operation(item: pb.PastOperation) -> str:
    return f"{item.vnode}\n{item.time.seconds:011d}.{item.time.nanos:09d}\n{item.name}:{item.version}"


VNODES: Kind[pb.VNode] = Kind(lambda item: item.name, lambda item: item.name)
MODULES: Kind[pb.Module] = Kind(_of_module, lambda item: item.vnode)
OPERATIONS: Kind[pb.PastOperation] = Kind(_of_operation, lambda item: item.vnode)


def merge_gateways(lists: Iterable[Iterable[pb.Gateway]]) -> list[pb.Gateway]:
    """Return each gateway once, by id: what it does for several replicas is summed."""
    found: dict[str, pb.Gateway] = {}
    for gateway in (gateway for gateways in lists for gateway in gateways):
        known = found.get(gateway.id)
        if known is None:
            found[gateway.id] = known = pb.Gateway()
            known.CopyFrom(gateway)
            continue
        known.watched += gateway.watched
        known.orders += gateway.orders
        if gateway.tunnel_up and not known.tunnel_up:
            known.tunnel_up, known.message = True, gateway.message
        if gateway.connected_since.ToNanoseconds() < known.connected_since.ToNanoseconds():
            known.connected_since.CopyFrom(gateway.connected_since)
    return [found[name] for name in sorted(found)]


def by_time(events: Iterable[pb.Event]) -> list[pb.Event]:
    """Return events, the oldest first."""
    return sorted(events, key=lambda event: (event.time.seconds, event.time.nanos))
