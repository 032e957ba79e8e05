"""The containers of a Pod, or of a Pod template: those that are modules, and what of all is ignored or refused.

Total functions, as those of ``reading``.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from sys import intern
from typing import TypeAlias

from controlplane.cluster import fields
from controlplane.cluster.api import Json
from controlplane.domain import jars, quantities
from controlplane.domain.base import environment
from controlplane.domain.base.podfields import CONTAINER, POD, Field, Treatment
from controlplane.domain.contract import BIZ_VERSION_ENV
from controlplane.domain.objects import Container, ContainerKind, FieldRef, OtherContainer, ResourceRef
from controlplane.domain.probes import NO_PROBES, Grpc, Handler, HttpGet, Port, Probe, Probes, TcpSocket
from controlplane.domain.sharing import shared

MESSAGE_LIMIT = 1000
"""Characters of the message about ignored fields; an Event takes 1,024."""
SERVICE_ACCOUNT_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Where the API server mounts a token into every container."""


_Index: TypeAlias = Mapping[str, Sequence[tuple[Field, Sequence[str]]]]
"""Fields of one treatment by the first name of their path, with the other names: a Pod has few of them."""


def _index(table: Iterable[Field], treatment: Treatment) -> _Index:
    found: dict[str, list[tuple[Field, list[str]]]] = defaultdict(list)
    for field in table:
        first, *rest = field.path.split(".")
        if field.treatment is treatment and first not in ("ephemeralContainers", "initContainers", "volumes"):
            found[first].append((field, rest))
    return dict(found)


_IGNORED_OF_PODS = _index(POD, Treatment.IGNORED)
_IGNORED_OF_CONTAINERS = _index(CONTAINER, Treatment.IGNORED)
_REFUSED_OF_CONTAINERS = _index(CONTAINER, Treatment.REFUSED)


def modules(spec: Json) -> list[Json]:
    """Return the containers that are modules: those with a URL as image, or BIZ_VERSION; all when none has either."""
    containers = fields.objects(spec, "containers")
    return [each for each in containers if _is_module(each)] or containers


def _is_module(container: Json) -> bool:
    versioned = any(variable.get("name") == BIZ_VERSION_ENV for variable in fields.objects(container, "env"))
    return versioned or jars.is_url(fields.text(container, "image"))


def others(spec: Json, modules: Sequence[Json]) -> tuple[OtherContainer, ...]:
    """Return the containers beside the modules: those that are not run."""
    own = {id(each) for each in modules}
    beside = [each for each in fields.objects(spec, "containers") if id(each) not in own]
    return (
        *(_other(ContainerKind.CONTAINER, each) for each in beside),
        *(_other(ContainerKind.INIT, each) for each in fields.objects(spec, "initContainers")),
        *(_other(ContainerKind.EPHEMERAL, each) for each in fields.objects(spec, "ephemeralContainers")),
    )


def ignored(spec: Json, modules: Sequence[Json], others: Iterable[OtherContainer]) -> str:
    """Say in words what of a Pod is ignored although it would matter elsewhere; empty when nothing is."""
    parts = [f"{each.kind.value} {each.name}" for each in others]
    parts += [f"volume {name}" for name in _volumes(spec)]
    parts += [field.path for field in _said(spec, _IGNORED_OF_PODS)]
    for container in modules:
        name = fields.text(container, "name")
        parts += [f"{field.path} of {name}" for field in _said(container, _IGNORED_OF_CONTAINERS)]
    if not parts:
        return ""
    text = f"ignored, as a virtual node has no use for it: {', '.join(parts)}"
    return text if len(text) <= MESSAGE_LIMIT else f"{text[: MESSAGE_LIMIT - 4]} ..."


def refused(container: Json) -> str:
    """Say which field keeps a container from being installed, and why; empty when none does."""
    for entry in fields.objects(container, "env"):
        if problem := _refused_source(entry):
            return f"env {fields.text(entry, 'name')}: {problem}"
    return _refusal(container)


def _refusal(container: Json) -> str:
    found = _said(container, _REFUSED_OF_CONTAINERS)
    return f"{found[0].path.removeprefix('env.')} is not supported here: {found[0].note}" if found else ""


def _refused_source(entry: Json) -> str:
    source = entry.get("valueFrom")
    if not isinstance(source, dict):
        return ""
    if refusal := _refusal({"env": entry}):
        return refusal
    field, resource = source.get("fieldRef"), source.get("resourceFieldRef")
    if isinstance(field, dict):
        path = fields.text(field, "fieldPath")
        return "" if environment.is_known_field(path) else f"fieldPath {path!r} is not supported here"
    if isinstance(resource, dict):
        name = fields.text(resource, "resource")
        return "" if environment.is_known_resource(name) else f"resource {name!r} is not supported here"
    kinds = ", ".join(str(name) for name, value in source.items() if value is not None)
    return f"valueFrom of a {kinds or 'kind that is not named'} is not supported here"


def _other(kind: ContainerKind, container: Json) -> OtherContainer:
    if kind is ContainerKind.INIT and container.get("restartPolicy") == "Always":
        kind = ContainerKind.SIDECAR
    return OtherContainer(kind, fields.text(container, "name"), fields.text(container, "image"))


def _volumes(spec: Json) -> list[str]:
    """Return the names of volumes, but for the one that the API server adds for the service account's token."""
    containers = [*fields.objects(spec, "containers"), *fields.objects(spec, "initContainers")]
    tokens = {
        fields.text(mount, "name")
        for container in containers
        for mount in fields.objects(container, "volumeMounts")
        if mount.get("mountPath") == SERVICE_ACCOUNT_PATH
    }
    names = [fields.text(volume, "name") for volume in fields.objects(spec, "volumes")]
    return [name for name in names if name not in tokens]


def _said(obj: Json, index: _Index) -> list[Field]:
    """Return the fields of an index that say something."""
    return [
        field
        for name, value in obj.items()
        for field, rest in index.get(name, ())
        if any(each not in field.defaults for each in _values(value, rest))
    ]


def _values(obj: object, path: Sequence[str]) -> Iterator[object]:
    """Yield what is at the end of a path, through all elements of lists."""
    if not path:
        yield obj
    elif isinstance(obj, dict):
        if path[0] in obj:
            yield from _values(obj[path[0]], path[1:])
    elif isinstance(obj, list):
        for each in obj:
            yield from _values(each, path)


def views(modules: Sequence[Json], spec: Json, facts: environment.Facts) -> tuple[Container, ...]:
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
    args = fields.texts(obj, "args")
    startup, readiness = _probe(obj, "startupProbe"), _probe(obj, "readinessProbe")
    too_long = environment.too_long(args, env, facts)
    name, image = fields.word(obj, "name"), fields.word(obj, "image")
    view = Container(
        name=name,
        image=image,
        version=intern(environment.version(name, image, env, facts)) if not too_long else "",
        args=args,
        env=env,
        unsupported=refused(obj) or too_long,
        probes=Probes(startup, readiness) if startup or readiness else NO_PROBES,
        memory=int(quantities.parse(_quantity(obj, "requests", "memory")) or 0),
    )
    length = len(image) + sum(map(len, args)) + sum(len(value) for _, value in env if isinstance(value, str))
    return shared(view, length)


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
    if http := fields.mapping(obj, "httpGet"):
        headers = fields.objects(http, "httpHeaders")
        return HttpGet(
            port=_port(http, container),
            path=fields.word(http, "path") or "/",
            tls=fields.text(http, "scheme").upper() == "HTTPS",
            headers=tuple((fields.word(each, "name"), fields.word(each, "value")) for each in headers),
        )
    if tcp := fields.mapping(obj, "tcpSocket"):
        return TcpSocket(_port(tcp, container))
    if grpc := fields.mapping(obj, "grpc"):
        return Grpc(_port(grpc, container), fields.word(grpc, "service"))
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
