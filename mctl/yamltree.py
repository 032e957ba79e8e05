"""YAML nodes to plain values and back to lines.

Values are those of JSON. Of YAML 1.1's guesses only null, booleans and numbers are
taken; dates and times of day stay text, as they do in Kubernetes' own reader.
"""

from __future__ import annotations

import math
import re
from typing import Any

import yaml
from yaml.constructor import ConstructorError, SafeConstructor

MAX_DEPTH = 64
MAX_VALUES = 100_000

_TAG = "tag:yaml.org,2002:"
_MERGE = f"{_TAG}merge"
_INDEX = re.compile(r"\[([^\]]*)\]")


class BadValue(Exception):
    """A value cannot stand in an object; field is empty for the whole document, line counts from 1."""

    def __init__(self, field: str, line: int, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.line = line
        self.message = message


def convert(node: yaml.Node) -> Any:
    """Return the value of a document; raises BadValue."""
    return _Conversion().value(node, "", 0)


def line_of(node: yaml.Node, field: str) -> int:
    """Return the line, from 1, of the longest part of a field's path that the document has.

    Paths are those of Kubernetes: spec.containers[0].image, metadata.labels[a.b/c].
    """
    line = _line(node)
    rest = field
    while rest:
        step = _step(node, rest)
        if step is None:
            break
        line, node, rest = step
    return line


def _step(node: yaml.Node, rest: str) -> tuple[int, yaml.Node, str] | None:
    index = _INDEX.match(rest)
    if isinstance(node, yaml.SequenceNode):
        if index and index[1].isdecimal() and int(index[1][:9]) < len(node.value):
            child = node.value[int(index[1][:9])]
            return _line(child), child, rest[index.end() :]
        return None
    if not isinstance(node, yaml.MappingNode):
        return None
    rest = rest.removeprefix(".")
    # Keys may contain dots, so the longest key that the path goes on with is meant.
    for key, child in sorted(node.value, key=lambda entry: -len(str(entry[0].value))):
        name = str(key.value)
        if index and index[1] == name:
            return _line(key), child, rest[index.end() :]
        if rest.startswith(name) and rest[len(name) :][:1] in ("", ".", "["):
            return _line(key), child, rest[len(name) :]
    return None


class _Conversion:
    def __init__(self) -> None:
        self._values = 0
        self._scalars = SafeConstructor()

    def value(self, node: yaml.Node, field: str, depth: int) -> Any:
        self._values += 1
        if self._values > MAX_VALUES:
            raise BadValue(field, _line(node), f"more than {MAX_VALUES} values, aliases included")
        if depth > MAX_DEPTH:
            raise BadValue(field, _line(node), f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, field, depth)
        if isinstance(node, yaml.SequenceNode):
            self._require_tag(node, "seq", field)
            return [self.value(child, f"{field}[{i}]", depth + 1) for i, child in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, field)
        raise BadValue(field, _line(node), "is neither mapping, list nor scalar")

    def _mapping(self, node: yaml.MappingNode, field: str, depth: int) -> dict[str, Any]:
        self._require_tag(node, "map", field)
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        for key, child in node.value:
            if key.tag == _MERGE:
                merged = {**self._merged(child, field, depth), **merged}
                continue
            name = self._key(key, field)
            here = f"{field}.{name}" if field else name
            if name in own:
                raise BadValue(here, _line(key), "is there twice")
            own[name] = self.value(child, here, depth + 1)
        return {**merged, **own}

    def _merged(self, node: yaml.Node, field: str, depth: int) -> dict[str, Any]:
        # Of several merged mappings the first one wins.
        value = self.value(node, field, depth + 1)
        result: dict[str, Any] = {}
        for mapping in value if isinstance(value, list) else [value]:
            if not isinstance(mapping, dict):
                raise BadValue(field, _line(node), "<< takes a mapping or a list of mappings")
            result = {**mapping, **result}
        return result

    def _key(self, key: yaml.Node, field: str) -> str:
        if not isinstance(key, yaml.ScalarNode):
            raise BadValue(field, _line(key), "a key must be a text")
        return str(key.value)

    def _scalar(self, node: yaml.ScalarNode, field: str) -> Any:
        text = str(node.value)
        match node.tag.removeprefix(_TAG):
            case "str" | "timestamp" | "value":
                return text
            case "int" | "float" if ":" in text:  # 12:30 is no number in base 60
                return text
            case "null":
                return None
            case "bool" | "int" | "float" as kind:
                return self._constructed(kind, node, field)
            case other:
                raise BadValue(field, _line(node), f"the YAML tag {other} is not supported")

    def _constructed(self, kind: str, node: yaml.ScalarNode, field: str) -> bool | int | float:
        try:
            if kind == "bool":
                return bool(self._scalars.construct_yaml_bool(node))
            if kind == "int":
                number = self._scalars.construct_yaml_int(node)
                if not -(2**63) <= number < 2**63:
                    raise BadValue(field, _line(node), "is no 64-bit number: put it in quotes if it is a text")
                return int(number)
            value = float(self._scalars.construct_yaml_float(node))
        except (ValueError, KeyError, IndexError, ConstructorError):
            raise BadValue(field, _line(node), f"is no valid {kind}: put it in quotes if it is a text") from None
        if not math.isfinite(value):
            raise BadValue(field, _line(node), "must be a finite number")
        return value

    def _require_tag(self, node: yaml.Node, kind: str, field: str) -> None:
        if node.tag != f"{_TAG}{kind}":
            raise BadValue(field, _line(node), f"the YAML tag {node.tag} is not supported")


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
