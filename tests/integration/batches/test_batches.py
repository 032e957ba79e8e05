"""A Deployment is released base by base in batches: by the real Deployment controller, with persons who steer it."""

import signal
from collections import Counter

import pytest

from tests.corner import Sandbox
from tests.everything import Bases, condition, container
from tests.programs import eventually, throughout
from tests.servers.kubeapi import Json

pytestmark = [pytest.mark.timeout(300), pytest.mark.mosquitto]

BASES = 6
PREFIX = "module.koupleless.io"
RELEASED = f"{PREFIX}/Released"


class Releasing:
    """A Deployment on six bases of its own, in three batches."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.bases: Bases = sandbox.bases("b", count=BASES)
        self.mctl = sandbox.everything.control_plane.mctl()

    def apply(self, version: str, **annotations: str) -> None:
        obj = self.sandbox.manifest("deployment.yaml", version=version)
        obj["spec"]["replicas"] = BASES
        mine = {f"{PREFIX}/{name.replace('_', '-')}": value for name, value in annotations.items()}
        change = {"metadata": {"annotations": {f"{PREFIX}/batches": "3", **mine}}, "spec": obj["spec"]}
        if self.sandbox.get("Deployment", "biz1") is None:
            obj["metadata"]["annotations"] = change["metadata"]["annotations"]
            self.sandbox.apply(obj)
        else:
            path = self.sandbox.path("Deployment", "biz1")
            self.sandbox.api.patch(path, change, "application/merge-patch+json")

    def kubectl(self, *arguments: str) -> str:
        done = self.sandbox.everything.cluster.kubectl(*arguments, namespace=self.sandbox.name)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def steer(self, verb: str, *, code: int = 0) -> str:
        return self.mctl("rollout", verb, "deployment/biz1", "-n", self.sandbox.name, code=code)

    def said(self) -> Json:
        return condition(self.sandbox.get("Deployment", "biz1"), RELEASED)

    def wait(self, reason: str, batch: int = 0) -> str:
        """Return the message of the condition once it has the reason, and is about a batch."""

        def there() -> bool:
            said = self.said()
            return said.get("reason") == reason and (not batch or f"batch {batch} of 3" in said["message"])

        eventually(there, within=60, what=f"{reason} {batch}, not {self.said()}")
        return str(self.said()["message"])

    def versions(self) -> dict[str, int]:
        """Return how many bases have each version in service."""
        inside = (module for modules in self.bases.states().values() for module in modules.items())
        return dict(Counter(name.removeprefix("biz1:") for name, state in inside if state == "activated"))

    def reasons(self) -> set[str]:
        return {container(pod, "waiting").get("reason", "") for pod in self.sandbox.pods()}


@pytest.fixture
def releasing(sandbox: Sandbox) -> Releasing:
    return Releasing(sandbox)


def test_batches_are_confirmed_by_persons_and_survive_a_killed_control_plane(releasing: Releasing) -> None:
    control_plane = releasing.sandbox.everything.control_plane
    # The first revision has nothing to protect.
    releasing.apply("0.0.1", confirm="each")
    eventually(lambda: releasing.versions() == {"0.0.1": BASES}, within=60, what="the first version")
    releasing.wait("Released")
    releasing.apply("0.0.2")
    assert "confirm 2.1, or abort 2" in releasing.wait("WaitingForConfirmation", 1)
    throughout(lambda: releasing.versions() == {"0.0.1": 4, "0.0.2": 2}, seconds=3, what="2 new modules")
    assert "WaitingForBatch" in releasing.reasons()
    assert releasing.steer("confirm") == "deployment/biz1: batch 1 of revision 2 confirmed\n"
    control_plane.server.stop(signal.SIGKILL)
    control_plane.start()
    releasing.wait("WaitingForConfirmation", 2)
    throughout(lambda: releasing.versions() == {"0.0.1": 2, "0.0.2": 4}, seconds=3, what="4 new modules")
    releasing.kubectl("rollout", "pause", "deployment/biz1")
    releasing.kubectl("annotate", "deployment/biz1", "--overwrite", f"{PREFIX}/confirmed=2.2")
    releasing.wait("Paused")
    throughout(lambda: releasing.versions()["0.0.2"] == 4, seconds=2, what="4 new modules while it is paused")
    releasing.kubectl("rollout", "resume", "deployment/biz1")
    assert "revision 2 is released" in releasing.wait("Released")
    eventually(lambda: releasing.versions() == {"0.0.2": BASES}, within=60, what="the new version everywhere")
    releasing.kubectl("rollout", "status", "deployment/biz1", "--timeout=30s")
    # Nothing waits any more, neither a Pod that is lost nor one more.
    releasing.kubectl("delete", "pod", "--all", "--wait=false")
    eventually(lambda: releasing.versions() == {"0.0.2": BASES}, within=60, what="all modules back")
    assert {"BatchUnderWay", "WaitingForConfirmation", "Paused", "Released"} <= set(releasing.sandbox.reasons("biz1"))


def test_a_batch_that_fails_stops_and_is_aborted(releasing: Releasing) -> None:
    releasing.apply("0.0.1", confirm="first")
    eventually(lambda: releasing.versions() == {"0.0.1": BASES}, within=60, what="the first version")
    releasing.wait("Released")
    releasing.apply("0.0.2")
    releasing.wait("WaitingForConfirmation", 1)
    releasing.bases.control("fail?module=biz1:0.0.2")
    releasing.steer("confirm")
    assert "InstallFailed" in releasing.wait("BatchFailed", 2)
    throughout(lambda: releasing.versions().get("0.0.2", 0) == 2, seconds=3, what="no further module")
    assert 'deployment "biz1" failed: BatchFailed: revision 2, batch 2 of 3' in releasing.steer("status", code=1)
    assert releasing.steer("abort") == "deployment/biz1: revision 2 aborted\n"
    assert "revision 3 is released" in releasing.wait("Released")
    eventually(lambda: releasing.versions() == {"0.0.1": BASES}, within=60, what="the version before")
    assert {"BatchFailed", "Aborted"} <= set(releasing.sandbox.reasons("biz1"))
