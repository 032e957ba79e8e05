"""The chart of the examples, released by the real Helm."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.everything import EXAMPLES
from tests.integration.verbs.conftest import V1, V2, WITHIN, Scene, needs_revisions
from tests.programs import eventually
from tests.servers.bundles import HELM
from tests.servers.fixtures import programs_of

pytestmark = [pytest.mark.timeout(400), pytest.mark.mosquitto]

CHART = EXAMPLES / "helm"
NAME = "biz1"


class Helm:
    """Helm with a release of the chart, in the namespace of a scene that the standard "restricted" governs."""

    def __init__(self, scene: Scene, program: Path) -> None:
        self._scene = scene
        self._program = program
        scene.kubectl("label", "namespace", scene.sandbox.name, "pod-security.kubernetes.io/enforce=restricted")

    def __call__(self, verb: str, *arguments: str, fails: bool = False) -> str:
        """Run Helm; return what it prints, errors included."""
        sandbox, home = self._scene.sandbox, self._scene.folder
        place = ["--kubeconfig", str(sandbox.everything.cluster.kubeconfig()), "--namespace", sandbox.name]
        # None of the settings of whoever runs the tests.
        environ = {key: value for key, value in os.environ.items() if not key.startswith(("HELM_", "XDG_"))}
        done = subprocess.run(
            [str(self._program), verb, NAME, *arguments, *place],
            capture_output=True,
            text=True,
            timeout=WITHIN + 30,
            check=False,
            env={**environ, "HOME": str(home)},
            cwd=home,
        )
        assert (done.returncode != 0) is fails, f"{verb} {arguments}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def release(self, verb: str, version: str, *options: str, fails: bool = False) -> str:
        """Install or upgrade the chart, and wait for it."""
        values = f"version={version},cluster={self._scene.sandbox.cluster}"
        return self(verb, str(CHART), "--set", values, "--wait", *options, fails=fails)

    def revisions(self) -> list[str]:
        """Return the state of each revision, oldest first."""
        return [str(revision["status"]) for revision in json.loads(self("history", "--output", "json"))]


@pytest.fixture
def helm(scene: Scene) -> Helm:
    needs_revisions(scene)
    return Helm(scene, programs_of(HELM) / "helm")


@pytest.mark.parametrize("server_side", ["true", "false"])
def test_install_upgrade_rollback_and_uninstall(scene: Scene, helm: Helm, server_side: str) -> None:
    """By server-side apply, which is what Helm 4 does, and by patches, which is what Helm 3 did."""
    how = (f"--server-side={server_side}", f"--timeout={WITHIN:g}s")
    helm.release("install", "0.0.1", *how)
    assert inside(scene) == [{V1}] * 2
    helm.release("upgrade", "0.0.2", *how)
    assert all(V2 in modules for modules in inside(scene))
    scene.released(V2)
    helm("rollback", "1", "--wait", *how)
    assert all(V1 in modules for modules in inside(scene))
    scene.released(V1)
    assert helm.revisions() == ["superseded", "superseded", "deployed"]
    # The same once more changes nothing.
    orders = scene.orders()
    helm.release("upgrade", "0.0.1", *how)
    scene.released(V1)
    assert scene.orders() == orders
    # Its own --wait may end while the Deployment is being deleted, with or without an error.
    helm("uninstall")
    eventually(lambda: inside(scene) == [set(), set()], within=30, what="bases without the module")
    eventually(lambda: not scene.sandbox.pods(leaving=True), within=30, what="no Pods")


def test_an_upgrade_that_fails_ends_and_is_rolled_back(scene: Scene, helm: Helm) -> None:
    helm.release("install", "0.0.1", f"--timeout={WITHIN:g}s")
    for base in scene.bases:
        base.control("fail?module=biz1:0.0.2")
    said = helm.release("upgrade", "0.0.2", "--rollback-on-failure", "--timeout=10s", fails=True)
    assert "rolled back" in said
    scene.released(V1)
    assert helm.revisions() == ["superseded", "failed", "deployed"]


def inside(scene: Scene) -> list[set[str]]:
    """The modules of each base that are in service."""
    return [{key for key, state in base.modules().items() if state == "activated"} for base in scene.bases]
