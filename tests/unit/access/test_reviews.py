"""The API server reviews callers and their rights; answers are kept for a short time, and doubt is a refusal."""

import asyncio
from typing import Any

import orjson
import pytest

from controlplane.access import reviews as module
from controlplane.access.certificates import of_certificate, of_subject
from controlplane.access.refusals import AccessRefused, CannotReview, TooManyReviews, Unauthenticated
from controlplane.access.reviews import Reviewer
from controlplane.app.ports import Transient
from controlplane.cluster.api import ACCESS_REVIEWS
from controlplane.domain.access import Access, Caller
from tests.fakes.reviews import ANN, Reviews

pytestmark = pytest.mark.looptime

READ = Access("get", "nodes", name="vnode.b1.dev", subresource="proxy")


def reviewer(api: Reviews) -> Reviewer:
    return Reviewer(api, asyncio.get_running_loop().time)


async def refusal(call: Any) -> AccessRefused:
    with pytest.raises(AccessRefused) as refused:
        await call
    return refused.value


def subject(**names: str) -> dict[str, Any]:
    return {"subject": tuple(((key, value),) for key, value in names.items())}


def test_a_certificate_gives_user_and_groups() -> None:
    certificate = {"subject": ((("organizationName", "a"),), (("organizationName", "b"),), (("commonName", "ann"),))}
    assert of_certificate(certificate) == Caller("ann", ("a", "b", "system:authenticated"))


@pytest.mark.parametrize("certificate", [subject(organizationName="a"), {"subject": None}, {"issuer": ()}])
def test_a_certificate_without_a_name_is_refused(certificate: dict[str, Any]) -> None:
    with pytest.raises(Unauthenticated):
        of_certificate(certificate)


def test_a_subject_without_common_names_is_refused() -> None:
    with pytest.raises(Unauthenticated):
        of_subject({"commonName": [], "organizationName": ["a"]})


async def test_a_token_is_reviewed_and_its_user_known_for_a_while() -> None:
    api = Reviews()
    known = reviewer(api)
    assert await known.whose("right") == ANN
    assert await known.whose("right") == ANN
    assert len(api.asked) == 1
    await asyncio.sleep(module.KEPT_FOR + 1)
    assert await known.whose("right") == ANN
    assert len(api.asked) == 2


@pytest.mark.parametrize("token", ["right\udcff", "r\u00efght"])
async def test_what_no_token_can_be_is_not_asked_about(token: str) -> None:
    api = Reviews()
    assert isinstance(await refusal(reviewer(api).whose(token)), Unauthenticated)
    assert not api.asked


async def test_a_token_of_another_audience_is_refused() -> None:
    known = reviewer(Reviews())
    assert await known.whose("meant", audience="ours") == ANN
    assert isinstance(await refusal(known.whose("meant")), Unauthenticated)
    assert isinstance(await refusal(known.whose("right", audience="ours")), Unauthenticated)


async def test_an_api_server_that_knows_no_audiences_is_not_believed() -> None:
    api = Reviews()
    api.names_audiences = False
    known = reviewer(api)
    assert isinstance(await refusal(known.whose("right", audience="ours")), Unauthenticated)
    assert await known.whose("right") == ANN


async def test_a_wrong_token_is_refused_and_asked_about_again_soon() -> None:
    api = Reviews()
    known = reviewer(api)
    for _ in range(3):
        refused = await refusal(known.whose("wrong"))
        assert isinstance(refused, Unauthenticated)
        assert "wrong" not in str(refused)
    assert len(api.asked) == 1
    await asyncio.sleep(module.KEPT_FOR + 1)
    await refusal(known.whose("wrong"))
    assert len(api.asked) == 2


async def test_a_right_is_asked_for_as_it_is_meant_and_kept_for_a_while() -> None:
    api = Reviews(("ann", "nodes/proxy", "vnode.b1.dev"))
    known = reviewer(api)
    assert await known.may(ANN, READ)
    (resource, spec) = api.asked[-1]
    assert resource is ACCESS_REVIEWS
    assert orjson.loads(orjson.dumps(spec)) == {
        "user": "ann",
        "groups": list(ANN.groups),
        "uid": "7",
        "extra": {"scopes": ["a", "b"]},
        "resourceAttributes": {
            "verb": "get",
            "version": "v1",
            "resource": "nodes",
            "subresource": "proxy",
            "name": "vnode.b1.dev",
        },
    }
    api.allowed.clear()
    assert await known.may(ANN, READ)
    assert not await known.may(ANN, Access("get", "nodes"))
    assert not await known.may(Caller("ben"), READ)
    await asyncio.sleep(module.KEPT_FOR + 1)
    assert not await known.may(ANN, READ)


async def test_a_failed_review_is_a_refusal_that_is_not_remembered() -> None:
    api = Reviews(("ann", "nodes/proxy", "vnode.b1.dev"))
    known = reviewer(api)
    api.error = Transient("the API server is away")
    assert isinstance(await refusal(known.whose("right")), CannotReview)
    assert isinstance(await refusal(known.may(ANN, READ)), CannotReview)
    api.error = None
    assert await known.whose("right") == ANN
    assert await known.may(ANN, READ)


async def test_an_api_server_that_hangs_is_asked_again() -> None:
    api = Reviews()
    api.answers_after = 3600.0
    known = reviewer(api)
    assert isinstance(await refusal(known.whose("right")), CannotReview)
    api.answers_after = 0.0
    assert await known.whose("right") == ANN


async def test_many_who_ask_the_same_share_one_review() -> None:
    api = Reviews(("ann", "nodes/proxy", "vnode.b1.dev"))
    api.answers_after = 1.0
    known = reviewer(api)
    first = asyncio.create_task(known.whose("right"))
    await asyncio.sleep(0.1)
    others = [asyncio.create_task(known.whose("right")) for _ in range(50)]
    await asyncio.sleep(0.1)
    first.cancel()
    assert await asyncio.gather(*others) == [ANN] * 50
    assert len(api.asked) == 1


async def test_a_flood_of_tokens_costs_a_bounded_number_of_reviews() -> None:
    api = Reviews()
    api.answers_after = 1.0
    known = reviewer(api)
    calls = [asyncio.create_task(refusal(known.whose(f"{n}", peer=f"{n}"))) for n in range(200)]
    await asyncio.sleep(0.5)
    assert len(api.asked) == module.AT_ONCE
    refused = [type(await call) for call in calls]
    assert refused.count(Unauthenticated) == module.WAITING
    assert refused.count(TooManyReviews) == 200 - module.WAITING


async def test_strangers_keep_nobody_waiting_who_was_known() -> None:
    api = Reviews()
    known = reviewer(api)
    await known.whose("right")
    await asyncio.sleep(module.KEPT_FOR + 1)
    api.answers_after = 1.0
    flood = [asyncio.create_task(refusal(known.whose(f"{n}", peer=f"{n}"))) for n in range(200)]
    await asyncio.sleep(0.1)
    async with asyncio.timeout(1.5):
        assert await known.whose("right") == ANN
    for call in flood:
        await call


async def test_a_peer_that_shows_many_tokens_is_refused_and_others_are_not() -> None:
    api = Reviews()
    known = reviewer(api)
    refused = [await refusal(known.whose(f"{n}", peer="10.0.0.9")) for n in range(200)]
    assert len(api.asked) == module.AT_FIRST
    assert refused[-1].reason == "tokens"
    assert await known.whose("right", peer="10.0.0.8") == ANN


async def test_one_caller_cannot_have_all_rights_looked_up_at_once() -> None:
    api = Reviews()
    api.answers_after = 1.0
    known = reviewer(api)
    flood = [asyncio.create_task(known.may(ANN, Access("get", "pods", name=f"{n}"))) for n in range(100)]
    await asyncio.sleep(0.1)
    assert not await known.may(Caller("ben"), READ)
    ends = await asyncio.gather(*flood, return_exceptions=True)
    assert ends.count(False) == module.EACH
    assert sum(isinstance(end, TooManyReviews) for end in ends) == 100 - module.EACH


async def test_many_who_ask_the_same_cost_one_review_and_are_not_too_many() -> None:
    reviews = Reviews()
    known = reviewer(reviews)
    caller = Caller("ann")
    assert len(set(await asyncio.gather(*(known.may(caller, READ) for _ in range(2 * module.EACH))))) == 1
    assert len(reviews.asked) == 1


async def test_what_is_kept_is_bounded() -> None:
    known = reviewer(Reviews())
    for n in range(module.MOST + 5):
        await refusal(known.whose(f"{n}", peer=f"{n}"))
    assert len(known._no) == module.MOST
    assert not known._under_way
    assert not known._asking
