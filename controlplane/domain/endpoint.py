"""Where the API server finds our kubelet API: the one labelled Service that stands before all replicas. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from controlplane.domain.contract import ENV, KUBELET_SERVICE
from controlplane.domain.facts import Address


@dataclass(frozen=True, slots=True)
class ServicePort:
    """A port of a Service; target is a number or the name of a container's port, empty for the same number."""

    name: str
    port: int
    target: str = ""
    protocol: str = "TCP"


@dataclass(frozen=True, slots=True)
class Service:
    """A Service as the cluster has it.

    cluster_ip is empty or "None" where it has no address of its own; env is the environment whose VNodes it is for,
    empty for all.
    """

    namespace: str
    name: str
    uid: str
    resource_version: str
    cluster_ip: str = ""
    ports: tuple[ServicePort, ...] = ()
    env: str = ""

    @property
    def key(self) -> str:
        """namespace/name."""
        return f"{self.namespace}/{self.name}"


def endpoint_of(services: Sequence[Service], listens_on: int, env: str) -> Address | str:
    """Return the address, or in words why there is none.

    listens_on is the port that our server has itself; Services for another environment do not count.
    """
    label = f"{KUBELET_SERVICE}=true"
    services = [service for service in services if service.env in ("", env)]
    if not services:
        return f"no Service has the label {label}"
    if len(services) > 1:
        names = ", ".join(sorted(service.key for service in services))
        return f"more than one Service has the label {label}: {names}; leave it to one, or label each with {ENV}"
    (service,) = services
    if service.cluster_ip in ("", "None"):
        return f"Service {service.key} has no cluster IP, which is what the API server would dial"
    ports = [port for port in service.ports if port.protocol == "TCP"]
    ours = [port for port in ports if str(listens_on) == (port.target or str(port.port))]
    chosen = ports if len(ports) == 1 else ours
    if len(chosen) != 1:
        listed = ", ".join(f"{port.name or 'unnamed'} {port.port}" for port in ports) or "none"
        return f"it is not clear which port of Service {service.key} leads to port {listens_on} here: it has {listed}"
    return Address(service.cluster_ip, chosen[0].port)
