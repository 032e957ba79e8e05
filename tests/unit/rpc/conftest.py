"""Calls are those of one user."""

from collections.abc import Iterator

import pytest

from controlplane.domain.access import Caller, Role
from controlplane.rpc.access.guard import CALLER


@pytest.fixture(autouse=True)
def caller() -> Iterator[None]:
    token = CALLER.set(Caller("ann", role=Role.ADMIN))
    yield
    CALLER.reset(token)
