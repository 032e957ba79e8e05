"""From the probes of a container to views of those that can be sent. Total functions, as those of ``objects``."""

from __future__ import annotations

from controlplane.cluster import fields
from controlplane.cluster.api import Json
from controlplane.domain.probes import NO_PROBES, Grpc, Handler, HttpGet, Port, Probe, Probes, TcpSocket


def probes(container: Json) -> Probes:
    """View the startup and readiness probes of a container."""
    startup, readiness = _probe(container, "startupProbe"), _probe(container, "readinessProbe")
    return Probes(startup, readiness) if startup or readiness else NO_PROBES


def _probe(container: Json, name: str) -> Probe | None:
    obj = fields.mapping(container, name)
    handler = _handler(obj, container)
    if handler is None:
        return None
    return Probe(
        handler=handler,
        initial_delay=max(fields.integer(obj, "initialDelaySeconds") or 0, 0),
        period=_at_least_one(obj, "periodSeconds", 10),
        timeout=_at_least_one(obj, "timeoutSeconds", 1),
        success_threshold=_at_least_one(obj, "successThreshold", 1),
        failure_threshold=_at_least_one(obj, "failureThreshold", 3),
    )


def _handler(obj: Json, container: Json) -> Handler | None:
    if isinstance(obj.get("httpGet"), dict):
        get = fields.mapping(obj, "httpGet")
        headers = fields.objects(get, "httpHeaders")
        return HttpGet(
            port=_port(get, container),
            path=fields.word(get, "path") or "/",
            tls=fields.text(get, "scheme").upper() == "HTTPS",
            headers=tuple((fields.word(each, "name"), fields.word(each, "value")) for each in headers),
        )
    if isinstance(obj.get("tcpSocket"), dict):
        return TcpSocket(_port(fields.mapping(obj, "tcpSocket"), container))
    if isinstance(obj.get("grpc"), dict):
        call = fields.mapping(obj, "grpc")
        return Grpc(_port(call, container), fields.word(call, "service"))
    return None


def _port(obj: Json, container: Json) -> Port:
    """Return a port that is given by its number or by a name of the container's ports."""
    number, name = fields.integer(obj, "port"), fields.word(obj, "port")
    if number is None and name:
        named = (each for each in fields.objects(container, "ports") if each.get("name") == name)
        number = next((fields.integer(each, "containerPort") for each in named), None)
    if number is None and name.isascii() and name.isdigit() and len(name) < 6:
        # As a kubelet does it: "8080" is a number, if no port has it as its name.
        number = int(name)
    return Port(number if number is not None and 0 < number < 65536 else 0, name)


def _at_least_one(obj: Json, name: str, default: int) -> int:
    return max(fields.integer(obj, name) or default, 1)
