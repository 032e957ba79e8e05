"""Pods on a VNode that are not modules: nothing can run them, so they are rejected as kubelets reject Pods. Pure.

A kubelet that cannot run a Pod makes it Failed, with reason and message, and says so in an Event. Controllers then make
another Pod: a ReplicaSet at once, a DaemonSet after a backoff of its own that begins with a second. Rejections are
therefore paced for each controller; deletions never are.
"""

from dataclasses import dataclass
from typing import Self

from controlplane.domain.backoff import Backoff
from controlplane.domain.contract import COMPONENT, COMPONENT_MODULE, TYPE, TYPE_VNODE
from controlplane.domain.identity import VNodeName
from controlplane.domain.objects import Pod

REASON = "NotAModule"

APART = Backoff(first=60.0, longest=900.0)
"""Between two rejections of Pods that one controller makes in the same place; the longest is that of DaemonSets."""
FORGOTTEN = 2 * APART.longest
"""Seconds without a rejection after which the next one counts as the first."""

IN_PLACE = frozenset({"DaemonSet"})
"""Kinds of controllers that make another Pod on the same Node; others make one wherever the scheduler puts it."""


@dataclass(frozen=True, slots=True)
class Rejections:
    """How often Pods of one controller were rejected, last at a monotonic time, and when the next one may be."""

    times: int = 0
    at: float = 0.0
    next_at: float = 0.0

    @classmethod
    def after(cls, before: Self | None, now: float, chance: float) -> Self:
        """Return what is so after one more; chance is in [0, 1)."""
        recent = before is not None and now - before.at <= FORGOTTEN
        times = before.times + 1 if before is not None and recent else 1
        return cls(times, now, now + APART.delay(times, chance))


def paced_by(pod: Pod) -> str:
    """Return for whom rejections are paced; empty: nobody makes another Pod."""
    return f"{pod.owner_uid} {pod.node_name if pod.owner_kind in IN_PLACE else ''}" if pod.owner_uid else ""


def finished(pod: Pod) -> bool:
    """Return whether nothing is left to do: it is terminal, and goes by itself once its deletion is asked for."""
    return pod.status.terminal and not unremoved(pod)


def unremoved(pod: Pod) -> bool:
    """Return whether a Pod's deletion waits for its node; one without grace waits for finalizers, if anything."""
    return pod.deleting and pod.deletion_grace_seconds != 0


def why(vnode: VNodeName) -> str:
    """Return the message, with the fix."""
    return (
        f"Pod was rejected: {vnode} is a virtual node, which runs modules only: Pods with the label "
        f"{COMPONENT}={COMPONENT_MODULE}. To keep this Pod off virtual nodes, require {TYPE} NotIn [{TYPE_VNODE}] by "
        f"node affinity, or do not tolerate their taints"
    )
