"""Variables and arguments of a container, as Kubernetes documents them.

Variables are resolved in their order: ``$(NAME)`` stands for an earlier variable, ``$$`` for ``$``, and a reference to
what is not there stays as it is. Of two variables of one name the later counts. Arguments may refer to all variables.

What is known differs: a Pod on its base knows all of it, the template of a Deployment has no name yet. A value that
needs what is not known is None, and so is each value that refers to it.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import TypeAlias

from controlplane.domain import jars, quantities
from controlplane.domain.contract import ANNOTATION_VERSION, BIZ_VERSION_ENV
from controlplane.domain.objects import Container, FieldRef, Pod, ResourceRef

Env: TypeAlias = Iterable[tuple[str, str | FieldRef | ResourceRef]]

LONGEST = 1024 * 1024
"""Characters of all variables and arguments together: a base takes commands of 1 MiB (arklet's HTTP server)."""
_LONGEST_FACT = 300
"""What is taken for the length of a value that is not known yet: names of objects have 253 characters at most."""
_TOO_LONG = f"variables and arguments have more than {LONGEST} characters, which is more than a base takes"

_REFERENCE = re.compile(r"\$(?:(?P<escaped>\$)|\((?P<name>[^)]*)\))")
_SUBSCRIPT = re.compile(r"(?P<path>metadata\.(?:labels|annotations))\['(?P<key>.*)'\]", re.DOTALL)
_RESOURCE = re.compile(r"(?:limits|requests)\.(?:cpu|memory|ephemeral-storage|hugepages-.+)")


@dataclass(frozen=True, slots=True)
class Facts:
    """What variables may refer to; None is not known. ip is that of the Pod and of its host.

    memory is what the Node has for Pods, as a quantity; empty when it does not say.
    """

    namespace: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    service_account: str
    name: str | None = None
    uid: str | None = None
    node: str | None = None
    ip: str | None = None
    memory: str | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """What a base gives to the Pods on it: their IP, and memory as a quantity, empty without a limit."""

    ip: str
    memory: str = ""


def facts_of(pod: Pod, place: Place = Place("")) -> Facts:
    """Return what is known of a Pod on a base."""
    return Facts(
        namespace=pod.namespace,
        labels=pod.labels,
        annotations=pod.annotations,
        service_account=pod.service_account,
        name=pod.name,
        uid=pod.uid,
        node=pod.node_name,
        ip=place.ip or pod.status.pod_ip,
        memory=place.memory,
    )


def is_known_field(path: str) -> bool:
    """Return whether a variable can refer to this field of the Pod."""
    return path in _FIELDS or _SUBSCRIPT.fullmatch(path) is not None


def is_known_resource(name: str) -> bool:
    """Return whether a variable can refer to this resource of a container."""
    return _RESOURCE.fullmatch(name) is not None


def annotation_of(path: str) -> str:
    """Return the annotation that a field path names, empty when it names another field."""
    subscript = _SUBSCRIPT.fullmatch(path)
    return subscript["key"] if subscript is not None and subscript["path"] == "metadata.annotations" else ""


def variables(env: Env, facts: Facts) -> dict[str, str | None]:
    """Return the values of variables by name."""
    values: dict[str, str | None] = {}
    for name, value in env:
        values[name] = _value(value, values, facts)
    return values


def version(name: str, image: str, env: Env, facts: Facts) -> str:
    """Return a module's version, empty when there is none or when it is not known yet.

    The first of these says it: the variable BIZ_VERSION, the annotation of the Pod, the image.
    """
    values = variables(env, facts)
    if BIZ_VERSION_ENV in values:
        return values[BIZ_VERSION_ENV] or ""
    return facts.annotations.get(ANNOTATION_VERSION) or jars.version(image, name)


def resolve(container: Container, facts: Facts) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """Return arguments and variables as the module gets them; BIZ_VERSION is not among these."""
    values = variables(container.env, facts)
    args = tuple(expand(arg, values) or "" for arg in container.args)
    return args, tuple((name, value or "") for name, value in values.items() if name != BIZ_VERSION_ENV)


def too_long(args: Iterable[str], env: Env, facts: Facts) -> str:
    """Say where variables and arguments become too long for a base, their references replaced; empty if they do not.

    References to references multiply: 20 variables of 40 characters can stand for a terabyte. So lengths are added up
    before anything is replaced.
    """
    lengths: dict[str, int] = {}
    everything = 0
    for name, value in env:
        lengths[name] = _expanded_length(value, lengths) if isinstance(value, str) else _source_length(value, facts)
        everything += lengths[name]
        if everything > LONGEST:
            return f"env {name}: {_TOO_LONG}"
    everything += sum(_expanded_length(arg, lengths) for arg in args)
    return f"args: {_TOO_LONG}" if everything > LONGEST else ""


def _expanded_length(text: str, lengths: Mapping[str, int]) -> int:
    found = (match for match in _REFERENCE.finditer(text) if match["name"] in lengths)
    return len(text) + sum(lengths[match["name"]] - len(match[0]) for match in found)


def _source_length(source: FieldRef | ResourceRef, facts: Facts) -> int:
    known = _field(source.path, facts) if isinstance(source, FieldRef) else None
    return _LONGEST_FACT if known is None else len(known)


def expand(text: str, values: Mapping[str, str | None]) -> str | None:
    """Return a text with its references replaced; None when one of them is not known."""
    if "$" not in text:
        return text
    missing = False

    def replacement(found: re.Match[str]) -> str:
        nonlocal missing
        if found["escaped"]:
            return "$"
        value = values.get(found["name"], found[0])
        missing |= value is None
        return value or ""

    expanded = _REFERENCE.sub(replacement, text)
    return None if missing else expanded


def content(container: Container, facts: Facts) -> list[object]:
    """Return what makes a module another release, as JSON values: the URL, arguments and variables.

    Where something is to be resolved the variables follow once more, in their order, with what they refer to. What
    differs from Pod to Pod (name, UID, Node, address) counts as the reference that it is, so that Pods of one template
    share the module; the rest, labels and annotations for example, counts with its value.
    """
    env = [(name, value) for name, value in container.env if name != BIZ_VERSION_ENV]
    literals = sorted([name, value] for name, value in env if isinstance(value, str))
    plain: list[object] = [container.url, list(container.args), literals]
    texts = [*container.args, *(value for _, value in literals)]
    if len(literals) == len(env) and not any(_REFERENCE.search(text) for text in texts):
        return plain
    return [*plain, [[name, _lasting(value, facts)] for name, value in env]]


def _value(value: str | FieldRef | ResourceRef, values: Mapping[str, str | None], facts: Facts) -> str | None:
    if isinstance(value, str):
        return expand(value, values)
    return _field(value.path, facts) if isinstance(value, FieldRef) else _resource(value, facts)


def _lasting(value: str | FieldRef | ResourceRef, facts: Facts) -> object:
    if isinstance(value, str):
        return value
    if isinstance(value, FieldRef):
        return {"field": value.path} if value.path in _OF_EACH_POD else {"value": _field(value.path, facts)}
    return {"resource": value.resource, "divisor": value.divisor, "quantity": value.quantity}


_FIELDS: Mapping[str, Callable[[Facts], str | None]] = {
    "metadata.name": lambda facts: facts.name,
    "metadata.uid": lambda facts: facts.uid,
    "metadata.namespace": lambda facts: facts.namespace,
    "spec.serviceAccountName": lambda facts: facts.service_account,
    "spec.nodeName": lambda facts: facts.node,
    "status.hostIP": lambda facts: facts.ip,
    "status.hostIPs": lambda facts: facts.ip,
    "status.podIP": lambda facts: facts.ip,
    "status.podIPs": lambda facts: facts.ip,
}
_OF_EACH_POD = _FIELDS.keys() - {"metadata.namespace", "spec.serviceAccountName"}
"""Fields that differ from Pod to Pod of one template."""


def _field(path: str, facts: Facts) -> str | None:
    subscript = _SUBSCRIPT.fullmatch(path)
    if subscript is None:
        return _FIELDS[path](facts) if path in _FIELDS else None
    pairs = facts.labels if subscript["path"] == "metadata.labels" else facts.annotations
    return pairs.get(subscript["key"], "")


def _resource(reference: ResourceRef, facts: Facts) -> str | None:
    quantity = quantities.parse(reference.quantity)
    if not quantity and reference.resource == "limits.memory":
        # As a kubelet does it: without a limit, what the Node has for Pods.
        if facts.memory is None:
            return None
        quantity = quantities.parse(facts.memory)
    # Bytes are counted whole, CPUs in thousandths, and the rest of a division counts as one more.
    grain = Decimal("0.001") if reference.resource.endswith(".cpu") else Decimal(1)
    size = _whole(quantity or Decimal(0), grain)
    divisor = _whole(quantities.parse(reference.divisor) or Decimal(1), grain) or Decimal(1)
    return str(int((size / divisor).to_integral_value(ROUND_CEILING)))


def _whole(number: Decimal, grain: Decimal) -> Decimal:
    return (number / grain).to_integral_value(ROUND_CEILING)
