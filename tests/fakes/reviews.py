"""An API server that is asked about callers."""

import asyncio

from controlplane.app.ports import ClusterError
from controlplane.cluster.api import TOKEN_REVIEWS, Json, Resource
from controlplane.domain.access import Caller
from tests.fakes.apiserver import FakeApiServer

ANN = Caller("ann", ("readers", "system:authenticated"), "7", (("scopes", ("a", "b")),))


class Reviews(FakeApiServer):
    """An API server that knows the tokens "right" and, for the audience "ours", "meant", and who may do what.

    allowed has user, resource with subresource, and name.
    """

    def __init__(self, *allowed: tuple[str, str, str]) -> None:
        super().__init__()
        self.allowed = set(allowed)
        self.asked: list[tuple[Resource, Json]] = []
        self.error: ClusterError | None = None
        self.answers_after = 0.0
        self.names_audiences = True

    async def create(self, resource: Resource, obj: Json, namespace: str = "") -> Json:
        self.asked.append((resource, obj["spec"]))
        await asyncio.sleep(self.answers_after)
        if self.error is not None:
            raise self.error
        spec = obj["spec"]
        if resource is TOKEN_REVIEWS:
            audiences = spec.get("audiences", [])
            if spec["token"] != ("meant" if audiences == ["ours"] else "right") and self.names_audiences:
                return {"status": {"authenticated": False, "user": {}}}
            user = {"username": "ann", "uid": "7", "groups": list(ANN.groups), "extra": {"scopes": ["a", "b"]}}
            named = {"audiences": audiences} if self.names_audiences else {}
            return {"status": {"authenticated": True, "user": user, **named}}
        attributes = spec["resourceAttributes"]
        what = "/".join(attributes[part] for part in ("resource", "subresource") if part in attributes)
        asked = (spec["user"], what, attributes.get("name", ""))
        return {"status": {"allowed": asked in self.allowed}}
