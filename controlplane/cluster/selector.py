"""Label selectors by equality, as text for the API and as a test of our own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Selector:
    """Labels that an object must have."""

    labels: Mapping[str, str]

    def __str__(self) -> str:
        return ",".join(f"{key}={value}" for key, value in self.labels.items())

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Tell whether labels has all of ours."""
        return all(labels.get(key) == value for key, value in self.labels.items())
