"""Selectors choose objects, and kinds are found by version and name."""

from typing import Any

import pytest

from controlplane.app.ports import Rejected
from controlplane.cluster.api import NODES, PODS
from controlplane.embedded.api.resources import image, resource_of, selection


@pytest.mark.parametrize(
    ("text", "labels", "expected"),
    [
        ("", {}, True),
        ("a=1", {"a": "1"}, True),
        ("a==1", {"a": "2"}, False),
        ("a!=1", {}, True),
        ("a in (1, 2),b", {"a": "2", "b": ""}, True),
        ("a notin (1,2)", {"a": "3"}, True),
        ("a notin (1,2)", {"a": "1"}, False),
        ("!a", {"a": ""}, False),
        ("example.com/a-b=c,!d", {"example.com/a-b": "c"}, True),
    ],
)
def test_label_selectors_choose_objects(text: str, labels: dict[str, str], expected: bool) -> None:
    obj = {"metadata": {"name": "a", "namespace": "default", "labels": labels}}
    assert selection(PODS, "", text, "")(image(obj)) is expected


@pytest.mark.parametrize("text", ["a=b=c", "a in 1", "=", "a in (1", ","])
def test_malformed_label_selectors_are_rejected(text: str) -> None:
    with pytest.raises(Rejected):
        selection(PODS, "", text, "")


def test_field_selectors_and_namespaces_choose_objects() -> None:
    bound = image({"metadata": {"name": "a", "namespace": "x"}, "spec": {"nodeName": "n1"}})
    free = image({"metadata": {"name": "b", "namespace": "x"}, "spec": {}})
    node = image({"metadata": {"name": "n1"}})

    def found(text: str, namespace: str = "") -> list[bool]:
        return [selection(PODS, namespace, "", text)(each) for each in (bound, free)]

    assert found("spec.nodeName=n1, metadata.name!=b") == [True, False]
    assert found("spec.nodeName!=n1") == [False, True]
    assert found("spec.nodeName=") == [False, True]
    assert found("", "x") == [True, True]
    assert found("metadata.namespace=x", "y") == [False, False]
    assert selection(NODES, "x", "", "metadata.name=n1")(node)
    for text in ("spec.image=x", "spec.nodeName>1", "spec.nodeName", "!spec.nodeName"):
        with pytest.raises(Rejected):
            found(text)


@pytest.mark.parametrize(
    ("version", "kind", "expected"),
    [("v1", "Service", "no matches for kind"), ("apps/v2", "Deployment", "no matches"), (None, "Pod", "apiVersion")],
)
def test_unknown_kinds_are_refused_with_those_that_are_known(version: Any, kind: Any, expected: str) -> None:
    with pytest.raises(Rejected, match=expected):
        resource_of({"apiVersion": version, "kind": kind})
