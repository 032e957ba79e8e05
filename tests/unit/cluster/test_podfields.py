"""Fields of a Pod that are reported as ignored: those that a user set, not the defaults of the API server."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.cluster import containers
from controlplane.cluster.containers import MESSAGE_LIMIT, refused
from controlplane.domain.base.podfields import CONTAINER, POD, Field, Treatment

Json = dict[str, Any]
VERSION = {"name": "BIZ_VERSION", "value": "1"}

AS_STORED: Json = {
    "volumes": [{"name": "kube-api-access-x7k2p", "projected": {"sources": []}}],
    "containers": [
        {
            "name": "biz1",
            "image": "https://repo.example/a.jar",
            "env": [VERSION],
            "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
            "resources": {},
            "volumeMounts": [
                {"name": "kube-api-access-x7k2p", "readOnly": True, "mountPath": containers.SERVICE_ACCOUNT_PATH}
            ],
            "readinessProbe": {"tcpSocket": {"port": 80}, "periodSeconds": 10, "failureThreshold": 3},
            "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File",
            "imagePullPolicy": "IfNotPresent",
        }
    ],
    "restartPolicy": "Always",
    "terminationGracePeriodSeconds": 30,
    "dnsPolicy": "ClusterFirst",
    "serviceAccountName": "default",
    "serviceAccount": "default",
    "nodeName": "vnode.b1.dev",
    "securityContext": {},
    "schedulerName": "default-scheduler",
    "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}],
    "priority": 0,
    "enableServiceLinks": True,
    "preemptionPolicy": "PreemptLowerPriority",
}
"""A Pod without unusual fields, as an API server with all its admission plugins stores it."""


def ignored(obj: Json) -> str:
    modules = containers.modules(obj)
    return containers.ignored(obj, modules, containers.others(obj, modules))


def spec(container: Json | None = None, **more: Any) -> Json:
    """That Pod, with fields that a user set."""
    changed: Json = json.loads(json.dumps(AS_STORED))
    changed["containers"][0] |= container or {}
    return {**changed, **more}


def test_defaults_of_the_api_server_are_not_reported() -> None:
    assert ignored(AS_STORED) == ""


@pytest.mark.parametrize(
    ("obj", "named"),
    [
        (spec(initContainers=[{"name": "istio-init"}]), "init container istio-init"),
        (spec(initContainers=[{"name": "proxy", "restartPolicy": "Always"}]), "native sidecar proxy"),
        (spec(ephemeralContainers=[{"name": "debug"}]), "ephemeral container debug"),
        (spec(containers=[*AS_STORED["containers"], {"name": "istio-proxy"}]), "container istio-proxy"),
        (spec(volumes=[*AS_STORED["volumes"], {"name": "data", "emptyDir": {}}]), "volume data"),
        (spec(restartPolicy="Never"), "restartPolicy"),
        (spec(serviceAccountName="shop"), "serviceAccountName"),
        (spec(hostNetwork=True), "hostNetwork"),
        (spec(hostUsers=False), "hostUsers"),
        (spec(securityContext={"sysctls": [{"name": "a", "value": "1"}]}), "securityContext.sysctls"),
        (spec(securityContext={"seccompProfile": {"type": "Unconfined"}}), "securityContext.seccompProfile.type"),
        (spec(imagePullSecrets=[{"name": "repo"}]), "imagePullSecrets"),
        (spec(resources={"limits": {"memory": "1Gi"}}), "resources.limits"),
        (spec({"command": ["java"]}), "command of biz1"),
        (spec({"livenessProbe": {"httpGet": {"port": 80}}}), "livenessProbe of biz1"),
        (spec({"readinessProbe": {"exec": {"command": ["true"]}}}), "readinessProbe.exec of biz1"),
        (spec({"lifecycle": {"preStop": {"sleep": {"seconds": 1}}}}), "lifecycle.preStop of biz1"),
        (spec({"ports": [{"containerPort": 80}, {"containerPort": 81, "hostPort": 81}]}), "ports.hostPort of biz1"),
        (spec({"resources": {"limits": {"cpu": "1"}}}), "resources.limits of biz1"),
        (spec({"securityContext": {"privileged": True}}), "securityContext.privileged of biz1"),
        (
            spec({"securityContext": {"capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]}}}),
            "securityContext.capabilities.add of biz1",
        ),
        (spec({"tty": True}), "tty of biz1"),
    ],
)
def test_a_field_that_a_user_set_is_reported(obj: Json, named: str) -> None:
    assert ignored(obj) == f"ignored, as a virtual node has no use for it: {named}"


@pytest.mark.parametrize(
    "obj",
    [
        spec(activeDeadlineSeconds=60),
        spec(nodeSelector={"a": "b"}),
        spec(terminationGracePeriodSeconds=120),
        spec(hostUsers=True),
        spec(securityContext={"runAsUser": 1000, "fsGroup": 1000, "seLinuxOptions": {"level": "s0:c1,c2"}}),
        spec(
            {
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "capabilities": {"drop": ["ALL"]},
                    "privileged": False,
                    "readOnlyRootFilesystem": True,
                }
            },
            securityContext={"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        ),
        spec({"args": ["--x"]}),
        spec({"startupProbe": {"grpc": {"port": 80}}}),
        spec({"resources": {"requests": {"memory": "1Mi"}}}),
    ],
)
def test_fields_that_are_honoured_or_without_effect_are_not_reported(obj: Json) -> None:
    assert ignored(obj) == ""


def test_all_is_reported_at_once_and_no_more_than_fits() -> None:
    message = ignored(spec({"command": ["java"]}, hostNetwork=True, volumes=[{"name": "data"}]))
    assert message.endswith(": volume data, hostNetwork, command of biz1")
    many = ignored(spec(volumes=[{"name": f"volume-number-{number}"} for number in range(200)]))
    assert len(many) == MESSAGE_LIMIT
    assert many.endswith(" ...")


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                ["name", "env", "valueFrom", "fieldRef", "containers", "volumes", "readinessProbe", "httpGet"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)


@given(
    st.dictionaries(st.sampled_from([f.path.split(".")[0] for f in POD]), _values),
    st.dictionaries(st.sampled_from([f.path.split(".")[0] for f in CONTAINER]), _values),
)
def test_any_specification_gives_an_answer(obj: Json, container: Json) -> None:
    assert isinstance(ignored(obj), str)
    assert isinstance(ignored({**obj, "containers": [container, container]}), str)
    assert isinstance(refused(container), str)


def test_tables_are_in_order_and_each_field_has_one_row() -> None:
    for table in (POD, CONTAINER):
        paths = [field.path for field in table]
        assert paths == sorted(set(paths))


def holding(path: str) -> Json:
    """Return a container with a field in its usual form."""
    *outer, last = path.split(".")
    forms = {
        "envFrom": [{"configMapRef": {"name": "x"}}],
        "fieldRef": {"fieldPath": "metadata.name"},
        "resourceFieldRef": {"resource": "limits.cpu"},
    }
    obj: Json = {last: forms.get(last, "x")}
    for name in reversed(outer):
        obj = {name: [{"name": "V", **obj}] if name == "env" else obj}
    return obj


@pytest.mark.parametrize("field", CONTAINER, ids=lambda field: field.path)
def test_a_container_is_refused_for_exactly_the_fields_that_the_table_refuses(field: Field) -> None:
    assert bool(refused(holding(field.path))) is (field.treatment is Treatment.REFUSED)


def test_no_more_fields_are_refused_than_these() -> None:
    paths = {field.path for field in (*POD, *CONTAINER) if field.treatment is Treatment.REFUSED}
    assert paths == {
        "env.valueFrom.configMapKeyRef",
        "env.valueFrom.fileKeyRef",
        "env.valueFrom.secretKeyRef",
        "envFrom",
        *(
            f"{probe}.{handler}.host"
            for probe in ("readinessProbe", "startupProbe")
            for handler in ("httpGet", "tcpSocket")
        ),
    }
