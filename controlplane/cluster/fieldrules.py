"""Checks of fields, put together as tables, with errors in the words of the Kubernetes API.

A check yields what is wrong with a value, other than null, that is at a path. Fields that an object should not have are
told apart from errors: stored objects may have them, manifests may not.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, NamedTuple, TypeAlias

_EMPTY: tuple[object, ...] = (None, "", [], {})


class Wrong(NamedTuple):
    """What is wrong with a field. One that the object should not have comes with those that are known there."""

    path: str
    text: str
    known: Iterable[str] | None = None

    def similar(self) -> str:
        """Ask whether a known field was meant; empty if none is like it."""
        found = get_close_matches(self.path.rpartition(".")[2], self.known or (), n=1)
        return f' (did you mean "{found[0]}"?)' if found else ""


def needed(path: str, detail: str = "") -> Wrong:
    """Return that a field is missing."""
    return Wrong(path, f"Required value{': ' + detail if detail else ''}")


def invalid(path: str, value: Any, detail: str) -> Wrong:
    """Return that a value is not allowed."""
    return Wrong(path, f"Invalid value: {_shown(value)}: {detail}")


def duplicate(path: str, value: Any) -> Wrong:
    """Return that a value is there twice."""
    return Wrong(path, f"Duplicate value: {_shown(value)}")


def _shown(value: Any) -> str:
    try:
        text = json.dumps(value, default=str)
    except RecursionError:
        return "..."
    return text if len(text) <= 200 else f"{text[:200]}..."


Problem: TypeAlias = Callable[[str], str]
"""Returns what is wrong with a text, nothing if it is right."""


def matching(pattern: str, explanation: str, longest: int | None = None) -> Problem:
    """Return the rule that a text as a whole matches a pattern, and has at most so many characters."""
    compiled = re.compile(pattern)

    def problem(text: str) -> str:
        if longest is not None and len(text) > longest:
            return f"must be no more than {longest} characters"
        return "" if compiled.fullmatch(text) else explanation

    return problem


_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_WORD = r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?"
_OF_WORDS = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric one"

dns_label = matching(
    _LABEL,
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', "
    "and must start and end with an alphanumeric character (e.g. 'my-name')",
    longest=63,
)
subdomain = matching(
    rf"{_LABEL}(\.{_LABEL})*",
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', "
    "and must start and end with an alphanumeric character (e.g. 'example.com')",
    longest=253,
)
label_value = matching(rf"({_WORD})?", f"a valid label must be an empty string or {_OF_WORDS}", longest=63)
_key_name = matching(_WORD, _OF_WORDS, longest=63)


def label_key(key: str) -> str:
    """Return what is wrong with the key of a label, an annotation or a taint."""
    prefix, slash, name = key.rpartition("/")
    if problem := _key_name(name):
        return f"name part {problem}"
    problem = subdomain(prefix) if slash else ""
    return f"prefix part {problem}" if problem else ""


Check: TypeAlias = Callable[[Any, str], Iterable[Wrong]]


def anything(_value: Any, _path: str) -> Iterable[Wrong]:
    """Find nothing wrong."""
    return ()


def text(problem: Problem | None = None, *, supported: tuple[str, ...] = ()) -> Check:
    """Return the check of a text that is empty, or has no problem and is one of the supported ones if there are any."""

    def check(value: Any, path: str) -> Iterator[Wrong]:
        if not isinstance(value, str):
            yield invalid(path, value, "must be a string")
        elif value and supported and value not in supported:
            known = ", ".join(f'"{each}"' for each in supported)
            yield Wrong(path, f"Unsupported value: {_shown(value)}: supported values: {known}")
        elif value and problem is not None and (found := problem(value)):
            yield invalid(path, value, found)

    return check


def number(lowest: int = 0, highest: int = 2**31 - 1, *, or_text: Problem | None = None) -> Check:
    """Return the check of an integer, or also of a text without a problem where texts are allowed."""

    def check(value: Any, path: str) -> Iterator[Wrong]:
        if or_text is not None and isinstance(value, str):
            if problem := or_text(value):
                yield invalid(path, value, problem)
        elif not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= highest:
            yield invalid(path, value, f"must be an integer between {lowest} and {highest}, inclusive")

    return check


def pairs(key: Problem = label_key, value: Problem = label_value, *, longest: int | None = None) -> Check:
    """Return the check of a map of texts, such as labels; longest is how many characters all of it may have."""
    check_value = text(value)

    def check(found: Any, path: str) -> Iterator[Wrong]:
        if not isinstance(found, dict):
            yield invalid(path, found, "must be an object")
            return
        for name, each in found.items():
            if problem := key(name):
                yield invalid(path, name, problem)
            yield from check_value(each, f"{path}[{name}]")
        size = sum(len(name) + len(each) for name, each in found.items() if isinstance(each, str))
        if longest is not None and size > longest:
            yield invalid(path, f"{size} characters", f"must be no more than {longest}")

    return check


def object_of(
    known: Mapping[str, Check],
    *,
    others: Iterable[str] = (),
    required: str = "",
    also: Check = anything,
    strict: bool = True,
) -> Check:
    """Return the check of an object.

    others are fields that may hold anything. required ones must be there and not be empty. also is done when nothing
    was found wrong with the fields by themselves. An object that is not strict may have more fields.
    """
    checks = dict.fromkeys(others, anything) | dict(known)

    def check(value: Any, path: str) -> Iterator[Wrong]:
        if not isinstance(value, dict):
            yield invalid(path, value, "must be an object")
            return
        right, prefix = True, f"{path}." if path else ""
        for name, inner in value.items():
            if name not in checks:
                if strict:
                    yield Wrong(f"{prefix}{name}", "unknown field", checks)
            elif inner is not None:
                for wrong in checks[name](inner, f"{prefix}{name}"):
                    right = right and wrong.known is not None
                    yield wrong
        for name in required.split():
            if value.get(name) in _EMPTY:
                right = False
                yield needed(f"{prefix}{name}")
        if right:
            yield from also(value, path)

    return check


def list_of(item: Check, *, unique: tuple[str, ...] = ()) -> Check:
    """Return the check of a list, of whose objects no two have the same values in the unique fields."""

    def check(value: Any, path: str) -> Iterator[Wrong]:
        if not isinstance(value, list):
            yield invalid(path, value, "must be a list")
            return
        seen: set[tuple[str, ...]] = set()
        for index, each in enumerate(value):
            yield from item(each, f"{path}[{index}]")
            mark = tuple(str(each.get(name)) for name in unique) if isinstance(each, dict) else ()
            if mark and mark in seen:
                yield duplicate(f"{path}[{index}]", each)
            seen.add(mark)

    return check


TEXT = text()
TEXTS = list_of(TEXT)
