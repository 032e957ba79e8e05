"""Whether the ports that are listened on are free, each wanted once."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from controlplane.settings import ControlPlaneSettings
from gateways.http.settings import HttpGatewaySettings
from gateways.mqtt.settings import MqttGatewaySettings
from modulecontroller.configuration import Configuration
from modulecontroller.doctor.findings import Finding, error, ok
from modulecontroller.doctor.listeners import listener
from modulecontroller.settings import SupervisorSettings
from service.listening import open_sockets

ABOUT = "ports"
_STATUS = frozenset({"HEALTH_PORT", "METRICS_PORT"})


@dataclass(frozen=True, slots=True)
class Wanted:
    """A port that a program listens on, and where, as in its settings."""

    variable: str
    port: int
    host: str


async def check(configuration: Configuration) -> AsyncIterator[Finding]:
    """Yield which ports cannot be had and why."""
    ports = list(wanted(configuration))
    free = []
    for each in ports:
        finding = _twice(each, ports) or await _try(each)
        if finding is None:
            free.append(f"{each.variable}={each.port}")
        else:
            yield finding
    if free:
        yield ok(ABOUT, f"free: {', '.join(dict.fromkeys(free))}")


def wanted(configuration: Configuration) -> Iterator[Wanted]:
    """Yield the ports that the programs listen on; under module-controller children have no status ports."""
    supervisor = configuration.of(SupervisorSettings)
    control_plane = configuration.of(ControlPlaneSettings)
    http = configuration.of(HttpGatewaySettings)
    if control_plane is not None:
        yield Wanted("GRPC_PORT", control_plane.grpc_port, control_plane.grpc_host)
        yield Wanted("REPORT_PORT", control_plane.report_port, control_plane.status_host)
        if control_plane.kubelet_proxy_enabled:
            yield Wanted("KUBELET_PROXY_PORT", control_plane.kubelet_proxy_port, control_plane.status_host)
    if http is not None:
        yield Wanted("HTTP_TUNNEL_LISTEN_PORT", http.listen_port, http.listen_host)
    if supervisor is not None:
        yield Wanted("HEALTH_PORT", supervisor.health_port, supervisor.status_host)
        yield Wanted("METRICS_PORT", supervisor.metrics_port, supervisor.status_host)
        return
    for alone in (control_plane, http, configuration.of(MqttGatewaySettings)):
        if alone is not None and not alone.status_socket:
            yield Wanted("HEALTH_PORT", alone.health_port, alone.status_host)
            yield Wanted("METRICS_PORT", alone.metrics_port, alone.status_host)


def _twice(port: Wanted, ports: list[Wanted]) -> Finding | None:
    others = {other.variable for other in ports if other.port == port.port and other.variable != port.variable}
    # Health and metrics may share a port.
    if port.variable in _STATUS:
        others -= _STATUS
    if not others:
        return None
    fix = "give each a port of its own"
    return error(ABOUT, f"{port.variable}={port.port} is wanted for {', '.join(sorted(others))} as well", fix)


async def _try(port: Wanted) -> Finding | None:
    try:
        opened = await open_sockets(port.host, port.port)
    except OSError as failed:
        return _explain(port, failed)
    for one in opened:
        one.close()
    return None


def _explain(port: Wanted, failed: OSError) -> Finding:
    named = f"{port.variable}={port.port}"
    if failed.errno == errno.EADDRINUSE:
        holder = listener(port.port)
        if holder is not None and holder.ours:
            return ok(ABOUT, f"{named} is in use by our own {holder}, which runs already")
        by = f" by {holder}" if holder is not None else ""
        return error(ABOUT, f"{named} is in use{by}", f"end what uses it, or choose another with {port.variable}")
    if failed.errno == errno.EACCES:
        return error(ABOUT, f"{named}: only root may listen there", f"choose one above 1023 with {port.variable}")
    cause = failed.strerror or str(failed)
    return error(ABOUT, f"{named} on {port.host or 'all addresses'}: {cause}", "name an address of this machine")
