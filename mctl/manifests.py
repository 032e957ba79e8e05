"""Manifests: YAML or JSON documents to objects, with the line of every field.

Reading is bounded in bytes, documents, depth and, because aliases multiply, in
values. Duplicate keys are errors. What a kind means is the server's word.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mctl.errors import Usage
from mctl.records import Json, Ref
from mctl.yamltree import BadValue, convert, line_of

MAX_BYTES = 1024 * 1024
MAX_DOCUMENTS = 1000
STDIN = "<stdin>"

_SUFFIXES = (".yaml", ".yml", ".json")
_CLUSTER_SCOPED = frozenset({"Node", "Namespace"})


@dataclass(frozen=True, slots=True)
class Manifest:
    """One object and where it was read from."""

    source: str
    node: yaml.Node
    value: Json

    def ref(self) -> Ref:
        """Return what names the object; the namespace defaults to default."""
        kind = self.value["kind"]
        metadata = self.value["metadata"]
        namespace = "" if kind in _CLUSTER_SCOPED else str(metadata.get("namespace") or "default")
        return Ref(self.value["apiVersion"], kind, namespace, metadata["name"])

    def where(self, field: str, message: str) -> str:
        """Return source:line: field: message for a field such as spec.containers[0].image."""
        return f"{self.source}:{line_of(self.node, field)}: {field}: {message}"

    @property
    def place(self) -> str:
        """Return source:line of its beginning."""
        return f"{self.source}:{line_of(self.node, '')}"

    def with_default_namespace(self, namespace: str) -> Manifest:
        """Return the manifest with a namespace where it needs one and names none."""
        metadata = self.value["metadata"]
        if not namespace or metadata.get("namespace") or self.value["kind"] in _CLUSTER_SCOPED:
            return self
        return Manifest(self.source, self.node, {**self.value, "metadata": {**metadata, "namespace": namespace}})


def read(paths: Sequence[str]) -> list[Manifest]:
    """Return the objects of files, of folders (their .yaml, .yml and .json files by name), or of - for standard input.

    Raises Usage with one line, source:line: field: message, for each thing that is wrong.
    """
    found: list[Manifest] = []
    problems: list[str] = []
    for source, data in _sources(paths):
        try:
            found += parse(source, data)
        except Usage as error:
            problems += error.lines
        if len(found) > MAX_DOCUMENTS:
            raise Usage(f"{source}: more than {MAX_DOCUMENTS} objects: apply them in parts")
    if problems:
        raise Usage(*problems)
    if not found:
        raise Usage(f"{', '.join(paths)}: no objects found")
    return found


def parse(source: str, data: bytes) -> list[Manifest]:
    """Return the objects of one text; raises Usage as read does."""
    if len(data) > MAX_BYTES:
        raise Usage(f"{source}: larger than {MAX_BYTES} bytes: apply it in parts")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise Usage(f"{source}:{line}: not UTF-8 text (byte 0x{data[error.start]:02x})") from None
    found: list[Manifest] = []
    problems: list[str] = []
    for node in _documents(source, text):
        try:
            found += _objects(source, node)
        except Usage as error:
            problems += error.lines
    if problems:
        raise Usage(*problems)
    return found


def _sources(paths: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    for path in paths:
        if path == "-":
            yield STDIN, sys.stdin.buffer.read(MAX_BYTES + 1)
            continue
        try:
            entry = Path(path)
            files = sorted(f for f in entry.iterdir() if f.suffix in _SUFFIXES) if entry.is_dir() else [entry]
            for file in files:
                with file.open("rb") as stream:
                    yield str(file), stream.read(MAX_BYTES + 1)
        except OSError as error:
            raise Usage(f"{error.filename or path}: cannot be read: {error.strerror}") from None


def _documents(source: str, text: str) -> Iterator[yaml.Node]:
    # The pure Python loader: libyaml's composer overflows the C stack on deep nesting.
    try:
        for number, node in enumerate(yaml.compose_all(text, Loader=yaml.SafeLoader), 1):
            if number > MAX_DOCUMENTS:
                raise Usage(f"{source}: more than {MAX_DOCUMENTS} documents: apply them in parts")
            if node is not None and node.tag != "tag:yaml.org,2002:null":
                yield node
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source
        raise Usage(f"{place}: YAML syntax: {error.problem or error.context}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise Usage(f"{source}:{line}: YAML syntax: the character U+{_code(error.character)} is not allowed") from None
    except RecursionError:
        raise Usage(f"{source}: nested too deeply") from None


def _code(character: Any) -> str:
    return f"{ord(character) if isinstance(character, str) else character:04X}"


def _objects(source: str, node: yaml.Node) -> Iterator[Manifest]:
    try:
        value = convert(node)
    except BadValue as error:
        field = f"{error.field}: " if error.field else ""
        raise Usage(f"{source}:{error.line}: {field}{error.message}") from None
    if not isinstance(value, dict):
        raise Usage(f"{source}:{node.start_mark.line + 1}: an object is a mapping with apiVersion, kind and metadata")
    items = value.get("items")
    if value.get("kind") == "List" and isinstance(items, list):
        for index, item in enumerate(_items(node)):
            yield _checked(source, item, items[index])
        return
    yield _checked(source, node, value)


def _items(node: yaml.Node) -> list[yaml.Node]:
    for key, value in node.value:
        if key.value == "items":
            return list(value.value)
    return []


_WORD = re.compile(r"\S+")


def _checked(source: str, node: yaml.Node, value: Any) -> Manifest:
    if not isinstance(value, dict):
        raise Usage(f"{source}:{node.start_mark.line + 1}: an object is a mapping with apiVersion, kind and metadata")
    manifest = Manifest(source, node, value)
    problems = [
        manifest.where(field, problem)
        for field, found in (("apiVersion", value.get("apiVersion")), ("kind", value.get("kind")))
        if (problem := _unnamed(found))
    ]
    metadata = value.get("metadata")
    if not isinstance(metadata, dict):
        problems.append(manifest.where("metadata", "required, a mapping with a name"))
    elif problem := _unnamed(metadata.get("name")):
        problems.append(manifest.where("metadata.name", problem))
    if problems:
        raise Usage(*problems)
    return manifest


def _unnamed(value: Any) -> str:
    if value is None or value == "":
        return "required"
    if not isinstance(value, str):
        return f"must be a text, not {value!r}: put it in quotes"
    return "" if _WORD.fullmatch(value) else "must not have spaces"
