"""What is fuzzed: a decoder, the bytes that it is given, and what it promises of all of them.

Cost is counted, not timed: calls of functions, and what the result holds. Both may grow with the input, and no faster.
"""

import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

from google.protobuf.message import Message
from hypothesis import strategies as st
from structlog.testing import capture_logs

from service.secrets import KNOWN

T = TypeVar("T")

ALLOWED_SIZE = 64 * 1024
"""What the result of even the smallest input may hold."""
LONGEST_REFUSAL = 8192
"""Characters; texts of refusals go to logs and to peers."""


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """A decoder under test.

    read returns what the bytes mean, or raises one of refusals; whatever else it raises is a defect. It asserts by
    itself what more the decoder promises, such as a round trip. modules are the dotted names of what it runs. size and
    calls are how much each byte of input may add to the result (characters, items) and to the calls of functions; least
    is how many calls even the smallest input may need.
    """

    name: str
    modules: tuple[str, ...]
    inputs: st.SearchStrategy[bytes]
    read: Callable[[bytes], object]
    refusals: tuple[type[Exception], ...] = ()
    size: int = 16
    calls: int = 200
    least: int = 100_000

    def run(self, data: bytes) -> None:
        """Read an input; raises AssertionError for a broken promise, and whatever the decoder should not raise.

        What it meets and logs as a defect is one, too.
        """
        with secrets_apart(), capture_logs() as lines, counted() as count:
            try:
                result = self.read(data)
            except self.refusals as refusal:
                result = str(refusal)
                assert len(result) <= LONGEST_REFUSAL, f"a refusal of {len(result)} characters"
        defects = [line for line in lines if line["log_level"] in ("error", "critical")]
        assert not defects, f"defects that were met and logged: {defects}"
        allowed = self.least + self.calls * len(data)
        assert count.calls <= allowed, f"{count.calls} calls for {len(data)} bytes"
        limit = ALLOWED_SIZE + self.size * len(data)
        assert size_of(result, limit) <= limit, f"a result of more than {limit} for {len(data)} bytes"


def each(data: T, readers: Mapping[str, Callable[[T], object]], refusals: tuple[type[Exception], ...]) -> object:
    """Return what several readers make of the same input, by name; None where one refused it."""
    results: dict[str, object] = {}
    for name, read in readers.items():
        try:
            results[name] = read(data)
        except refusals:
            results[name] = None
    return results


@dataclasses.dataclass(slots=True)
class Count:
    """How many functions were called, those of C included."""

    calls: int = 0

    def profile(self, _frame: FrameType, event: str, _argument: Any) -> None:
        """Take note of an event of sys.setprofile."""
        if event in ("call", "c_call"):
            self.calls += 1


@contextmanager
def secrets_apart() -> Iterator[None]:
    """Have what is registered as a secret within masked within alone."""
    before = KNOWN._sources, KNOWN._forms
    KNOWN._sources, KNOWN._forms = {}, ()
    try:
        yield
    finally:
        KNOWN._sources, KNOWN._forms = before


@contextmanager
def counted() -> Iterator[Count]:
    """Count the calls within."""
    count, before = Count(), sys.getprofile()
    sys.setprofile(count.profile)
    try:
        yield count
    finally:
        sys.setprofile(before)


def size_of(value: object, limit: int) -> int:
    """Return the characters, bytes and items in a value, each time that it is reached; above limit it stops."""
    size, waiting = 0, [value]
    while waiting and size <= limit:
        found = waiting.pop()
        size += 1
        match found:
            case str() | bytes():
                size += len(found)
            case int() if not isinstance(found, bool):
                size += found.bit_length() // 8
            case Message():
                size += found.ByteSize()
            case Mapping():
                waiting += [*found.keys(), *found.values()]
            case list() | tuple() | set() | frozenset():
                waiting += found
            case _ if dataclasses.is_dataclass(found) and not isinstance(found, type):
                waiting += [getattr(found, field.name) for field in dataclasses.fields(found)]
    return size
