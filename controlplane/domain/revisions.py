"""What Deployments and their ReplicaSets say of revisions."""

from collections.abc import Mapping
from dataclasses import dataclass, field

PROGRESS_DEADLINE = 600
"""Seconds that a Deployment may take for a step where it does not say it, as in Kubernetes."""


BATCH_FAILED = "BatchFailed"
NOT_UNDERSTOOD = "BatchesNotUnderstood"
NEEDS_PERSON = frozenset({BATCH_FAILED, NOT_UNDERSTOOD})
"""Reasons of the condition Released with which a release does not go on by itself."""


@dataclass(frozen=True, slots=True)
class Releasing:
    """What the release of a Deployment in batches needs of it besides the rest.

    annotations are those of Koupleless. observed: its controller has taken up the newest specification, and revision is
    the number of that. status, reason and message are those of its condition Released, and since is when
    its status changed. progress_deadline and min_ready
    are in seconds.
    """

    annotations: Mapping[str, str] = field(default_factory=dict)
    observed: bool = False
    revision: int = 0
    paused: bool = False
    rolling: bool = True
    progress_deadline: int = PROGRESS_DEADLINE
    min_ready: int = 0
    status: str = ""
    reason: str = ""
    message: str = ""
    since: str = ""


@dataclass(frozen=True, slots=True)
class Revision:
    """One ReplicaSet of a Deployment: its number and hash, how many Pods it should have, and how many are ready."""

    number: int
    hash: str
    replicas: int = 0
    ready: int = 0
