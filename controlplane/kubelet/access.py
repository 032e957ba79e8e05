"""Who asks, and whether they may: as a kubelet finds out.

A caller is known by a client certificate, which TLS has verified by then, or by a bearer token, which the API server
reviews. A known caller may read the logs of a VNode's modules if the API server says that it may ``get`` the Node's
subresource ``proxy``, as kubelets ask, or ``log``, which allows nothing but reading logs.

Answers are remembered for a short time, tokens only as a digest. What cannot be found out is refused.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import structlog
from prometheus_client import Counter

from controlplane.app.ports import Clock, ClusterError
from controlplane.cluster import fields
from controlplane.cluster.api import ACCESS_REVIEWS, TOKEN_REVIEWS, ApiServer, Json, Resource
from service.limits import Recent
from service.refusals import RequestRefused

log = structlog.get_logger(__name__)

YES_FOR = 60.0
NO_FOR = 10.0
"""Seconds that an answer of the API server is remembered."""
MOST = 1024
AT_ONCE = 8
"""Reviews under way; anybody who reaches the port can cause some."""
WAITING = 64
SUBRESOURCES = ("proxy", "log")

REVIEWS = Counter(
    "koupleless_kubelet_reviews_total", "Callers that the API server was asked about", ["kind", "outcome"]
)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks; extra are further attributes of the user, as the API server gives them."""

    user: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()


class Reviewer:
    """Recognises callers and asks for their rights."""

    def __init__(self, api: ApiServer, clock: Clock) -> None:
        self._api = api
        self._now = clock.monotonic
        # Answers, and until when they hold. Apart, so that a flood of wrong tokens displaces nobody who is known.
        self._yes: Recent[Hashable, tuple[Caller | bool, float]] = Recent(MOST)
        self._no: Recent[Hashable, tuple[Caller | bool, float]] = Recent(MOST)
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0

    async def caller(self, certificate: Mapping[str, Any] | None, authorization: str) -> Caller:
        """Return who asks; certificate is as ssl.SSLSocket.getpeercert has it. Raises RequestRefused."""
        if certificate:
            return of_certificate(certificate)
        scheme, _, token = authorization.partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise _unauthenticated("anonymous", "a client certificate or a bearer token is needed")
        key = hashlib.sha256(token.encode(errors="surrogateescape")).digest()
        caller = await self._remembered(key, partial(self._review_token, token))
        if not isinstance(caller, Caller):
            raise _unauthenticated("token", "the API server does not know this bearer token")
        return caller

    async def must_read_logs(self, caller: Caller, node: str) -> None:
        """Raise RequestRefused unless a caller may read logs on a Node; an empty name means on every Node."""
        for subresource in SUBRESOURCES:
            key = (caller, subresource, node)
            if await self._remembered(key, partial(self._review_access, caller, subresource, node)):
                return
        where = f"node {node}" if node else "nodes"
        text = f"{caller.user} may not get nodes/{SUBRESOURCES[0]} or nodes/{SUBRESOURCES[1]} of {where}"
        raise RequestRefused(403, "not_allowed", text)

    async def _remembered(self, key: Hashable, ask: Callable[[], Awaitable[Caller | bool]]) -> Caller | bool:
        for answers in (self._yes, self._no):
            answer, until = answers.get(key, (False, 0.0))
            if until > self._now():
                return answer
        answer = await ask()
        answers, seconds = (self._yes, YES_FOR) if answer else (self._no, NO_FOR)
        answers[key] = (answer, self._now() + seconds)
        return answer

    async def _review_token(self, token: str) -> Caller | bool:
        status = await self._review(TOKEN_REVIEWS, {"token": token})
        user = fields.mapping(status, "user")
        name = fields.text(user, "username")
        known = fields.flag(status, "authenticated") and bool(name)
        REVIEWS.labels("token", "known" if known else "unknown").inc()
        if not known:
            return False
        more = fields.mapping(user, "extra")
        extra = tuple((key, fields.texts(more, key)) for key in sorted(more))
        return Caller(name, fields.texts(user, "groups"), fields.text(user, "uid"), extra)

    async def _review_access(self, caller: Caller, subresource: str, node: str) -> bool:
        wanted = {"verb": "get", "version": "v1", "resource": "nodes", "subresource": subresource, "name": node}
        spec = {**asdict(caller), "extra": dict(caller.extra), "resourceAttributes": fields.filled(wanted)}
        status = await self._review(ACCESS_REVIEWS, fields.filled(spec))
        allowed = fields.flag(status, "allowed") and not fields.flag(status, "denied")
        REVIEWS.labels("access", "allowed" if allowed else "denied").inc()
        return allowed

    async def _review(self, resource: Resource, spec: Json) -> Json:
        if self._waiting >= WAITING:
            raise RequestRefused(429, "reviews", "too many callers are being looked up", {"Retry-After": "1"})
        self._waiting += 1
        review = resource.manifest({}, spec=spec)
        try:
            async with self._slots:
                return fields.mapping(await self._api.create(resource, review), "status")
        except ClusterError as error:
            REVIEWS.labels("token" if resource is TOKEN_REVIEWS else "access", "failed").inc()
            log.warning("the API server could not be asked about a caller", what=resource.plural, cause=str(error))
            text = f"the API server could not be asked who this is and what they may do ({resource.plural})"
            raise RequestRefused(500, "review_failed", text) from error
        finally:
            self._waiting -= 1


def of_certificate(certificate: Mapping[str, Any]) -> Caller:
    """Return the user that a client certificate stands for: common name and organizations; raises RequestRefused."""
    names: dict[str, list[str]] = {}
    for part in certificate.get("subject") or ():
        for key, value in part:
            names.setdefault(str(key), []).append(str(value))
    user = names.get("commonName", [""])[-1]
    if not user:
        raise _unauthenticated("certificate", "the client certificate has no common name")
    return Caller(user, (*names.get("organizationName", []), "system:authenticated"))


def _unauthenticated(reason: str, text: str) -> RequestRefused:
    return RequestRefused(401, reason, text, {"WWW-Authenticate": "Bearer"})
