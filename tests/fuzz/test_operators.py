"""What operators write is read or refused, whatever it is."""

import pytest

from tests.fuzz.engine import SECONDS, fuzz
from tests.fuzz.operators import TARGETS
from tests.fuzz.registry import SHARE
from tests.fuzz.target import Target


@pytest.mark.timeout(120 + SECONDS)
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_inputs(target: Target) -> None:
    fuzz(target, SHARE)
