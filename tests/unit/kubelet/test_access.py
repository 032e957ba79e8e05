"""Who may do what: either right on the Node is enough, and refusals have the status that the API server passes on."""

from collections.abc import Mapping
from typing import Any, cast

import pytest

from controlplane.access.refusals import CannotReview, TooManyReviews, Unauthenticated
from controlplane.access.reviews import Reviewer
from controlplane.domain.access import Access, Caller
from controlplane.kubelet.access import LOGS, KubeletAccess
from service.refusals import RequestRefused

ANN = Caller("ann")


class Reviews:
    """Knows one token, and which subresources of which Nodes everybody may get."""

    def __init__(self, *allowed: tuple[str, str]) -> None:
        self.allowed = allowed
        self.asked: list[tuple[str, str]] = []
        self.error: Exception | None = None

    async def whose(self, token: str, *, audience: str = "", peer: str = "") -> Caller:
        if self.error is not None:
            raise self.error
        if token != "right":
            raise Unauthenticated("token", "unknown")
        return ANN

    async def may(self, _caller: Caller, access: Access) -> bool:
        assert (access.verb, access.resource) == ("get", "nodes")
        self.asked.append((access.subresource, access.name))
        return self.asked[-1] in self.allowed


def access(reviews: Reviews) -> KubeletAccess:
    return KubeletAccess(cast("Reviewer", reviews))


async def refusal(call: Any) -> RequestRefused:
    with pytest.raises(RequestRefused) as refused:
        await call
    return refused.value


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic YTpi", "right"])
async def test_an_anonymous_caller_is_refused(header: str) -> None:
    refused = await refusal(access(Reviews()).caller(None, header, "10.0.0.9"))
    assert (refused.status, refused.reason) == (401, "anonymous")
    assert refused.headers == {"WWW-Authenticate": "Bearer"}


@pytest.mark.parametrize("header", ["Bearer right", "bearer  right"])
@pytest.mark.parametrize("certificate", [None, {}])
async def test_a_token_is_enough(header: str, certificate: Mapping[str, Any] | None) -> None:
    assert await access(Reviews()).caller(certificate, header, "10.0.0.9") == ANN


async def test_a_certificate_without_a_name_is_refused() -> None:
    certificate = {"subject": ((("organizationName", "a"),),)}
    assert (await refusal(access(Reviews()).caller(certificate, "Bearer right", ""))).status == 401


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Unauthenticated("token", "unknown"), 401),
        (TooManyReviews("reviews", "too many"), 429),
        (CannotReview("review_failed", "it could not be asked"), 500),
    ],
)
async def test_each_refusal_has_its_status(error: Exception, status: int) -> None:
    reviews = Reviews()
    reviews.error = error
    refused = await refusal(access(reviews).caller(None, "Bearer right", ""))
    assert (refused.status, refused.text) == (status, str(error))


@pytest.mark.parametrize("subresource", ["proxy", "log"])
async def test_either_right_is_enough(subresource: str) -> None:
    await access(Reviews((subresource, "vnode.b1.dev"))).must(ANN, "get", "vnode.b1.dev", LOGS)


async def test_rights_are_those_on_the_node_in_question() -> None:
    reviews = Reviews(("proxy", "vnode.b1.dev"))
    for node in ("vnode.b2.dev", ""):
        refused = await refusal(access(reviews).must(ANN, "get", node, LOGS))
        assert refused.status == 403
        assert "ann may not get nodes/log or nodes/proxy" in refused.text


async def test_a_right_on_every_node_is_asked_for_once() -> None:
    reviews = Reviews(("proxy", ""))
    for node in ("vnode.b1.dev", "vnode.b2.dev"):
        await access(reviews).must(ANN, "get", node, LOGS)
    assert {name for _, name in reviews.asked} == {""}
