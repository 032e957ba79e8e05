"""Bytes as attackers and accidents make them: what was recorded or is written in pages, with a few things changed.

Every strategy gives bytes, so that an input that was found is a file in ``vectors``.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

from google.protobuf.message import Message
from hypothesis import strategies as st

from tests.protobufs import messages

Path: TypeAlias = tuple[str | int, ...]

_DEEP = "\0nested "
"""Begins a text that is written as so many lists or objects in one another."""
SCALARS: Sequence[Any] = (
    None,
    *(True, False, "true", ""),
    *(0, -1, 1, 2**31 - 1, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64 - 1, -(2**31) - 1, -(2**63)),
    *(0.5, -0.5, 1e308, -1e308, 5e-324, -0.0),
    *("0", "-1", "1e99", "-0.5", "1e-99", "0.1e400", "1n", "18446744073709551616", "9" * 5000, "Ki", "1Ki", "+.5"),
    *("0001-01-01", "9999-12-31T23:59:60Z", "2026-01-01T00:00:00+23:59", "0001-01-01T00:00:00Z", "NaN", "inf"),
    *("10.0.0.7", "::ffff:10.0.0.7", "fe80::1%eth0", "0.0.0.0", "127.1", "256.0.0.1", "::"),
    *("$(A)", "$(A)$(A)$(A)$(A)", "$$(A)", "$(", "metadata.annotations['a']", "limits.cpu", "requests.memory"),
    *("a/b", "a\nb", "a\x1b[31mb", "\x00", "\x7f", "é", "\U0001f600", "\ufeff", "\u202e", "x" * 300, "x" * 5000),
    *("\n\tat x\nCaused by: y", "SUCCESS", "activated", "Always", "Exists", "In", "RollingUpdate", "$patch", "delete"),
    *([], {}, [[]], [None], {"": None}, {"a": {"a": {}}}, [{}] * 50, ["x"] * 50),
    *(f"{_DEEP}{depth}{kind}" for depth in (60, 300, 1030, 100_000) for kind in "[{"),
)
JSON = st.recursive(
    st.sampled_from(SCALARS) | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def written(value: Any) -> bytes:
    """Return a value as JSON; texts that stand for nesting become that."""
    text = json.dumps(value, ensure_ascii=False)
    for depth in (60, 300, 1030, 100_000):
        for kind, nested in (("[", "[" * depth + "]" * depth), ("{", '{"a":' * depth + "1" + "}" * depth)):
            text = text.replace(json.dumps(f"{_DEEP}{depth}{kind}"), nested)
    return text.encode()


def _paths(value: Any, path: Path = ()) -> Iterator[Path]:
    """Iterate over the paths of all values within one, itself first."""
    yield path
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _paths(inner, (*path, key))


def _changed(value: Any, path: Path, change: Callable[[Any], Any]) -> Any:
    """Return a copy in which what is at a path is another; a path that is not there changes nothing."""
    if not path:
        return change(value)
    key, *rest = path
    if isinstance(value, dict) and key in value:
        return value | {key: _changed(value[key], tuple(rest), change)}
    if isinstance(value, list) and isinstance(key, int) and key < len(value):
        return [*value[:key], _changed(value[key], tuple(rest), change), *value[key + 1 :]]
    return value


@st.composite
def objects(draw: st.DrawFn, seeds: Sequence[Any]) -> Any:
    """Return one of the seeds with up to four values in it changed, taken out, or put in twice."""
    value = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(0, 4))):
        path = draw(st.sampled_from([*_paths(value)]))
        value = _changed(value, path, draw(_changes(value)))
    return value


def _changes(whole: Any) -> st.SearchStrategy[Callable[[Any], Any]]:
    """Return a strategy for changes of one value of a whole."""
    others = st.sampled_from([*_paths(whole)])
    return st.one_of(
        JSON.map(_constant),
        JSON.map(_constant),
        JSON.map(lambda new: lambda old: [*old, new] if isinstance(old, list) else [old, new]),
        st.integers(2, 40).map(lambda times: lambda old: old * times if isinstance(old, list | str) else [old] * times),
        st.tuples(st.text(max_size=8), JSON).map(
            lambda pair: lambda old: old | {pair[0]: pair[1]} if isinstance(old, dict) else {pair[0]: old}
        ),
        others.map(lambda path: _constant(_at(whole, path))),
        st.integers(0, 20).map(_without),
    )


def _constant(new: Any) -> Callable[[Any], Any]:
    return lambda _old: new


def _without(index: int) -> Callable[[Any], Any]:
    """Return what takes out one member of an object or item of a list."""

    def change(old: Any) -> Any:
        if isinstance(old, dict):
            return {key: value for at, (key, value) in enumerate(old.items()) if at != index % max(len(old), 1)}
        if isinstance(old, str):
            return old[:index] + old[index + 1 :]
        return old[:index] + old[index + 1 :] if isinstance(old, list) else None

    return change


def _at(value: Any, path: Path) -> Any:
    for key in path:
        value = value[key]
    return value


def documents(seeds: Sequence[Any]) -> st.SearchStrategy[bytes]:
    """Return a strategy for JSON documents like the seeds, some of them damaged, and for anything else."""
    like = objects(seeds).map(written)
    return like | like | like.flatmap(lambda data: texts([data], ())) | JSON.map(written) | st.binary(max_size=60)


@st.composite
def texts(draw: st.DrawFn, seeds: Sequence[bytes], tokens: Sequence[bytes]) -> bytes:
    """Return one of the seeds with pieces cut out, doubled, or put in: tokens, pieces of other seeds, any bytes."""
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(0, 5))):
        begin = draw(st.integers(0, len(data)))
        end = min(len(data), begin + draw(st.sampled_from([0, 0, 1, 2, 8, 64, 10_000])))
        other = draw(st.sampled_from(seeds))
        at = draw(st.integers(0, len(other)))
        piece = st.sampled_from([b"", *tokens]) | st.binary(max_size=4)
        put = draw(piece | piece | st.just(data[begin:end] * 2) | st.just(other[at : at + 40]))
        data = data[:begin] + put * draw(st.sampled_from([1, 1, 1, 3, 200])) + data[end:]
    return data[:200_000]


def of_contract(kind: type[Message]) -> st.SearchStrategy[bytes]:
    """Return a strategy for messages of a type on the wire, some of them damaged."""
    whole = messages(kind).map(lambda message: message.SerializeToString())
    return whole | whole | whole.flatmap(lambda data: texts([data], ())) | st.binary(max_size=60)
