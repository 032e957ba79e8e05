"""What is said of a Pod itself, by Events, when its status is written.

Each remark is made once for as long as it holds: what the Pod's status shows already has been said.
"""

from __future__ import annotations

from collections.abc import Iterator

from controlplane.domain.base.wishes import unusable
from controlplane.domain.objects import ContainerStatus, Pod, PodStatus
from controlplane.domain.remarks import Remark


def remarks(pod: Pod, written: PodStatus) -> Iterator[Remark]:
    """Yield what is to be said now that this status was written to the Pod, which still shows the last one."""
    before = {status.name: status for status in (*pod.status.containers, *pod.status.others)}
    after = {status.name: status for status in (*written.containers, *written.others)}
    for container in pod.containers:
        status = after.get(container.name)
        if status is not None and unusable(pod, container) and not _same(before.get(container.name), status):
            yield Remark(True, status.reason, f"{container.name}: {status.message}")
    if written.phase == "Failed" and pod.status.phase != "Failed":
        yield Remark(True, written.reason, written.message)
    if pod.ignored and not after.keys() <= before.keys():
        yield Remark(False, "FieldsIgnored", pod.ignored)


def _same(before: ContainerStatus | None, after: ContainerStatus) -> bool:
    return before is not None and (before.reason, before.message) == (after.reason, after.message)
