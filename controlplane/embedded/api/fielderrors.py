"""Field errors in the words of the Kubernetes API, and the checks of names and labels."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from controlplane.app.ports import Rejected
from controlplane.cluster.api import Json

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
DNS_LABEL = re.compile(_LABEL)
DNS_SUBDOMAIN = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_QUALIFIED_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")

_SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', "
    "and must start and end with an alphanumeric character (e.g. 'example.com')"
)
_LABEL_RULE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', "
    "and must start and end with an alphanumeric character (e.g. 'my-name')"
)
_KEY_RULE = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end "
    "with an alphanumeric character (e.g. 'MyName')"
)
_VALUE_RULE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', "
    "and must start and end with an alphanumeric character"
)

MAX_SHOWN = 20


class FieldErrors:
    """Collects what is wrong with one object, field by field."""

    def __init__(self) -> None:
        self._found: list[tuple[str, str]] = []

    def __len__(self) -> int:
        return len(self._found)

    def required(self, path: str, detail: str = "") -> None:
        """Note that a field is missing."""
        self._found.append((path, f"Required value{': ' + detail if detail else ''}"))

    def invalid(self, path: str, value: Any, detail: str) -> None:
        """Note that a value is not allowed."""
        self._found.append((path, f"Invalid value: {shown(value)}: {detail}"))

    def unsupported(self, path: str, value: Any, supported: Iterable[str]) -> None:
        """Note that a value is none of those that are known."""
        known = ", ".join(f'"{s}"' for s in supported)
        self._found.append((path, f"Unsupported value: {shown(value)}: supported values: {known}"))

    def duplicate(self, path: str, value: Any) -> None:
        """Note that a value is there twice."""
        self._found.append((path, f"Duplicate value: {shown(value)}"))

    def raise_if_any(self, kind: str, name: str) -> None:
        """Raise Rejected with all that was found."""
        if not self._found:
            return
        fields = tuple(self._found[:MAX_SHOWN])
        told = [f"{path}: {text}" for path, text in fields]
        if len(self._found) > MAX_SHOWN:
            told.append(f"and {len(self._found) - MAX_SHOWN} more")
        text = told[0] if len(told) == 1 else f"[{', '.join(told)}]"
        raise Rejected(f'{kind} "{name[:253]}" is invalid: {text}', fields)


def shown(value: Any) -> str:
    """Return a value as a message shows it, clipped."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 200 else f"{text[:200]}..."


def child(obj: Json, key: str, path: str, errors: FieldErrors) -> Json:
    """Return the object under key; an absent one is empty, anything else is noted and empty."""
    value = obj.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        errors.invalid(f"{path}.{key}".lstrip("."), value, "must be an object")
        return {}
    return value


def children(obj: Json, key: str, path: str, errors: FieldErrors) -> list[tuple[str, Json]]:
    """Return the objects of the list under key with their paths; what is none is noted and left out."""
    value = obj.get(key)
    here = f"{path}.{key}".lstrip(".")
    if value is None:
        return []
    if not isinstance(value, list):
        errors.invalid(here, value, "must be a list")
        return []
    found: list[tuple[str, Json]] = []
    for index, item in enumerate(value):
        if isinstance(item, dict):
            found.append((f"{here}[{index}]", item))
        else:
            errors.invalid(f"{here}[{index}]", item, "must be an object")
    return found


def text(obj: Json, key: str, path: str, errors: FieldErrors) -> str:
    """Return the text under key; an absent one is empty, anything else is noted and empty."""
    value = obj.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        errors.invalid(f"{path}.{key}", value, "must be a string")
        return ""
    return value


def count(obj: Json, key: str, path: str, errors: FieldErrors) -> None:
    """Note a number under key that is no integer from 0 to 2147483647."""
    value = obj.get(key)
    if value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**31:
        errors.invalid(f"{path}.{key}", value, "must be an integer greater than or equal to 0")


def subdomain(value: str, path: str, errors: FieldErrors) -> None:
    """Note a name that is no DNS subdomain."""
    if len(value) > 253:
        errors.invalid(path, value, "must be no more than 253 characters")
    elif not DNS_SUBDOMAIN.fullmatch(value):
        errors.invalid(path, value, _SUBDOMAIN_RULE)


def dns_label(value: str, path: str, errors: FieldErrors) -> None:
    """Note a name that is no DNS label."""
    if len(value) > 63:
        errors.invalid(path, value, "must be no more than 63 characters")
    elif not DNS_LABEL.fullmatch(value):
        errors.invalid(path, value, _LABEL_RULE)


def label_key(key: str, path: str, errors: FieldErrors) -> None:
    """Note a key that no label, annotation or taint can have."""
    prefix, slash, name = key.rpartition("/")
    if not name or len(name) > 63 or not _QUALIFIED_NAME.fullmatch(name):
        errors.invalid(path, key, _KEY_RULE)
    elif slash and (len(prefix) > 253 or not DNS_SUBDOMAIN.fullmatch(prefix)):
        errors.invalid(path, key, f"prefix part {_SUBDOMAIN_RULE}")


def label_value(value: Any, path: str, errors: FieldErrors) -> None:
    """Note a value that no label can have."""
    if not isinstance(value, str):
        errors.invalid(path, value, "must be a string")
    elif len(value) > 63:
        errors.invalid(path, value, "must be no more than 63 characters")
    elif not _LABEL_VALUE.fullmatch(value):
        errors.invalid(path, value, _VALUE_RULE)


def labels(obj: Json, key: str, path: str, errors: FieldErrors) -> Json:
    """Check a map of labels and return it."""
    here = f"{path}.{key}".lstrip(".")
    found = child(obj, key, path, errors)
    for name, value in found.items():
        label_key(name, here, errors)
        label_value(value, f"{here}[{name}]", errors)
    return found
