"""Merging objects: merge patch (RFC 7386), strategic merge patch of Kubernetes objects, and what kubectl apply does.

Pure: arguments are not changed; the result may share parts with them.
"""

from collections.abc import Mapping
from typing import Any

from controlplane.app.ports import Rejected
from controlplane.cluster.api import Json

_MERGE_KEYS: Mapping[str, str] = {
    "addresses": "type",
    "conditions": "type",
    "containers": "name",
    "env": "name",
    "initContainers": "name",
    "ownerReferences": "uid",
}
"""Lists that a strategic patch merges item by item. All others are replaced: tolerations, containerStatuses, args."""
_ORDER = "$setElementOrder/"


def merge(target: Any, patch: Json, *, former: Any = None) -> Json:
    """Apply a merge patch: objects merge, null deletes, everything else replaces.

    What former has and patch has not is removed, too: so kubectl apply brings an object from the manifest that it had
    to the present one, and leaves what others set.
    """
    result: Json = dict(target) if isinstance(target, dict) else {}
    said: Json = former if isinstance(former, dict) else {}
    for name in said.keys() - patch.keys():
        result.pop(name, None)
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, dict):
            result[name] = merge(result.get(name), value, former=said.get(name))
        else:
            result[name] = value
    return result


def strategic(target: Any, patch: Json) -> Json:
    """Apply a strategic merge patch: a merge patch in which lists with a merge key merge item by item.

    Of the directives, those for the order of a list and for the deletion of an item are known. Raises Rejected for
    others, and for items without the key.
    """
    result: Json = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if name.startswith(_ORDER):
            continue
        if name.startswith("$"):
            raise Rejected(f"unknown patch directive {name[:100]!r}")
        if value is None:
            result.pop(name, None)
        elif isinstance(value, dict):
            result[name] = strategic(result.get(name), value)
        elif isinstance(value, list) and name in _MERGE_KEYS:
            result[name] = _merged_items(name, result.get(name), value, patch.get(f"{_ORDER}{name}"))
        else:
            result[name] = value
    return result


def _merged_items(field: str, current: Any, wanted: list[Any], order: Any) -> list[Any]:
    key = _MERGE_KEYS[field]
    result, items = _by_key(key, current), _by_key(key, wanted)
    if len(items) != len(wanted):
        raise Rejected(f"{field}: each item of a strategic merge patch must be an object with another {key}")
    for name, item in items.items():
        if item.get("$patch") == "delete":
            result.pop(name, None)
        else:
            result[name] = strategic(result.get(name), item)
    first = [result.pop(name) for name in _by_key(key, order) if name in result]
    return first + list(result.values())


def _by_key(key: str, items: Any) -> Json:
    """Return the objects of a list by their keys; of two with the same the later counts."""
    objects = [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
    return {item[key]: item for item in objects if isinstance(item.get(key), str | int)}
