"""A Pod is removed once, however long that takes and however late it is seen."""

import asyncio
from typing import Any

import pytest

from controlplane.cluster.api import PODS, Resource, WatchEvent
from tests.unit.app.harness import Api, Stage

pytestmark = pytest.mark.looptime


class LateDeletions(Api):
    """An API server that sends deletions of Pods to watches 25 s late."""

    def _publish(self, resource: Resource, event: WatchEvent) -> None:
        if resource == PODS and event.type == "DELETED":
            asyncio.get_running_loop().call_later(25.0, super()._publish, resource, event)
        else:
            super()._publish(resource, event)


class BusyAndLate(LateDeletions):
    """One that is so busy, too, that deletions have to wait."""

    async def delete(self, resource: Resource, name: str, **options: Any) -> None:
        await asyncio.sleep(28.0)
        await super().delete(resource, name, **options)


@pytest.mark.parametrize("api", [LateDeletions, BusyAndLate])
async def test_a_pod_whose_deletion_is_seen_late_is_removed_once(api: type[Api]) -> None:
    async with Stage(api()).running() as stage:
        stage.bases.add("b1")
        stage.put_pod("p")
        await asyncio.sleep(5.0)
        stage.delete_pod("p")
        await asyncio.sleep(60.0)
        assert stage.pod("p") is None
        assert [call.resource for call in stage.api.made("delete")] == [PODS]
        written = [call for call in stage.api.made("patch") if call.resource == PODS]
        assert len(written) == 1, "Ready; none of the one that goes"
