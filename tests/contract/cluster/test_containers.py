"""Containers that both API servers take, and those that both refuse with the field at fault."""

from typing import Any

import pytest

from controlplane.app.ports import Rejected
from controlplane.cluster.api import PODS, ApiServer, Json
from tests.contract.cluster.test_apiserver import NS, pod


def field(path: str) -> Json:
    return {"name": "V", "valueFrom": {"fieldRef": {"fieldPath": path}}}


def resource(name: str, **more: str) -> Json:
    return {"name": "V", "valueFrom": {"resourceFieldRef": {"resource": name, **more}}}


def env(*variables: Json) -> Json:
    return {"env": list(variables)}


def ready(**probe: Any) -> Json:
    return {"readinessProbe": probe}


def obj(unique: str, container: Json, spec: Json | None = None) -> Json:
    found = pod(unique)
    found["spec"]["containers"][0] |= container
    found["spec"] |= spec or {}
    return found


@pytest.mark.parametrize(
    "container",
    [
        env({"name": "my.name-x", "value": "$(A) $$(B)"}),
        env({"name": "A", "value": "1"}, {"name": "A", "value": "2"}),
        env(*(field(path) for path in ("metadata.name", "metadata.uid", "spec.nodeName", "status.podIP"))),
        env(field("metadata.labels['a/b']"), field("metadata.annotations['A']"), field("spec.serviceAccountName")),
        env(resource("limits.memory", divisor="1Mi"), resource("requests.cpu", divisor="1m"), resource("limits.cpu")),
        env(resource("limits.memory", containerName="biz1", divisor="0")),
        env({"name": "V", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": True}}}),
        {"envFrom": [{"prefix": "P_", "configMapRef": {"name": "c"}}, {"secretRef": {"name": "s", "optional": True}}]},
        ready(httpGet={"port": 8080}),
        ready(httpGet={"port": "web", "path": "/x", "scheme": "HTTPS", "httpHeaders": [{"name": "X-A", "value": ""}]}),
        ready(tcpSocket={"port": "8a"}, initialDelaySeconds=0, periodSeconds=5, successThreshold=3),
        {"startupProbe": {"exec": {"command": ["true"]}, "failureThreshold": 30}},
        {"livenessProbe": {"tcpSocket": {"port": 1, "host": "example.com"}, "timeoutSeconds": 86400}},
    ],
)
async def test_containers_that_are_taken(api: ApiServer, unique: str, container: Json) -> None:
    created = await api.create(PODS, obj(unique, container), NS)
    assert created["spec"]["containers"][0]["name"] == "biz1"


@pytest.mark.parametrize(
    ("container", "message"),
    [
        (env({"name": "", "value": "1"}), "env[0].name"),
        (env({"name": "A=B", "value": "1"}), "env[0].name"),
        (env({**field("metadata.name"), "value": "1"}), "env[0].valueFrom"),
        (env({"name": "V", "valueFrom": {}}), "env[0].valueFrom"),
        (env(field("")), "env[0].valueFrom.fieldRef.fieldPath"),
        (env(field("status.phase")), "env[0].valueFrom.fieldRef.fieldPath"),
        (env(field("metadata.labels")), "env[0].valueFrom.fieldRef.fieldPath"),
        (env(resource("")), "env[0].valueFrom.resourceFieldRef.resource"),
        (env(resource("limits.gpu")), "env[0].valueFrom.resourceFieldRef.resource"),
        (env(resource("limits.cpu", divisor="1Mi")), "env[0].valueFrom.resourceFieldRef.divisor"),
        (env({"name": "V", "valueFrom": {"secretKeyRef": {"name": "s"}}}), "secretKeyRef.key"),
        (env({"name": "V", "valueFrom": {"configMapKeyRef": {"name": "s", "key": "a b"}}}), "configMapKeyRef.key"),
        ({"envFrom": [{"prefix": "P_"}]}, "envFrom"),
        ({"envFrom": [{"configMapRef": {"name": ""}}]}, "envFrom[0].configMapRef.name"),
        ({"envFrom": [{"configMapRef": {"name": "c"}, "secretRef": {"name": "s"}}]}, "envFrom"),
        (ready(), "readinessProbe"),
        (ready(httpGet={"port": 0}), "readinessProbe.httpGet.port"),
        (ready(httpGet={"port": "Not A Name"}), "readinessProbe.httpGet.port"),
        (ready(httpGet={"port": 80, "scheme": "FTP"}), "readinessProbe.httpGet.scheme"),
        (ready(httpGet={"port": 80, "httpHeaders": [{"name": "a b", "value": ""}]}), "httpGet.httpHeaders"),
        (ready(httpGet={"port": 80}, tcpSocket={"port": 80}), "readinessProbe.tcpSocket"),
        (ready(tcpSocket={"port": 80}, periodSeconds=-1), "readinessProbe.periodSeconds"),
        (ready(exec={"command": []}), "readinessProbe.exec.command"),
        ({"livenessProbe": {"tcpSocket": {"port": 80}, "successThreshold": 2}}, "livenessProbe.successThreshold"),
    ],
)
async def test_containers_that_are_refused(api: ApiServer, unique: str, container: Json, message: str) -> None:
    with pytest.raises(Rejected) as raised:
        await api.create(PODS, obj(unique, container), NS)
    assert message in str(raised.value)


async def test_a_deadline_is_positive_and_only_ever_comes_nearer(api: ApiServer, unique: str) -> None:
    with pytest.raises(Rejected, match=r"spec\.activeDeadlineSeconds"):
        await api.create(PODS, obj(unique, {}, {"activeDeadlineSeconds": 0}), NS)
    await api.create(PODS, obj(unique, {}), NS)
    patched = await api.patch(PODS, unique, {"spec": {"activeDeadlineSeconds": 60}}, namespace=NS)
    assert patched["spec"]["activeDeadlineSeconds"] == 60
    await api.patch(PODS, unique, {"spec": {"activeDeadlineSeconds": 30}}, namespace=NS)
    for later in (31, None):
        with pytest.raises(Rejected, match=r"spec\.activeDeadlineSeconds"):
            await api.patch(PODS, unique, {"spec": {"activeDeadlineSeconds": later}}, namespace=NS)
