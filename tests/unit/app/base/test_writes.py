"""What follows from the control plane's own writes: looked at once, later, and never forgotten."""

import asyncio
from typing import Any

import pytest

from controlplane.app.base.node import STATUS_REFRESH
from controlplane.app.metrics import ACTOR_LOOKS
from controlplane.app.ports import Transient
from controlplane.app.roster import LATER
from controlplane.cluster.api import NODES, PODS, Json, Resource, WatchEvent
from controlplane.domain.facts import ModuleState, Verb
from controlplane.domain.identity import ModuleKey
from tests.unit.app.harness import Api, Stage

pytestmark = pytest.mark.looptime


class LateReplies(Api):
    """Shows a watch what happened only after the reply to whoever made it happen, as a busy API server does."""

    late = 0.2

    def _publish(self, resource: Resource, event: WatchEvent) -> None:
        asyncio.get_running_loop().call_later(self.late, super()._publish, resource, event)


def looks() -> float:
    return float(ACTOR_LOOKS._value.get())


def statuses(api: Api) -> list[str]:
    """Return the Pods whose statuses were written, in order."""
    return [call.subject.rpartition("/")[2] for call in api.made("patch") if call.resource == PODS]


async def test_a_write_that_was_taken_as_it_was_meant_is_followed_by_one_look() -> None:
    async with Stage(LateReplies()).running() as stage:
        stage.bases.add("b1")
        await asyncio.sleep(15.0)
        before = looks()
        stage.put_pod("p")
        await asyncio.sleep(LATER - 0.1)
        assert stage.ready("pod", "p") == "True"
        # For the Pod, and for the result of its order.
        assert looks() - before == 2
        await asyncio.sleep(1.0)
        # For what was written, and for the list that confirms it.
        assert 3 <= looks() - before <= 4


async def test_what_becomes_due_during_a_write_is_written_after_it_without_another_look() -> None:
    api = LateReplies()
    async with Stage(api).running() as stage:
        stage.bases.add("b1")
        await asyncio.sleep(15.0)
        stage.api.delay["patch"] = 1.0
        api.late = 1.1
        stage.api.calls.clear()
        for number in range(3):
            stage.put_pod(f"p{number}", module=f"biz{number}")
            await asyncio.sleep(0.2)
        await asyncio.sleep(1.0)
        before = looks()
        await asyncio.sleep(0.9)
        assert [stage.ready("pod", f"p{number}") for number in range(3)] == ["True"] * 3
        assert looks() == before
        assert statuses(stage.api) == ["p0", "p1", "p2"]


async def test_a_write_that_failed_is_made_again() -> None:
    async with Stage(Api()).running() as stage:
        stage.bases.add("b1")
        await asyncio.sleep(15.0)
        stage.api.calls.clear()
        stage.api.fail("patch", Transient("busy"))
        stage.put_pod("p")
        await asyncio.sleep(LATER - 0.1)
        assert statuses(stage.api) == ["p", "p"]
        assert stage.ready("pod", "p") == "True"


class Meddling(Api):
    """Somebody else changes the status of a Pod between the effect of our write of it and the reply."""

    meddled = False

    async def _reply(self, verb: str) -> None:
        pod = self.named(PODS, "p", "default")
        if verb == "patch" and not self.meddled and pod is not None and pod["status"].get("conditions"):
            self.meddled = True
            for condition in pod["status"]["conditions"]:
                condition["status"] = "False"
            self.put(PODS, pod)
            await asyncio.sleep(1.0)
        await super()._reply(verb)


async def test_a_status_that_somebody_else_changed_while_it_was_written_is_put_right() -> None:
    async with Stage(Meddling()).running() as stage:
        stage.bases.add("b1")
        await asyncio.sleep(15.0)
        stage.put_pod("p")
        await asyncio.sleep(LATER - 0.1)
        assert isinstance(stage.api, Meddling)
        assert stage.api.meddled
        assert stage.ready("pod", "p") == "True"


async def test_a_deletion_that_our_own_write_shows_first_is_seen_at_once() -> None:
    api = LateReplies()
    async with Stage(api).running() as stage:
        stage.bases.add("b1")
        await asyncio.sleep(15.0)
        api.late = 5.0
        stage.put_pod("p")
        await asyncio.sleep(5.0)
        stage.delete_pod("p")  # Before the status, whose reply shows it.
        await asyncio.sleep(1.0)
        assert [order.verb for order in stage.link.orders] == [Verb.INSTALL, Verb.UNINSTALL]


async def test_what_begins_with_our_own_write_is_soon_seen() -> None:
    async with Stage(Api()).running() as stage:
        base, key = stage.bases.add("b1"), ModuleKey("biz1", "1")
        stage.bases.modules[base][key] = ModuleState.ACTIVATED
        await asyncio.sleep(15.0)
        # Its time runs from the start that our write gives it.
        stage.put_pod("p", spec={"activeDeadlineSeconds": 4})
        await asyncio.sleep(1.0)
        assert stage.ready("pod", "p") == "True"
        await asyncio.sleep(5.5)
        pod = stage.pod("p")
        assert pod is not None
        assert (pod["status"]["phase"], pod["status"]["reason"]) == ("Failed", "DeadlineExceeded")


async def test_lists_that_only_confirm_installs_are_asked_for_together() -> None:
    async with Stage(Api()).running() as stage:
        stage.bases.add("b1")
        await asyncio.sleep(15.0)
        stage.link.watches.clear()
        for number in range(15):
            stage.put_pod(f"p{number}", module=f"biz{number}")
            await asyncio.sleep(0.4)
        await asyncio.sleep(3.0)
        assert 3 <= len(stage.link.watches) <= 5
        base = next(iter(stage.roster.bases()))
        assert not base.modules.needs


async def test_a_list_that_something_waits_for_is_asked_for_at_once() -> None:
    async with Stage(Api()).running() as stage:
        stage.bases.add("b1")
        await asyncio.sleep(15.0)
        stage.put_pod("p")
        await asyncio.sleep(0.3)
        assert len(stage.link.orders) == 1
        stage.delete_pod("p")
        await asyncio.sleep(0.5)
        assert [order.verb for order in stage.link.orders] == [Verb.INSTALL, Verb.UNINSTALL]
        await asyncio.sleep(0.5)
        assert stage.pod("p") is None


class SlowWrites(Api):
    """Takes half a minute for each write of a Node or Pod."""

    async def patch(self, resource: Resource, name: str, patch: Json, **options: Any) -> Json:
        if resource in (NODES, PODS):
            await asyncio.sleep(30.0)
        return await super().patch(resource, name, patch, **options)

    async def delete(self, resource: Resource, name: str, **options: Any) -> None:
        await asyncio.sleep(30.0)
        await super().delete(resource, name, **options)


async def test_a_base_is_not_looked_at_while_writes_are_under_way() -> None:
    async with Stage(SlowWrites()).running() as stage:
        stage.bases.add("b1")
        await asyncio.sleep(15.0)
        before = looks()
        for number in range(5):
            stage.put_pod(f"p{number}", module=f"biz{number}")
            await asyncio.sleep(STATUS_REFRESH / 3)
        assert all(stage.ready("pod", f"p{number}") == "True" for number in range(5))
        stage.put_pod("broken", module="broken", container={"image": "nonsense"})
        stage.put_pod("short", module="short", spec={"activeDeadlineSeconds": 60})
        for number in range(5):
            stage.delete_pod(f"p{number}")
        await asyncio.sleep(STATUS_REFRESH)
        assert not any(stage.pod(f"p{number}") for number in range(5))
        assert looks() - before <= 150
