"""Applies the shipped roles to a test cluster, and binds a test user to them."""

from pathlib import Path
from typing import Any

import yaml

from tests.servers import manifests
from tests.servers.kubeapi import Json, KubeApi

SHIPPED = Path(__file__).parents[2] / "deploy" / "rbac.yaml"


def apply(api: KubeApi, user: str, manifest: Path = SHIPPED) -> None:
    """Apply a manifest of roles; a user gets all rights of its service accounts; raises ApiError, OSError."""
    for obj in objects(manifest.read_text(), user):
        manifests.apply(api, obj)


def objects(manifest: str, user: str) -> list[Json]:
    """Return the objects of a manifest, with a user as one more subject of each binding."""
    found: list[Json] = [obj for obj in yaml.safe_load_all(manifest) if obj]
    for obj in found:
        if obj["kind"].endswith("Binding"):
            subjects: list[Any] = obj.setdefault("subjects", [])
            subjects.append({"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": user})
    return found
