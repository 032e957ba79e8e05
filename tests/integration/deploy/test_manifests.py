"""A real API server accepts every field of what deploy/ ships, and Mosquitto accepts its configuration."""

import copy
from pathlib import Path

import pytest

from tests.integration.deploy.broker import Shipped
from tests.programs import eventually
from tests.servers import manifests
from tests.servers.cluster import KubeCluster
from tests.servers.kubeapi import ApiError, Json
from tests.servers.rbac import SHIPPED
from tests.unit.servers.test_deploy import FORMS, shipped

PODS = "/api/v1/namespaces/koupleless-system/pods"
POD_SECURITY_SINCE = 23
STRICT_SINCE = 25
"""Minor version of Kubernetes from which on the API server refuses unknown fields when it is asked to."""


def form_for(form: str, cluster: KubeCluster) -> str:
    """Return the form for a version of Kubernetes: 1.20 has one of its own."""
    return "sharded-1.20" if form == "sharded" and cluster.minor < 21 else form


@pytest.mark.parametrize("form", ["rbac.yaml", "kubelet", *FORMS])
def test_the_api_server_takes_it(kube_cluster: KubeCluster, form: str) -> None:
    if form == "sharded-1.20" and kube_cluster.minor >= 25:
        form = "sharded"
    for obj in shipped(form_for(form, kube_cluster)):
        applied = manifests.apply(kube_cluster.api, obj, dry_run=True)
        assert applied["metadata"]["name"] == obj["metadata"]["name"]


@pytest.mark.parametrize("form", FORMS)
def test_restricted_pod_security_lets_its_pods_in(kube_cluster: KubeCluster, form: str) -> None:
    if kube_cluster.minor < POD_SECURITY_SINCE:
        pytest.skip("this Kubernetes has no Pod Security Admission")
    (namespace,) = [obj for obj in shipped("rbac.yaml") if obj["kind"] == "Namespace"]
    assert namespace["metadata"]["labels"] == {"pod-security.kubernetes.io/enforce": "restricted"}
    for name, spec in manifests.pod_specs(shipped(form_for(form, kube_cluster))):
        created = {"metadata": {"name": name}, "spec": {**spec, "automountServiceAccountToken": False}}
        kube_cluster.api.create(f"{PODS}?dryRun=All", created)
        with pytest.raises(ApiError, match="violates PodSecurity"):
            kube_cluster.api.create(f"{PODS}?dryRun=All", {**created, "spec": {**spec, "hostNetwork": True}})


def test_the_api_server_refuses_wrong_values_and_unknown_fields(kube_cluster: KubeCluster) -> None:
    deployment = next(obj for obj in shipped("module-controller.yaml") if obj["kind"] == "Deployment")
    assert refused(kube_cluster, changed(deployment, "replicas", "three"))
    if kube_cluster.minor >= STRICT_SINCE:
        assert refused(kube_cluster, changed(deployment, "replica", 1))


def changed(deployment: Json, field: str, value: object) -> Json:
    other = copy.deepcopy(deployment)
    other["spec"][field] = value
    return other


def refused(cluster: KubeCluster, obj: Json) -> bool:
    try:
        manifests.apply(cluster.api, obj, dry_run=True)
    except ApiError as error:
        return error.status in (400, 422, 500)
    return False


def test_dry_runs_leave_nothing_behind(kube_cluster: KubeCluster) -> None:
    for obj in shipped("module-controller.yaml"):
        manifests.apply(kube_cluster.api, obj, dry_run=True)
    left = kube_cluster.api.items("/apis/apps/v1/namespaces/koupleless-system/deployments")
    assert "module-controller" not in [each["metadata"]["name"] for each in left]


@pytest.mark.mosquitto
def test_mosquitto_takes_its_configuration_and_keeps_bases_apart(tmp_path: Path) -> None:
    (settings,) = [obj["data"] for obj in shipped("mosquitto/mosquitto.yaml") if obj["kind"] == "ConfigMap"]
    with Shipped(settings, {"gateway": "g", "base-1": "1", "base-2": "2"}, tmp_path) as broker:
        assert "max_queued_messages" in settings["mosquitto.conf"]
        gateway = broker.listener("gateway", "g", "koupleless_dev/#")
        foreign = [
            broker.listener("base-2", "2", f"koupleless_dev/base-1/{word}")
            for word in ("base/health", "base/baseline", "+")
        ]
        base = broker.listener("base-1", "1", "koupleless_dev/base-1/+")
        broker.say("base-2", "2", "koupleless_dev/base-1/base/heart", b"forged")
        broker.say("base-2", "2", "koupleless_dev/base-1/installBiz", b"forged")
        broker.say("base-1", "1", "koupleless_dev/base-1/base/health", b"1")
        broker.say("gateway", "g", "koupleless_dev/base-1/base/baseline", b"2")
        broker.say("gateway", "g", "koupleless_dev/base-1/installBiz", b"3")
        eventually(lambda: base.payloads == [b"3"], within=5, what="a base receives its command")
        eventually(
            lambda: gateway.payloads == [b"1", b"2", b"3"], within=5, what="a gateway receives what bases may publish"
        )
        assert not any(listener.payloads for listener in foreign), "a base receives nothing of others"


def test_rbac_is_where_it_is_looked_for() -> None:
    assert SHIPPED.is_file()
