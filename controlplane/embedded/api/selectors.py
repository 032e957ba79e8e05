"""Label and field selectors in their text and JSON forms."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from controlplane.app.ports import Rejected
from controlplane.domain.objects import Requirement
from controlplane.domain.workloads.placement import InvalidSelector, parse_selector

Requirements = tuple[Requirement, ...]

_FIELD_TERM = re.compile(r"([A-Za-z.]+)(!=|==|=)(.*)")


def parse_labels(text: str) -> Requirements:
    """Parse a label selector such as ``env=dev,tier in (a, b),!canary``; raises Rejected."""
    try:
        return parse_selector(text.strip())
    except InvalidSelector as error:
        raise Rejected(f"unable to parse requirement: {error}") from error


def label_selector(selector: Any) -> Requirements | None:
    """Read a LabelSelector object; None (which matches nothing) if there is none, () matches everything."""
    if not isinstance(selector, dict):
        return None
    exact = selector.get("matchLabels")
    pairs = sorted(exact.items()) if isinstance(exact, dict) else ()
    return (
        *(Requirement(str(key), "In", (str(value),)) for key, value in pairs),
        *expressions(selector.get("matchExpressions")),
    )


def expressions(items: Any) -> Requirements:
    """Read matchExpressions or matchFields; what is no expression becomes one that is never met."""
    if not isinstance(items, list):
        return ()
    return tuple(_expression(item) for item in items)


def _expression(item: Any) -> Requirement:
    if not isinstance(item, dict):
        return Requirement("", "Invalid")
    values = item.get("values")
    return Requirement(
        str(item.get("key", "")),
        str(item.get("operator", "")),
        tuple(str(value) for value in values) if isinstance(values, list) else (),
    )


@dataclass(frozen=True, slots=True)
class FieldTerm:
    """One comparison of a field selector."""

    path: str
    value: str
    equal: bool


def parse_fields(text: str, selectable: Iterable[str]) -> tuple[FieldTerm, ...]:
    """Parse a field selector such as ``spec.nodeName=a,status.phase!=Failed``; raises Rejected."""
    allowed = tuple(selectable)
    terms: list[FieldTerm] = []
    for part in filter(None, (p.strip() for p in text.split(","))):
        found = _FIELD_TERM.fullmatch(part)
        if not found:
            raise Rejected(f"invalid field selector: {part[:100]!r}; can't understand it")
        path, operator, value = found.groups()
        if path not in allowed:
            raise Rejected(f"field label not supported: {path[:100]}; supported: {', '.join(allowed)}")
        terms.append(FieldTerm(path, value, operator != "!="))
    return tuple(terms)


def fields_match(terms: Iterable[FieldTerm], fields: Mapping[str, str]) -> bool:
    """Say whether field values meet all terms."""
    return all((fields.get(term.path, "") == term.value) is term.equal for term in terms)
