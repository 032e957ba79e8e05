"""Manifests on the embedded cluster: what ``mctl apply``, ``delete`` and ``wait`` stand on."""

from dataclasses import dataclass

import orjson

from controlplane.app.ports import NotFound, ObjectName, Rejected
from controlplane.cluster import fields
from controlplane.cluster.api import Json
from controlplane.cluster.reading import workload
from controlplane.embedded.api.resources import resource_of
from controlplane.embedded.api.store import EmbeddedApiServer
from controlplane.embedded.controllers.mirror import condition


@dataclass(frozen=True, slots=True)
class EmbeddedManifests:
    """Implements ``ports.Manifests``."""

    store: EmbeddedApiServer

    async def apply(self, manifest: bytes, *, dry_run: bool) -> tuple[ObjectName, str]:
        """Create or update the object that the JSON describes."""
        try:
            parsed = orjson.loads(manifest)
        except orjson.JSONDecodeError as error:
            raise Rejected(f"the manifest is not JSON: {error}") from None
        obj, result = await self.store.apply(parsed, dry_run)
        metadata = obj["metadata"]
        return ObjectName(obj["apiVersion"], obj["kind"], metadata.get("namespace", ""), metadata["name"]), result

    async def delete(self, name: ObjectName, *, grace_seconds: int | None) -> bool:
        """Delete an object."""
        resource = resource_of({"apiVersion": name.api_version, "kind": name.kind})
        try:
            await self.store.delete(
                resource, name.name, namespace=name.namespace or "default", grace_seconds=grace_seconds
            )
        except NotFound:
            return False
        return True

    async def get(self, name: ObjectName) -> tuple[bytes, bool]:
        """Return an object, and whether all that it stands for is ready."""
        resource = resource_of({"apiVersion": name.api_version, "kind": name.kind})
        obj = await self.store.get(resource, name.name, name.namespace or "default")
        return orjson.dumps(obj), ready(obj)


def ready(obj: Json) -> bool:
    """Return whether a Pod or Node is Ready, or a workload has rolled out; other objects are ready by being there."""
    kind, status = obj["kind"], fields.mapping(obj, "status")
    if kind in ("Pod", "Node"):
        return condition(status, "Ready").get("status") == "True"
    if kind in ("Deployment", "DaemonSet"):
        found = workload(kind, obj)
        return found.observed and found.total == found.updated == found.available == found.desired
    return True
