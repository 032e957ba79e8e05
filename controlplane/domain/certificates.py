"""Certificates that we keep, such as those of gRPC: which are served, and what is written so that clients trust them.

A Secret holds the server's certificate and key, and the CAs that clients trust; in the one that we keep there are the
CA's key and, during a rotation, the next CA's. A ConfigMap publishes the CAs to clients. Replicas share both, and
decide alike: a decision is a function of what is stored, what is published, and the time.

A client may have read the ConfigMap some time ago. So a new CA is published first, and what it signed is served only
when it was published for GRACE. The one before leaves later, when nobody serves what it signed. Until then clients
trust both.

Times are seconds since the epoch, durations seconds. Replicas' clocks may differ by SKEW.
"""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from enum import Enum

SERVER_NAME = "module-controller"
"""The DNS name in every certificate that we make: clients of gRPC check it whatever address they connect to."""

HOUR, DAY = 3600.0, 86400.0
SKEW = HOUR
"""What clocks may differ by: certificates begin so long before they are made."""
AUTHORITY_LIFE = 3650 * DAY
AUTHORITY_DUE = 0.8
SERVER_LIFE = 90 * DAY
SERVER_DUE = 2 / 3
JITTER = 0.05
"""The share of a life after which a certificate is made again, and what chance adds to that share."""
GRACE = 2 * HOUR
"""From publishing a CA until what it signed is served. A gateway reads a changed ConfigMap within minutes."""
RETIRE = 2 * GRACE
"""From the last change of what is published until CAs leave that are not stored any more."""
MOST_LEAVING = 4
"""CAs that are published although they are not stored any more."""


@dataclass(frozen=True, slots=True)
class Served:
    """What a server shows, and the CAs that it and its clients trust, as PEM.

    crt_pem is the certificate and those between it and its CA. ca_pem is empty where nobody said which CA it is.
    """

    crt_pem: bytes
    key_pem: bytes = field(repr=False)
    ca_pem: bytes


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA's certificate. id is its fingerprint."""

    id: str
    not_before: float
    not_after: float

    def holds(self, now: float) -> bool:
        """Return whether it has not expired."""
        return now < self.not_after


@dataclass(frozen=True, slots=True)
class Leaf:
    """A server's certificate that fits its key; authority is the id of the CA that it leads to, empty if none does."""

    id: str
    not_before: float
    not_after: float
    authority: str = ""
    names: frozenset[str] = frozenset()


class Origin(Enum):
    """Who wrote a Secret or ConfigMap."""

    EMPTY = "empty"
    OURS = "ours"
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True)
class Stored:
    """What the Secret has. signer and upcoming are ids of CAs in the bundle of which there is the key, or empty.

    problem says in words why there is no leaf, or what else is wrong.
    """

    origin: Origin
    bundle: tuple[Authority, ...] = ()
    signer: str = ""
    upcoming: str = ""
    leaf: Leaf | None = None
    problem: str = ""

    def authority(self, id_: str) -> Authority | None:
        """Return the CA of an id, if it is in the bundle."""
        return next((each for each in self.bundle if each.id == id_), None)


@dataclass(frozen=True, slots=True)
class Published:
    """What the ConfigMap has; since is when its CAs last changed, None where that cannot be read."""

    origin: Origin
    bundle: tuple[Authority, ...] = ()
    since: float | None = None

    def ids(self) -> frozenset[str]:
        """Return the ids of the CAs."""
        return frozenset(each.id for each in self.bundle)


class Step(Enum):
    """One write; the value is its name in metrics and logs."""

    PUBLISH = "publish"
    """Write the bundle into the ConfigMap."""
    CREATE = "create"
    """Make a CA and what is served: nothing in the Secret can be used."""
    PREPARE = "prepare"
    """Make the next CA, which signs nothing yet."""
    SWITCH = "switch"
    """Have the next CA take the place of the present one."""
    SIGN = "sign"
    """Make what is served again, with the same CA."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What a replica sees at a moment, and what follows from it.

    names are the DNS names and addresses that a certificate of ours needs, besides SERVER_NAME; checked are those that
    clients look for. chance, from 0 to 1, is the replica's
    own: it delays renewals, so that replicas do not write at once. seen_for is for how long the replica has seen the
    stored CAs as they are. serving is what it serves.
    """

    stored: Stored
    published: Published
    now: float
    _: KW_ONLY
    names: frozenset[str] = frozenset()
    checked: frozenset[str] = frozenset({SERVER_NAME})
    chance: float = 0.0
    seen_for: float = 0.0
    serving: Leaf | None = None

    @property
    def needed(self) -> frozenset[str]:
        """The DNS names that a certificate of ours must have."""
        return self.names | {SERVER_NAME}

    def names_to_sign(self) -> frozenset[str]:
        """Return the DNS names of the next certificate.

        While replicas with two settings run, each adds its names to those of the other; when it is due, others go.
        """
        leaf = self.stored.leaf
        if leaf is None or self._due(leaf, SERVER_DUE):
            return self.needed
        return self.needed | leaf.names

    def usable(self) -> bool:
        """Return whether the stored certificate can be served; it may begin later than now, where clocks are wrong."""
        stored = self.stored
        if stored.leaf is None or self.now >= stored.leaf.not_after:
            return False
        authority = stored.authority(stored.leaf.authority)
        if authority is None:
            # Others' may be of a CA that clients know by other means.
            return stored.origin is Origin.FOREIGN and not stored.bundle
        return authority.holds(self.now)

    def bundle(self) -> tuple[Authority, ...]:
        """Return the CAs that clients are to trust: those that are stored and, for a while, those that were."""
        present = tuple(each for each in self.stored.bundle if each.holds(self.now))
        if not present:
            return self.published.bundle
        known = {each.id for each in present}
        leaving = [each for each in self.published.bundle if each.id not in known and each.holds(self.now)]
        settled = self._published_for() >= RETIRE and self.seen_for >= GRACE
        if settled and known <= self.published.ids():
            return present
        return (*present, *leaving[:MOST_LEAVING])

    def next_step(self) -> Step | None:
        """Return what is to be written first. None: nothing, for now."""
        stored = self.stored
        if self.published.origin is not Origin.FOREIGN and self._unpublished():
            return Step.PUBLISH
        if stored.origin is Origin.FOREIGN:
            return None
        signer, upcoming = self._able_to_sign(stored.signer), self._able_to_sign(stored.upcoming)
        if not self.usable():
            if signer is not None:
                return Step.SIGN
            return Step.CREATE if upcoming is None else Step.SWITCH
        if upcoming is not None and upcoming.id in self.published.ids() and self._published_for() >= GRACE:
            return Step.SWITCH
        if upcoming is None and (signer is None or self._due(signer, AUTHORITY_DUE)):
            return Step.PREPARE
        return Step.SIGN if signer is not None and self._to_sign(signer) else None

    def may_serve(self) -> bool:
        """Return whether the stored certificate may be served, in place of another or of none.

        While nothing is served that clients can verify, its CA must be published, but not for long.
        """
        leaf, serving, published = self.stored.leaf, self.serving, self.published
        if leaf is None or not self.usable():
            return False
        if published.origin is not Origin.FOREIGN and leaf.authority and leaf.authority not in published.ids():
            return False
        trusted = {each.id for each in published.bundle if each.holds(self.now)}
        if serving is None or self.now >= serving.not_after or serving.authority not in trusted:
            return True
        return leaf.authority in ("", serving.authority) or self._published_for() >= GRACE

    def remarks(self) -> Sequence[str]:
        """Return in words what is wrong with what is stored and published."""
        stored, leaf = self.stored, self.stored.leaf
        found = [stored.problem] if stored.problem else []
        if leaf is None:
            return found
        authority = stored.authority(leaf.authority)
        lacking = ", ".join(sorted(self.checked - leaf.names))
        unpublished = leaf.authority and leaf.authority not in self.published.ids()
        wrong = {
            "the certificate has expired": self.now >= leaf.not_after,
            "the certificate begins later than now: a clock is wrong": leaf.not_before > self.now + SKEW,
            "the CA of the certificate has expired": authority is not None and not authority.holds(self.now),
            "the certificate is not of a CA in ca.crt": authority is None and stored.bundle,
            f"the certificate lacks the name {lacking}, which clients check": lacking,
            "there is no ca.crt: clients must get the CA by other means": not stored.bundle,
            "the ConfigMap is somebody else's, and lacks the CA of the certificate": unpublished
            and self.published.origin is Origin.FOREIGN,
        }
        return [*found, *(words for words, is_so in wrong.items() if is_so)]

    def _able_to_sign(self, id_: str) -> Authority | None:
        authority = self.stored.authority(id_)
        return authority if authority is not None and authority.holds(self.now) else None

    def _published_for(self) -> float:
        since = self.published.since
        return 0.0 if since is None else self.now - since

    def _unpublished(self) -> bool:
        if not any(each.holds(self.now) for each in self.stored.bundle):
            return False
        since = self.published.since
        # A rotation would wait for a time that is still to come.
        return since is None or since > self.now + SKEW or {each.id for each in self.bundle()} != self.published.ids()

    def _to_sign(self, signer: Authority) -> bool:
        leaf = self.stored.leaf
        if leaf is None or not self.needed <= leaf.names:
            return True
        # One that ends with its CA cannot be made to end later.
        return leaf.not_after < signer.not_after and self._due(leaf, SERVER_DUE)

    def _due(self, made: Authority | Leaf, share: float) -> bool:
        life = made.not_after - made.not_before
        return self.now >= made.not_before + life * (share + JITTER * self.chance)
