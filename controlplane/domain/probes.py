"""Probes of modules: what is asked, and what the answers mean. Thresholds and order are a kubelet's.

Until its startup probe succeeded a module is not started, and its readiness probe waits. A startup probe that goes on
failing does not end the module, as it ends a container.
"""

from dataclasses import dataclass, replace
from typing import TypeAlias

NOT_YET = "not probed yet"

LONGEST_TIMEOUT = 60.0
"""Seconds that one probe may take, whatever it says."""


@dataclass(frozen=True, slots=True)
class Port:
    """A TCP port; name is what the probe calls it, number 0 when no port of the container has that name."""

    number: int
    name: str = ""


@dataclass(frozen=True, slots=True)
class HttpGet:
    """Succeeds with a status from 200 to 399."""

    port: Port
    path: str = "/"
    tls: bool = False
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class TcpSocket:
    """Succeeds when the port accepts a connection."""

    port: Port


@dataclass(frozen=True, slots=True)
class Grpc:
    """Succeeds when grpc.health.v1 says SERVING."""

    port: Port
    service: str = ""


Handler: TypeAlias = HttpGet | TcpSocket | Grpc


@dataclass(frozen=True, slots=True)
class Probe:
    """One probe; seconds, and results in a row that change what is known."""

    handler: Handler
    initial_delay: float = 0.0
    period: float = 10.0
    timeout: float = 1.0
    success_threshold: int = 1
    failure_threshold: int = 3


@dataclass(frozen=True, slots=True)
class Probes:
    """The probes of a container; None where it has none of that kind."""

    startup: Probe | None = None
    readiness: Probe | None = None

    def __bool__(self) -> bool:
        return self.startup is not None or self.readiness is not None


NO_PROBES = Probes()


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one probe; message says why it failed."""

    success: bool
    message: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """What the probes of a module have shown so far; why says why it is not ready.

    run says which start of the module it is of. in_a_row counts equal results, the last of which is success.
    """

    run: str
    started: bool
    ready: bool
    why: str = ""
    success: bool = False
    in_a_row: int = 0

    @property
    def shown(self) -> tuple[bool, bool, str]:
        """What a Pod's status shows of it."""
        return self.started, self.ready, self.why


def first(probes: Probes, run: str, *, started: bool, ready: bool) -> Reading:
    """Return what is known before the first result: what the Pod's status says, if it is of this run of the module."""
    started = started or probes.startup is None
    ready = ready and started
    return Reading(run, started, ready, "" if ready else NOT_YET)


def current(probes: Probes, reading: Reading) -> Probe | None:
    """Return the probe whose turn it is; None when there is nothing more to ask."""
    return probes.readiness if reading.started else probes.startup


def take(probes: Probes, reading: Reading, outcome: Outcome) -> Reading:
    """Take the result of the current probe."""
    probe = current(probes, reading)
    if probe is None:
        return reading
    in_a_row = reading.in_a_row + 1 if outcome.success is reading.success else 1
    reading = replace(reading, success=outcome.success, in_a_row=in_a_row)
    if in_a_row < (probe.success_threshold if outcome.success else probe.failure_threshold):
        return reading
    if not outcome.success:
        # The first failure is shown, and not each other one: it would be a write of the Pod for every probe.
        why = outcome.message if reading.ready or reading.why in ("", NOT_YET) else reading.why
        return replace(reading, ready=False, why=why)
    if not reading.started and probes.readiness is not None:
        return Reading(reading.run, started=True, ready=False, why=NOT_YET)
    return replace(reading, started=True, ready=True, why="")
