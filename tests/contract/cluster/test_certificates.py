"""Secrets and ConfigMaps, as the fake and Kubernetes have them; the embedded cluster has none."""

import base64
from collections.abc import AsyncIterator

import pytest

from controlplane.app.ports import Conflict, NotFound
from controlplane.cluster.api import CONFIG_MAPS, SECRETS, ApiServer, Json, Resource
from controlplane.kube.client import KubeApiServer
from tests.fakes.apiserver import FakeApiServer

NS = "default"
ONE, TWO = (base64.b64encode(each).decode() for each in (b"one", b"two"))


@pytest.fixture(params=["fake", pytest.param("kubernetes", marks=pytest.mark.kubernetes)])
async def api(request: pytest.FixtureRequest) -> AsyncIterator[ApiServer]:
    if request.param == "fake":
        yield FakeApiServer()
        return
    server = await KubeApiServer.connect(str(request.getfixturevalue("kube_cluster").kubeconfig("admin")))
    yield server
    await server.close()


@pytest.fixture(params=[SECRETS, CONFIG_MAPS], ids=lambda resource: str(resource.kind))
async def resource(request: pytest.FixtureRequest, api: ApiServer, unique: str) -> AsyncIterator[Resource]:
    resource: Resource = request.param
    empty = resource.manifest({"name": unique, "namespace": NS, "annotations": {"theirs": "kept"}})
    await api.create(resource, empty, NS)
    yield resource
    await api.delete(resource, unique, namespace=NS)


def patch(version: str, data: Json) -> Json:
    return {"metadata": {"resourceVersion": version, "annotations": {"ours": "new"}}, "data": data}


async def test_an_empty_one_is_filled_and_parts_are_removed(api: ApiServer, resource: Resource, unique: str) -> None:
    read = await api.get(resource, unique, NS)
    assert not read.get("data")
    version = read["metadata"]["resourceVersion"]
    filled = await api.patch(resource, unique, patch(version, {"a": ONE, "b": TWO}), namespace=NS)
    assert filled["metadata"]["annotations"] == {"theirs": "kept", "ours": "new"}
    version = filled["metadata"]["resourceVersion"]
    await api.patch(resource, unique, patch(version, {"a": TWO, "b": None, "c": None}), namespace=NS)
    assert (await api.get(resource, unique, NS))["data"] == {"a": TWO}


async def test_of_two_who_write_what_they_read_one_fails(api: ApiServer, resource: Resource, unique: str) -> None:
    version = (await api.get(resource, unique, NS))["metadata"]["resourceVersion"]
    await api.patch(resource, unique, patch(version, {"a": ONE}), namespace=NS)
    with pytest.raises(Conflict):
        await api.patch(resource, unique, patch(version, {"a": TWO}), namespace=NS)
    assert (await api.get(resource, unique, NS))["data"] == {"a": ONE}


async def test_one_that_is_not_there_is_not_made_by_a_patch(api: ApiServer, resource: Resource, unique: str) -> None:
    with pytest.raises(NotFound):
        await api.get(resource, f"{unique}-other", NS)
    with pytest.raises(NotFound):
        await api.patch(resource, f"{unique}-other", patch("1", {"a": ONE}), namespace=NS)
