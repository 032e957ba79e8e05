"""Objects of users are read whatever is in them, at a bounded cost."""

import pytest

from tests.fuzz.engine import SECONDS, fuzz
from tests.fuzz.objects import TARGETS
from tests.fuzz.registry import SHARE
from tests.fuzz.target import Target


@pytest.mark.timeout(120 + SECONDS)
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_inputs(target: Target) -> None:
    fuzz(target, SHARE)
