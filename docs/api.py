"""Writes docs/api-reference.md from the contracts in proto/, which are its only source.

``python -m docs.api`` writes the page, with ``--check`` it only says whether the page is what the contracts say (exit
code 1 when it is not).
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
    ServiceDescriptorProto,
)

from docs.generated import keep

PAGE = Path(__file__).parent / "api-reference.md"
PROTO = Path(__file__).parents[1] / "proto"
CONTRACTS = (
    "koupleless/modulecontroller/v1/module_controller.proto",
    "koupleless/tunnel/v1/tunnel.proto",
    "koupleless/replica/v1/replica.proto",
)
"""In the order of the page: what tools speak, what gateways speak, and what replicas speak among themselves."""

_HEAD = """\
# gRPC reference

<!-- Made by `python -m docs.api` from the contracts in proto/. Do not edit. -->

Every service, method, message and field of both contracts. How to use the tooling API is explained in [api.md](api.md).
Fields that are not set have the default of proto3; numbers are those on the wire.
"""

# Numbers of fields in descriptor.proto, of which a comment's path is made.
_MESSAGES, _ENUMS, _SERVICES, _FIELDS, _VALUES, _METHODS = 4, 5, 6, 2, 2, 2
_SYNTAX = 12

Comments = Mapping[tuple[int, ...], str]


@dataclass(frozen=True, slots=True)
class Contract:
    """One file, and the comment at each place of it."""

    file: FileDescriptorProto
    comments: Comments

    def comment(self, *path: int) -> str:
        """Return the comment at a place as one line; raises ValueError when there is none."""
        text = " ".join(self.comments.get(path, "").split())
        if not text:
            raise ValueError(f"{self.file.name}: no comment at {path}")
        return text.replace("|", "\\|")


def page() -> str:
    """Return the page as it should be; raises ValueError for what has no comment."""
    contracts = [_contract(file) for file in compiled().file if file.name in CONTRACTS]
    contracts.sort(key=lambda each: CONTRACTS.index(each.file.name))
    return "\n".join([_HEAD, *(part for contract in contracts for part in _sections(contract))])


def compiled() -> FileDescriptorSet:
    """Return the contracts with their comments; raises CalledProcessError when protoc does not take them."""
    with tempfile.NamedTemporaryFile(suffix=".pb") as target:
        options = ["-I", str(PROTO), "--include_source_info", f"--descriptor_set_out={target.name}"]
        subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *options, *CONTRACTS], check=True)
        return FileDescriptorSet.FromString(Path(target.name).read_bytes())


def _contract(file: FileDescriptorProto) -> Contract:
    places = file.source_code_info.location
    comments = {tuple(place.path): place.leading_comments for place in places}
    # What the whole file is about stands before its syntax line.
    return Contract(file, comments)


def _sections(contract: Contract) -> Iterator[str]:
    file = contract.file
    yield f"## {file.package}\n\n[{Path(file.name).name}](../proto/{file.name}). {contract.comment(_SYNTAX)}\n"
    for number, service in enumerate(file.service):
        yield _service(contract, service, (_SERVICES, number))
    for number, message in enumerate(file.message_type):
        yield _message(contract, message, (_MESSAGES, number))
    for number, enum in enumerate(file.enum_type):
        yield _enum(contract, enum, (_ENUMS, number))


def _service(contract: Contract, service: ServiceDescriptorProto, path: tuple[int, int]) -> str:
    rows = [
        f"| `{method.name}` | {_side(contract, method, up=True)} | {_side(contract, method, up=False)} "
        f"| {contract.comment(*path, _METHODS, number)} |\n"
        for number, method in enumerate(service.method)
    ]
    columns = "| method | request | answer | what it does |\n|---|---|---|---|\n"
    return _head(contract, service.name, path) + columns + "".join(rows)


def _side(contract: Contract, method: MethodDescriptorProto, *, up: bool) -> str:
    kind = method.input_type if up else method.output_type
    streams = method.client_streaming if up else method.server_streaming
    return f"{'stream of ' if streams else ''}{_type_name(contract, kind)}"


def _message(contract: Contract, message: DescriptorProto, path: tuple[int, int]) -> str:
    rows = [
        f"| `{field.name}` | {field.number} | {_type(contract, message, field)} "
        f"| {contract.comment(*path, _FIELDS, number)} |\n"
        for number, field in enumerate(message.field)
    ]
    columns = "| field | number | type | meaning |\n|---|---|---|---|\n" if rows else "It has no fields.\n"
    return _head(contract, message.name, path) + columns + "".join(rows)


def _type(contract: Contract, message: DescriptorProto, field: FieldDescriptorProto) -> str:
    entries = {f".{contract.file.package}.{message.name}.{each.name}": each for each in message.nested_type}
    if field.type_name in entries:
        key, value = entries[field.type_name].field
        return f"map of {_scalar(contract, key)} to {_scalar(contract, value)}"
    words = _scalar(contract, field)
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return f"list of {words}"
    if field.proto3_optional:
        return f"{words}, optional"
    if field.HasField("oneof_index"):
        return f"{words}, one of `{message.oneof_decl[field.oneof_index].name}`"
    return words


def _scalar(contract: Contract, field: FieldDescriptorProto) -> str:
    if field.type_name:
        return _type_name(contract, field.type_name)
    return FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()


def _type_name(contract: Contract, full: str) -> str:
    package, _, name = full.removeprefix(".").rpartition(".")
    if package != contract.file.package:
        return f"`{package}.{name}`"
    return f"[{name}](#{f'{_short(package)}.{name}'.replace('.', '').lower()})"


def _enum(contract: Contract, enum: EnumDescriptorProto, path: tuple[int, int]) -> str:
    rows = [
        f"| `{value.name}` | {value.number} | {contract.comment(*path, _VALUES, number)} |\n"
        for number, value in enumerate(enum.value)
    ]
    columns = "| value | number | meaning |\n|---|---|---|\n"
    return _head(contract, enum.name, path) + columns + "".join(rows)


def _head(contract: Contract, name: str, path: tuple[int, int]) -> str:
    return f"### {_short(contract.file.package)}.{name}\n\n{contract.comment(*path)}\n\n"


def _short(package: str) -> str:
    """Return a package's name without what all have in common; both have a Module."""
    return package.removeprefix("koupleless.")


if __name__ == "__main__":
    sys.exit(keep("docs.api", PAGE, page(), __doc__))
