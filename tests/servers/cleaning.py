"""Removes the objects of tests from a test cluster."""

import time

from tests.servers.kubeapi import KubeApi

SYSTEM_NAMESPACE = "koupleless-system"
"""Where the shipped manifests put the control plane."""
KEPT_NAMESPACES = frozenset({"default", "kube-system", "kube-public", "kube-node-lease", SYSTEM_NAMESPACE})
CLEAN_WITHIN = 30.0
POLL = 0.1
WORKLOADS = ("/apis/apps/v1", ("deployments", "daemonsets", "replicasets"))
DEFAULTS = ("limitranges", "resourcequotas")
"""What changes the Pods of later tests in a namespace that stays."""


class NotClean(Exception):
    """Objects of a test could not be removed; the message names them."""


def clean(api: KubeApi) -> None:
    """Remove workloads, Pods, Nodes, leases, Events, defaults for Pods and the namespaces that tests made.

    Raises NotClean, ApiError, OSError.
    """
    deadline = time.monotonic() + CLEAN_WITHIN
    while left := _sweep(api):
        if time.monotonic() > deadline:
            raise NotClean(f"still there after {CLEAN_WITHIN:g} s: {', '.join(left[:10])}")
        time.sleep(POLL)


def _sweep(api: KubeApi) -> list[str]:
    # Until nothing is found: controllers may still act on what they saw before the owner went.
    left = []
    group, kinds = WORKLOADS
    for kind in kinds:
        left += _remove(api, group, kind)
    left += _remove(api, "/api/v1", "pods", grace_seconds=0)
    left += _remove(api, "/api/v1", "nodes")
    for kind in DEFAULTS:
        left += _remove(api, "/api/v1", kind)
    for place in ("kube-node-lease", SYSTEM_NAMESPACE):
        left += _remove(api, "/apis/coordination.k8s.io/v1", "leases", only_in=place)
    for namespace in api.items("/api/v1/namespaces"):
        name = namespace["metadata"]["name"]
        if name not in KEPT_NAMESPACES and "deletionTimestamp" not in namespace["metadata"]:
            # A namespace takes its time to go; each test has a namespace of its own.
            api.delete(f"/api/v1/namespaces/{name}")
    api.delete("/api/v1/namespaces/default/events")
    return left


def _remove(
    api: KubeApi, group: str, kind: str, *, grace_seconds: int | None = None, only_in: str | None = None
) -> list[str]:
    found = []
    for obj in api.items(f"{group}/{kind}"):
        meta = obj["metadata"]
        namespace = meta.get("namespace")
        if only_in is not None and namespace != only_in:
            continue
        inside = f"/namespaces/{namespace}" if namespace else ""
        path = f"{group}{inside}/{kind}/{meta['name']}"
        if meta.get("finalizers"):
            api.patch(path, {"metadata": {"finalizers": None}}, "application/merge-patch+json")
        api.delete(path, grace_seconds=grace_seconds)
        found.append(path)
    return found
