"""Manifests in the shapes of the original's documentation select our VNodes, and their modules run."""

from collections.abc import Mapping

import pytest

from tests.integration.verbs.conftest import Scene
from tests.servers.kubeapi import Json

pytestmark = [pytest.mark.timeout(400), pytest.mark.mosquitto]

SINCE_2_1_2 = {"base.koupleless.io/name": "simulated-base", "base.koupleless.io/version": "1.0.0"}
BEFORE = {
    "base.koupleless.io/stack": "java",
    "vnode.koupleless.io/name": "simulated-base",
    "vnode.koupleless.io/version": "1.0.0",
}


def deployment(scene: Scene, labels: Mapping[str, str]) -> Json:
    """Return a Deployment as its quick start has it, for bases with these labels."""
    expressions = [{"key": key, "operator": "In", "values": [value]} for key, value in labels.items()]
    affinity = {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": expressions}]}
    }
    taints = (("virtual-node", "True"), ("node-env", "dev"))
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "biz1",
            "namespace": scene.sandbox.name,
            "labels": {"virtual-kubelet.koupleless.io/component": "module-deployment"},
        },
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"module": "biz1"}},
            "template": {
                "metadata": {"labels": {"module": "biz1", "virtual-kubelet.koupleless.io/component": "module"}},
                "spec": {
                    "containers": [
                        {
                            "name": "biz1",
                            "image": "https://repo.example/stable/biz1-web-single-host-0.0.1-SNAPSHOT-ark-biz.jar",
                            "env": [{"name": "BIZ_VERSION", "value": "0.0.1-SNAPSHOT"}],
                        }
                    ],
                    "affinity": {"nodeAffinity": affinity},
                    "tolerations": [
                        {
                            "key": f"schedule.koupleless.io/{taint}",
                            "operator": "Equal",
                            "value": value,
                            "effect": "NoExecute",
                        }
                        for taint, value in taints
                    ],
                },
            },
        },
    }


@pytest.mark.parametrize(
    ("labels", "cluster_label"),
    [(SINCE_2_1_2, "base.koupleless.io/cluster-name"), (BEFORE, "vnode.koupleless.io/cluster-name")],
    ids=["since 2.1.2", "before"],
)
def test_a_deployment_of_the_quick_start_runs(scene: Scene, labels: Mapping[str, str], cluster_label: str) -> None:
    scene.apply(deployment(scene, {**labels, cluster_label: scene.sandbox.cluster}))
    scene.kubectl("rollout", "status", "deployment/biz1", "--timeout=60s")
    assert [module for base in scene.bases for module in base.modules()] == ["biz1:0.0.1-SNAPSHOT"]
