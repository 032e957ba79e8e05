"""Installs and uninstalls for tools: changes of desired state, one Pod for each base.

They only create or delete Pods; the actors do the rest, exactly as for Pods that come from anywhere else. What is asked
for wrongly is refused before anything is done. After that each Pod has a result of its own: a failure of one keeps no
other back.
"""

import asyncio
import hashlib
import random
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import Enum
from functools import partial
from typing import TypeAlias
from urllib.parse import urlsplit

from controlplane.app.ports import (
    AlreadyExists,
    Cluster,
    ClusterError,
    Conflict,
    NotFound,
    StorageDamaged,
    StorageFull,
    Transient,
    Unknown,
)
from controlplane.app.tooling.refusals import Missing, NotAllowed, RequestError
from controlplane.domain import contract
from controlplane.domain.backoff import Backoff
from controlplane.domain.base.wishes import invalid
from controlplane.domain.identity import ModuleKey, VNodeName, base_of_node
from controlplane.domain.objects import Container, Pod, Toleration

AT_ONCE = 16
"""Writes of one call that are under way at once."""

RETRY = Backoff(first=0.2, longest=5.0, jitter=0.5)
"""Between attempts to write where the cluster names no time itself."""

_BIZ_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s\x00-\x1f\x7f]+")


class Result(Enum):
    """What was done to one Pod."""

    CREATED = "created"
    UNCHANGED = "unchanged"
    DELETED = "deleted"


Failure: TypeAlias = ClusterError | RequestError
Outcome: TypeAlias = tuple[Pod, Result | Failure]
"""A Pod, as the cluster has it where it has, and what became of it."""


class Installs:
    """Installs and uninstalls modules by their Pods.

    within, in seconds, bounds a call: what the cluster turns away for now is tried again until then, and what is left
    over then has failed.
    """

    def __init__(self, cluster: Cluster, *, env: str) -> None:
        self._cluster = cluster
        self._env = env

    async def install(
        self,
        targets: Sequence[VNodeName],
        container: Container,
        *,
        namespace: str,
        request_id: str,
        user: str,
        within: float,
    ) -> list[Outcome]:
        """Create a Pod for the module on each target that has none of ours yet; raises RequestError."""
        _check(container)
        why = {contract.ANNOTATION_REQUEST_ID: request_id, contract.ANNOTATION_REQUESTED_BY: user}
        pods = [self._pod(vnode, container, namespace=namespace, annotations=why) for vnode in targets]
        return await _each(pods, self._create, within)

    async def uninstall(
        self, targets: Sequence[VNodeName], key: ModuleKey, *, namespace: str, within: float
    ) -> list[Outcome]:
        """Delete the Pods of a module on each target; raises RequestError, Missing where there are none."""
        pods = [
            pod
            for vnode in targets
            for pod in self._cluster.pods.on_node(vnode)
            if (not namespace or pod.namespace == namespace) and any((c.name, c.version) == key for c in pod.containers)
        ]
        if not pods:
            raise Missing(f"no Pod stands for module {key} on the target")
        return await _each(pods, self._delete, within)

    def _pod(self, vnode: VNodeName, container: Container, *, namespace: str, annotations: Mapping[str, str]) -> Pod:
        # The same wish gives the same name.
        wish = f"{base_of_node(vnode, self._env) or vnode}\n{container.name}\n{container.version}"
        digest = hashlib.sha256(wish.encode()).hexdigest()[:10]
        return Pod(
            namespace=namespace,
            name=f"{container.name[:52]}-{digest}",
            node_name=vnode,
            uid="",
            resource_version="",
            containers=(container,),
            labels={
                contract.COMPONENT: contract.COMPONENT_MODULE,
                contract.ENV: self._env,
                "app.kubernetes.io/managed-by": "module-controller",
            },
            annotations=annotations,
            tolerations=(
                Toleration(contract.TAINT_VIRTUAL_NODE, "Equal", "True", "NoExecute"),
                Toleration(contract.TAINT_NODE_ENV, "Equal", self._env, "NoExecute"),
            ),
        )

    async def _create(self, pod: Pod) -> Outcome:
        try:
            return await self._cluster.create_pod(pod), Result.CREATED
        except AlreadyExists:
            return self._existing(pod)

    def _existing(self, pod: Pod) -> Outcome:
        existing = self._cluster.pods.get(f"{pod.namespace}/{pod.name}")
        if existing is None:
            return pod, Result.UNCHANGED
        if existing.deleting:
            raise NotAllowed(f"Pod {existing.key} is still being deleted: wait until it is gone")
        urls = {container.url for container in existing.containers}
        if pod.containers[0].url not in urls:
            raise NotAllowed(
                f"Pod {existing.key} installs it from another URL, {', '.join(sorted(urls))}: uninstall it first"
            )
        # An earlier attempt of the same call may have created it without a confirmation.
        ours = existing.annotations.get(contract.ANNOTATION_REQUEST_ID)
        same = ours == pod.annotations[contract.ANNOTATION_REQUEST_ID]
        return existing, Result.CREATED if same else Result.UNCHANGED

    async def _delete(self, pod: Pod) -> Outcome:
        if pod.owner_uid:
            raise NotAllowed(f"Pod {pod.key} belongs to a workload that would create it again: scale or delete that")
        if len(pod.containers) > 1:
            raise NotAllowed(f"Pod {pod.key} has other modules too: delete the Pod itself")
        try:
            await self._cluster.delete_pod(pod)
        except (NotFound, Conflict):
            return pod, Result.UNCHANGED
        return pod, Result.DELETED


async def _each(pods: Sequence[Pod], act: Callable[[Pod], Awaitable[Outcome]], within: float) -> list[Outcome]:
    """Act on all Pods, on a few at once; a failure of one is its outcome."""
    until = asyncio.get_running_loop().time() + within
    ends: dict[int, Outcome] = {}
    waiting = iter(enumerate(pods))

    async def work() -> None:
        for number, pod in waiting:
            end = await _end(partial(act, pod), until)
            ends[number] = end if isinstance(end, tuple) else (pod, end)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(AT_ONCE, len(pods))):
            group.create_task(work())
    return [ends[number] for number in range(len(pods))]


async def _end(act: Callable[[], Awaitable[Outcome]], until: float) -> Outcome | Failure:
    """Act, again and again while the cluster turns it away for now, and return how that ended."""
    loop = asyncio.get_running_loop()
    if loop.time() >= until:
        return Transient("it was not tried: the time of the call was over")
    attempts = 0
    while True:
        try:
            async with asyncio.timeout_at(until):
                return await act()
        except TimeoutError:
            return Unknown("it was not confirmed in the time of the call, and may have been done")
        except (StorageFull, StorageDamaged) as error:
            return error
        except (Transient, Unknown) as error:
            attempts += 1
            pause = max(RETRY.delay(attempts, random.random()), error.retry_after or 0.0)  # noqa: S311 - jitter
            if loop.time() + pause >= until:
                return error
        except (ClusterError, RequestError) as error:
            return error
        await asyncio.sleep(pause)


def _check(container: Container) -> None:
    if not _BIZ_NAME.fullmatch(container.name):
        raise RequestError("a module's name is a DNS label: lower-case letters, digits and '-', at most 63", "name")
    if problem := invalid(container):
        raise RequestError(problem, "url" if container.version and ":" not in container.version else "version")
    if not _is_url(container.image):
        raise RequestError(
            f"{container.image[:200]!r} is not a URL: write it with its scheme, "
            "for example https://repo.example/biz1-0.0.1.jar or file:///opt/biz1.jar",
            "url",
        )


def _is_url(text: str) -> bool:
    """Return whether a base could read text as a URL: java.net.URL needs a scheme, and HTTP a host."""
    if not _URL.fullmatch(text):
        return False
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme not in ("http", "https") or bool(parts.hostname)
