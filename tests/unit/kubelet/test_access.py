"""The API server reviews callers and their rights; answers are kept for a short time, and doubt is a refusal."""

import asyncio
from typing import Any

import orjson
import pytest

from controlplane.app.ports import ClusterError, Transient
from controlplane.cluster.api import ACCESS_REVIEWS, TOKEN_REVIEWS, Json, Resource
from controlplane.kubelet import access as module
from controlplane.kubelet.access import Caller, Reviewer, of_certificate
from service.refusals import RequestRefused
from tests.fakes.apiserver import FakeApiServer
from tests.unit.cluster.clock import LoopClock

pytestmark = pytest.mark.looptime

ANN = Caller("ann", ("readers", "system:authenticated"), "7", (("scopes", ("a", "b")),))


class Reviews(FakeApiServer):
    """An API server that knows one token, and who may get which subresource of nodes."""

    def __init__(self, *allowed: tuple[str, str, str]) -> None:
        super().__init__()
        self.allowed = set(allowed)
        self.asked: list[tuple[Resource, Json]] = []
        self.error: ClusterError | None = None
        self.answers_after = 0.0

    async def create(self, resource: Resource, obj: Json, namespace: str = "") -> Json:
        self.asked.append((resource, obj["spec"]))
        await asyncio.sleep(self.answers_after)
        if self.error is not None:
            raise self.error
        spec = obj["spec"]
        if resource is TOKEN_REVIEWS:
            if spec["token"] != "right":
                return {"status": {"authenticated": False, "user": {}}}
            user = {"username": "ann", "uid": "7", "groups": list(ANN.groups), "extra": {"scopes": ["a", "b"]}}
            return {"status": {"authenticated": True, "user": user}}
        wanted = spec["resourceAttributes"]
        return {"status": {"allowed": (spec["user"], wanted["subresource"], wanted.get("name", "")) in self.allowed}}


def reviewer(api: Reviews) -> Reviewer:
    return Reviewer(api, LoopClock())


async def refusal(call: Any) -> RequestRefused:
    with pytest.raises(RequestRefused) as refused:
        await call
    return refused.value


def subject(**names: str) -> dict[str, Any]:
    return {"subject": tuple(((key, value),) for key, value in names.items())}


def test_a_certificate_gives_user_and_groups() -> None:
    certificate = {"subject": ((("organizationName", "a"),), (("organizationName", "b"),), (("commonName", "ann"),))}
    assert of_certificate(certificate) == Caller("ann", ("a", "b", "system:authenticated"))


@pytest.mark.parametrize("certificate", [subject(organizationName="a"), {"subject": None}, {"issuer": ()}])
def test_a_certificate_without_a_name_is_refused(certificate: dict[str, Any]) -> None:
    with pytest.raises(RequestRefused) as refused:
        of_certificate(certificate)
    assert refused.value.status == 401


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic YTpi", "right"])
async def test_an_anonymous_caller_is_refused_without_a_review(header: str) -> None:
    api = Reviews()
    refused = await refusal(reviewer(api).caller(None, header))
    assert (refused.status, refused.reason) == (401, "anonymous")
    assert not api.asked


async def test_a_token_is_reviewed_and_its_user_known_for_a_while() -> None:
    api = Reviews()
    known = reviewer(api)
    assert await known.caller({}, "Bearer right") == ANN
    assert await known.caller(None, "bearer  right") == ANN
    assert len(api.asked) == 1
    await asyncio.sleep(module.YES_FOR + 1)
    assert await known.caller(None, "Bearer right") == ANN
    assert len(api.asked) == 2


async def test_a_wrong_token_is_refused_and_asked_about_again_soon() -> None:
    api = Reviews()
    known = reviewer(api)
    for _ in range(3):
        refused = await refusal(known.caller(None, "Bearer wrong"))
        assert (refused.status, refused.reason) == (401, "token")
        assert "wrong" not in refused.text
    assert len(api.asked) == 1
    await asyncio.sleep(module.NO_FOR + 1)
    await refusal(known.caller(None, "Bearer wrong"))
    assert len(api.asked) == 2


@pytest.mark.parametrize("subresource", ["proxy", "log"])
async def test_either_right_is_enough(subresource: str) -> None:
    api = Reviews(("ann", subresource, "vnode.b1.dev"))
    await reviewer(api).must_read_logs(ANN, "vnode.b1.dev")
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
            "subresource": subresource,
            "name": "vnode.b1.dev",
        },
    }


async def test_rights_are_those_on_the_node_in_question() -> None:
    api = Reviews(("ann", "proxy", "vnode.b1.dev"))
    known = reviewer(api)
    await known.must_read_logs(ANN, "vnode.b1.dev")
    for node in ("vnode.b2.dev", ""):
        refused = await refusal(known.must_read_logs(ANN, node))
        assert refused.status == 403
        assert "ann may not get nodes/proxy or nodes/log" in refused.text
    other = Caller("ann")
    api.allowed.clear()
    await refusal(known.must_read_logs(other, "vnode.b1.dev"))
    await known.must_read_logs(ANN, "vnode.b1.dev")
    await asyncio.sleep(module.YES_FOR + 1)
    await refusal(known.must_read_logs(ANN, "vnode.b1.dev"))


async def test_a_failed_review_is_a_refusal_that_is_not_remembered() -> None:
    api = Reviews(("ann", "proxy", ""))
    known = reviewer(api)
    api.error = Transient("the API server is away")
    assert (await refusal(known.caller(None, "Bearer right"))).reason == "review_failed"
    assert (await refusal(known.must_read_logs(ANN, ""))).reason == "review_failed"
    api.error = None
    assert await known.caller(None, "Bearer right") == ANN
    await known.must_read_logs(ANN, "")


async def test_a_flood_of_tokens_costs_a_bounded_number_of_reviews() -> None:
    api = Reviews()
    api.answers_after = 1.0
    known = reviewer(api)
    calls = [asyncio.create_task(refusal(known.caller(None, f"Bearer {n}"))) for n in range(200)]
    await asyncio.sleep(0.5)
    assert len(api.asked) == module.AT_ONCE
    reasons = [(await call).reason for call in calls]
    assert reasons.count("token") == module.WAITING
    assert reasons.count("reviews") == 200 - module.WAITING


async def test_remembered_answers_are_bounded() -> None:
    known = reviewer(Reviews())
    for n in range(module.MOST + 5):
        await refusal(known.caller(None, f"Bearer {n}"))
    assert len(known._no) == module.MOST
