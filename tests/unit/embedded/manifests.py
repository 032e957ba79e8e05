"""Manifests as users of modules write them."""

from controlplane.cluster.api import Json
from controlplane.domain import contract

TAINTS: list[Json] = [
    {"key": contract.TAINT_VIRTUAL_NODE, "value": "True", "effect": "NoExecute"},
    {"key": contract.TAINT_NODE_ENV, "value": "dev", "effect": "NoExecute"},
]
TOLERATIONS: list[Json] = [
    {"key": contract.TAINT_VIRTUAL_NODE, "operator": "Equal", "value": "True", "effect": "NoExecute"},
    {"key": contract.TAINT_NODE_ENV, "operator": "Equal", "value": "dev", "effect": "NoExecute"},
]


def vnode(name: str, *, cluster: str = "biz", ready: bool = True, pods: int = 65535, **labels: str) -> Json:
    return {
        "metadata": {
            "name": name,
            "labels": {
                contract.COMPONENT: contract.COMPONENT_VNODE,
                contract.ENV: "dev",
                contract.BASE_CLUSTER_NAME: cluster,
                "kubernetes.io/hostname": name,
                **labels,
            },
        },
        "spec": {"taints": TAINTS},
        "status": {
            "capacity": {"pods": str(pods)},
            "allocatable": {"pods": str(pods)},
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        },
    }


def container(name: str = "biz1", version: str = "0.0.1") -> Json:
    return {
        "name": name,
        "image": f"https://example.com/{name}-{version}-ark-biz.jar",
        "env": [{"name": contract.BIZ_VERSION_ENV, "value": version}],
    }


def pod_spec(*containers: Json, cluster: str | None = "biz", apart_by_app: str | None = None) -> Json:
    affinity: Json = {}
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    if cluster is not None:
        term = {"matchExpressions": [{"key": contract.BASE_CLUSTER_NAME, "operator": "In", "values": [cluster]}]}
        affinity["nodeAffinity"] = {required: {"nodeSelectorTerms": [term]}}
    if apart_by_app is not None:
        selector = {"matchLabels": {"app": apart_by_app}}
        affinity["podAntiAffinity"] = {required: [{"labelSelector": selector, "topologyKey": "kubernetes.io/hostname"}]}
    return {"containers": list(containers) or [container()], "tolerations": TOLERATIONS, "affinity": affinity}


def pod(name: str, *containers: Json, cluster: str | None = "biz", **labels: str) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "default",
            "labels": {contract.COMPONENT: contract.COMPONENT_MODULE, **labels},
        },
        "spec": pod_spec(*containers, cluster=cluster),
    }


def workload(kind: str, name: str, *, version: str = "0.0.1", apart: bool = False, **spec: object) -> Json:
    labels = {"app": name, contract.COMPONENT: contract.COMPONENT_MODULE}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": "default",
            "labels": {contract.COMPONENT: "module-deployment"},
        },
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": labels},
                "spec": pod_spec(container(version=version), apart_by_app=name if apart else None),
            },
            **spec,
        },
    }


def deployment(name: str, replicas: int, *, version: str = "0.0.1", apart: bool = False, **spec: object) -> Json:
    return workload("Deployment", name, version=version, apart=apart, replicas=replicas, **spec)
