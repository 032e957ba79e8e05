"""Applies the shipped roles to a test cluster, and binds a test user to them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tests.servers.kubeapi import Json, KubeApi

SHIPPED = Path(__file__).parents[2] / "deploy" / "rbac.yaml"
APPLY_PATCH = "application/apply-patch+yaml"
COLLECTIONS = {
    "Namespace": "/api/v1/namespaces",
    "ServiceAccount": "/api/v1/namespaces/{namespace}/serviceaccounts",
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings",
}


def apply(api: KubeApi, user: str, manifest: Path = SHIPPED) -> None:
    """Apply a manifest of roles; a user gets all that it gives to service accounts; raises ApiError, OSError."""
    for obj in objects(manifest.read_text(), user):
        path = f"{collection(obj)}/{obj['metadata']['name']}?fieldManager=tests&force=true"
        api.patch(path, obj, APPLY_PATCH)


def objects(manifest: str, user: str) -> list[Json]:
    """Return the objects of a manifest, a user being one more subject of each binding."""
    found: list[Json] = [obj for obj in yaml.safe_load_all(manifest) if obj]
    for obj in found:
        if obj["kind"].endswith("Binding"):
            subjects: list[Any] = obj.setdefault("subjects", [])
            subjects.append({"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": user})
    return found


def collection(obj: Json) -> str:
    """Return the path of the collection that an object belongs to; raises KeyError for a kind that is no role's."""
    return COLLECTIONS[obj["kind"]].format(namespace=obj["metadata"].get("namespace", ""))
