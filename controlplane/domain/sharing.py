"""Equal values are kept once.

Most Pods of a module say the same, and what is immutable of them can be one object for all: that is half of what a
module costs in memory.
"""

from functools import lru_cache
from typing import Any, TypeVar

T = TypeVar("T")

KEPT = 1024
"""Values of the last while. Others are in memory for as long as somebody uses them, perhaps more than once."""
LONGEST = 4096
"""Characters of a value that is kept: what is in memory although nobody uses it must not add up."""


def shared(value: T, length: int = 0) -> T:
    """Return a value that is equal to this one, which must be immutable: the same for all. length is in characters."""
    if length > LONGEST:
        return value
    kept: T = _kept(value)
    return kept


@lru_cache(KEPT, typed=True)
def _kept(value: Any) -> Any:
    return value
