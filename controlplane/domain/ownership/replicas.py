"""The replicas of the control plane: who is there, who goes first, who gives what to whom.

A replica's member lease says that it lives, in one record for all its bases. When it is released, or was seen unchanged
for its duration, the bases of that replica may be taken by the others at once:

    the holder stops acting  SELF_FENCE_AFTER < DURATION <= others may begin

All functions are pure, and give the same answer to every replica that sees the same records. Where replicas see
different ones for a moment, two may try to take one base: its Lease's resource version lets one of them succeed.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from controlplane.domain import contract
from controlplane.domain.objects import Lease

DURATION = 8.0
"""Seconds that a member lease lasts."""
RENEW_INTERVAL = 2.0
"""Seconds between renewals, before jitter."""
SELF_FENCE_AFTER = DURATION * 2 / 3
"""Seconds without a renewal after which a replica stops acting for all its bases."""

TOLERANCE = 1.05
"""A replica with less than this multiple of the mean gives nothing away."""


@dataclass(frozen=True, slots=True)
class Replica:
    """A live replica. tunnels are the kinds of gateways that are connected to it."""

    id: str
    address: str = ""
    draining: bool = False
    tunnels: frozenset[str] = frozenset()


def replica_of(lease: Lease) -> Replica:
    """Read a member lease."""
    annotations = lease.annotations
    return Replica(
        id=lease.name.removeprefix(contract.MEMBER_LEASE_PREFIX),
        address=annotations.get(contract.ANNOTATION_REPLICA_ADDRESS, ""),
        draining=annotations.get(contract.ANNOTATION_REPLICA_DRAINING) == "true",
        tunnels=frozenset(filter(None, annotations.get(contract.ANNOTATION_REPLICA_TUNNELS, "").split(","))),
    )


def may_act(*, now: float, renewed_at: float) -> bool:
    """Return whether a replica that last renewed its member lease at renewed_at may still write and send orders."""
    return now - renewed_at < SELF_FENCE_AFTER


def unbroken(*, now: float, renewed_at: float) -> bool:
    """Return whether nobody can have counted a replica as gone from its last renewal to one that is confirmed now.

    The record changed between the two, so that nobody saw it unchanged for longer; a tenth is for clocks that run at
    different rates.
    """
    return now - renewed_at < DURATION * 0.9


def takers(replicas: Iterable[Replica], tunnel: str = "") -> tuple[str, ...]:
    """Return who takes bases of a tunnel: those that reach it and do not drain, as far as there are any."""
    known = list(replicas)
    willing = [replica for replica in known if not replica.draining] or known
    able = [replica for replica in willing if not tunnel or tunnel in replica.tunnels] or willing
    return tuple(sorted(replica.id for replica in able))


def order(key: str, among: Iterable[str], levels: Mapping[str, int] | None = None) -> list[str]:
    """Return replicas in the order in which they try a key, which has an order of its own; lower levels go first."""
    by_weight = sorted(among, key=lambda replica: _weight(replica, key), reverse=True)
    return sorted(by_weight, key=lambda replica: levels.get(replica, 0)) if levels else by_weight


def rank(me: str, key: str, among: Collection[str]) -> int:
    """Return my place in that order, 0 for the first."""
    return order(key, among).index(me)


def _weight(replica: str, key: str) -> bytes:
    return hashlib.blake2b(f"{replica}\n{key}".encode(), digest_size=8).digest()


def level(owned: int, everything: int, highest: int) -> int:
    """Return the workload level of a replica that owns so many of all bases, as the original counts it."""
    return owned * highest // (everything + 1)


def assigned(orphans: Sequence[str], loads: Mapping[str, int], among: Collection[str]) -> dict[str, str]:
    """Return who takes over which orphan, so that loads come out even; nobody if there is nobody."""
    if not among:
        return {}
    now = {replica: loads.get(replica, 0) for replica in sorted(among)}
    chosen = {}
    for orphan in sorted(orphans):
        taker = min(now, key=lambda replica: now[replica])
        now[taker] += 1
        chosen[orphan] = taker
    return chosen


def gifts(me: str, loads: Mapping[str, int], among: Collection[str]) -> dict[str, int]:
    """Return how many bases I should give to whom: as few as make loads even, none while they are nearly so.

    loads are the bases of each replica that lives; those of them that are not among the takers give everything away.
    """
    if not among:
        return {}
    total = sum(loads.values())
    share, rest = divmod(total, len(among))
    # Whoever has most keeps one more, so that the fewest move.
    by_load = sorted(among, key=lambda replica: (-loads.get(replica, 0), replica))
    shares = {replica: share + (place < rest) for place, replica in enumerate(by_load)}
    limit = TOLERANCE * total / len(among)
    surplus = {
        replica: load - shares.get(replica, 0)
        for replica, load in sorted(loads.items())
        if load > shares.get(replica, 0) and (replica not in among or load > limit)
    }
    lack = {replica: due - loads.get(replica, 0) for replica, due in shares.items() if due > loads.get(replica, 0)}
    given: dict[str, int] = {}
    for giver, spare in surplus.items():
        for receiver in sorted(lack, key=lambda replica: (-lack[replica], replica)):
            part = min(spare, lack[receiver])
            spare -= part
            lack[receiver] -= part
            if part and giver == me:
                given[receiver] = part
    return given
