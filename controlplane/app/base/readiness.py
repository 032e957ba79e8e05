"""Whether the modules of one base are ready, as the probes of their Pods show."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from controlplane.app.base.prober import BaseProbes, Target
from controlplane.app.base.surroundings import Surroundings
from controlplane.domain.base.vpod import Readings
from controlplane.domain.objects import Container, Pod, PodStatus
from controlplane.domain.probes import NOT_YET, Reading
from controlplane.domain.remarks import Remark
from controlplane.domain.times import parse_time


@dataclass(slots=True)
class Readiness:
    """Has the modules of one base probed while they run."""

    around: Surroundings
    probes: BaseProbes
    _shown: dict[tuple[str, str], object] = field(default_factory=dict)
    """What was last seen of each module, by UID of the Pod and name of the container."""

    def readings(self, pods: Iterable[Pod]) -> Readings:
        """Return what is known from probes; a probe that fails is recorded."""
        found = {}
        for pod in pods:
            for container in pod.containers if any(c.probes for c in pod.containers) else ():
                key = (pod.uid, container.name)
                reading = self.probes.reading(key) if container.probes else None
                if reading is not None:
                    found[key] = reading
                    if reading.shown != self._shown.get(key):
                        self._record(pod, container, reading)
        self._shown = {key: reading.shown for key, reading in found.items()}
        return found

    def attend(self, shown: Iterable[tuple[Pod, PodStatus]], ip: str) -> None:
        """Have these Pods probed at an address, and no others; a status is what the Pod has or is to have."""
        wall = self.around.clock.wall()
        self.probes.attend(target for pod, status in shown for target in _targets(pod, status, ip, wall))

    def end(self) -> None:
        """Have nothing probed any more."""
        self.probes.attend(())

    def _record(self, pod: Pod, container: Container, reading: Reading) -> None:
        if reading.why in ("", NOT_YET):
            return
        kind = "Readiness" if reading.started else "Startup"
        message = f"{container.name}: {kind} probe failed: {reading.why}"
        self.around.recorder.pod(pod, Remark(True, "Unhealthy", message), module=str(container.key))


def _targets(pod: Pod, status: PodStatus, ip: str, wall: float) -> Iterator[Target]:
    for container in pod.containers:
        one = status.of(container)
        if container.probes and one.kind == "running":
            started_at = parse_time(one.started_at)
            yield Target(
                key=(pod.uid, container.name),
                ip=ip,
                probes=container.probes,
                run=one.started_at,
                age=max(wall - started_at, 0.0) if started_at is not None else 0.0,
                started=one.started,
                ready=one.ready,
            )
