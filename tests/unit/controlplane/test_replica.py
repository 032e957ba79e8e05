"""How a replica ends that may not run."""

import asyncio

import pytest

from controlplane import replica
from controlplane.cluster.api import LEASES, Json
from controlplane.domain import contract
from service.process import EXIT_REFUSED, StartError
from tests.unit.app.harness import Api, Stage

pytestmark = pytest.mark.looptime

NAME = "module-controller-replica-0"


def taken_over(lease: Json) -> Json:
    """Return the record as another process of the same name renews it."""
    lease["metadata"]["annotations"][contract.ANNOTATION_REPLICA_INSTANCE] = "another process"
    lease["spec"]["renewTime"] = "2026-11-25T05:00:00.000000Z"
    return lease


@pytest.mark.parametrize("joined", [False, True], ids=["before it joined", "after it joined"])
async def test_a_replica_whose_name_is_taken_ends_with_a_message_and_the_code_for_refused(joined: bool) -> None:
    api = Api()
    async with Stage(api).running():
        pass
    stage = Stage(api, sole=joined)
    reading = asyncio.create_task(stage.cluster.run())
    belonging = asyncio.create_task(replica._belong(stage.members))
    await asyncio.sleep(2.0)
    assert stage.members.joined.is_set() is joined
    lease = api.named(LEASES, NAME, "default")
    assert lease is not None
    api.put(LEASES, taken_over(lease))
    await asyncio.wait({belonging}, timeout=10.0)
    reading.cancel()
    await asyncio.wait({reading})
    error: BaseException | None = belonging.exception()
    while isinstance(error, BaseExceptionGroup):
        (error,) = error.exceptions
    assert isinstance(error, StartError)
    assert error.exit_code == EXIT_REFUSED
    assert "CLIENT_ID=replica-0: another process has this name" in str(error)
