"""Settings of a release in batches, and which Pods wait for theirs.

The Deployment controller creates new Pods as its strategy says. Which of them are installed is decided here: a Pod
waits on its base until it has the condition Released, and this is written batch by batch.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from controlplane.domain.contract import (
    ANNOTATION_BATCHES,
    ANNOTATION_CONFIRM,
    ANNOTATION_FIRST_BATCH,
    ANNOTATION_PAUSE_BETWEEN,
    CONDITION_RELEASED,
    POD_TEMPLATE_HASH,
)
from controlplane.domain.objects import Condition, ModuleDeployment, NotUnderstood, Pod
from controlplane.domain.revisions import Releasing

MOST_BATCHES = 1000
_NUMBER = re.compile(r"[0-9]{1,6}")
_PERCENTAGE = re.compile(r"([0-9]{1,3})%")
_DURATION = re.compile(r"([0-9]{1,6})(s|m|h)")
_SECONDS = {"s": 1, "m": 60, "h": 3600}


class Confirm(Enum):
    """After which batches a person has to confirm."""

    NONE = "none"
    FIRST = "first"
    EACH = "each"


@dataclass(frozen=True, slots=True)
class Settings:
    """In how many batches, and what is between them.

    first is the size of one batch more, before all others: Pods, or with percent a percentage; 0 for none. pause is in
    seconds.
    """

    batches: int
    first: int = 0
    percent: bool = False
    pause: float = 0.0
    confirm: Confirm = Confirm.NONE

    def targets(self, replicas: int) -> tuple[int, ...]:
        """Return how many Pods are new after each batch; each batch has one at least."""
        first = math.ceil(self.first * replicas / 100) if self.percent else self.first
        first = min(first, replicas)
        rest = replicas - first
        sums = [first, *(first + math.ceil(rest * number / self.batches) for number in range(1, self.batches + 1))]
        return tuple(sorted({total for total in sums if total}))

    def waits_for_person(self, batch: int) -> bool:
        """Return whether somebody has to confirm a batch; the first one is 1."""
        return self.confirm is Confirm.EACH or (self.confirm is Confirm.FIRST and batch == 1)


def settings(releasing: Releasing) -> Settings | NotUnderstood:
    """Read the settings of a Deployment that is released in batches."""
    if not releasing.rolling:
        return NotUnderstood("strategy Recreate removes all old Pods first: batches need RollingUpdate")
    batches = _value(releasing, ANNOTATION_BATCHES)
    if not _NUMBER.fullmatch(batches) or not 1 <= int(batches) <= MOST_BATCHES:
        return _wrong(releasing, ANNOTATION_BATCHES, f"a number from 1 to {MOST_BATCHES}")
    first = _value(releasing, ANNOTATION_FIRST_BATCH) or "0"
    share = _PERCENTAGE.fullmatch(first)
    if not (_NUMBER.fullmatch(first) or (share and int(share[1]) <= 100)):
        return _wrong(releasing, ANNOTATION_FIRST_BATCH, "a number of Pods such as 1, or a percentage such as 10%")
    pause = _DURATION.fullmatch(_value(releasing, ANNOTATION_PAUSE_BETWEEN) or "0s")
    if pause is None:
        return _wrong(releasing, ANNOTATION_PAUSE_BETWEEN, "a duration such as 60s, 5m or 1h")
    confirm = _value(releasing, ANNOTATION_CONFIRM) or Confirm.NONE.value
    if confirm not in _CONFIRM:
        return _wrong(releasing, ANNOTATION_CONFIRM, f"one of {', '.join(_CONFIRM)}")
    return Settings(
        batches=int(batches),
        first=int(first.rstrip("%")),
        percent=share is not None,
        pause=float(int(pause[1]) * _SECONDS[pause[2]]),
        confirm=_CONFIRM[confirm],
    )


_CONFIRM = {confirm.value: confirm for confirm in Confirm}
_SHOWN = 40
"""Characters of a wrong value that a message shows."""


def _value(releasing: Releasing, name: str) -> str:
    return releasing.annotations.get(name, "").strip()


def _wrong(releasing: Releasing, name: str, wanted: str) -> NotUnderstood:
    return NotUnderstood(f"annotation {name}: {releasing.annotations.get(name, '')[:_SHOWN]!r} is not {wanted}")


def deployment_of(pod: Pod) -> str:
    """Return namespace/name of the Deployment that a Pod is of; empty where it is of none.

    The ReplicaSet that controls it is called as the Deployment and the hash of the revision.
    """
    revision = pod.labels.get(POD_TEMPLATE_HASH)
    return f"{pod.namespace}/{pod.owner_name.removesuffix(f'-{revision}')}" if revision and pod.owner_name else ""


def released(pod: Pod) -> bool:
    """Return whether a Pod may be installed, or was begun before its Deployment had batches."""
    return pod.status.phase != "Pending" or Condition.of(pod.status.conditions, CONDITION_RELEASED).status == "True"


def held(pod: Pod, deployment: Callable[[str], ModuleDeployment | None]) -> bool:
    """Return whether a Pod waits for its batch. What was begun is never held, nor what is being deleted.

    A Deployment whose revisions have no numbers, as in the embedded cluster, cannot be released in batches.
    """
    if pod.deleting or released(pod):
        return False
    found = deployment(deployment_of(pod))
    return found is not None and found.releasing is not None and found.releasing.revision > 0
