"""Thousands of looks log nothing."""

from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture(autouse=True)
def no_logs() -> Iterator[None]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("critical"))
    yield
    structlog.reset_defaults()
