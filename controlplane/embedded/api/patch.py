"""Merge patch (RFC 7386) and strategic merge patch of Kubernetes objects, and kubectl's three-way merge.

Pure: the target is not changed, the result shares nothing that later writes
could reach because callers serialise it. Which lists merge by which key is known
by field name; that is unambiguous for the resources of this cluster.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from controlplane.app.ports import Rejected
from controlplane.cluster.api import Json

MERGE_KEYS: Mapping[str, str] = MappingProxyType(
    {
        "addresses": "type",
        "conditions": "type",
        "containers": "name",
        "env": "name",
        "ephemeralContainers": "name",
        "hostAliases": "ip",
        "hostIPs": "ip",
        "imagePullSecrets": "name",
        "initContainers": "name",
        "ownerReferences": "uid",
        "podIPs": "ip",
        "ports": "containerPort",
        "resourceClaims": "name",
        "taints": "key",
        "topologySpreadConstraints": "topologyKey",
        "volumeDevices": "devicePath",
        "volumeMounts": "mountPath",
        "volumes": "name",
    }
)
"""Lists of objects that merge item by item. All others are replaced: tolerations, containerStatuses, args."""

PRIMITIVE_SETS = frozenset({"finalizers"})
"""Lists of texts to which a strategic patch adds."""

_DIRECTIVE = "$patch"
_RETAIN = "$retainKeys"
_DELETE_PRIMITIVES = "$deleteFromPrimitiveList/"
_ORDER = "$setElementOrder/"


def merge(target: Any, patch: Any) -> Any:
    """Apply a merge patch: objects merge, null deletes, everything else replaces."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


def strategic(target: Json, patch: Json) -> Json:
    """Apply a strategic merge patch; raises Rejected for a list item without its merge key or an unknown directive."""
    directive = patch.get(_DIRECTIVE)
    if directive == "replace":
        return {key: value for key, value in patch.items() if key != _DIRECTIVE and value is not None}
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise Rejected(f"unknown patch directive {str(directive)[:100]!r}")
    result = dict(target)
    for key, value in patch.items():
        if key.startswith(_DELETE_PRIMITIVES):
            _remove_primitives(result, key.removeprefix(_DELETE_PRIMITIVES), value)
        elif key not in (_DIRECTIVE, _RETAIN) and not key.startswith(_ORDER):
            _set(result, key, value)
    for key, order in patch.items():
        if key.startswith(_ORDER) and isinstance(order, list):
            _reorder(result, key.removeprefix(_ORDER), order)
    retained = patch.get(_RETAIN)
    if isinstance(retained, list):
        result = {key: value for key, value in result.items() if key in retained}
    return result


def _set(result: Json, key: str, value: Any) -> None:
    before = result.get(key)
    if value is None:
        result.pop(key, None)
    elif isinstance(value, dict):
        if value.get(_DIRECTIVE) == "delete":
            result.pop(key, None)
        else:
            result[key] = strategic(before if isinstance(before, dict) else {}, value)
    elif isinstance(value, list) and key in MERGE_KEYS:
        result[key] = _merge_items(key, before if isinstance(before, list) else [], value)
    elif isinstance(value, list) and key in PRIMITIVE_SETS and isinstance(before, list):
        result[key] = [*before, *(v for v in value if v not in before)]
    else:
        result[key] = value


def _reorder(result: Json, field: str, order: list[Any]) -> None:
    """Put the items of a list in an order; what it does not name comes after them, as it was."""
    items, key = result.get(field), MERGE_KEYS.get(field)
    if not isinstance(items, list) or key is None:
        return
    names = [item.get(key) for item in order if isinstance(item, dict)]
    result[field] = sorted(items, key=lambda item: names.index(item[key]) if item.get(key) in names else len(names))


def _remove_primitives(result: Json, key: str, values: Any) -> None:
    before = result.get(key)
    if isinstance(before, list) and isinstance(values, list):
        result[key] = [item for item in before if item not in values]


def _merge_items(field: str, before: list[Any], items: list[Any]) -> list[Any]:
    merge_key = MERGE_KEYS[field]
    result = list(before)
    if any(isinstance(item, dict) and item.get(_DIRECTIVE) == "replace" for item in items):
        return [item for item in items if not (isinstance(item, dict) and _DIRECTIVE in item)]
    for item in items:
        if not isinstance(item, dict) or item.get(merge_key) is None:
            raise Rejected(f"{field}: an item of a strategic merge patch must be an object with {merge_key}")
        same = [i for i, old in enumerate(result) if isinstance(old, dict) and old.get(merge_key) == item[merge_key]]
        if item.get(_DIRECTIVE) == "delete":
            result = [old for i, old in enumerate(result) if i not in same]
        elif same:
            result[same[0]] = strategic(result[same[0]], item)
        else:
            result.append(strategic({}, item))
    return result


def three_way(original: Any, modified: Any, current: Any, field: str = "") -> Any:
    """Bring current to modified as kubectl apply does.

    What modified says is set, what original said and modified no longer says is
    removed, and everything else in current (defaults, other writers) stays.
    """
    if isinstance(modified, dict):
        result = dict(current) if isinstance(current, dict) else {}
        former = original if isinstance(original, dict) else {}
        for key in former:
            if modified.get(key) is None:
                result.pop(key, None)
        for key, value in modified.items():
            if value is None:
                result.pop(key, None)
            else:
                result[key] = three_way(former.get(key), value, result.get(key), key)
        return result
    if isinstance(modified, list) and field in MERGE_KEYS:
        return _three_way_items(MERGE_KEYS[field], original, modified, current)
    return modified


def _three_way_items(merge_key: str, original: Any, modified: list[Any], current: Any) -> list[Any]:
    former, present, wanted = (_by_key(merge_key, items) for items in (original, current, modified))
    if former is None or present is None or wanted is None:
        return modified
    result = [three_way(former.get(key), item, present.get(key)) for key, item in wanted.items()]
    return [*result, *(item for key, item in present.items() if key not in wanted and key not in former)]


def _by_key(merge_key: str, items: Any) -> dict[Any, Any] | None:
    if items is None:
        return {}
    if not isinstance(items, list):
        return None
    found: dict[Any, Any] = {}
    for item in items:
        key = item.get(merge_key) if isinstance(item, dict) else None
        if not isinstance(key, str | int) or key in found:
            return None
        found[key] = item
    return found
