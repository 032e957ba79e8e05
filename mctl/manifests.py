"""Manifests: YAML or JSON documents to objects, with the line of every field.

Reading is bounded in bytes, documents, depth and, because aliases multiply, in values. Duplicate keys are errors. What
a kind means, the server decides.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import yaml
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

from mctl.errors import UsageError
from mctl.kinds import Json
from service.yamltree import BadValue, NotYaml, convert, documents, line_of

MAX_BYTES = 1024 * 1024
MAX_DOCUMENTS = 1000
STDIN = "<stdin>"

_SUFFIXES = (".yaml", ".yml", ".json")
_CLUSTER_SCOPED = frozenset({"Node", "Namespace"})
_WORD = re.compile(r"\S+")


@dataclass(frozen=True, slots=True)
class Manifest:
    """One object and where it was read from."""

    source: str
    node: yaml.Node
    value: Json

    def ref(self) -> pb.ObjectRef:
        """Return what names the object; the namespace defaults to default."""
        kind, metadata = self.value["kind"], self.value["metadata"]
        namespace = "" if kind in _CLUSTER_SCOPED else str(metadata.get("namespace") or "default")
        return pb.ObjectRef(api_version=self.value["apiVersion"], kind=kind, namespace=namespace, name=metadata["name"])

    def place(self, field: str = "") -> str:
        """Return source:line of a field such as spec.containers[0].image, or of the beginning."""
        return f"{self.source}:{line_of(self.node, field)}"

    def where(self, field: str, message: str) -> str:
        """Return source:line: field: message."""
        return f"{self.place(field)}: {field}: {message}"

    def in_namespace(self, namespace: str) -> Self:
        """Return the manifest with a namespace where it needs one and names none."""
        metadata = self.value["metadata"]
        if not namespace or metadata.get("namespace") or self.value["kind"] in _CLUSTER_SCOPED:
            return self
        return replace(self, value={**self.value, "metadata": {**metadata, "namespace": namespace}})


def read(paths: Sequence[str], namespace: str = "") -> list[Manifest]:
    """Return the objects of files, of folders (their .yaml, .yml and .json files by name), or of - for standard input.

    namespace is for objects that name none. Raises UsageError with one line, source:line: field: message, for each
    thing that is wrong.
    """
    found: list[Manifest] = []
    problems: list[str] = []
    for source, data in _sources(paths):
        for outcome in parse(source, data):
            if isinstance(outcome, Manifest):
                found.append(outcome.in_namespace(namespace))
            else:
                problems.append(outcome)
        if len(found) > MAX_DOCUMENTS:
            raise UsageError(f"{source}: more than {MAX_DOCUMENTS} objects: apply them in parts")
    if problems:
        raise UsageError(*problems)
    if not found:
        raise UsageError(f"{', '.join(paths)}: no objects found")
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
            raise UsageError(f"{error.filename or path}: cannot be read: {error.strerror}") from None


def parse(source: str, data: bytes) -> Iterator[Manifest | str]:
    """Yield the objects of one text, and a line, source:line: field: message, for each thing that is wrong with it."""
    if len(data) > MAX_BYTES:
        yield f"{source}: larger than {MAX_BYTES} bytes: apply it in parts"
        return
    try:
        for number, node in enumerate(documents(data), 1):
            if number > MAX_DOCUMENTS:
                yield f"{source}: more than {MAX_DOCUMENTS} documents: apply them in parts"
                return
            if node.tag != "tag:yaml.org,2002:null":
                yield from _objects(source, node)
    except NotYaml as error:
        column = f":{error.column}" if error.column else ""
        yield f"{source}:{error.line}{column}: {error}"


def _objects(source: str, node: yaml.Node) -> Iterator[Manifest | str]:
    """Yield the object of a document, or the items of a List, or what is wrong with them."""
    try:
        value = convert(node)
    except BadValue as error:
        yield f"{source}:{error.line}: {error}"
        return
    parts = [(node, value)]
    if isinstance(value, dict) and value.get("kind") == "List" and isinstance(value.get("items"), list):
        nodes = next((list(child.value) for key, child in node.value if key.value == "items"), [])
        parts = list(zip(nodes, value["items"], strict=False))
    for part, item in parts:
        if not isinstance(item, dict):
            yield f"{source}:{line_of(part, '')}: an object is a mapping with apiVersion, kind and metadata"
            continue
        manifest = Manifest(source, part, item)
        if problems := list(_problems(manifest)):
            yield from problems
        else:
            yield manifest


def _problems(manifest: Manifest) -> Iterator[str]:
    metadata = manifest.value.get("metadata")
    names = {"apiVersion": manifest.value.get("apiVersion"), "kind": manifest.value.get("kind")}
    if isinstance(metadata, dict):
        names["metadata.name"] = metadata.get("name")
    for field, name in names.items():
        if problem := _unnamed(name):
            yield manifest.where(field, problem)
    if not isinstance(metadata, dict):
        yield manifest.where("metadata", "required, a mapping with a name")


def _unnamed(value: Any) -> str:
    if value is None or value == "":
        return "required"
    if not isinstance(value, str):
        return f"must be a text, not {value!r}: put it in quotes"
    return "" if _WORD.fullmatch(value) else "must not have spaces"
