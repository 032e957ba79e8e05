"""Keeps a server certificate of the cluster's own signer, where somebody approves it (CertificateSigningRequest).

It reads the Secret once a minute, more often while a request is under way. Every write to the Secret has the resource
version that was read as precondition, so that replicas share one request. Without the Secret, or without the right to
it, nothing is asked for.

kubernetes.io/kubelet-serving signs for subjects system:node:* of the organization system:nodes, with DNS names or
addresses, for servers only. Nothing in Kubernetes approves that by itself.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import NoReturn

import structlog

from controlplane.app.metrics import WRITES
from controlplane.app.ports import AlreadyExists, Clock, ClusterError, Conflict, NotFound, Rejected
from controlplane.certificates.keeper import KUBELET
from controlplane.certificates.requests import Stored, manifest, read_answer
from controlplane.cluster.api import CERTIFICATE_REQUESTS, SECRETS, ApiServer
from controlplane.domain.backoff import Backoff
from controlplane.domain.certificaterequests import Answer, Asked, Requesting, Step
from controlplane.domain.certificates import Served
from controlplane.domain.times import rfc3339
from service.limits import LogLimit

log = structlog.get_logger(__name__)

LOOK, LOOK_SOON, LOOK_SELDOM = 60.0, 10.0, 600.0
"""Seconds between looks, between those while a request waits for its answer, and where there is no Secret."""
LOOK_WITHIN = 60.0
RETRY = Backoff(first=1.0, longest=60.0, jitter=1.0)
REPEAT = 3600.0
"""Seconds until a problem that stays is logged again."""
SHIPPED = "deploy/kubelet/signed.yaml"


@dataclass(eq=False)
class CertificateRequester:
    """The signed certificate of one replica.

    addresses returns the IP addresses that clients check now. current is the certificate to serve, None while there is
    none that holds for them.
    """

    api: ApiServer
    namespace: str
    secret: str
    addresses: Callable[[], frozenset[str]]
    clock: Clock
    random: Random
    current: Served | None = None
    _line: str = ""
    """How it stands, in words; empty where nothing is asked for."""
    _failures: int = 0
    _waits: bool = False
    _readable: bool = False
    _logged: LogLimit = field(default_factory=lambda: LogLimit(REPEAT, max_peers=64))

    def __post_init__(self) -> None:
        self._chance = self.random.random()

    def notes(self) -> Sequence[str]:
        """Say in words how it stands."""
        return [f"{KUBELET.what} certificate of the cluster: {self._line}"] if self._line else []

    async def run(self) -> NoReturn:
        """Look again and again, until cancelled."""
        while True:
            delay = await self._round()
            await asyncio.sleep(delay)

    async def look(self) -> Step | None:
        """Read, serve what may be served, and write what is needed first; return what was written.

        Raises ClusterError: NotFound where there is no Secret, Rejected where it may not be read.
        """
        self._readable = False
        stored = Stored.read(await self.api.get(SECRETS, self.secret, self.namespace))
        self._readable = True
        situation = Requesting(
            stored.leaf,
            stored.asked,
            stored.refused_at,
            self.clock.wall(),
            checked=self.addresses(),
            chance=self._chance,
        )
        self.current = Served(stored.crt, stored.key, b"") if situation.usable() else None
        answer, crt = Answer.ABSENT, b""
        if stored.asked is not None:
            answer, crt = await self._answer(stored.asked, stored.request_key, situation.now)
        step = situation.next_step(answer)
        self._say(situation, answer)
        if step is not None:
            WRITES.labels(f"certificates-{step.value}").inc()
        if step is Step.CREATE and stored.asked is not None:
            await self._create(stored.asked.name, stored.request)
        elif step is not None:
            patch = stored.patch(step, situation.checked, crt, situation.now)
            await self.api.patch(SECRETS, self.secret, patch, namespace=self.namespace)
            log.info("certificate request", step=step.value, secret=f"{self.namespace}/{self.secret}")
        self._waits = stored.asked is not None
        return step

    async def _answer(self, asked: Asked, key: bytes, now: float) -> tuple[Answer, bytes]:
        try:
            obj = await self.api.get(CERTIFICATE_REQUESTS, asked.name)
        except NotFound:
            return Answer.ABSENT, b""
        return read_answer(obj, asked, key, now)

    async def _create(self, name: str, request: bytes) -> None:
        try:
            await self.api.create(CERTIFICATE_REQUESTS, manifest(name, request))
        except AlreadyExists:
            return
        log.info(
            "certificate requested; it is served once somebody approves it",
            request=name,
            approve=f"kubectl certificate approve {name}",
        )

    def _say(self, situation: Requesting, answer: Answer) -> None:
        leaf, asked, refused_at = situation.leaf, situation.asked, situation.refused_at
        lines, left = [], float("nan")
        if leaf is not None and situation.usable():
            lines.append(f"holds until {rfc3339(leaf.not_after)}")
            left = leaf.not_after - situation.now
        if asked is not None and answer in (Answer.PENDING, Answer.ABSENT):
            lines.append(f"request {asked.name} waits: kubectl certificate approve {asked.name}")
        if asked is None and refused_at is not None:
            lines.append(f"the request was refused at {rfc3339(refused_at)}; the next follows a day later")
        if not situation.checked:
            lines.append("there is no address of a Service to ask for")
        self._line = "; ".join(lines)
        KUBELET.left.labels("signed").set(left)

    async def _round(self) -> float:
        """Look once; return in how many seconds to look again."""
        try:
            async with asyncio.timeout(LOOK_WITHIN):
                step = await self.look()
        except NotFound:
            self.current, self._line, self._failures = None, "", 0
            return LOOK_SELDOM * (0.75 + 0.5 * self.random.random())
        except Conflict:
            self._failures += 1
        except Rejected as error:
            return self._refused(error)
        except (ClusterError, TimeoutError) as error:
            self._failures += 1
            log.info("a look at the certificate request failed", cause=str(error) or f"no answer in {LOOK_WITHIN:g} s")
        except Exception as error:
            # A defect here must end neither the replica nor what it serves.
            self._failures += 1
            log.exception("a look at the certificate request failed", cause=type(error).__name__)
        else:
            self._failures = 0
            if step is not None:
                return RETRY.delay(1, self.random.random())
            return (LOOK_SOON if self._waits else LOOK) * (0.75 + 0.5 * self.random.random())
        return RETRY.delay(self._failures, self.random.random())

    def _refused(self, error: Rejected) -> float:
        """Note that a right is missing; without that to read the Secret nobody wants such a certificate."""
        self._failures = 0
        if self._readable:
            self._line = f"a right is missing: {error}; {SHIPPED} has the Roles"
            if self._logged.admit(self._line, self.clock.monotonic()) is not None:
                log.warning("certificates", certificates=KUBELET.what, problem=self._line)
        return LOOK_SELDOM * (0.75 + 0.5 * self.random.random())
