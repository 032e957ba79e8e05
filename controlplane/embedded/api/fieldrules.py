"""Checks of fields, put together as tables, with errors in the words of the Kubernetes API.

Fields that an object should not have are collected apart from the errors: stored objects may have them, manifests may
not.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any, TypeAlias

from controlplane.app.ports import Rejected

MAX_SHOWN = 20
MAX_UNKNOWN_SHOWN = 10
_EMPTY: tuple[object, ...] = (None, "", [], {})


class FieldErrors:
    """Collects what is wrong with one object, field by field."""

    def __init__(self) -> None:
        self._errors: list[tuple[str, str]] = []
        self._unknown: list[tuple[str, str, Iterable[str]]] = []

    def __len__(self) -> int:
        return len(self._errors)

    def add(self, path: str, text: str) -> None:
        """Add what is wrong with a field."""
        self._errors.append((path, text))

    def required(self, path: str, detail: str = "") -> None:
        """Add that a field is missing."""
        self.add(path, f"Required value{': ' + detail if detail else ''}")

    def invalid(self, path: str, value: Any, detail: str) -> None:
        """Add that a value is not allowed."""
        self.add(path, f"Invalid value: {_shown(value)}: {detail}")

    def duplicate(self, path: str, value: Any) -> None:
        """Add that a value is there twice."""
        self.add(path, f"Duplicate value: {_shown(value)}")

    def unknown(self, path: str, name: str, known: Iterable[str]) -> None:
        """Add a field that an object should not have beside those that are known."""
        self._unknown.append((path, name, known))

    def raise_if_any(self, kind: str, name: str) -> None:
        """Raise Rejected with all errors."""
        if not self._errors:
            return
        fields = tuple(self._errors[:MAX_SHOWN])
        texts = [f"{path}: {text}" for path, text in fields]
        if len(self._errors) > MAX_SHOWN:
            texts.append(f"and {len(self._errors) - MAX_SHOWN} more")
        text = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
        raise Rejected(f'{kind} "{name[:253]}" is invalid: {text}', fields)

    def raise_if_unknown(self) -> None:
        """Raise Rejected with the fields that the object should not have."""
        fields: list[tuple[str, str]] = []
        for path, name, known in self._unknown[:MAX_UNKNOWN_SHOWN]:
            similar = get_close_matches(name, known, n=1)
            fields.append((path[:200], "unknown field" + (f' (did you mean "{similar[0]}"?)' if similar else "")))
        if fields:
            texts = [text.replace("field", f'field "{path}"', 1) for path, text in fields]
            raise Rejected(f"strict decoding error: {', '.join(texts)}", tuple(fields))


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str)
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


Check: TypeAlias = Callable[[Any, str, FieldErrors], None]
"""Collects what is wrong with a value, other than null, that is at a path."""


def anything(_value: Any, _path: str, _errors: FieldErrors) -> None:
    """Find nothing wrong."""


def text(problem: Problem | None = None, *, supported: tuple[str, ...] = ()) -> Check:
    """Return the check of a text that is empty, or has no problem and is one of the supported ones if there are any."""

    def check(value: Any, path: str, errors: FieldErrors) -> None:
        if not isinstance(value, str):
            errors.invalid(path, value, "must be a string")
        elif value and supported and value not in supported:
            known = ", ".join(f'"{each}"' for each in supported)
            errors.add(path, f"Unsupported value: {_shown(value)}: supported values: {known}")
        elif value and problem is not None and (found := problem(value)):
            errors.invalid(path, value, found)

    return check


def number(lowest: int = 0, highest: int = 2**31 - 1, *, or_text: Problem | None = None) -> Check:
    """Return the check of an integer, or also of a text without a problem where texts are allowed."""

    def check(value: Any, path: str, errors: FieldErrors) -> None:
        if or_text is not None and isinstance(value, str):
            if problem := or_text(value):
                errors.invalid(path, value, problem)
        elif not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= highest:
            errors.invalid(path, value, f"must be an integer between {lowest} and {highest}, inclusive")

    return check


TEXT = text()


def texts(value: Any, path: str, errors: FieldErrors) -> None:
    """Check a list of texts."""
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        errors.invalid(path, value, "must be a list of strings")


def pairs(key: Problem = label_key, value: Problem = label_value, *, longest: int | None = None) -> Check:
    """Return the check of a map of texts, such as labels; longest is how many characters all of it may have."""
    check_value = text(value)

    def check(found: Any, path: str, errors: FieldErrors) -> None:
        if not isinstance(found, dict):
            errors.invalid(path, found, "must be an object")
            return
        for name, each in found.items():
            if problem := key(name):
                errors.invalid(path, name, problem)
            check_value(each, f"{path}[{name}]", errors)
        size = sum(len(name) + len(each) for name, each in found.items() if isinstance(each, str))
        if longest is not None and size > longest:
            errors.invalid(path, f"{size} characters", f"must be no more than {longest}")

    return check


def fields(
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

    def check(value: Any, path: str, errors: FieldErrors) -> None:
        if not isinstance(value, dict):
            errors.invalid(path, value, "must be an object")
            return
        before, prefix = len(errors), f"{path}." if path else ""
        for name, inner in value.items():
            if name not in checks:
                if strict:
                    errors.unknown(f"{prefix}{name}", name, checks)
            elif inner is not None:
                checks[name](inner, f"{prefix}{name}", errors)
        for name in required.split():
            if value.get(name) in _EMPTY:
                errors.required(f"{prefix}{name}")
        if len(errors) == before:
            also(value, path, errors)

    return check


def items(item: Check, *, unique: tuple[str, ...] = ()) -> Check:
    """Return the check of a list of objects, of which no two have the same values in the unique fields."""

    def check(value: Any, path: str, errors: FieldErrors) -> None:
        if not isinstance(value, list):
            errors.invalid(path, value, "must be a list")
            return
        seen: set[tuple[str, ...]] = set()
        for index, each in enumerate(value):
            item(each, f"{path}[{index}]", errors)
            mark = tuple(str(each.get(name)) for name in unique) if isinstance(each, dict) else ()
            if mark and mark in seen:
                errors.duplicate(f"{path}[{index}]", each)
            seen.add(mark)

    return check
