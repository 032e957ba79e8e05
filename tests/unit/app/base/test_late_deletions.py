"""A Pod is removed once, and gets no status meanwhile, however long that takes and however late it is seen."""

import asyncio
from typing import Any

import pytest

from controlplane.cluster.api import Resource, WatchEvent
from tests.unit.app.base.test_costs import written
from tests.unit.app.harness import Api, Stage

pytestmark = pytest.mark.looptime


class LateWatches(Api):
    """Sends what happened to watches after a while, as a busy API server does."""

    late = 0.0

    def _publish(self, resource: Resource, event: WatchEvent) -> None:
        if self.late:
            asyncio.get_running_loop().call_later(self.late, super()._publish, resource, event)
        else:
            super()._publish(resource, event)


class Busy(LateWatches):
    """One that is so busy, too, that deletions have to wait."""

    async def delete(self, resource: Resource, name: str, **options: Any) -> None:
        await asyncio.sleep(28.0)
        await super().delete(resource, name, **options)


@pytest.mark.parametrize(("kind", "late"), [(LateWatches, 10.0), (LateWatches, 25.0), (Busy, 25.0)])
async def test_a_pod_whose_removal_was_asked_for_is_removed_once_and_gets_no_status_however_late_the_watch_is(
    kind: type[LateWatches], late: float
) -> None:
    api = kind()
    async with Stage(api).running() as stage:
        stage.bases.add("b1")
        stage.put_pod("p")
        await asyncio.sleep(15.0)
        api.calls.clear()
        api.late = late
        stage.delete_pod("p")
        await asyncio.sleep(100.0)
        assert stage.pod("p") is None
        assert written(stage) == {"delete pods": 1}
