"""A server certificate of the cluster's own signer: what to ask for, and when.

Replicas share a Secret: it has the certificate that was signed, and the key and request of the one that is under way. A
request is an object of the cluster, which somebody approves, denies, or never looks at; the cluster removes it after a
day at most. So what counts is in the Secret, and a decision is a function of that, of the request's answer, and of the
time.

Times are seconds since the epoch, durations seconds.
"""

from dataclasses import KW_ONLY, dataclass
from enum import Enum

from controlplane.domain.certificates import DAY, JITTER, SERVER_DUE, Leaf

ASK_AGAIN = DAY
"""From a refusal until the next request."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The request under way: the name of its object, and the DNS names and addresses in it."""

    name: str
    names: frozenset[str]


class Answer(Enum):
    """What became of a request."""

    ABSENT = "absent"
    """There is no such object."""
    PENDING = "pending"
    ISSUED = "issued"
    REFUSED = "refused"
    """It was denied, the signer failed, or what it signed cannot be used."""


class Step(Enum):
    """One write; the value is its name in metrics and logs."""

    ASK = "ask"
    """Make a key and a request, and keep them in the Secret."""
    CREATE = "create"
    """Create the object of the request."""
    TAKE = "take"
    """Keep the certificate that was signed."""
    GIVE_UP = "give-up"
    """Drop the request, and remember when."""


@dataclass(frozen=True, slots=True)
class Requesting:
    """What a replica sees at a moment, and what follows from it.

    leaf is the certificate that was signed, refused_at when the last request was refused. checked are the addresses
    that clients look for; without any nothing is asked for. chance, from 0 to 1, is the replica's own: it delays
    renewals.
    """

    leaf: Leaf | None
    asked: Asked | None
    refused_at: float | None
    now: float
    _: KW_ONLY
    checked: frozenset[str]
    chance: float = 0.0

    def usable(self) -> bool:
        """Return whether the signed certificate can be served; it may begin later than now, where clocks are wrong."""
        leaf = self.leaf
        return leaf is not None and self.now < leaf.not_after and self.checked <= leaf.names

    def next_step(self, answer: Answer) -> Step | None:
        """Return what is to be written first. None: nothing, for now; answer is that to the request under way."""
        if not self.checked:
            return None
        if self.asked is None:
            refused = self.refused_at is not None and 0.0 <= self.now - self.refused_at < ASK_AGAIN
            return Step.ASK if self._due() and not refused else None
        if answer is Answer.ISSUED:
            return Step.TAKE
        if answer is Answer.REFUSED:
            return Step.GIVE_UP
        if not self.checked <= self.asked.names:
            return Step.ASK
        return Step.CREATE if answer is Answer.ABSENT else None

    def _due(self) -> bool:
        leaf = self.leaf
        if leaf is None or not self.usable():
            return True
        life = leaf.not_after - leaf.not_before
        return self.now >= leaf.not_before + life * (SERVER_DUE + JITTER * self.chance)
