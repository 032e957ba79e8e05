"""Validation of containers: names and images, variables and where they come from, probes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from controlplane.cluster.api import Json
from controlplane.domain import quantities
from controlplane.domain.base.environment import is_known_field, is_known_resource
from controlplane.embedded.api.fielderrors import FieldErrors, child, children, count, dns_label, subdomain, text

_ENV_NAME = re.compile(r"[ -<>-~]+")
_DATA_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")
_PORT_NAME = re.compile(r"(?=.{1,15}$)(?=.*[a-z])[a-z0-9]+(?:-[a-z0-9]+)*")
_HEADER = re.compile(r"[-A-Za-z0-9]+")
_BYTES = ("1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei")
_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc")
_COUNTS = ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold")

Check = Callable[[Json, str, FieldErrors], None]


def containers(spec: Json, path: str, errors: FieldErrors) -> None:
    """Note what is wrong in the containers of a Pod spec."""
    names: set[str] = set()
    if not spec.get("containers"):
        errors.required(f"{path}.containers")
    for field in ("initContainers", "containers"):
        for here, container in children(spec, field, path, errors):
            _identity(container, here, names, errors)
            texts(container, "args", here, errors)
            texts(container, "command", here, errors)
            for at, variable in children(container, "env", here, errors):
                _variable(variable, at, errors)
            for at, source in children(container, "envFrom", here, errors):
                _one_of(source, _ENV_FROM, at, errors)
            for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
                if container.get(probe) is not None:
                    _probe(child(container, probe, here, errors), probe, f"{here}.{probe}", errors)


def texts(obj: Json, key: str, path: str, errors: FieldErrors) -> None:
    """Note a list under key that holds something else than texts."""
    value = obj.get(key)
    if value is not None and not (isinstance(value, list) and all(isinstance(v, str) for v in value)):
        errors.invalid(f"{path}.{key}", value, "must be a list of strings")


def _identity(container: Json, here: str, names: set[str], errors: FieldErrors) -> None:
    name = text(container, "name", here, errors)
    if not name:
        errors.required(f"{here}.name")
    else:
        dns_label(name, f"{here}.name", errors)
        if name in names:
            errors.duplicate(f"{here}.name", name)
        names.add(name)
    image = text(container, "image", here, errors)
    if not image:
        errors.required(f"{here}.image")
    elif image != image.strip():
        errors.invalid(f"{here}.image", image, "must not have leading or trailing whitespace")


def _variable(variable: Json, at: str, errors: FieldErrors) -> None:
    name = text(variable, "name", at, errors)
    if not name:
        errors.required(f"{at}.name")
    elif not _ENV_NAME.fullmatch(name):
        errors.invalid(f"{at}.name", name, "must consist only of printable ASCII characters other than '='")
    value = text(variable, "value", at, errors)
    if variable.get("valueFrom") is None:
        return
    here = f"{at}.valueFrom"
    if value:
        errors.invalid(here, "", "may not be specified when `value` is not empty")
    _one_of(child(variable, "valueFrom", at, errors), _VALUE_FROM, here, errors)


def _one_of(source: Json, kinds: Mapping[str, Check], path: str, errors: FieldErrors) -> None:
    named = [kind for kind in kinds if source.get(kind) is not None]
    if not named:
        errors.invalid(path, "", f"must specify one of: {', '.join(f'`{kind}`' for kind in kinds)}")
    elif len(named) > 1:
        errors.invalid(path, "", "may not have more than one field specified at a time")
    for kind in named:
        kinds[kind](child(source, kind, path, errors), f"{path}.{kind}", errors)


def _field(source: Json, path: str, errors: FieldErrors) -> None:
    field = text(source, "fieldPath", path, errors)
    version = text(source, "apiVersion", path, errors)
    if not field:
        errors.required(f"{path}.fieldPath")
    elif not is_known_field(field) or version not in ("", "v1"):
        errors.invalid(f"{path}.fieldPath", field, "is not a field that variables can refer to")


def _resource(source: Json, path: str, errors: FieldErrors) -> None:
    resource = text(source, "resource", path, errors)
    if not resource:
        errors.required(f"{path}.resource")
    elif not is_known_resource(resource):
        errors.invalid(f"{path}.resource", resource, "is not a resource that variables can refer to")
    text(source, "containerName", path, errors)
    divisor = source.get("divisor")
    allowed = ("1m", "1") if resource.endswith(".cpu") else _BYTES
    number = quantities.parse(str(divisor)) if divisor is not None else None
    if divisor is not None and (number is None or (number and number not in map(quantities.parse, allowed))):
        errors.invalid(f"{path}.divisor", divisor, f"only divisor's values {', '.join(allowed)} are supported")


def _key(source: Json, path: str, errors: FieldErrors) -> None:
    _name(source, path, errors)
    key = text(source, "key", path, errors)
    if not key:
        errors.required(f"{path}.key")
    elif not _DATA_KEY.fullmatch(key):
        errors.invalid(f"{path}.key", key, "must consist of alphanumeric characters, '-', '_' or '.'")


def _name(source: Json, path: str, errors: FieldErrors) -> None:
    name = text(source, "name", path, errors)
    if not name:
        errors.required(f"{path}.name")
    else:
        subdomain(name, f"{path}.name", errors)


def _file(source: Json, path: str, errors: FieldErrors) -> None:
    for field in ("key", "volumeName", "path"):
        if not text(source, field, path, errors):
            errors.required(f"{path}.{field}")


_VALUE_FROM: Mapping[str, Check] = {
    "fieldRef": _field,
    "resourceFieldRef": _resource,
    "configMapKeyRef": _key,
    "secretKeyRef": _key,
    "fileKeyRef": _file,
}
_ENV_FROM: Mapping[str, Check] = {"configMapRef": _name, "secretRef": _name}


def _probe(probe: Json, kind: str, path: str, errors: FieldErrors) -> None:
    for field in _COUNTS:
        count(probe, field, path, errors)
    if kind != "readinessProbe" and probe.get("successThreshold") not in (None, 0, 1):
        errors.invalid(f"{path}.successThreshold", probe["successThreshold"], "must be 1")
    if kind == "readinessProbe" and probe.get("terminationGracePeriodSeconds") is not None:
        where, value = f"{path}.terminationGracePeriodSeconds", probe["terminationGracePeriodSeconds"]
        errors.invalid(where, value, "must not be set for readinessProbes")
    handlers = [name for name in _HANDLERS if probe.get(name) is not None]
    if not handlers:
        errors.required(path, "must specify a handler type")
    for name in handlers[1:]:
        errors.invalid(f"{path}.{name}", "", "may not specify more than 1 handler type")
    for name in handlers[:1]:
        _handler(name, child(probe, name, path, errors), f"{path}.{name}", errors)


def _handler(name: str, handler: Json, path: str, errors: FieldErrors) -> None:
    if name == "exec":
        texts(handler, "command", path, errors)
        if not handler.get("command"):
            errors.required(f"{path}.command")
        return
    _port(handler.get("port"), f"{path}.port", errors, names=name != "grpc")
    if name != "httpGet":
        return
    text(handler, "path", path, errors)
    scheme = text(handler, "scheme", path, errors)
    if scheme not in ("", "HTTP", "HTTPS"):
        errors.unsupported(f"{path}.scheme", scheme, ("HTTP", "HTTPS"))
    for at, header in children(handler, "httpHeaders", path, errors):
        header_name = text(header, "name", at, errors)
        text(header, "value", at, errors)
        if not _HEADER.fullmatch(header_name):
            errors.invalid(f"{path}.httpHeaders", header_name, "must consist of alphanumeric characters or '-'")


def _port(port: Any, path: str, errors: FieldErrors, *, names: bool) -> None:
    if isinstance(port, str) and names:
        if not _PORT_NAME.fullmatch(port):
            errors.invalid(path, port, "must be a port's name: at most 15 lower-case letters, digits and '-'")
    elif not isinstance(port, int) or isinstance(port, bool) or not 0 < port < 65536:
        errors.invalid(path, port, "must be between 1 and 65535, inclusive")
