"""Hypothesis strategies for messages of a contract: every field may hold anything that the wire can carry."""

from typing import Any, TypeVar, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from hypothesis import strategies as st

M = TypeVar("M", bound=Message)

TEXTS = st.sampled_from(
    ["", "b1", "UPPER", "a/b", "a\x1b[31mb", "a\nb", "x" * 300, "é", "10.0.0.7", "0.0.0.0", "::ffff:10.0.0.7", "host"]
) | st.text(max_size=8)
_BOUNDS = [0, 1, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1, -1, -(2**31), -(2**63)]


def _whole(lowest: int, highest: int) -> st.SearchStrategy[int]:
    return st.sampled_from([bound for bound in _BOUNDS if lowest <= bound <= highest]) | st.integers(lowest, highest)


_F = FieldDescriptor
_SCALARS: dict[int, st.SearchStrategy[Any]] = {
    _F.TYPE_STRING: TEXTS,
    _F.TYPE_BYTES: st.binary(max_size=8),
    _F.TYPE_BOOL: st.booleans(),
    _F.TYPE_INT32: _whole(-(2**31), 2**31 - 1),
    _F.TYPE_INT64: _whole(-(2**63), 2**63 - 1),
    _F.TYPE_UINT32: _whole(0, 2**32 - 1),
    _F.TYPE_UINT64: _whole(0, 2**64 - 1),
    _F.TYPE_DOUBLE: st.floats(),
    _F.TYPE_ENUM: st.integers(0, 8) | _whole(-(2**31), 2**31 - 1),
}


def messages(kind: type[M]) -> st.SearchStrategy[M]:
    """Return a strategy for messages of a type; nested ones to a depth of 5."""
    return _fields(cast("Descriptor", kind.DESCRIPTOR), 5).map(lambda fields: _filled(kind(), fields))


def _fields(descriptor: Descriptor, depth: int) -> st.SearchStrategy[dict[str, Any]]:
    """Return a strategy for the fields of a message: values, or fields of inner messages; of a oneof one at most."""
    groups = [[field] for field in descriptor.fields if field.containing_oneof is None]
    groups += [list(oneof.fields) for oneof in descriptor.oneofs]
    choices: list[st.SearchStrategy[tuple[str, Any] | None]] = []
    for group in groups:
        fields = [_named(field, depth) for field in group if depth or field.message_type is None]
        choices.append(st.none() | st.one_of(fields))
    return st.tuples(*choices).map(lambda chosen: dict(pair for pair in chosen if pair is not None))


def _named(field: FieldDescriptor, depth: int) -> st.SearchStrategy[tuple[str, Any]]:
    return st.tuples(st.just(field.name), _field(field, depth))


def _field(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    inner = field.message_type
    if inner is not None and inner.GetOptions().map_entry:
        return st.dictionaries(TEXTS, _field(inner.fields_by_name["value"], depth - 1), max_size=2)
    one = _SCALARS[field.type] if inner is None else st.deferred(lambda: _fields(inner, depth - 1))
    return st.lists(one, max_size=3) if field.is_repeated else one


def _filled(message: M, fields: dict[str, Any]) -> M:
    for name, value in fields.items():
        field = message.DESCRIPTOR.fields_by_name[name]
        target = getattr(message, name)
        if isinstance(value, dict) and field.message_type is not None and field.message_type.GetOptions().map_entry:
            _filled_map(target, value)
        elif field.is_repeated:
            for each in value:
                if field.message_type is None:
                    target.append(each)
                else:
                    _filled(target.add(), each)
        elif field.message_type is not None:
            target.SetInParent()
            _filled(target, value)
        else:
            setattr(message, name, value)
    return message


def _filled_map(target: Any, values: dict[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, dict):
            _filled(target[key], value)
        else:
            target[key] = value
