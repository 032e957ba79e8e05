"""Manifests on the embedded cluster: what ``mctl apply``, ``delete`` and ``wait`` stand on."""

from __future__ import annotations

from typing import Any

import orjson

from controlplane.app.ports import NotFound, ObjectName, Rejected
from controlplane.cluster.api import Json
from controlplane.embedded.api.resources import resource_of
from controlplane.embedded.api.store import EmbeddedApiServer


class EmbeddedManifests:
    """Implements ``ports.Manifests``."""

    def __init__(self, store: EmbeddedApiServer) -> None:
        self._store = store

    async def apply(self, manifest: bytes, *, dry_run: bool) -> tuple[ObjectName, str]:
        """Create or update the object that the JSON describes."""
        try:
            parsed = orjson.loads(manifest)
        except orjson.JSONDecodeError as error:
            raise Rejected(f"the manifest is not JSON: {error}") from None
        if not isinstance(parsed, dict):
            raise Rejected("the manifest must be an object")
        obj, result = await self._store.apply(parsed, dry_run)
        metadata = obj["metadata"]
        return ObjectName(obj["apiVersion"], obj["kind"], metadata.get("namespace", ""), metadata["name"]), result

    async def delete(self, name: ObjectName, *, grace_seconds: int | None) -> bool:
        """Delete an object."""
        try:
            await self._store.delete_manifest(_manifest(name), grace_seconds)
        except NotFound:
            return False
        return True

    async def get(self, name: ObjectName) -> tuple[bytes, bool]:
        """Return an object, and whether all that it stands for is ready."""
        resource = resource_of(_manifest(name))
        namespace = (name.namespace or "default") if resource.namespaced else ""
        obj = await self._store.get(resource, name.name, namespace)
        return orjson.dumps(obj), ready(obj)


def ready(obj: Json) -> bool:
    """Tell whether a Pod or Node is Ready, or a workload has rolled out; other objects are ready by being there."""
    status: dict[str, Any] = obj.get("status") or {}
    match obj.get("kind"):
        case "Pod" | "Node":
            conditions = status.get("conditions") or []
            return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)
        case "Deployment" | "ReplicaSet":
            wanted = obj.get("spec", {}).get("replicas", 1)
            counts = ["replicas", "readyReplicas", "availableReplicas"]
            if obj["kind"] == "Deployment":
                counts.append("updatedReplicas")
            return _observed(obj, status) and all(status.get(count, 0) == wanted for count in counts)
        case "DaemonSet":
            wanted = status.get("desiredNumberScheduled", 0)
            counts = ["updatedNumberScheduled", "numberReady"]
            return _observed(obj, status) and all(status.get(count, 0) == wanted for count in counts)
        case _:
            return True


def _observed(obj: Json, status: dict[str, Any]) -> bool:
    observed: int = status.get("observedGeneration", 0)
    generation: int = obj["metadata"].get("generation", 0)
    return observed >= generation


def _manifest(name: ObjectName) -> Json:
    return {
        "apiVersion": name.api_version,
        "kind": name.kind,
        "metadata": {"namespace": name.namespace, "name": name.name},
    }
