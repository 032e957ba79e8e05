"""Variables of containers reach the base with references resolved; the Pod says which cannot be resolved."""

from typing import Any

import pytest

from tests.everything import container
from tests.integration.life.conftest import Sandbox
from tests.programs import eventually, throughout
from tests.servers.kubeapi import Json

pytestmark = [pytest.mark.timeout(400), pytest.mark.mosquitto]


def field(name: str, path: str) -> Json:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def with_env(sandbox: Sandbox, *env: Json, **more: Any) -> Json:
    """A Pod for biz1 whose container has these variables."""
    obj = sandbox.manifest("biz1.yaml")
    obj["metadata"]["labels"]["module.koupleless.io/version"] = "0.0.1"
    obj["spec"]["containers"][0] |= {"env": list(env), **more}
    return obj


def test_variables_that_refer_to_something_reach_the_base(sandbox: Sandbox, tunnel: str) -> None:
    base = sandbox.bases("a", tunnel=tunnel)
    obj = with_env(
        sandbox,
        field("BIZ_VERSION", "metadata.labels['module.koupleless.io/version']"),
        field("POD", "metadata.name"),
        field("NAMESPACE", "metadata.namespace"),
        field("UID", "metadata.uid"),
        field("NODE", "spec.nodeName"),
        field("IP", "status.podIP"),
        {"name": "LIMIT", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
        {"name": "WHO", "value": "$(POD)@$(NODE) $$(POD) $(NOBODY)"},
        args=["--limit=$(LIMIT)", "--version=$(BIZ_VERSION)", "$$(x)"],
        resources={"limits": {"memory": "64Mi"}, "requests": {"memory": "0"}},
    )
    uid = sandbox.apply(obj)["metadata"]["uid"]
    sandbox.wait_ready("biz1")
    node = base.nodes[0]
    (body,) = base.bodies("installBiz")
    assert body["bizVersion"] == "0.0.1"
    assert body["args"] == ["--limit=64", "--version=0.0.1", "$(x)"]
    assert body["envs"] == {
        "POD": "biz1",
        "NAMESPACE": sandbox.name,
        "UID": uid,
        "NODE": node,
        "IP": "127.0.0.1",
        "LIMIT": "64",
        "WHO": f"biz1@{node} $(POD) $(NOBODY)",
    }


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (
            {"secretKeyRef": {"name": "db", "key": "password"}},
            "valueFrom.secretKeyRef is not supported here: a Secret is not read",
        ),
        (
            {"configMapKeyRef": {"name": "db", "key": "url"}},
            "valueFrom.configMapKeyRef is not supported here: a ConfigMap is not read",
        ),
    ],
    ids=["secret", "configmap"],
)
def test_references_that_need_rights_are_refused_with_a_message(sandbox: Sandbox, source: Json, said: str) -> None:
    base = sandbox.bases("a")
    sandbox.apply(with_env(sandbox, {"name": "BIZ_VERSION", "value": "0.0.1"}, {"name": "DB", "valueFrom": source}))
    status = sandbox.wait_waiting("biz1", "UnsupportedField")
    assert said in status["state"]["waiting"]["message"]
    eventually(lambda: sandbox.reasons("biz1").count("UnsupportedField") == 1, within=10, what="an Event")
    throughout(lambda: base.orders() == [], seconds=5, what="nothing is installed")


def test_env_from_is_refused_with_a_message(sandbox: Sandbox) -> None:
    sandbox.bases("a")
    env_from = [{"prefix": "DB_", "configMapRef": {"name": "db", "optional": True}}]
    sandbox.apply(with_env(sandbox, {"name": "BIZ_VERSION", "value": "0.0.1"}, envFrom=env_from))
    status = sandbox.wait_waiting("biz1", "UnsupportedField")
    assert "envFrom" in status["state"]["waiting"]["message"]


def test_pods_that_differ_in_what_is_of_each_share_the_module(sandbox: Sandbox) -> None:
    base = sandbox.bases("a")
    for name in ("one", "two"):
        obj = with_env(sandbox, {"name": "BIZ_VERSION", "value": "0.0.1"}, field("POD", "metadata.name"))
        obj["metadata"]["name"] = name
        sandbox.apply(obj)
        sandbox.wait_ready(name)
    assert base.orders() == [("install", "biz1:0.0.1")]
    pod = sandbox.get("Pod", "one")
    assert pod is not None
    assert container(pod, "running")
