"""Keeps what a server shows current: reads Secret and ConfigMap once a minute, and writes what they need.

Every write has the resource version that was read as precondition, and is followed by reading again: whatever another
replica did, or however a write ended that was not answered, the next look goes on from what is there. What is served
was read from the cluster, never only made here.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import NoReturn

import structlog
from prometheus_client import Counter, Gauge

from controlplane.app.metrics import WRITES
from controlplane.app.ports import Clock, ClusterError, Conflict, NotFound, Rejected, Transient, Unknown
from controlplane.certificates.reading import Certificates
from controlplane.certificates.stored import Bundle, Secret
from controlplane.cluster.api import CONFIG_MAPS, SECRETS, ApiServer, Json, Resource
from controlplane.domain.backoff import Backoff
from controlplane.domain.certificates import SERVER_NAME, Leaf, Origin, Served, Situation, Step
from controlplane.domain.times import rfc3339
from service.limits import LogLimit

log = structlog.get_logger(__name__)

LOOK = 60.0
"""Seconds between looks, before jitter."""
LOOK_WITHIN = 60.0
RETRY = Backoff(first=0.2, longest=60.0, jitter=1.0)
MOST_STEPS = 6
"""Writes one after the other; a new installation needs two. More is somebody who undoes them."""
REPEAT = 3600.0
"""Seconds until a problem that stays is logged again."""


@dataclass(frozen=True, slots=True)
class Purpose:
    """Whose certificates they are: in words, in metrics, and the file that has Secret, ConfigMap and Role."""

    what: str
    shipped: str
    left: Gauge
    failures: Counter


GRPC = Purpose(
    "gRPC",
    "deploy/sharded/grpc-certificates.yaml",
    Gauge(
        "koupleless_grpc_certificate_seconds_left",
        "Until the served gRPC certificate, and its CA, expire; NaN where there is none",
        ["part"],
    ),
    Counter(
        "koupleless_grpc_certificate_failures_total", "Looks at the gRPC certificates that found a problem", ["reason"]
    ),
)
KUBELET = Purpose(
    "kubelet API",
    "deploy/kubelet/certificates.yaml",
    Gauge(
        "koupleless_kubelet_certificate_seconds_left",
        "Until the kept certificate of the kubelet API, and its CA, expire; NaN where there is none",
        ["part"],
    ),
    Counter(
        "koupleless_kubelet_certificate_failures_total",
        "Looks at the certificates of the kubelet API that found a problem",
        ["reason"],
    ),
)


_REASONS = {NotFound: "missing", Conflict: "conflict", Rejected: "rejected", Transient: "transient", Unknown: "unknown"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where the certificates are, and the names that one of ours has besides SERVER_NAME.

    addresses returns the IP addresses that clients check now; without any they check SERVER_NAME.
    """

    namespace: str
    secret: str
    config_map: str
    names: frozenset[str] = frozenset()
    addresses: Callable[[], frozenset[str]] = frozenset
    purpose: Purpose = GRPC


@dataclass(frozen=True, slots=True)
class _Serving:
    """The served certificate, as it was stored; ca_ends is when its CA expires, NaN where that is not known."""

    leaf: Leaf
    crt: bytes
    key: bytes = field(repr=False)
    ca_ends: float


class CertificateKeeper:
    """The certificates of one replica.

    current is what to serve now, None until there is something; once there is it stays, until there is something
    better. changed is set when it changes; whoever waits for it clears it.
    """

    def __init__(self, api: ApiServer, place: Place, clock: Clock, random: Random) -> None:
        self.current: Served | None = None
        self.changed = asyncio.Event()
        self._api = api
        self._place = place
        self._purpose = place.purpose
        self._clock = clock
        self._random = random
        self._chance = random.random()
        self._serving: _Serving | None = None
        self._seen: tuple[frozenset[str], float] = (frozenset(), 0.0)
        """The stored CAs, and since when they are so, on the monotonic clock."""
        self._problem = "the Secret has not been read yet"
        self._logged = LogLimit(REPEAT, max_peers=64)
        self._failures = self._steps = 0

    async def first(self) -> None:
        """Wait until there is something to serve."""
        while self.current is None:
            self.changed.clear()
            await self.changed.wait()

    def trouble(self) -> str | None:
        """Say in words why there is nothing to serve, or None."""
        return (
            f"{self._purpose.what} certificate: {self._problem or 'it is being made'}" if self.current is None else None
        )

    def notes(self) -> Sequence[str]:
        """Say in words until when the certificate holds, and what is wrong with it."""
        lines = []
        if self._serving is not None:
            leaf, ca_ends = self._serving.leaf, self._serving.ca_ends
            of_ca = f", its CA until {rfc3339(ca_ends)}" if ca_ends == ca_ends else ""
            lines.append(f"{self._purpose.what} certificate: holds until {rfc3339(leaf.not_after)}{of_ca}")
        return [*lines, *([f"{self._purpose.what} certificate: {self._problem}"] if self._problem else [])]

    async def run(self) -> NoReturn:
        """Look again and again, until cancelled."""
        while True:
            delay = await self._round()
            await asyncio.sleep(delay)

    async def look(self) -> Step | None:
        """Read, serve what may be served, and write what is needed first; return what was written.

        Raises ClusterError. The ConfigMap is read first: the Secret is then as new as what it is compared with.
        """
        bundle = Bundle.read(await self._get(CONFIG_MAPS, self._place.config_map))
        secret = Secret.read(await self._get(SECRETS, self._place.secret))
        situation = self._situation(secret, bundle)
        authorities = Certificates(secret.authorities.parsed + bundle.authorities.parsed)
        pem = authorities.pem(each.id for each in situation.bundle())
        if situation.may_serve():
            self._serve(secret)
        self._refresh(pem)
        self._remark(situation)
        step = situation.next_step()
        if step is Step.PUBLISH:
            await self._patch(step, CONFIG_MAPS, self._place.config_map, bundle.patch(pem, situation.now))
        elif step is not None:
            names = situation.names_to_sign()
            await self._patch(step, SECRETS, self._place.secret, secret.patch(step, names, situation.now))
        return step

    async def _round(self) -> float:
        """Look once; return in how many seconds to look again."""
        try:
            async with asyncio.timeout(LOOK_WITHIN):
                step = await self.look()
        except (ClusterError, TimeoutError) as error:
            return self._failed(error)
        except Exception as error:
            # A defect here must end neither the replica nor what it serves.
            log.exception("a look at certificates failed", certificates=self._purpose.what)
            return self._failed(error)
        finally:
            self._measure()
        self._failures = 0
        self._steps = self._steps + 1 if step is not None else 0
        if 0 < self._steps < MOST_STEPS:
            return RETRY.delay(1, self._random.random())
        self._steps = 0
        return LOOK * (0.75 + 0.5 * self._random.random())

    def _failed(self, error: Exception) -> float:
        reason = next((word for kind, word in _REASONS.items() if isinstance(error, kind)), "defect")
        if isinstance(error, TimeoutError):
            reason = "unknown"
        self._purpose.failures.labels(reason).inc()
        if not isinstance(error, Conflict):
            self._set_problem(str(error) or f"no answer within {LOOK_WITHIN:g} s")
        self._failures += 1
        asked = (error.retry_after or 0.0) if isinstance(error, ClusterError) else 0.0
        return max(asked, RETRY.delay(self._failures, self._random.random()))

    async def _get(self, resource: Resource, name: str) -> Json:
        where = f"{resource.kind} {self._place.namespace}/{name}"
        try:
            return await self._api.get(resource, name, self._place.namespace)
        except NotFound:
            raise NotFound(f"there is no {where}: apply {self._purpose.shipped}, which has it") from None
        except Rejected as error:
            raise Rejected(f"{where} cannot be read: {error}; {self._purpose.shipped} has the Role") from error

    async def _patch(self, step: Step, resource: Resource, name: str, patch: Json) -> None:
        where = f"{resource.kind} {self._place.namespace}/{name}"
        WRITES.labels(f"certificates-{step.value}").inc()
        try:
            await self._api.patch(resource, name, patch, namespace=self._place.namespace)
        except (Conflict, NotFound):
            raise
        except Rejected as error:
            raise Rejected(f"{where} cannot be written: {error}; {self._purpose.shipped} has the Role") from error
        log.info("certificates written", certificates=self._purpose.what, step=step.value, object=where)

    def _situation(self, secret: Secret, bundle: Bundle) -> Situation:
        now = self._clock.monotonic()
        ids = frozenset(each.id for each in secret.stored.bundle)
        if ids != self._seen[0]:
            self._seen = ids, now
        addresses = self._place.addresses()
        return Situation(
            secret.stored,
            bundle.published,
            self._clock.wall(),
            names=self._place.names | addresses,
            checked=addresses or frozenset({SERVER_NAME}),
            chance=self._chance,
            seen_for=now - self._seen[1],
            serving=self._serving.leaf if self._serving is not None else None,
        )

    def _serve(self, secret: Secret) -> None:
        leaf = secret.stored.leaf
        if leaf is None or (self._serving is not None and self._serving.leaf == leaf):
            return
        authority = secret.stored.authority(leaf.authority)
        ends = float("nan") if authority is None else authority.not_after
        self._serving = _Serving(leaf, secret.crt, secret.key, ends)
        renewed = secret.stored.origin is Origin.OURS
        log.info(
            "certificate served",
            certificate=self._purpose.what,
            until=rfc3339(leaf.not_after),
            fingerprint=leaf.id,
            renewed_by_us=renewed,
        )

    def _refresh(self, ca_pem: bytes) -> None:
        if self._serving is None:
            return
        served = Served(self._serving.crt, self._serving.key, ca_pem)
        if served != self.current:
            self.current = served
            self.changed.set()

    def _remark(self, situation: Situation) -> None:
        remarks = situation.remarks()
        self._set_problem("; ".join(remarks) and f"Secret {self._place.secret}: {'; '.join(remarks)}")
        if remarks:
            self._purpose.failures.labels("content").inc()

    def _set_problem(self, problem: str) -> None:
        self._problem = problem
        if problem and self._logged.admit(problem, self._clock.monotonic()) is not None:
            log.warning("certificates", certificates=self._purpose.what, problem=problem)

    def _measure(self) -> None:
        now, serving, nothing = self._clock.wall(), self._serving, float("nan")
        left = self._purpose.left
        left.labels("server").set(nothing if serving is None else serving.leaf.not_after - now)
        left.labels("ca").set(nothing if serving is None else serving.ca_ends - now)
