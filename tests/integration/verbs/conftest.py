"""One stage for all these tests; each has a namespace, two bases and kubectl of its own."""

import os
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.corner import Sandbox
from tests.corner import everything as everything
from tests.corner import sandbox as sandbox
from tests.everything import Bases, container
from tests.programs import eventually
from tests.servers.kubeapi import Json

V1, V2 = "biz1:0.0.1", "biz1:0.0.2"
URL_1, URL_2 = "https://repo.example/biz1-0.0.1.jar", "https://repo.example/biz1-0.0.2.jar"
WITHIN = 60.0
"""Seconds; nothing may hang longer."""


@dataclass
class Scene:
    """Two bases, one on each tunnel, and a user with kubectl."""

    sandbox: Sandbox
    bases: tuple[Bases, ...]
    folder: Path

    def kubectl(self, *arguments: str, stdin: str = "", fails: bool = False) -> str:
        """Run kubectl in the namespace; return what it prints, errors included."""
        environ = {**os.environ, "HOME": str(self.folder)}
        cluster, name = self.sandbox.everything.cluster, self.sandbox.name
        done = cluster.kubectl(*arguments, namespace=name, says=stdin, within=WITHIN + 30, env=environ, cwd=self.folder)
        assert (done.returncode != 0) is fails, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def example(self, file: str = "deployment.yaml", **changes: str) -> Json:
        """Return an example for the bases of this scene, in its namespace."""
        obj = self.sandbox.manifest(file, **changes)
        obj["metadata"]["namespace"] = self.sandbox.name
        return obj

    def apply(self, obj: Json, *options: str) -> str:
        return self.kubectl("apply", *options, "-f", "-", stdin=yaml.safe_dump(obj))

    def released(self, *modules: str) -> None:
        """Wait until the rollout is complete and each base has these modules, activated, alone."""
        self.kubectl("rollout", "status", "deployment/biz1", f"--timeout={WITHIN:g}s")
        wanted = dict.fromkeys(modules, "activated")
        eventually(lambda: all(base.modules() == wanted for base in self.bases), within=30, what=f"{modules} alone")

    def orders(self) -> list[list[tuple[str, str]]]:
        return [base.orders() for base in self.bases]


@pytest.fixture
def scene(sandbox: Sandbox, tmp_path: Path) -> Scene:
    bases = (sandbox.bases("a"), sandbox.bases("b", "--multi-version", "both", tunnel="mqtt"))
    return Scene(sandbox, bases, tmp_path)


def needs_revisions(scene: Scene) -> None:
    """Skip the test where Pods cannot be kept apart by revision."""
    minor = scene.sandbox.everything.cluster.minor
    if minor < 31:
        pytest.skip(f"kubernetes 1.{minor}: matchLabelKeys of anti-affinity came with 1.31")


def images(scene: Scene) -> list[str]:
    """The images of all Pods that are not being deleted."""
    return [pod["spec"]["containers"][0]["image"] for pod in scene.sandbox.pods()]


def waiting(scene: Scene) -> set[str]:
    """The reasons for which Pods wait."""
    return {container(pod, "waiting").get("reason", "") for pod in scene.sandbox.pods()} - {""}
