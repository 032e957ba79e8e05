"""Who asks, and whether they may: as a kubelet finds out.

A caller is known by a client certificate or by a bearer token, which the API server reviews. What a known caller may do
is what the API server says of it for a subresource of the Node: ``proxy`` allows all, as at kubelets, others a part of
it, such as ``log``, which allows nothing but reading logs.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from controlplane.access.certificates import of_certificate
from controlplane.access.refusals import AccessRefused, CannotReview, Forbidden, TooManyReviews, Unauthenticated
from controlplane.access.reviews import Reviewer
from controlplane.domain.access import Access, Caller
from service.refusals import RequestRefused

Right = tuple[str, ...]
"""Subresources of a Node, each of which is enough."""
LOGS: Right = ("log", "proxy")
METRICS: Right = ("metrics", "proxy")
STATS: Right = ("stats", "proxy")
PODS: Right = ("pods", "proxy")
CONFIG: Right = ("configz", "proxy")
HEALTH: Right = ("healthz", "proxy")
STREAMS: Right = ("proxy",)

_STATUSES: Mapping[type[AccessRefused], tuple[int, Mapping[str, str]]] = {
    Unauthenticated: (401, {"WWW-Authenticate": "Bearer"}),
    Forbidden: (403, {}),
    TooManyReviews: (429, {"Retry-After": f"{TooManyReviews.retry_after:.0f}"}),
    CannotReview: (500, {}),
}


class KubeletAccess:
    """Recognises callers of the kubelet API, and says what they may."""

    def __init__(self, reviewer: Reviewer) -> None:
        self._reviewer = reviewer

    async def caller(self, certificate: Mapping[str, Any] | None, authorization: str, peer: str) -> Caller:
        """Return who asks; certificate is as ssl.SSLSocket.getpeercert has it. Raises RequestRefused."""
        with _answered():
            if certificate:
                return of_certificate(certificate)
            scheme, _, token = authorization.partition(" ")
            token = token.strip()
            if scheme.lower() != "bearer" or not token:
                raise Unauthenticated("anonymous", "a client certificate or a bearer token is needed")
            return await self._reviewer.whose(token, peer=peer)

    async def must(self, caller: Caller, verb: str, node: str, right: Right) -> None:
        """Raise RequestRefused unless a caller has a right on a Node; an empty name means on every Node.

        Every Node is asked about first: who scrapes all of them then costs one review, not one for each.
        """
        with _answered():
            for name in dict.fromkeys(("", node)):
                for subresource in right:
                    if await self._reviewer.may(caller, Access(verb, "nodes", name=name, subresource=subresource)):
                        return
            where = f"node {node}" if node else "nodes"
            wanted = " or ".join(f"nodes/{subresource}" for subresource in right)
            raise Forbidden("not_allowed", f"{caller.user} may not {verb} {wanted} of {where}")


@contextmanager
def _answered() -> Iterator[None]:
    """Turn a refusal into one of HTTP."""
    try:
        yield
    except AccessRefused as refused:
        status, headers = _STATUSES[type(refused)]
        raise RequestRefused(status, refused.reason, str(refused), headers) from refused
