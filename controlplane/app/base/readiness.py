"""Whether the modules of one base are ready, as the probes of their Pods tell."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime

from controlplane.app.base.prober import Key, Prober, Target
from controlplane.app.base.state import Base
from controlplane.app.events import Recorder
from controlplane.app.ports import Clock, Cluster
from controlplane.domain.base.vpod import Readings
from controlplane.domain.objects import Pod, PodStatus
from controlplane.domain.probes import NOT_YET, Reading


class Readiness:
    """Has the modules of one base probed while they run; changed is called when a Pod's status has to change."""

    def __init__(
        self,
        base: Base,
        *,
        cluster: Cluster,
        clock: Clock,
        prober: Prober,
        recorder: Recorder,
        changed: Callable[[], None],
    ) -> None:
        self._base = base
        self._cluster = cluster
        self._clock = clock
        self._prober = prober
        self._recorder = recorder
        self._changed = changed

    def readings(self, pods: Iterable[Pod]) -> Readings:
        """Return what is known from probes."""
        found = {}
        for pod in pods:
            for container in pod.containers:
                key = (pod.uid, container.name)
                reading = self._prober.reading(self._base.vnode, key) if container.probes else None
                if reading is not None:
                    found[key] = reading
        return found

    def attend(self, shown: Iterable[tuple[Pod, PodStatus]]) -> None:
        """Have these Pods probed from now on, and no others; a status is the one that the Pod has or is to have."""
        wall = self._clock.wall()
        targets = [target for pod, status in shown for target in self._targets(pod, status, wall)]
        self._prober.attend(self._base.vnode, targets, self._told)

    def end(self) -> None:
        """Have nothing probed any more."""
        self._prober.attend(self._base.vnode, (), self._told)

    def _targets(self, pod: Pod, status: PodStatus, wall: float) -> Iterator[Target]:
        statuses = {each.name: each for each in status.containers}
        for container in pod.containers:
            one = statuses.get(container.name)
            if container.probes and one is not None and one.kind == "running":
                yield Target(
                    key=(pod.uid, container.name),
                    ip=self._base.profile.address.ip,
                    probes=container.probes,
                    run=one.started_at,
                    age=_seconds_since(one.started_at, wall),
                    started=one.started,
                    ready=one.ready,
                )

    def _told(self, key: Key, reading: Reading) -> None:
        uid, name = key
        if reading.why not in ("", NOT_YET):
            kind = "Readiness" if reading.started else "Startup"
            message = f"{name}: {kind} probe failed: {reading.why}"
            for pod in self._cluster.pods.on_node(self._base.vnode):
                for container in pod.containers if pod.uid == uid else ():
                    if container.name == name:
                        module = f"{name}:{container.version}"
                        self._recorder.pod(pod, module, warning=True, reason="Unhealthy", message=message)
        self._changed()


def _seconds_since(time: str, wall: float) -> float:
    try:
        return max(wall - datetime.fromisoformat(time).timestamp(), 0.0)
    except ValueError:
        return 0.0
