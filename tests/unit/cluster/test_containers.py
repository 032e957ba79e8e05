"""Containers of Pods and templates: their references, which are modules, and what is not supported."""

from typing import Any

import pytest

from controlplane.cluster import reading
from controlplane.cluster.reading import FOREIGN_ANNOTATION_LIMIT
from controlplane.domain.objects import Container, ContainerKind, FieldRef, OtherContainer, ResourceRef

Json = dict[str, Any]
VERSION = {"name": "BIZ_VERSION", "value": "1"}
LABEL_OF_VERSION = {"name": "BIZ_VERSION", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['v']"}}}


def pod(*containers: Json, metadata: Json | None = None, status: Json | None = None, **spec: Any) -> Json:
    return {
        "metadata": {"name": "p", "namespace": "ns", **(metadata or {})},
        "spec": {"containers": list(containers), **spec},
        "status": status or {},
    }


def module(name: str = "biz1", *env: Json, **more: Any) -> Json:
    return {"name": name, "image": "https://repo.example/a.jar", "env": [VERSION, *env], **more}


def only(obj: Json) -> Container:
    (container,) = reading.pod(obj).containers
    return container


def resource(name: str, **more: str) -> Json:
    return {"name": "R", "valueFrom": {"resourceFieldRef": {"resource": name, **more}}}


def test_the_version_may_come_from_a_label() -> None:
    obj = pod({"name": "biz1", "image": "u", "env": [LABEL_OF_VERSION]}, metadata={"labels": {"v": "2.1"}})
    assert only(obj).version == "2.1"
    assert only(obj).env == (("BIZ_VERSION", FieldRef("metadata.labels['v']")),)


def test_the_version_of_a_template_comes_from_the_templates_own_labels() -> None:
    template = {
        "metadata": {"labels": {"v": "2.1"}},
        "spec": {"containers": [{"name": "b", "env": [LABEL_OF_VERSION]}]},
    }
    deployment = reading.module_deployment(
        {"metadata": {"name": "d", "labels": {"v": "9"}}, "spec": {"template": template}}
    )
    assert [container.version for container in deployment.containers] == ["2.1"]


def test_a_version_that_needs_the_pods_address_is_none() -> None:
    ip = {"name": "BIZ_VERSION", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
    assert only(pod({"name": "b", "image": "u", "env": [ip]}, status={"podIP": "10.0.0.1"})).version == ""


def test_an_annotation_that_is_referred_to_is_kept_however_long() -> None:
    long = "x" * (FOREIGN_ANNOTATION_LIMIT + 1)
    note = {"name": "NOTE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.annotations['example.com/a']"}}}
    metadata = {"annotations": {"example.com/a": long, "example.com/b": long}}
    assert reading.pod(pod(module("biz1", note), metadata=metadata)).annotations == {"example.com/a": long}


@pytest.mark.parametrize(
    ("own", "of_the_pod", "reference", "quantity"),
    [
        ({"limits": {"memory": "64Mi"}}, {}, resource("limits.memory"), "64Mi"),
        ({"limits": {"cpu": 2}}, {}, resource("limits.cpu"), "2"),
        ({"requests": {"memory": "1Gi"}}, {}, resource("limits.memory"), ""),
        ({}, {"limits": {"memory": "2Gi"}}, resource("limits.memory"), "2Gi"),
        ({"limits": {"memory": "0"}}, {"limits": {"memory": "2Gi"}}, resource("limits.memory"), "2Gi"),
        ({}, {"requests": {"memory": "2Gi"}}, resource("requests.memory"), ""),
        ({}, {}, resource("limits.memory", containerName="other"), "9Mi"),
        ({}, {}, resource("limits.memory", containerName="init"), "8Mi"),
        ({}, {}, resource("limits.memory", containerName="nobody"), ""),
    ],
)
def test_references_to_resources_are_resolved(own: Json, of_the_pod: Json, reference: Json, quantity: str) -> None:
    obj = pod(
        module("biz1", reference, resources=own),
        {"name": "other", "resources": {"limits": {"memory": "9Mi"}}},
        initContainers=[{"name": "init", "resources": {"limits": {"memory": "8Mi"}}}],
        resources=of_the_pod,
    )
    (_, found) = only(obj).env[1]
    assert isinstance(found, ResourceRef)
    assert found.quantity == quantity


def test_containers_without_a_version_beside_one_with_it_are_no_modules() -> None:
    seen = reading.pod(
        pod(
            {"name": "proxy", "image": "istio/proxyv2"},
            module("biz1"),
            initContainers=[{"name": "init", "image": "i"}, {"name": "side", "image": "s", "restartPolicy": "Always"}],
            ephemeralContainers=[{"name": "debug", "image": "busybox"}],
        )
    )
    assert [container.name for container in seen.containers] == ["biz1"]
    assert seen.others == (
        OtherContainer(ContainerKind.CONTAINER, "proxy", "istio/proxyv2"),
        OtherContainer(ContainerKind.INIT, "init", "i"),
        OtherContainer(ContainerKind.SIDECAR, "side", "s"),
        OtherContainer(ContainerKind.EPHEMERAL, "debug", "busybox"),
    )


def test_a_container_whose_image_is_a_url_is_a_module() -> None:
    url = "https://repo.example/biz1-0.0.1.jar"
    seen = reading.pod(pod({"name": "proxy", "image": "istio/proxyv2:1.2"}, {"name": "biz1", "image": url}))
    assert seen.containers == (Container("biz1", url, "0.0.1"),)
    assert seen.others == (OtherContainer(ContainerKind.CONTAINER, "proxy", "istio/proxyv2:1.2"),)


def test_an_annotation_says_the_version_of_all_modules_of_a_pod() -> None:
    metadata = {"annotations": {"module.koupleless.io/version": "3"}}
    template = {"metadata": metadata, "spec": {"containers": [{"name": "b", "image": "https://repo.example/b.jar"}]}}
    deployment = reading.module_deployment({"metadata": {"name": "d"}, "spec": {"template": template}})
    seen = reading.pod({**template, "metadata": {"name": "p", "namespace": "ns", **metadata}})
    assert [each.version for each in (*deployment.containers, *seen.containers)] == ["3", "3"]


def test_where_no_container_has_a_version_all_count_as_modules() -> None:
    seen = reading.pod(pod({"name": "a"}, {"name": "b"}))
    assert [container.name for container in seen.containers] == ["a", "b"]
    assert seen.others == ()


def test_statuses_of_modules_and_of_others_are_kept_apart() -> None:
    status = {
        "containerStatuses": [{"name": "proxy"}, {"name": "biz1", "ready": True}],
        "initContainerStatuses": [{"name": "init"}],
        "ephemeralContainerStatuses": [{"name": "debug"}],
    }
    seen = reading.pod(
        pod(
            {"name": "proxy"},
            module("biz1"),
            initContainers=[{"name": "init"}],
            ephemeralContainers=[{"name": "debug"}],
            status=status,
        )
    ).status
    assert [each.name for each in seen.containers] == ["biz1"]
    assert [each.name for each in seen.others] == ["proxy", "init", "debug"]


@pytest.mark.parametrize(
    ("container", "problem"),
    [
        (
            module("b", {"name": "P", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}),
            "valueFrom.secretKeyRef is not supported here: a Secret",
        ),
        (
            module("b", {"name": "P", "valueFrom": {"configMapKeyRef": {"name": "s", "key": "k"}}}),
            "valueFrom.configMapKeyRef is not supported here: a ConfigMap",
        ),
        (
            module("b", {"name": "P", "valueFrom": {"fileKeyRef": {"key": "k"}}}),
            "valueFrom.fileKeyRef is not supported here: there",
        ),
        (module("b", {"name": "P", "valueFrom": {"fieldRef": {"fieldPath": "status.phase"}}}), "'status.phase'"),
        (module("b", resource("limits.gpu")), "'limits.gpu'"),
        (module("b", envFrom=[{"secretRef": {"name": "s", "optional": True}}]), "envFrom"),
        (module("b", readinessProbe={"httpGet": {"port": 80, "host": "169.254.169.254"}}), "httpGet.host"),
        (module("b", startupProbe={"tcpSocket": {"port": 80, "host": "db"}}), "startupProbe.tcpSocket.host"),
    ],
)
def test_an_unsupported_field_is_named_in_its_container(container: Json, problem: str) -> None:
    assert problem in only(pod(container)).unsupported


def test_supported_fields_are_not_refused() -> None:
    env = [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}, resource("limits.cpu")]
    probe = {"httpGet": {"port": 80, "path": "/"}}
    assert only(pod(module("b", *env, envFrom=[], readinessProbe=probe, startupProbe=probe))).unsupported == ""
