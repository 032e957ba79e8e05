"""Settings from environment variables: typed, frozen, explained, refused when wrong.

Each program has one Settings class; a field is the variable of its name in capital letters, or that of its alias, and
its description the meaning with unit.
"""

import difflib
import os
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from enum import Enum, StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self, TypeVar

from pydantic import SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.masking import masked
from service.output import complain
from service.secrets import register
from service.wording import plain

EXIT_USAGE = 2

_ALIKE = 0.88
"""Two swapped letters in a name of nine are as alike as 0.889."""
_ALIKE_WORD = 0.5
"""Two swapped letters in a word of four leave it as alike as 0.75."""
_NOTHING: Mapping[str, str] = MappingProxyType({})


class Settings(BaseSettings):
    """Base of every program's settings; an empty variable counts as not set."""

    model_config = SettingsConfigDict(
        frozen=True,
        env_ignore_empty=True,
        extra="ignore",
        populate_by_name=True,
        case_sensitive=True,
        alias_generator=str.upper,
        # Lists are written as people write them in manifests, not as JSON: validators read the text.
        enable_decoding=False,
    )

    @field_validator("*", mode="before")
    @classmethod
    def _words_in_any_case(cls, value: Any, info: ValidationInfo) -> Any:
        kind = cls.model_fields[str(info.field_name)].annotation
        is_word = isinstance(kind, type) and issubclass(kind, Enum)
        return value.lower() if is_word and isinstance(value, str) else value

    @model_validator(mode="after")
    def _register_secrets(self) -> Self:
        for attribute, name, _ in _fields(type(self)):
            value = getattr(self, attribute)
            if isinstance(value, SecretStr):
                register(name, value.get_secret_value())
        return self

    def complaints(self) -> Sequence[str]:
        """Return what is wrong and does not stop the start, a line for each variable, which names it."""
        return ()


S = TypeVar("S", bound=Settings)


class Source(StrEnum):
    """Where a value comes from."""

    DEFAULT = "default"
    ENVIRONMENT = "environment"
    IMPOSED = "module-controller"
    """Set by whoever starts the program."""


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable as a program has it; value is for people: secrets are masked, empty means none."""

    name: str
    value: str
    source: Source
    meaning: str


class ConfigurationError(ValueError):
    """Settings cannot be used; each line names variable, value and fix."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


def read(cls: type[S], imposed: Mapping[str, str] = _NOTHING, *, others: Set[str] = frozenset()) -> S:
    """Return the settings from the environment, imposed going before it; raises ConfigurationError.

    others are variables of other programs, which are not taken for misspelt ones.
    """
    own = names(cls)
    lines = [*misspelt(own, others).values()]
    try:
        settings = cls(**{name: value for name, value in imposed.items() if name in own})
    except ValidationError as error:
        lines += [_explain(cls, dict(e)) for e in error.errors()]
        raise ConfigurationError(lines) from None
    if lines:
        raise ConfigurationError(lines)
    return settings


def load(cls: type[S], *, others: Set[str] = frozenset()) -> S:
    """Return the settings, or end the process with exit code 2 and a message that names variable, value and fix."""
    try:
        return read(cls, others=others)
    except ConfigurationError as error:
        complain("\n  ".join(("cannot start: wrong settings", *error.lines)))
        raise SystemExit(EXIT_USAGE) from None


def misspelt(known: Set[str], others: Set[str] = frozenset()) -> dict[str, str]:
    """Return the variables of the environment that are nearly spelt like a known one, each with a message."""
    found = {}
    for name in sorted(os.environ.keys() - known - others):
        close = difflib.get_close_matches(name, known, n=1, cutoff=_ALIKE) if len(name) >= 8 else []
        if close and _spelt_alike(name, close[0]):
            # Without its value: it may be a password, under a name that nobody knows to be one.
            found[name] = f"{name}: there is no such variable. Did you mean {close[0]}? Rename or unset it"
    return found


def _spelt_alike(one: str, other: str) -> bool:
    """Return whether names of as many words have the same words but for their spelling: PORTS is not CIDRS misspelt."""
    words = one.split("_"), other.split("_")
    if len(words[0]) != len(words[1]):
        return True
    return all(difflib.SequenceMatcher(None, a, b).ratio() >= _ALIKE_WORD for a, b in zip(*words, strict=True))


def describe(cls: type[Settings]) -> str:
    """Return the table of variables for --help: name, default and meaning."""
    width = max(map(len, names(cls)))
    rows = []
    for _, name, field in _fields(cls):
        default = "none, it must be set"
        if not field.is_required():
            default = _shown(field.get_default(call_default_factory=True, validated_data={})) or "none"
        rows.append(f"  {name:<{width}}  {field.description} (default: {default})")
    return "\n".join(rows)


def effective(settings: Settings, imposed: Mapping[str, str] = _NOTHING) -> tuple[Variable, ...]:
    """Return each variable with its value and where it comes from, imposed being what the settings were read with."""

    def source(name: str) -> Source:
        if name in imposed:
            return Source.IMPOSED
        return Source.ENVIRONMENT if os.environ.get(name) else Source.DEFAULT

    return tuple(
        Variable(name, _shown(getattr(settings, attribute)), source(name), field.description or "")
        for attribute, name, field in _fields(type(settings))
    )


def names(cls: type[Settings]) -> frozenset[str]:
    """Return the variables that a class reads."""
    return frozenset(name for _, name, _ in _fields(cls))


def state_folder() -> Path:
    """Return where programs keep what has to outlive them by default; the folder may not be there.

    It is in XDG_STATE_HOME, else in the user's home folder. In a container a user often has neither an entry in
    /etc/passwd nor HOME: it is in /var/lib then.
    """
    try:
        state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    except RuntimeError:
        state = Path("/var/lib")
    return state / "koupleless-module-controller"


def _fields(cls: type[Settings]) -> Iterator[tuple[str, str, FieldInfo]]:
    """Yield attribute, variable and field."""
    for attribute, field in cls.model_fields.items():
        yield attribute, str(field.validation_alias), field


def _shown(value: Any) -> str:
    if isinstance(value, SecretStr):
        return "********" if value.get_secret_value() else ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ",".join(_shown(v) for v in value)
    return "" if value is None else masked(str(getattr(value, "value", value)))


def _explain(cls: type[Settings], error: dict[str, Any]) -> str:
    problem = masked(plain(str(error["msg"])))
    fields = {key: (name, field) for attribute, name, field in _fields(cls) for key in (attribute, name)}
    location = error["loc"][0] if error["loc"] else ""
    if location not in fields:
        return problem
    name, field = fields[location]
    meaning = f"{name} is: {field.description}"
    if error["type"] == "missing":
        # The input of such an error is every variable that was read, secrets included.
        return f"{name} is not set, and must be. {meaning}"
    value = "********" if field.annotation is SecretStr else masked(str(error.get("input")))
    text = f"{name}={value}: {problem}. {meaning}"
    if name.endswith("_PORT") and value.startswith("tcp://"):
        text += f". Kubernetes set it for a Service called {name.removesuffix('_PORT').lower()!r}: "
        text += "set enableServiceLinks: false in the Pod, or set the variable"
    return text
