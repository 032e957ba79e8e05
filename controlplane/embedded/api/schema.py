"""What the objects of each resource may hold, as the Kubernetes API has it for the fields that this cluster acts on.

Misspelt fields of manifests are refused, as ``kubectl apply`` does it by default; in volumes, security contexts and
other parts that this cluster does not act on, anything goes.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from controlplane.app.ports import Rejected
from controlplane.cluster import fields, scheduling
from controlplane.cluster.api import DAEMON_SETS, DEPLOYMENTS, NODES, PODS, Json, Resource
from controlplane.cluster.fieldrules import (
    TEXT,
    TEXTS,
    Check,
    Wrong,
    anything,
    dns_label,
    duplicate,
    invalid,
    label_key,
    label_value,
    list_of,
    matching,
    needed,
    number,
    object_of,
    pairs,
    subdomain,
    text,
)
from controlplane.domain import quantities
from controlplane.domain.base import podfields
from controlplane.domain.base.environment import is_known_field, is_known_resource
from controlplane.domain.objects import NotUnderstood
from controlplane.domain.workloads.placement import matches
from controlplane.embedded.api.resources import RESOURCES, SERVER_METADATA, WORKLOADS, qualified

MAX_SHOWN = 20
MAX_UNKNOWN_SHOWN = 10
MAX_ANNOTATIONS = 256 * 1024
"""Characters of all annotations of one object, as in Kubernetes (which counts bytes)."""
_BYTES = ("1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei")
_MUTABLE = ("activeDeadlineSeconds", "terminationGracePeriodSeconds", "tolerations", "schedulingGates")


def _one_of(*kinds: str) -> Check:
    def check(source: Json, path: str) -> Iterator[Wrong]:
        named = [kind for kind in kinds if source.get(kind) is not None]
        if not named:
            yield needed(path, f"must specify one of: {', '.join(f'`{kind}`' for kind in kinds)}")
        for kind in named[1:]:
            yield invalid(f"{path}.{kind}", "", f"may not be specified beside `{named[0]}`")

    return check


def _divisor(source: Json, path: str) -> Iterator[Wrong]:
    divisor = source.get("divisor")
    if divisor is None:
        return
    allowed = ("1m", "1") if source["resource"].endswith(".cpu") else _BYTES
    size = quantities.parse(str(divisor))
    if size is None or (size and size not in map(quantities.parse, allowed)):
        yield invalid(f"{path}.divisor", divisor, f"only divisor's values {', '.join(allowed)} are supported")


def _open(required: str, known: Mapping[str, Check], also: Check = anything) -> Check:
    return object_of(known, required=required, also=also, strict=False)


def _value_or_source(variable: Json, path: str) -> Iterator[Wrong]:
    if variable.get("value") and variable.get("valueFrom") is not None:
        yield invalid(f"{path}.valueFrom", "", "may not be specified when `value` is not empty")


_FIELD_PATH = text(lambda path: "" if is_known_field(path) else "is not a field that variables can refer to")
_RESOURCE = text(lambda name: "" if is_known_resource(name) else "is not a resource that variables can refer to")
_DATA_KEY = text(matching(r"[-._a-zA-Z0-9]{1,253}", "must consist of alphanumeric characters, '-', '_' or '.'"))
_NAMED = _open("name", {"name": text(subdomain)})
_KEY_OF_NAMED = _open("name key", {"name": text(subdomain), "key": _DATA_KEY})
_VALUE_FROM: Mapping[str, Check] = {
    "fieldRef": _open("fieldPath", {"fieldPath": _FIELD_PATH, "apiVersion": text(supported=("v1",))}),
    "resourceFieldRef": _open("resource", {"resource": _RESOURCE, "containerName": TEXT}, _divisor),
    "configMapKeyRef": _KEY_OF_NAMED,
    "secretKeyRef": _KEY_OF_NAMED,
    "fileKeyRef": _open("key volumeName path", {"key": TEXT, "volumeName": TEXT, "path": TEXT}),
}
_VARIABLE = object_of(
    {
        "name": text(matching(r"[ -<>-~]+", "must consist only of printable ASCII characters other than '='")),
        "value": TEXT,
        "valueFrom": object_of(_VALUE_FROM, also=_one_of(*_VALUE_FROM)),
    },
    required="name",
    also=_value_or_source,
)
_ENV_FROM = _open("", {"configMapRef": _NAMED, "secretRef": _NAMED}, _one_of("configMapRef", "secretRef"))

_PORT_NAME = matching(
    r"(?=.{1,15}$)(?=.*[a-z])[a-z0-9]+(?:-[a-z0-9]+)*",
    "must be a port's name: at most 15 lower-case letters, digits and '-'",
)
_PORT = number(1, 65535, or_text=_PORT_NAME)
_HEADER_NAME = text(matching(r"[-A-Za-z0-9]+", "must consist of alphanumeric characters or '-'"))
_HTTP_GET: Mapping[str, Check] = {
    "port": _PORT,
    "path": TEXT,
    "scheme": text(supported=("HTTP", "HTTPS")),
    "httpHeaders": list_of(_open("name", {"name": _HEADER_NAME, "value": TEXT})),
}
_HANDLERS: Mapping[str, Check] = {
    "exec": _open("command", {"command": TEXTS}),
    "httpGet": _open("port", _HTTP_GET),
    "tcpSocket": _open("port", {"port": _PORT}),
    "grpc": _open("port", {"port": number(1, 65535)}),
}


def _not_for_readiness(value: Any, path: str) -> Iterator[Wrong]:
    yield invalid(path, value, "must not be set for readinessProbes")


def _probe(**more: Check) -> Check:
    counts = ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "failureThreshold")
    return _open("", {**dict.fromkeys(counts, number()), **_HANDLERS, **more}, _one_of(*_HANDLERS))


_CONTAINER = object_of(
    {
        "name": text(dns_label),
        "image": text(lambda image: "" if image == image.strip() else "must not have leading or trailing whitespace"),
        "args": TEXTS,
        "command": TEXTS,
        "env": list_of(_VARIABLE),
        "envFrom": list_of(_ENV_FROM),
        "ports": list_of(object_of({}, others=("name", "hostPort", "containerPort", "protocol", "hostIP"))),
        "livenessProbe": _probe(successThreshold=number(0, 1)),
        "readinessProbe": _probe(successThreshold=number(), terminationGracePeriodSeconds=_not_for_readiness),
        "startupProbe": _probe(successThreshold=number(0, 1)),
    },
    others=podfields.top_level(podfields.CONTAINER),
    required="name image",
)
_AFFINITY = object_of(
    {
        "nodeAffinity": scheduling.NODE_AFFINITY,
        "podAffinity": scheduling.POD_AFFINITY,
        "podAntiAffinity": scheduling.POD_AFFINITY,
    }
)


def _names_and_scheduling(spec: Json, path: str) -> Iterator[Wrong]:
    seen: set[str] = set()
    for kind in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(kind) or ()):
            if container["name"] in seen:
                yield duplicate(f"{path}.{kind}[{index}].name", container["name"])
            seen.add(container["name"])
    rules = scheduling.rules(spec)
    if isinstance(rules, NotUnderstood):
        yield invalid(path, rules.what, "is not understood by the scheduler")


def _pod_spec(*restart_policies: str) -> Check:
    return object_of(
        {
            "containers": list_of(_CONTAINER),
            "initContainers": list_of(_CONTAINER),
            "nodeName": text(subdomain),
            "terminationGracePeriodSeconds": number(),
            "activeDeadlineSeconds": number(1),
            "restartPolicy": text(supported=restart_policies),
            "nodeSelector": pairs(),
            "tolerations": scheduling.TOLERATIONS,
            "affinity": _AFFINITY,
            "readinessGates": list_of(object_of({"conditionType": text(label_key)}, required="conditionType")),
        },
        others=podfields.top_level(podfields.POD),
        required="containers",
        also=_names_and_scheduling,
    )


def _metadata(required: str = "") -> Check:
    return object_of(
        {
            "name": text(subdomain),
            "namespace": text(dns_label),
            "labels": pairs(),
            "annotations": pairs(lambda key: label_key(key.lower()), lambda _value: "", longest=MAX_ANNOTATIONS),
            "ownerReferences": list_of(_OWNER),
            "finalizers": TEXTS,
        },
        others=(*SERVER_METADATA, "managedFields", "selfLink"),
        required=required,
    )


def _object(spec: Check, *, strict: bool = True, required: str = "metadata") -> Check:
    known = {"metadata": _metadata(required="name"), "spec": spec, "status": _open("", {})}
    return object_of(known, others=("apiVersion", "kind"), required=required, strict=strict)


_OWNER = object_of(
    dict.fromkeys(("apiVersion", "kind", "name", "uid"), TEXT),
    others=("controller", "blockOwnerDeletion"),
    required="apiVersion kind name uid",
)
_TAINT = object_of(
    {"key": text(label_key), "effect": text(supported=scheduling.TAINT_EFFECTS), "value": text(label_value)},
    others=("timeAdded",),
    required="key effect",
)
_NODE = object_of(
    {"taints": list_of(_TAINT, unique=("key", "effect"))},
    others=("podCIDR", "podCIDRs", "providerID", "unschedulable", "configSource", "externalID"),
)
_COUNT_OR_PERCENT = number(or_text=matching(r"[0-9]{1,3}%", "a valid percent string must be like '25%'"))


def _surge_or_unavailable(strategy: Json, path: str) -> Iterator[Wrong]:
    kind, rolling = strategy.get("type"), strategy.get("rollingUpdate") or {}
    if rolling and kind and kind != "RollingUpdate":
        yield invalid(f"{path}.rollingUpdate", rolling, f"may not be specified when strategy `type` is '{kind}'")
    if all(str(rolling.get(name)) in ("0", "0%") for name in ("maxSurge", "maxUnavailable")):
        yield invalid(f"{path}.rollingUpdate.maxUnavailable", 0, "may not be 0 when `maxSurge` is 0")


def _strategy(*types: str) -> Check:
    rolling = object_of(dict.fromkeys(("maxSurge", "maxUnavailable"), _COUNT_OR_PERCENT))
    return object_of({"type": text(supported=types), "rollingUpdate": rolling}, also=_surge_or_unavailable)


def _selector_fits(spec: Json, path: str) -> Iterator[Wrong]:
    requirements = scheduling.label_selector(spec)
    labels = (spec["template"].get("metadata") or {}).get("labels") or {}
    if not requirements:
        yield needed(f"{path}.selector")
    elif isinstance(requirements, NotUnderstood) or not matches(requirements, labels):
        yield invalid(f"{path}.template.metadata.labels", labels, "`selector` does not match template `labels`")


_TEMPLATE = object_of({"metadata": _metadata(), "spec": _pod_spec("Always")}, required="spec")


def _workload(*counts: str, **more: Check) -> Check:
    known = {"selector": scheduling.LABEL_SELECTOR, "template": _TEMPLATE, **dict.fromkeys(counts, number()), **more}
    return _object(object_of(known, required="selector template", also=_selector_fits), required="metadata spec")


_OBJECTS: Mapping[Resource, Check] = {
    **dict.fromkeys(RESOURCES, _object(_open("", {}), strict=False)),
    PODS: _object(_pod_spec("Always", "OnFailure", "Never"), required="metadata spec"),
    NODES: _object(_NODE),
    DEPLOYMENTS: _workload(
        "replicas",
        "minReadySeconds",
        "revisionHistoryLimit",
        "progressDeadlineSeconds",
        paused=anything,
        strategy=_strategy("RollingUpdate", "Recreate"),
    ),
    DAEMON_SETS: _workload(
        "minReadySeconds", "revisionHistoryLimit", updateStrategy=_strategy("RollingUpdate", "OnDelete")
    ),
}


def validate(resource: Resource, obj: Json) -> None:
    """Raise Rejected naming every field that is wrong, with its path; unknown fields are not wrong here."""
    _refuse(resource, fields.text(fields.mapping(obj, "metadata"), "name"), _OBJECTS[resource](obj, ""))


def _refuse(resource: Resource, name: str, wrong: Iterable[Wrong]) -> None:
    found = [(each.path, each.text) for each in wrong if each.known is None]
    if not found:
        return
    texts = [f"{path}: {text}" for path, text in found[:MAX_SHOWN]]
    if len(found) > MAX_SHOWN:
        texts.append(f"and {len(found) - MAX_SHOWN} more")
    text = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    kind = qualified(resource, resource.kind)
    raise Rejected(f'{kind} "{name[:253]}" is invalid: {text}', tuple(found[:MAX_SHOWN]))


def check_fields(resource: Resource, manifest: Json) -> None:
    """Raise Rejected naming each field of a manifest that the resource does not have."""
    unknown = [each for each in _OBJECTS[resource](manifest, "") if each.known is not None][:MAX_UNKNOWN_SHOWN]
    if unknown:
        texts = [f'unknown field "{each.path[:200]}"{each.similar()}' for each in unknown]
        found = tuple((each.path[:200], f"{each.text}{each.similar()}") for each in unknown)
        raise Rejected(f"strict decoding error: {', '.join(texts)}", found)


def validate_change(resource: Resource, before: Json, after: Json) -> None:
    """Raise Rejected for a change of what cannot change once it is there; both are valid by themselves."""
    _refuse(resource, after["metadata"]["name"], _change(resource, before.get("spec") or {}, after.get("spec") or {}))


def _change(resource: Resource, before: Json, after: Json) -> Iterator[Wrong]:
    if resource in WORKLOADS and before.get("selector") != after.get("selector"):
        yield invalid("spec.selector", after.get("selector"), "field is immutable")
    if resource != PODS:
        return
    if _fixed(before) != _fixed(after):
        yield invalid(
            "spec",
            {key: value for key, value in after.items() if value != before.get(key)},
            "Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"
            "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to"
            " existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was"
            " previously negative)",
        )
    was, now = before.get("activeDeadlineSeconds"), after.get("activeDeadlineSeconds")
    if was is not None and now is None:
        yield invalid("spec.activeDeadlineSeconds", None, "must not update from a positive integer to nil value")
    elif was is not None and now > was:
        yield invalid("spec.activeDeadlineSeconds", now, "must be less than or equal to previous value")
    kept = after.get("tolerations") or []
    if any(toleration not in kept for toleration in before.get("tolerations") or ()):
        yield invalid("spec.tolerations", kept, "existing tolerations can not be modified except their seconds")


def _fixed(spec: Json) -> Json:
    fixed: Json = {key: value for key, value in spec.items() if key not in _MUTABLE}
    for kind in ("containers", "initContainers"):
        containers: list[Any] = fixed.get(kind) or []
        fixed[kind] = [{key: value for key, value in each.items() if key != "image"} for each in containers]
    return fixed
