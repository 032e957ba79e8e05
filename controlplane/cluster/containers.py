"""From the containers of a Pod, or of a Pod template, to views of those that are modules.

Total functions, as those of ``objects``.
"""

from __future__ import annotations

from collections.abc import Sequence

from controlplane.cluster import fields
from controlplane.cluster.api import Json
from controlplane.cluster.probes import probes
from controlplane.domain import quantities
from controlplane.domain.base import environment, podfields
from controlplane.domain.objects import Container, FieldRef, ResourceRef


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
    return Container(
        name=fields.word(obj, "name"),
        image=fields.word(obj, "image"),
        version=environment.version(env, facts),
        args=fields.texts(obj, "args"),
        env=env,
        unsupported=podfields.refused(obj),
        probes=probes(obj),
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
