"""The cluster that tests run against behaves as tests expect."""

import signal
import time
from collections.abc import Callable

import pytest

from tests.servers.cluster import CONTROL_PLANE, KubeCluster
from tests.servers.kubeapi import ApiError, Json

NODE: Json = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {"name": "vnode.base-1.dev"},
    "status": {
        "capacity": {"pods": "10"},
        "allocatable": {"pods": "10"},
        "conditions": [{"type": "Ready", "status": "True", "reason": "Test"}],
    },
}


def until(holds: Callable[[], bool], within: float = 20.0) -> None:
    deadline = time.monotonic() + within
    while not holds():
        assert time.monotonic() < deadline, "did not come to be"
        time.sleep(0.1)


def deployment(name: str) -> Json:
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "biz1", "image": "biz1.jar"}]},
            },
        },
    }


def test_the_shipped_roles_give_what_is_needed_and_no_more(kube: KubeCluster) -> None:
    control_plane = kube.client(CONTROL_PLANE)
    control_plane.create("/api/v1/nodes", NODE)
    assert len(control_plane.items("/api/v1/pods")) == 0
    control_plane.delete("/api/v1/nodes/vnode.base-1.dev")
    for forbidden in ("/api/v1/secrets", "/api/v1/configmaps", "/apis/coordination.k8s.io/v1/leases"):
        with pytest.raises(ApiError) as refusal:
            control_plane.get(forbidden)
        assert refusal.value.status == 403


def test_the_server_comes_back_on_its_port_with_what_it_had(kube: KubeCluster) -> None:
    kube.api.create("/api/v1/nodes", NODE)
    kube.stop_apiserver(signal.SIGKILL)
    with pytest.raises(ConnectionRefusedError):
        kube.api.get("/api/v1/nodes")
    kube.start_apiserver()
    assert [node["metadata"]["name"] for node in kube.api.items("/api/v1/nodes")] == ["vnode.base-1.dev"]
    kube.api.create("/apis/apps/v1/namespaces/default/deployments", deployment("biz1"))
    until(lambda: any("nodeName" in pod["spec"] for pod in kube.api.items("/api/v1/pods")))


def test_what_a_test_took_away_is_back_for_the_next(kube: KubeCluster) -> None:
    kube.freeze_apiserver()
    kube.clean()
    assert kube.api.ready()
    kube.stop_apiserver()
    assert not kube.serving
    kube.clean()
    assert kube.api.ready()


def test_a_deployment_is_scheduled_and_cleaning_takes_all_of_it(kube: KubeCluster) -> None:
    kube.api.create("/api/v1/nodes", NODE)
    kube.api.create("/apis/apps/v1/namespaces/default/deployments", deployment("biz1"))
    until(lambda: any("nodeName" in pod["spec"] for pod in kube.api.items("/api/v1/pods")))
    kube.clean()
    for kind in ("/api/v1/pods", "/api/v1/nodes", "/apis/apps/v1/replicasets", "/apis/apps/v1/deployments"):
        assert kube.api.items(kind) == []
