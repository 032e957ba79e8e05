"""The table of Pod fields has exactly the fields of the API server under test."""

from collections.abc import Iterable
from typing import Any

import pytest

from controlplane.domain.base.podfields import CONTAINER, POD, Field, top_level
from tests.servers.bundles import KUBERNETES, under_test
from tests.servers.cluster import KubeCluster

pytestmark = pytest.mark.kubernetes

Json = dict[str, Any]
_CORE = "io.k8s.api.core.v1"


@pytest.fixture
def definitions(kube_cluster: KubeCluster) -> Json:
    """The OpenAPI definitions of the API server."""
    found: Json = kube_cluster.api.get("/openapi/v2")["definitions"]
    return found


def properties(definitions: Json, kind: str, path: str = "") -> frozenset[str]:
    """Return the fields of a kind, or of what is at a path in it, none where this API server has no such path."""
    shape = definitions[f"{_CORE}.{kind}"]
    for name in filter(None, path.split(".")):
        shape = shape["properties"].get(name, {})
        shape = shape.get("items", shape)
        if "$ref" not in shape:
            return frozenset()
        shape = definitions[shape["$ref"].rpartition("/")[2]]
    return frozenset(shape.get("properties", {}))


def inside(table: Iterable[Field], path: str) -> frozenset[str]:
    """Return the names that the table has directly inside a path."""
    inner = (field.path.removeprefix(f"{path}.") for field in table if field.path.startswith(f"{path}."))
    return frozenset(name.partition(".")[0] for name in inner)


def groups(table: Iterable[Field]) -> list[str]:
    """Return the paths inside which the table names fields one by one."""
    paths = {".".join(names[:depth]) for names in (f.path.split(".") for f in table) for depth in range(1, len(names))}
    return sorted(paths)


@pytest.mark.parametrize(("kind", "table"), [("PodSpec", POD), ("Container", CONTAINER)], ids=["pods", "containers"])
def test_the_table_has_every_field(definitions: Json, kind: str, table: tuple[Field, ...]) -> None:
    there = properties(definitions, kind)
    assert there - top_level(table) == frozenset()
    if KUBERNETES in under_test():
        assert top_level(table) - there == frozenset()
    for path in groups(table):
        if path.partition(".")[0] not in there:
            continue
        assert properties(definitions, kind, path) - inside(table, path) == frozenset(), path
        if KUBERNETES in under_test():
            assert inside(table, path) - properties(definitions, kind, path) == frozenset(), path


def test_the_specification_of_an_ephemeral_container_has_nothing_that_others_have_not(definitions: Json) -> None:
    own = properties(definitions, "EphemeralContainer") - properties(definitions, "Container")
    assert own == {"targetContainerName"}
