"""Manifests as kubectl reads them: files, folders with a kustomization.yaml, and the paths of their objects."""

from collections.abc import Iterator
from pathlib import Path

import yaml

from tests.servers.kubeapi import Json, KubeApi

APPLY_PATCH = "application/apply-patch+yaml"
_PLURALS = {"NetworkPolicy": "networkpolicies"}
_CLUSTER_WIDE = frozenset({"Namespace", "ClusterRole", "ClusterRoleBinding"})


def load(path: Path) -> list[Json]:
    """Return the objects of a file, or of all that a kustomization names; patches replace single values."""
    if path.is_file():
        return [obj for obj in yaml.safe_load_all(path.read_text()) if obj]
    kustomization = yaml.safe_load((path / "kustomization.yaml").read_text())
    objects = [obj for resource in kustomization["resources"] for obj in load((path / resource).resolve())]
    for patch in kustomization.get("patchesJson6902", []):
        target = patch["target"]
        for obj in objects:
            if obj["kind"] == target["kind"] and obj["metadata"]["name"] == target["name"]:
                obj.update(_replaced(yaml.safe_load((path / patch["path"]).read_text())))
    return objects


def collection(obj: Json) -> str:
    """Return the path of the collection that an object belongs to."""
    version, kind = obj["apiVersion"], obj["kind"]
    root = "/apis" if "/" in version else "/api"
    namespace = "" if kind in _CLUSTER_WIDE else f"/namespaces/{obj['metadata']['namespace']}"
    return f"{root}/{version}{namespace}/{_PLURALS.get(kind, kind.lower() + 's')}"


def apply(api: KubeApi, obj: Json, *, dry_run: bool = False) -> Json:
    """Apply an object on the server's side, where unknown fields are errors; raises ApiError, OSError."""
    query = "fieldManager=tests&force=true&fieldValidation=Strict" + ("&dryRun=All" if dry_run else "")
    return api.patch(f"{collection(obj)}/{obj['metadata']['name']}?{query}", obj, APPLY_PATCH)


def pod_specs(objects: list[Json]) -> Iterator[tuple[str, Json]]:
    """Yield name and spec of each Pod that objects make."""
    for obj in objects:
        if obj["kind"] == "Pod":
            yield obj["metadata"]["name"], obj["spec"]
        elif obj["kind"] == "Deployment":
            yield obj["metadata"]["name"], obj["spec"]["template"]["spec"]


def _replaced(operations: list[Json]) -> Json:
    """Return the top-level fields that a JSON patch replaces."""
    assert all(each["op"] == "replace" and each["path"].count("/") == 1 for each in operations), operations
    return {each["path"].removeprefix("/"): each["value"] for each in operations}
