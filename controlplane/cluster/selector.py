"""Label selectors by equality and absence, as text for the API and as a test of our own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Selector:
    """Labels that an object must have, and such that it must not have whatever their value."""

    labels: Mapping[str, str]
    absent: tuple[str, ...] = ()

    def __str__(self) -> str:
        return ",".join(
            [*(f"{key}={value}" for key, value in self.labels.items()), *(f"!{key}" for key in self.absent)]
        )

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Return whether labels has all of ours and none of the absent ones."""
        return all(labels.get(key) == value for key, value in self.labels.items()) and not any(
            key in labels for key in self.absent
        )
