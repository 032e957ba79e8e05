"""Calls are those of one user."""

from collections.abc import Iterator

import pytest

from controlplane.domain.access import Caller
from controlplane.rpc.access.guard import CALLER


@pytest.fixture(autouse=True)
def caller() -> Iterator[None]:
    token = CALLER.set(Caller("ann"))
    yield
    CALLER.reset(token)
