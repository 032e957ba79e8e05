"""Who asks, and whether they may: as a kubelet finds out.

A caller is known by a client certificate or by a bearer token, which the API server reviews. A known caller may read
the logs of a VNode's modules if the API server says that it may ``get`` the Node's subresource ``proxy``, as kubelets
ask, or ``log``, which allows nothing but reading logs.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from controlplane.access.certificates import of_certificate
from controlplane.access.refusals import AccessRefused, CannotReview, Forbidden, TooManyReviews, Unauthenticated
from controlplane.access.reviews import Reviewer
from controlplane.domain.access import Access, Caller
from service.refusals import RequestRefused

SUBRESOURCES = ("proxy", "log")

_STATUSES: Mapping[type[AccessRefused], tuple[int, Mapping[str, str]]] = {
    Unauthenticated: (401, {"WWW-Authenticate": "Bearer"}),
    Forbidden: (403, {}),
    TooManyReviews: (429, {"Retry-After": f"{TooManyReviews.retry_after:.0f}"}),
    CannotReview: (500, {}),
}


class KubeletAccess:
    """Recognises callers of the kubelet API, and says who may read which logs."""

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

    async def must_read_logs(self, caller: Caller, node: str) -> None:
        """Raise RequestRefused unless a caller may read logs on a Node; an empty name means on every Node."""
        with _answered():
            for subresource in SUBRESOURCES:
                if await self._reviewer.may(caller, Access("get", "nodes", name=node, subresource=subresource)):
                    return
            where = f"node {node}" if node else "nodes"
            text = f"{caller.user} may not get nodes/{SUBRESOURCES[0]} or nodes/{SUBRESOURCES[1]} of {where}"
            raise Forbidden("not_allowed", text)


@contextmanager
def _answered() -> Iterator[None]:
    """Turn a refusal into one of HTTP."""
    try:
        yield
    except AccessRefused as refused:
        status, headers = _STATUSES[type(refused)]
        raise RequestRefused(status, refused.reason, str(refused), headers) from refused
