"""The status of a module Pod, from what is known of its modules.

A pure function of the Pod as it is and of facts; it returns None where the Pod's
status says all that already, so that nothing is written twice and a status that
somebody else changed is put right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from controlplane.domain.facts import Module, ModuleState, Verb
from controlplane.domain.identity import ModuleKey
from controlplane.domain.modules import InFlight, Modules, Trouble
from controlplane.domain.objects import Condition, Container, ContainerStatus, Pod, PodStatus
from controlplane.domain.planner import invalid, module_spec

SHOW_PROGRESS_AFTER = 2.0
"""Seconds that an order is under way before its progress is worth a write."""

MESSAGE_LIMIT = 2048


@dataclass(frozen=True, slots=True)
class Host:
    """The base under a Pod: its IP, and why its modules cannot be counted on now (empty: they can)."""

    ip: str
    unreachable: str = ""


def rfc3339(seconds: float) -> str:
    """Return a time as Kubernetes writes it, to the second."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def pod_status(
    pod: Pod, modules: Modules, host: Host, *, superseded: frozenset[ModuleKey], now: float, wall: float
) -> PodStatus | None:
    """Return the status to write, or None when the Pod has it.

    superseded are modules of Pods whose place a newer version of the same module
    has taken. now is monotonic and belongs to modules, wall is written.
    """
    if not modules.told:
        return None
    before = {status.name: status for status in pod.status.containers}
    containers = tuple(
        _container(pod, container, before.get(container.name), modules, superseded, now, wall)
        for container in pod.containers
    )
    ready_text = _not_ready(containers, host)
    wanted = replace(
        pod.status,
        phase=_phase(pod.status.phase, containers),
        reason="",
        message="",
        pod_ip=host.ip or pod.status.pod_ip,
        host_ip=host.ip or pod.status.host_ip,
        start_time=pod.status.start_time or rfc3339(wall),
        containers=containers,
        conditions=_conditions(pod, containers, ready_text, rfc3339(wall)),
    )
    return None if wanted == pod.status else wanted


def next_progress(pods: Sequence[Pod], modules: Modules, now: float) -> float | None:
    """Return when an order under way for one of the Pods becomes worth showing."""
    times = [
        flight.sent_at + SHOW_PROGRESS_AFTER
        for pod in pods
        for container in pod.containers
        if (flight := modules.in_flight.get(container.name)) is not None
    ]
    return min((t for t in times if t > now), default=None)


def superseded(pods: Sequence[Pod], modules: Modules) -> frozenset[ModuleKey]:
    """Return the wanted modules whose place a module of a newer Pod has taken; pods come oldest first."""
    newest: dict[str, ModuleKey] = {}
    wanted: set[ModuleKey] = set()
    for pod in pods:
        if pod.deleting:
            continue
        for container in pod.containers:
            key = module_spec(pod, container).key
            newest[key.name] = key
            wanted.add(key)
    return frozenset(
        key for key in wanted if newest[key.name] != key and _state(modules, newest[key.name]) is ModuleState.ACTIVATED
    )


def _state(modules: Modules, key: ModuleKey) -> ModuleState | None:
    module = modules.present.get(key)
    return module.state if module else None


def _container(
    pod: Pod,
    container: Container,
    before: ContainerStatus | None,
    modules: Modules,
    superseded: frozenset[ModuleKey],
    now: float,
    wall: float,
) -> ContainerStatus:
    base = ContainerStatus(
        name=container.name,
        kind="waiting",
        image=container.image,
        restart_count=before.restart_count if before else 0,
    )
    if problem := invalid(container):
        return replace(base, reason="InvalidModule", message=problem)
    key = module_spec(pod, container).key
    module = modules.present.get(key)
    trouble = modules.troubles.get(key)
    if trouble is not None:
        base = replace(base, restart_count=max(base.restart_count, trouble.failures))
    if module is not None and module.state is ModuleState.ACTIVATED:
        if key in superseded:
            return replace(base, reason="Superseded", message="a newer version of this module serves on this base")
        return replace(base, kind="running", ready=True, started_at=_started(module, before, wall))
    flight = modules.in_flight.get(key.name)
    mine = flight if flight is not None and flight.order.module.key == key else None
    reason, message = _waiting(module, trouble, mine, before, now)
    return replace(base, reason=reason, message=message[:MESSAGE_LIMIT])


def _waiting(
    module: Module | None, trouble: Trouble | None, flight: InFlight | None, before: ContainerStatus | None, now: float
) -> tuple[str, str]:
    if trouble is not None and trouble.reason and trouble.verb is not Verb.UNINSTALL:
        return trouble.reason, trouble.message
    if module is not None:
        if module.state is ModuleState.BROKEN:
            return "Broken", module.message or "its start or stop failed in the base"
        if module.state is ModuleState.DEACTIVATED:
            return "Deactivated", module.message or "another version of this module serves on this base"
        return "Starting", module.message
    if flight is not None and flight.order.verb is Verb.INSTALL:
        shown_already = before is not None and before.reason == "Installing"
        if shown_already or now - flight.sent_at >= SHOW_PROGRESS_AFTER:
            return "Installing", ""
    # What stands there is kept, so that a quick install costs one write only.
    if before is not None and before.kind == "waiting":
        return before.reason, before.message
    return "Pending", ""


def _started(module: Module, before: ContainerStatus | None, wall: float) -> str:
    if module.changed_at is not None and 0 < module.changed_at < 253402300800000:
        return rfc3339(module.changed_at / 1000)
    if before is not None and before.kind == "running" and before.started_at:
        return before.started_at
    return rfc3339(wall)


def _phase(before: str, containers: Sequence[ContainerStatus]) -> str:
    if any(container.kind == "running" for container in containers):
        return "Running"
    # Phases do not go back: a module that broke leaves its Pod Running and not Ready.
    return "Running" if before == "Running" else "Pending"


def _not_ready(containers: Sequence[ContainerStatus], host: Host) -> tuple[str, str] | None:
    waiting = [container for container in containers if not container.ready]
    if waiting:
        names = ", ".join(f"{container.name} ({container.reason})" for container in waiting)
        return "ContainersNotReady", f"modules not ready: {names}"[:MESSAGE_LIMIT]
    if not containers:
        return "ContainersNotReady", "the Pod has no containers"
    if host.unreachable:
        return "BaseUnreachable", host.unreachable
    return None


def _conditions(
    pod: Pod, containers: Sequence[ContainerStatus], not_ready: tuple[str, str] | None, now: str
) -> tuple[Condition, ...]:
    before = {condition.type: condition for condition in pod.status.conditions}
    gates = [gate for gate in pod.readiness_gates if before.get(gate) is None or before[gate].status != "True"]
    ready = not_ready
    if ready is None and gates:
        ready = "ReadinessGatesNotReady", f"conditions not True: {', '.join(gates)}"
    wanted: Mapping[str, tuple[str, str] | None] = {
        "Initialized": None,
        "ContainersReady": not_ready,
        "Ready": ready,
    }
    changed = {name: _condition(name, why, before.get(name), now) for name, why in wanted.items()}
    foreign = tuple(changed.pop(condition.type, condition) for condition in pod.status.conditions)
    return foreign + tuple(changed.values())


def _condition(name: str, why: tuple[str, str] | None, before: Condition | None, now: str) -> Condition:
    status = "True" if why is None else "False"
    reason, message = why or ("", "")
    since = before.last_transition_time if before is not None and before.status == status else now
    return Condition(name, status, reason, message, since or now)
