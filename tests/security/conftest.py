"""What the tests of attacks share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.programs import Programs


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    """Programs that end with the test."""
    with Programs(tmp_path) as programs:
        yield programs
