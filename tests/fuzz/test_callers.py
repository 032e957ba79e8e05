"""Callers are recognised, or refused as they should be, whatever they show."""

import pytest

from tests.fuzz.callers import TARGETS
from tests.fuzz.engine import SECONDS, fuzz
from tests.fuzz.registry import SHARE
from tests.fuzz.target import Target


@pytest.mark.timeout(120 + SECONDS)
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_inputs(target: Target) -> None:
    fuzz(target, SHARE)
