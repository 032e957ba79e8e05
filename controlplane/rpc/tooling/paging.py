"""Pages of lists that may change between two pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from controlplane.app.tooling.operations import Refusal

PAGE = 500
MOST_IN_PAGE = 1000

M = TypeVar("M")


def page(items: Sequence[M], keys: Sequence[str], size: int, token: str) -> tuple[Sequence[M], str]:
    """Return the page after token, and the next token; keys are those of items, ascending. Raises Refusal."""
    if size > MOST_IN_PAGE:
        raise Refusal(f"page_size is at most {MOST_IN_PAGE}", "page_size")
    # The token is the last key sent, so that items that come or go between pages disturb nothing.
    start = next((number for number, key in enumerate(keys) if key > token), len(keys)) if token else 0
    end = start + (size or PAGE)
    return items[start:end], keys[end - 1] if end < len(items) else ""
