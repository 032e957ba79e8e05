"""From the containers of a Pod, or of a Pod template, to views of those that are modules, with their probes.

Total functions, as those of ``reading``.
"""

from collections.abc import Sequence

from controlplane.cluster import fields
from controlplane.cluster.api import Json
from controlplane.domain import quantities
from controlplane.domain.base import environment, podfields
from controlplane.domain.objects import Container, FieldRef, ResourceRef
from controlplane.domain.probes import NO_PROBES, Grpc, Handler, HttpGet, Port, Probe, Probes, TcpSocket


def containers(modules: Sequence[Json], spec: Json, facts: environment.Facts) -> tuple[Container, ...]:
    """View the modules of a specification; facts are what is known of the Pod."""
    return tuple(_container(each, spec, facts) for each in modules)


def referenced_annotations(modules: Sequence[Json]) -> frozenset[str]:
    """Return the annotations to which variables of modules refer."""
    sources = (
        fields.mapping(entry, "valueFrom", "fieldRef")
        for container in modules
        for entry in fields.objects(container, "env")
    )
    return frozenset(environment.annotation_of(fields.text(source, "fieldPath")) for source in sources) - {""}


def _container(obj: Json, spec: Json, facts: environment.Facts) -> Container:
    env = tuple((fields.word(entry, "name"), _value(entry, obj, spec)) for entry in fields.objects(obj, "env"))
    startup, readiness = _probe(obj, "startupProbe"), _probe(obj, "readinessProbe")
    return Container(
        name=fields.word(obj, "name"),
        image=fields.word(obj, "image"),
        version=environment.version(env, facts),
        args=fields.texts(obj, "args"),
        env=env,
        unsupported=podfields.refused(obj),
        probes=Probes(startup, readiness) if startup or readiness else NO_PROBES,
        memory=int(quantities.parse(_quantity(obj, "requests", "memory")) or 0),
    )


def _value(entry: Json, container: Json, spec: Json) -> str | FieldRef | ResourceRef:
    value = fields.word(entry, "value")
    source = fields.mapping(entry, "valueFrom")
    if value or not source:
        return value
    reference = fields.mapping(source, "resourceFieldRef")
    if reference:
        return _resource(reference, container, spec)
    return FieldRef(fields.word(fields.mapping(source, "fieldRef"), "fieldPath"))


def _resource(reference: Json, container: Json, spec: Json) -> ResourceRef:
    name = fields.word(reference, "resource")
    kind, _, resource = name.partition(".")
    other = fields.text(reference, "containerName")
    if other:
        everyone = fields.objects(spec, "containers") + fields.objects(spec, "initContainers")
        container = next((each for each in everyone if each.get("name") == other), {})
    quantity = _quantity(container, kind, resource)
    if quantity in ("", "0") and kind == "limits":
        quantity = _quantity(spec, kind, resource) or quantity
    return ResourceRef(name, fields.word(reference, "divisor"), quantity)


def _quantity(obj: Json, kind: str, resource: str) -> str:
    """Return what a container or a Pod says of a resource; a bare number is a quantity, too."""
    value = fields.mapping(obj, "resources", kind).get(resource)
    return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else ""


def _probe(container: Json, name: str) -> Probe | None:
    """View a probe, None for one that cannot be sent."""
    obj = fields.mapping(container, name)
    if not obj or (handler := _handler(obj, container)) is None:
        return None
    return Probe(
        handler=handler,
        initial_delay=max(fields.integer(obj, "initialDelaySeconds") or 0, 0),
        period=max(fields.integer(obj, "periodSeconds") or 10, 1),
        timeout=max(fields.integer(obj, "timeoutSeconds") or 1, 1),
        success_threshold=max(fields.integer(obj, "successThreshold") or 1, 1),
        failure_threshold=max(fields.integer(obj, "failureThreshold") or 3, 1),
    )


def _handler(obj: Json, container: Json) -> Handler | None:
    kind = next((name for name in ("httpGet", "tcpSocket", "grpc") if isinstance(obj.get(name), dict)), "")
    handler = fields.mapping(obj, kind)
    match kind:
        case "httpGet":
            headers = fields.objects(handler, "httpHeaders")
            return HttpGet(
                port=_port(handler, container),
                path=fields.word(handler, "path") or "/",
                tls=fields.text(handler, "scheme").upper() == "HTTPS",
                headers=tuple((fields.word(each, "name"), fields.word(each, "value")) for each in headers),
            )
        case "tcpSocket":
            return TcpSocket(_port(handler, container))
        case "grpc":
            return Grpc(_port(handler, container), fields.word(handler, "service"))
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
