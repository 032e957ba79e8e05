"""Whether we may do in the cluster what the control plane does: one SelfSubjectAccessReview for each verb.

The table is what ``deploy/rbac.yaml`` and ``deploy/kubelet/rbac.yaml`` give, by a test. The API server answers such a
review without anything being created.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from controlplane.settings import ControlPlaneSettings
from modulecontroller.configuration import Configuration
from modulecontroller.doctor.findings import Finding, error, ok, skipped, warning
from modulecontroller.doctor.kube import Api, NoAnswer, connect, subject

ABOUT = "permissions"
AT_ONCE = 8
REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
FIX = (
    "kubectl apply -f deploy/rbac.yaml (and deploy/kubelet/rbac.yaml for the kubelet API), "
    "and run as the service account (or user) that it binds"
)


OWN_NAMESPACE = "NAMESPACE"
"""Stands for the namespace that the variable NAMESPACE names; no namespace has a name in capital letters."""


def _kubelet(settings: ControlPlaneSettings) -> bool:
    return settings.kubelet_proxy_enabled


@dataclass(frozen=True, slots=True)
class Permission:
    """Verbs on a resource, in a namespace or in all of them; resource may have a subresource."""

    group: str
    resource: str
    verbs: tuple[str, ...]
    why: str
    namespace: str = ""
    when: Callable[[ControlPlaneSettings], bool] = lambda _: True

    def __str__(self) -> str:
        where = f" in {self.namespace}" if self.namespace else ""
        return f"{self.resource}{where}"


NEEDED: Sequence[Permission] = (
    Permission("", "nodes", ("get", "list", "watch", "create", "patch", "delete"), "one Node for each base"),
    Permission("", "nodes/status", ("patch",), "conditions of the Nodes"),
    Permission("", "pods", ("list", "watch", "create", "delete"), "modules"),
    Permission("", "pods/status", ("patch",), "states of modules"),
    Permission("apps", "deployments", ("get", "list", "watch"), "baselines, and mctl rollout status"),
    Permission("apps", "daemonsets", ("get",), "mctl rollout status"),
    Permission(
        "apps",
        "deployments/scale",
        ("patch",),
        "replicas that follow the bases",
        when=lambda settings: settings.peers_follow,
    ),
    Permission("", "events", ("create", "patch"), "telling what happened"),
    Permission(
        "coordination.k8s.io",
        "leases",
        ("list", "watch", "create", "patch", "delete"),
        "ownership of VNodes",
        namespace="kube-node-lease",
    ),
    Permission(
        "coordination.k8s.io",
        "leases",
        ("get", "list", "watch", "create", "patch", "delete"),
        "the replicas, which find each other by their leases",
        namespace=OWN_NAMESPACE,
    ),
    Permission("authentication.k8s.io", "tokenreviews", ("create",), "who asks for logs", when=_kubelet),
    Permission("authorization.k8s.io", "subjectaccessreviews", ("create",), "who may read logs", when=_kubelet),
    Permission("", "pods/log", ("get",), "logs of bases", when=_kubelet),
    Permission(
        "",
        "services",
        ("list", "watch"),
        "the address of the kubelet API",
        namespace=OWN_NAMESPACE,
        when=_kubelet,
    ),
)
"""What the control plane does in the cluster, some of it only with certain settings."""


async def check(configuration: Configuration) -> AsyncIterator[Finding]:
    """Yield which permissions are missing."""
    settings = subject(configuration)
    if isinstance(settings, str):
        yield skipped(ABOUT, settings)
        return
    try:
        async with connect(settings) as api:
            needed = list(needed_with(settings))
            missing = await _missing(api, needed)
            for permission, verbs in missing.items():
                why = f"needed for: {permission.why}"
                yield error(ABOUT, f"may not {', '.join(verbs)} {permission} ({why})", FIX)
            if not missing:
                number = sum(len(permission.verbs) for permission in needed)
                yield ok(ABOUT, f"all {number} verbs on {len(needed)} resources that are needed are allowed")
            if await _allowed(api, Permission("*", "*", (), ""), "*"):
                fix = "run with the roles of deploy/rbac.yaml, which are all that is needed"
                yield warning(ABOUT, "everything is allowed in this cluster, far more than is needed", fix)
    except NoAnswer as failed:
        yield skipped(ABOUT, f"the API server could not be asked: {failed}")


def needed_with(settings: ControlPlaneSettings) -> Iterator[Permission]:
    """Yield what is needed with these settings."""
    for permission in NEEDED:
        if permission.when(settings):
            own = permission.namespace == OWN_NAMESPACE
            yield replace(permission, namespace=settings.namespace) if own else permission


async def _missing(api: Api, needed: Sequence[Permission]) -> dict[Permission, list[str]]:
    at_once = asyncio.Semaphore(AT_ONCE)

    async def ask(permission: Permission, verb: str) -> bool:
        async with at_once:
            return await _allowed(api, permission, verb)

    pairs = [(permission, verb) for permission in needed for verb in permission.verbs]
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ask(permission, verb)) for permission, verb in pairs]
    except* NoAnswer as failed:
        raise failed.exceptions[0] from None
    answers = [task.result() for task in tasks]
    missing: dict[Permission, list[str]] = {}
    for (permission, verb), allowed in zip(pairs, answers, strict=True):
        if not allowed:
            missing.setdefault(permission, []).append(verb)
    return missing


async def _allowed(api: Api, permission: Permission, verb: str) -> bool:
    resource, _, subresource = permission.resource.partition("/")
    wanted = {
        "verb": verb,
        "group": permission.group,
        "resource": resource,
        "subresource": subresource,
        "namespace": permission.namespace,
    }
    answer = await api.ask(
        REVIEWS,
        {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {key: value for key, value in wanted.items() if value}},
        },
    )
    if answer.status != 201:
        raise NoAnswer(f"a review of our permissions failed: {answer.message}", "")
    status: Any = answer.body.get("status")
    return isinstance(status, dict) and status.get("allowed") is True
