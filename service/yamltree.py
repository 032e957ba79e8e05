"""YAML as Kubernetes reads it: documents to nodes, nodes to plain values and back to lines.

Values are those of JSON. Of YAML 1.1's guesses only null, booleans and numbers are taken; dates and times of day stay
text, as they do in Kubernetes' own reader. Depth is bounded and, because aliases multiply, so is the number of values.

PyYAML's own loaders guess dates, build what aliases multiply to, and raise any kind of error. ruamel.yaml keeps lines,
too, but reads YAML 1.2.
"""

import math
import re
from collections.abc import Iterator
from itertools import count
from typing import Any

import yaml
from yaml.constructor import ConstructorError, SafeConstructor

MAX_DEPTH = 64
MAX_VALUES = 100_000
_MAX_NESTING = 1000
"""Depth above which nothing is made of a document: libyaml's composer calls itself for each level."""

_TAG = "tag:yaml.org,2002:"
_INDEX = re.compile(r"\[([^\]]*)\]")
_SCALARS = SafeConstructor()
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_CONSTRUCTORS = {
    "bool": _SCALARS.construct_yaml_bool,
    "int": _SCALARS.construct_yaml_int,
    "float": _SCALARS.construct_yaml_float,
}


class BadYaml(ValueError):
    """A text cannot be used. The message says why, without what stands there; line counts from 1."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


class NotYaml(BadYaml):
    """A text is not YAML; column counts from 1, and is 0 where it is not known."""

    def __init__(self, message: str, line: int, column: int = 0) -> None:
        super().__init__(message, line)
        self.column = column


class BadValue(BadYaml):
    """A value cannot stand in an object; field is empty for the whole document."""

    def __init__(self, field: str, node: yaml.Node, message: str) -> None:
        super().__init__(f"{field}: {message}" if field else message, _line(node))
        self.field = field


def load(data: bytes) -> Any:
    """Return the value of a text with one document, None for an empty one; raises BadYaml."""
    found = documents(data)
    node = next(found, None)
    if (second := next(found, None)) is not None:
        raise NotYaml("there is a second document", _line(second))
    return None if node is None else convert(node)


def documents(data: bytes) -> Iterator[yaml.Node]:
    """Yield the documents of a text, but for empty ones; raises NotYaml."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        at = error.start
        raise NotYaml(f"not UTF-8 text (byte 0x{data[at]:02x})", data.count(b"\n", 0, at) + 1) from None
    try:
        depth = 0
        for event in yaml.parse(text, Loader=_LOADER):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _MAX_NESTING:
                mark = event.start_mark
                raise NotYaml("nested too deeply", mark.line + 1 if mark is not None else 1)
        yield from filter(None, yaml.compose_all(text, Loader=_LOADER))
    except yaml.MarkedYAMLError as error:
        mark, problem = error.problem_mark or error.context_mark, error.problem or error.context
        place = (mark.line + 1, mark.column + 1) if mark is not None else (1, 0)
        raise NotYaml(f"YAML syntax: {problem}", *place) from None
    except yaml.reader.ReaderError as error:
        # libyaml counts bytes, PyYAML characters.
        before = text[: error.position] if _LOADER is yaml.SafeLoader else text.encode()[: error.position].decode()
        character = ord(error.character) if isinstance(error.character, str) else error.character
        message = f"YAML syntax: the character U+{character:04X} is not allowed"
        raise NotYaml(message, before.count("\n") + 1) from None


def line_of(node: yaml.Node, field: str) -> int:
    """Return the line, from 1, of the longest part of a field's path that the document has.

    Paths are those of Kubernetes: spec.containers[0].image, metadata.labels[a.b/c].
    """
    line = _line(node)
    rest = "." + _INDEX.sub(r".\1", field) + "."
    while True:
        found = [entry for entry in _entries(node) if rest.startswith(f".{entry[0]}.")]
        if not found:
            return line
        # Keys may contain dots, so the longest key that the path goes on with is meant.
        name, line, node = max(found, key=lambda entry: len(entry[0]))
        rest = rest[len(name) + 1 :]


def _entries(node: yaml.Node) -> list[tuple[str, int, yaml.Node]]:
    """Return key or index, line and value of each entry."""
    if isinstance(node, yaml.MappingNode):
        return [(str(key.value), _line(key), child) for key, child in node.value]
    if isinstance(node, yaml.SequenceNode):
        return [(str(index), _line(child), child) for index, child in enumerate(node.value)]
    return []


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def convert(node: yaml.Node) -> Any:
    """Return the value of a document; raises BadValue."""
    return _value(node, "", 0, count(1))


def _value(node: yaml.Node, field: str, depth: int, values: Iterator[int]) -> Any:
    """Return the value of a node; values counts them."""
    if next(values) > MAX_VALUES:
        raise BadValue(field, node, f"more than {MAX_VALUES} values, aliases included")
    if depth > MAX_DEPTH:
        raise BadValue(field, node, f"nested deeper than {MAX_DEPTH} levels")
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node, field)
    if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
        return _mapping(node, field, depth, values)
    if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
        return [_value(child, f"{field}[{i}]", depth + 1, values) for i, child in enumerate(node.value)]
    raise BadValue(field, node, f"the YAML tag {node.tag} is not supported")


def _mapping(node: yaml.MappingNode, field: str, depth: int, values: Iterator[int]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    own: dict[str, Any] = {}
    for key, child in node.value:
        if key.tag == f"{_TAG}merge":
            found = _value(child, field, depth + 1, values)
            for mapping in found if isinstance(found, list) else [found]:
                if not isinstance(mapping, dict):
                    raise BadValue(field, child, "<< takes a mapping or a list of mappings")
                merged = {**mapping, **merged}  # the first one wins
            continue
        if not isinstance(key, yaml.ScalarNode):
            raise BadValue(field, key, "a key must be a text")
        name = str(key.value)
        here = f"{field}.{name}" if field else name
        if name in own:
            raise BadValue(here, key, "is there twice")
        own[name] = _value(child, here, depth + 1, values)
    return {**merged, **own}


def _scalar(node: yaml.ScalarNode, field: str) -> str | bool | int | float | None:
    text = str(node.value)
    kind = node.tag.removeprefix(_TAG)
    if kind in ("str", "timestamp", "value") or (kind in ("int", "float") and ":" in text):
        return text  # 12:30 is no number in base 60
    if kind == "null":
        return None
    construct = _CONSTRUCTORS.get(kind)
    if construct is None:
        raise BadValue(field, node, f"the YAML tag {kind} is not supported")
    try:
        value: bool | int | float = construct(node)
    except (ValueError, KeyError, IndexError, ConstructorError):
        raise BadValue(field, node, f"is no valid {kind}: put it in quotes if it is a text") from None
    if isinstance(value, float) and not math.isfinite(value):
        raise BadValue(field, node, "must be a finite number")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise BadValue(field, node, "is no 64-bit number: put it in quotes if it is a text")
    return value
