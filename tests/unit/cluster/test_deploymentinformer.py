"""Deployments that two label selectors choose are read as one kind."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from controlplane.cluster import reading
from controlplane.cluster.api import DEPLOYMENTS, Json, WatchEvent
from controlplane.cluster.informer import DeploymentInformer, ObjectInformer
from tests.fakes.apiserver import FakeApiServer
from tests.unit.cluster.clock import LoopClock

pytestmark = pytest.mark.looptime


class Scene:
    """Deployments with the label "env", and those with "peer" and without "env"."""

    def __init__(self) -> None:
        self.api = FakeApiServer()
        self.informer: DeploymentInformer = DeploymentInformer(
            *(
                ObjectInformer(
                    self.api, DEPLOYMENTS, reading.module_deployment, selector=selector, clock=LoopClock(), chance=float
                )
                for selector in ("env=dev", "peer=1,!env")
            )
        )
        self.announced: list[str] = []
        self.informer.subscribe(self.announced.append)

    def put(self, name: str, **labels: str) -> Json:
        return self.api.put(DEPLOYMENTS, {"metadata": {"name": name, "namespace": "ns", "labels": labels}})

    def names(self) -> list[str]:
        return sorted(deployment.name for deployment in self.informer.all())


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    scene = Scene()
    scene.put("both", env="dev", peer="1")
    scene.put("peer", peer="1")
    scene.put("other", env="prod", peer="1")
    scene.put("none")
    tasks = [asyncio.create_task(part.run()) for part in scene.informer.parts]
    await asyncio.sleep(0.01)
    yield scene
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_it_has_the_objects_of_both_informers(scene: Scene) -> None:
    assert scene.informer.synced
    assert scene.names() == ["both", "peer"]
    assert sorted(scene.announced) == ["ns/both", "ns/peer"]
    assert scene.informer.get("ns/other") is None


async def test_an_object_that_changes_informers_stays_in_any_order(scene: Scene) -> None:
    moved = scene.put("peer", peer="1", env="dev")
    await asyncio.sleep(0.01)
    # One informer adds it before the other removes it: the newest counts.
    found = scene.informer.get("ns/peer")
    assert found is not None
    assert found.labels == {"peer": "1", "env": "dev"}
    assert scene.names() == ["both", "peer"]
    scene.informer.parts[1]._take(WatchEvent("DELETED", moved))
    assert scene.names() == ["both", "peer"]
    scene.informer.parts[0]._take(WatchEvent("DELETED", moved))
    assert scene.names() == ["both"]


async def test_a_partial_write_goes_to_the_informer_that_has_the_object(scene: Scene) -> None:
    known = scene.informer.get("ns/peer")
    assert known is not None
    written = reading.module_deployment(scene.put("peer", peer="1"))
    assert scene.informer.written("ns/peer", written) is written
    assert scene.informer.get("ns/peer") == written
    assert scene.informer.parts[0].get("ns/peer") is None
