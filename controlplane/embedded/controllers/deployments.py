"""The Deployment controller: one ReplicaSet per revision of the template, moved by ``rollout``."""

from __future__ import annotations

import time
from collections.abc import Iterable

from controlplane.cluster.api import DEPLOYMENTS, REPLICA_SETS, Json
from controlplane.embedded.api.mirror import Key, Mirror
from controlplane.embedded.api.store import EmbeddedApiServer
from controlplane.embedded.api.views import PodView, mapping
from controlplane.embedded.controllers.deploymentstatus import deployment_status
from controlplane.embedded.controllers.replicas import availability, owner_reference
from controlplane.embedded.controllers.rollout import SetScale, bounds, next_scales, template_hash

HASH_LABEL = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"


async def reconcile(store: EmbeddedApiServer, mirror: Mirror, key: Key, again_in: list[float]) -> None:
    """Bring one Deployment a step on. Adds to again_in after how many seconds to look again; raises ClusterError."""
    found = mirror.workloads[DEPLOYMENTS].get(key)
    if found is None or "deletionTimestamp" in found["metadata"]:
        return
    rollout = _Rollout(store, mirror, found)
    await rollout.step()
    now = mirror.workloads[DEPLOYMENTS].get(key)
    if now is not None and now["metadata"]["uid"] == found["metadata"]["uid"]:
        await rollout.write_status(now, again_in)


class _Rollout:
    """One pass over one Deployment."""

    def __init__(self, store: EmbeddedApiServer, mirror: Mirror, deployment: Json) -> None:
        self._store = store
        self._mirror = mirror
        self._deployment = deployment
        self._spec: Json = deployment["spec"]
        self._hash = template_hash(self._spec["template"])
        self._minimum = int(self._spec.get("minReadySeconds") or 0)

    def _sets(self) -> tuple[Json | None, list[Json]]:
        """Return the ReplicaSet of the current template and the others, oldest first."""
        owned = self._mirror.replica_sets_of(self._deployment["metadata"]["uid"])
        owned = [s for s in owned if "deletionTimestamp" not in s["metadata"]]
        new = [s for s in owned if mapping(s["metadata"].get("labels")).get(HASH_LABEL) == self._hash]
        old = [s for s in owned if s not in new]
        return (new[0] if new else None), sorted(old, key=_revision)

    def _pods(self, sets: Iterable[Json]) -> list[PodView]:
        return [pod for s in sets for pod in self._mirror.pods_of(s["metadata"]["uid"])]

    def _scale(self, replica_set: Json) -> SetScale:
        now = time.time()
        available = sum(availability(pod, self._minimum, now) == 0 for pod in self._pods([replica_set]))
        replicas = int(replica_set["spec"].get("replicas", 1))
        return SetScale(replica_set["metadata"]["name"], replicas, min(available, replicas))

    async def step(self) -> None:
        new, old = self._sets()
        replicas = int(self._spec.get("replicas", 1))
        if self._spec.get("paused") is True:
            if new is not None and not any(self._scale(s).replicas for s in old):
                await self._set_scales({new["metadata"]["name"]: replicas})
            return
        if new is None:
            new = await self._create_set(old)
        await self._set_revision(new, old)
        strategy = mapping(self._spec.get("strategy"))
        if strategy.get("type") == "Recreate":
            scales = self._recreate(replicas, new, old)
        else:
            surge, unavailable = bounds(mapping(strategy.get("rollingUpdate")), replicas)
            scales = next_scales(replicas, surge, unavailable, self._scale(new), [self._scale(s) for s in old])
        await self._set_scales(scales)
        await self._forget_history(old)

    def _recreate(self, replicas: int, new: Json, old: list[Json]) -> dict[str, int]:
        down = {s["metadata"]["name"]: 0 for s in old if self._scale(s).replicas}
        if down:
            return down
        # Pods that are being deleted still hold their modules: nothing new before they are gone.
        return {} if self._pods(old) else {new["metadata"]["name"]: replicas}

    async def _create_set(self, old: list[Json]) -> Json:
        metadata, template = self._deployment["metadata"], self._spec["template"]
        pod_metadata = mapping(template.get("metadata"))
        labels = {**mapping(pod_metadata.get("labels")), HASH_LABEL: self._hash}
        selector = self._spec["selector"]
        replica_set: Json = {
            "metadata": {
                "name": f"{metadata['name'][:242]}-{self._hash}",
                "labels": labels,
                "annotations": {REVISION: str(_next_revision(old))},
                "ownerReferences": [owner_reference(DEPLOYMENTS, self._deployment)],
            },
            "spec": {
                "replicas": 0,
                "minReadySeconds": self._minimum,
                "selector": {
                    **selector,
                    "matchLabels": {**mapping(selector.get("matchLabels")), HASH_LABEL: self._hash},
                },
                "template": {**template, "metadata": {**pod_metadata, "labels": labels}},
            },
        }
        return await self._store.create(REPLICA_SETS, replica_set, metadata["namespace"])

    async def _set_revision(self, new: Json, old: list[Json]) -> None:
        """Number the current revision highest, also when an old template came back."""
        metadata = self._deployment["metadata"]
        revision = _revision(new)
        if old and revision <= _revision(old[-1]):
            revision = _next_revision(old)
            await self._annotate_set(new, revision)
        if mapping(metadata.get("annotations")).get(REVISION) != str(revision):
            patch = {"metadata": {"uid": metadata["uid"], "annotations": {REVISION: str(revision)}}}
            await self._store.patch(DEPLOYMENTS, metadata["name"], patch, namespace=metadata["namespace"])

    async def _annotate_set(self, replica_set: Json, revision: int) -> None:
        metadata = replica_set["metadata"]
        patch = {"metadata": {"uid": metadata["uid"], "annotations": {REVISION: str(revision)}}}
        await self._store.patch(REPLICA_SETS, metadata["name"], patch, namespace=metadata["namespace"])

    async def _set_scales(self, scales: dict[str, int]) -> None:
        new, old = self._sets()
        for replica_set in [*old, *([new] if new else [])]:
            metadata = replica_set["metadata"]
            wanted = scales.get(metadata["name"])
            patch: Json = {"metadata": {"uid": metadata["uid"]}, "spec": {}}
            if wanted is not None and replica_set["spec"].get("replicas") != wanted:
                patch["spec"]["replicas"] = wanted
            if int(replica_set["spec"].get("minReadySeconds") or 0) != self._minimum:
                patch["spec"]["minReadySeconds"] = self._minimum
            if patch["spec"]:
                await self._store.patch(REPLICA_SETS, metadata["name"], patch, namespace=metadata["namespace"])

    async def _forget_history(self, old: list[Json]) -> None:
        idle = [s for s in old if not self._scale(s).replicas and not self._pods([s])]
        limit = int(self._spec.get("revisionHistoryLimit", 10))
        for replica_set in idle[: max(0, len(idle) - limit)]:
            metadata = replica_set["metadata"]
            await self._store.delete(
                REPLICA_SETS, metadata["name"], namespace=metadata["namespace"], uid=metadata["uid"]
            )

    async def write_status(self, deployment: Json, again_in: list[float]) -> None:
        new, old = self._sets()
        now = time.time()
        pods = [pod for pod in self._pods([*old, *([new] if new else [])]) if pod.active]
        waits = [availability(pod, self._minimum, now) for pod in pods]
        again_in.extend(wait for wait in waits if wait)
        updated = sum(pod.active for pod in self._pods([new])) if new else 0
        status, look_again = deployment_status(
            deployment,
            replicas=len(pods),
            updated=updated,
            ready=sum(pod.ready for pod in pods),
            available=sum(wait == 0 for wait in waits),
            now=now,
        )
        if look_again is not None:
            again_in.append(look_again)
        if status != mapping(deployment.get("status")):
            metadata = deployment["metadata"]
            before = mapping(deployment.get("status"))
            removed = {name: None for name in before if name not in status}
            patch = {"metadata": {"uid": metadata["uid"]}, "status": {**status, **removed}}
            await self._store.patch(
                DEPLOYMENTS, metadata["name"], patch, namespace=metadata["namespace"], subresource="status"
            )


def _revision(replica_set: Json) -> int:
    text = mapping(replica_set["metadata"].get("annotations")).get(REVISION, "")
    return int(text) if text.isdecimal() and len(text) < 10 else 0


def _next_revision(old: list[Json]) -> int:
    return max((_revision(s) for s in old), default=0) + 1
