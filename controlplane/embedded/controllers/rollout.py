"""How far each ReplicaSet of a Deployment, or each Node of a DaemonSet, may go next: pure.

Invariants of a rolling update, for every step:
    available after the step >= replicas - maxUnavailable   (unless it was lower before)
    Pods after the step      <= replicas + maxSurge         (unless it was higher before)
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from controlplane.cluster.api import Json

_HASH_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


@dataclass(frozen=True, slots=True)
class SetScale:
    """One ReplicaSet: what its spec says, and how many of its Pods are available."""

    name: str
    replicas: int
    available: int


def template_hash(template: Json) -> str:
    """Return the label value that tells revisions of a Pod template apart."""
    digest = hashlib.sha256(orjson.dumps(template, option=orjson.OPT_SORT_KEYS)).digest()
    return "".join(_HASH_ALPHABET[byte % len(_HASH_ALPHABET)] for byte in digest[:10])


def bounds(rolling: Json, replicas: int) -> tuple[int, int]:
    """Return maxSurge and maxUnavailable in Pods: percentages are of replicas, surge rounds up, the other down."""
    surge = _count(rolling.get("maxSurge", 0), replicas, round_up=True)
    unavailable = _count(rolling.get("maxUnavailable", 0), replicas, round_up=False)
    return (surge, unavailable) if surge or unavailable else (0, 1)


def _count(value: Any, of: int, *, round_up: bool) -> int:
    if isinstance(value, str) and value.endswith("%"):
        share = int(value[:-1]) * of / 100
        return math.ceil(share) if round_up else math.floor(share)
    return int(value)


def next_scales(
    replicas: int, max_surge: int, max_unavailable: int, new: SetScale, old: Sequence[SetScale]
) -> dict[str, int]:
    """Return new values of spec.replicas for the sets that change now; old is in the order of age."""
    total = new.replicas + sum(s.replicas for s in old)
    if new.replicas > replicas:
        return {new.name: replicas}
    if new.replicas < replicas:
        room = replicas + max_surge - total
        if room > 0:
            return {new.name: new.replicas + min(room, replicas - new.replicas)}
    minimum = replicas - max_unavailable
    may_go = total - minimum - max(0, new.replicas - new.available)
    return _shrink(old, minimum, may_go, new.available) if may_go > 0 else {}


def _shrink(old: Iterable[SetScale], minimum: int, may_go: int, new_available: int) -> dict[str, int]:
    # Pods that are not available go first: removing them costs nothing.
    left: dict[str, tuple[int, int]] = {}
    for scale in old:
        unhealthy = min(may_go, max(0, scale.replicas - scale.available))
        may_go -= unhealthy
        left[scale.name] = (scale.replicas, scale.replicas - unhealthy)
    spare = new_available + sum(min(s.available, left[s.name][1]) for s in old) - minimum
    spare = min(spare, may_go)
    result: dict[str, int] = {}
    for name, (before, now) in left.items():
        gone = min(now, max(0, spare))
        spare -= gone
        if now - gone != before:
            result[name] = now - gone
    return result
