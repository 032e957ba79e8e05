"""What the API server says of callers: whose token it is (TokenReview), and what they may do (SubjectAccessReview).

An answer is kept for ten seconds, tokens only as a digest; whoever asks the same meanwhile shares it. Callers who were
known before are looked up apart from strangers, who can only keep each other waiting. What cannot be found out is
refused.
"""

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Hashable
from functools import partial
from typing import Any, TypeAlias

import prometheus_client
import structlog

from controlplane.access.refusals import AccessRefused, CannotReview, TooManyReviews, Unauthenticated
from controlplane.app.ports import ClusterError
from controlplane.cluster import fields
from controlplane.cluster.api import ACCESS_REVIEWS, TOKEN_REVIEWS, ApiServer, Json, Resource
from controlplane.domain.access import Access, Caller
from service.limits import RateLimit, Recent

log = structlog.get_logger(__name__)

KEPT_FOR = 10.0
"""Seconds that an answer of the API server is kept."""
MOST = 1024
"""Answers of each kind that are kept."""
AT_ONCE = 4
"""Reviews under way in each lane."""
WAITING = 64
"""Reviews in each lane, with those under way."""
EACH = 16
"""Reviews of one caller's rights that are under way or wait."""
WITHIN = 10.0
"""Seconds that the API server is given for one review."""
NEW_TOKENS, AT_FIRST = 10.0, 50.0
"""Tokens a second, and at once, that one peer may show and that were not known before."""

REVIEWS = prometheus_client.Counter(
    "koupleless_access_reviews_total", "Callers that the API server was asked about", ["kind", "outcome"]
)

Answer: TypeAlias = Caller | bool | AccessRefused


class _Lane:
    """Reviews that wait for each other and for no others."""

    def __init__(self) -> None:
        self.slots = asyncio.Semaphore(AT_ONCE)
        self.waiting = 0


class Reviewer:
    """Asks the API server about callers; now is the monotonic clock."""

    def __init__(self, api: ApiServer, now: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._now = now
        # Answers, and until when they hold. Apart, so that a flood of wrong tokens displaces nobody who is known.
        self._yes: Recent[Hashable, tuple[Caller | bool, float]] = Recent(MOST)
        self._no: Recent[Hashable, tuple[Caller | bool, float]] = Recent(MOST)
        self._under_way: dict[Hashable, asyncio.Task[Answer]] = {}
        self._known, self._strangers, self._rights = _Lane(), _Lane(), _Lane()
        self._were_known: Recent[Hashable, None] = Recent(MOST)
        self._shown = RateLimit(NEW_TOKENS, AT_FIRST)
        self._asking: Counter[Caller] = Counter()

    async def whose(self, token: str, *, audience: str = "", peer: str = "") -> Caller:
        """Return whose token it is; peer is who shows it. Raises AccessRefused.

        A token must be for the audience; without one, for the API server itself.
        """
        if not token.isascii():
            # Bytes of a header that are no text cannot be sent on, either.
            raise Unauthenticated("token", "the bearer token has characters that no token has")
        key = audience, hashlib.sha256(token.encode()).digest()
        answer = self._kept(key)
        if answer is None:
            known = key in self._were_known
            if not known and self._shown.admit(peer, self._now()):
                raise TooManyReviews("tokens", "too many tokens that were not known before came from this address")
            lane = self._known if known else self._strangers
            answer = await self._asked(key, lane, partial(self._review_token, token, audience))
        if not isinstance(answer, Caller):
            raise Unauthenticated("token", "the API server does not know this bearer token")
        self._were_known[key] = None
        return answer

    async def may(self, caller: Caller, access: Access) -> bool:
        """Return whether a caller may do something; raises AccessRefused where that cannot be found out."""
        key = caller, access
        answer = self._kept(key)
        if answer is not None:
            return bool(answer)
        review = partial(self._review_access, caller, access)
        if key in self._under_way:
            return bool(await self._asked(key, self._rights, review))
        if self._asking[caller] >= EACH:
            raise TooManyReviews("reviews", "too many rights of this caller are being looked up")
        self._asking[caller] += 1
        try:
            return bool(await self._asked(key, self._rights, review))
        finally:
            self._asking[caller] -= 1
            if not self._asking[caller]:
                del self._asking[caller]

    def _kept(self, key: Hashable) -> Caller | bool | None:
        for answers in (self._yes, self._no):
            answer, until = answers.get(key, (None, 0.0))
            if answer is not None and until > self._now():
                return answer
        return None

    async def _asked(
        self, key: Hashable, lane: _Lane, review: Callable[[], Coroutine[Any, Any, Caller | bool]]
    ) -> Caller | bool:
        """Return the answer of a review, of the one under way if there is one."""
        task = self._under_way.get(key)
        if task is None:
            if lane.waiting >= WAITING:
                raise TooManyReviews("reviews", "too many callers are being looked up")
            lane.waiting += 1
            task = asyncio.create_task(self._find_out(key, lane, review()), name="access-review")
            self._under_way[key] = task
        # Whoever asked first may go away, and the others still wait.
        answer = await asyncio.shield(task)
        if isinstance(answer, AccessRefused):
            raise answer
        return answer

    async def _find_out(self, key: Hashable, lane: _Lane, review: Coroutine[Any, Any, Caller | bool]) -> Answer:
        try:
            async with lane.slots:
                answer = await review
        except AccessRefused as refused:
            return refused
        finally:
            lane.waiting -= 1
            self._under_way.pop(key, None)
        (self._yes if answer else self._no)[key] = (answer, self._now() + KEPT_FOR)
        return answer

    async def _review_token(self, token: str, audience: str) -> Caller | bool:
        spec: Json = {"token": token, **({"audiences": [audience]} if audience else {})}
        status = await self._review(TOKEN_REVIEWS, "token", spec)
        user = fields.mapping(status, "user")
        name = fields.text(user, "username")
        # An API server that knows no audiences names none: it would accept a token that is meant for others.
        meant = not audience or audience in fields.texts(status, "audiences")
        known = fields.flag(status, "authenticated") and bool(name) and meant
        REVIEWS.labels("token", "known" if known else "unknown").inc()
        if not known:
            return False
        more = fields.mapping(user, "extra")
        extra = tuple((key, fields.texts(more, key)) for key in sorted(more))
        return Caller(name, fields.texts(user, "groups"), fields.text(user, "uid"), extra)

    async def _review_access(self, caller: Caller, access: Access) -> bool:
        attributes = {
            "verb": access.verb,
            "version": "v1",
            "group": access.group,
            "resource": access.resource,
            "subresource": access.subresource,
            "namespace": access.namespace,
            "name": access.name,
        }
        spec = {
            "user": caller.user,
            "groups": caller.groups,
            "uid": caller.uid,
            "extra": dict(caller.extra),
            "resourceAttributes": fields.filled(attributes),
        }
        status = await self._review(ACCESS_REVIEWS, "access", fields.filled(spec))
        allowed = fields.flag(status, "allowed") and not fields.flag(status, "denied")
        REVIEWS.labels("access", "allowed" if allowed else "denied").inc()
        return allowed

    async def _review(self, resource: Resource, kind: str, spec: Json) -> Json:
        try:
            async with asyncio.timeout(WITHIN):
                return fields.mapping(await self._api.create(resource, resource.manifest({}, spec=spec)), "status")
        except (ClusterError, TimeoutError) as error:
            REVIEWS.labels(kind, "failed").inc()
            log.warning(
                "the API server could not be asked about a caller",
                what=resource.plural,
                cause=str(error) or f"no answer within {WITHIN:g} s",
            )
            text = f"the API server could not be asked who this is and what they may do ({resource.plural})"
            raise CannotReview("review_failed", text) from error
