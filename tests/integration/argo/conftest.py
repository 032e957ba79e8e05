"""A stage with Argo Rollouts for these tests: each has its own bases and namespace."""

import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
import yaml

from tests.corner import Sandbox
from tests.corner import everything as everything
from tests.corner import sandbox as sandbox
from tests.everything import EXAMPLES, Bases, Everything, pod_spec
from tests.integration.rollouts.probe import gaps
from tests.programs import eventually, throughout
from tests.servers.argorollouts import ArgoRollouts
from tests.servers.bundles import ARGO_ROLLOUTS
from tests.servers.fixtures import programs_of
from tests.servers.kubeapi import Json

OLDEST_MINOR = 31
"""The examples need matchLabelKeys, which are there from this minor version on."""
GROUPS = (
    # (tunnel, what becomes of a second version of a module)
    ("http", "default"),
    ("mqtt", "both"),
)
EACH = 2


@pytest.fixture(scope="package")
def argo(everything: Everything, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ArgoRollouts]:
    if everything.cluster.minor < OLDEST_MINOR:
        pytest.skip(f"the examples for Argo Rollouts need Kubernetes 1.{OLDEST_MINOR}")
    programs, folder = programs_of(ARGO_ROLLOUTS), tmp_path_factory.mktemp("argo-rollouts")
    with ArgoRollouts(everything.cluster, programs, folder) as controller:
        yield controller


class Releasing:
    """A Rollout over four bases, two on each tunnel, in a namespace that the standard "restricted" governs."""

    def __init__(self, sandbox: Sandbox, argo: ArgoRollouts) -> None:
        self.sandbox = sandbox
        self._argo = argo
        enforce = {"pod-security.kubernetes.io/enforce": "restricted"}
        sandbox.api.patch(f"/api/v1/namespaces/{sandbox.name}", {"metadata": {"labels": enforce}})
        self.bases: list[Bases] = [
            sandbox.bases(tunnel, "--multi-version", mode, tunnel=tunnel, count=EACH) for tunnel, mode in GROUPS
        ]

    def example(self, file: str) -> list[Json]:
        """Return the objects of an example, for the bases of this test."""
        text = (EXAMPLES / "argo-rollouts" / file).read_text(encoding="utf-8")
        objects: list[Json] = list(yaml.safe_load_all(text))
        for obj in objects:
            obj["metadata"]["namespace"] = self.sandbox.name
        rules = pod_spec(objects[-1])["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        rules["nodeSelectorTerms"][0]["matchExpressions"][0]["values"] = [self.sandbox.cluster]
        return objects

    def apply(self, objects: list[Json]) -> None:
        self.kubectl("apply", "-f", "-", says=yaml.safe_dump_all(objects))

    def kubectl(self, *arguments: str, says: str = "") -> str:
        cluster = self.sandbox.everything.cluster
        done = cluster.kubectl(*arguments, namespace=self.sandbox.name, says=says)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def argo(self, *arguments: str, fails: bool = False) -> str:
        """Run kubectl argo rollouts in the namespace."""
        return self._argo.plugin(*arguments, namespace=self.sandbox.name, fails=fails)

    def release(self, version: str) -> None:
        self.argo("set", "image", "biz1", f"biz1=https://repo.example/biz1-{version}.jar")

    def status(self) -> Json:
        found: Json = self.sandbox.get("Rollout", "biz1") or {}
        generation = str(found.get("metadata", {}).get("generation"))
        status: Json = found.get("status", {})
        return status if status.get("observedGeneration") == generation else {}

    def wait(self, phase: str, step: int | None = None) -> None:
        """Return once the Rollout is in this phase, and at this step of its canary."""

        def there() -> bool:
            status = self.status()
            return status.get("phase") == phase and step in {None, status.get("currentStepIndex")}

        _eventually(there, 90, f"{phase} {step}", self.status)

    def versions(self) -> dict[str, int]:
        """Return how many bases have each version in service."""
        inside = (module for group in self.bases for modules in group.states().values() for module in modules.items())
        return dict(Counter(name.removeprefix("biz1:") for name, state in inside if state == "activated"))

    def wait_versions(self, **versions: int) -> None:
        """Return once so many bases have each version: v1=3 for 0.0.1."""
        wanted = {name.replace("v", "0.0."): count for name, count in versions.items()}
        _eventually(lambda: self.versions() == wanted, 60, f"{wanted}", self.versions)

    def stays(self, **versions: int) -> None:
        """Return once so many bases have each version, and nothing has changed for some seconds."""
        self.wait_versions(**versions)
        before = self.versions()
        throughout(lambda: self.versions() == before, seconds=3, what=f"{versions}")

    def orders(self) -> list[list[tuple[str, str]]]:
        """Return by base the installs and uninstalls that it got."""
        return [
            [order for order in group.orders(identity) if order[0] != "switch"]
            for group in self.bases
            for identity in group.identities
        ]

    def gaps(self) -> list[str]:
        until = time.monotonic()
        return [gap for group in self.bases for gap in gaps(group.history(), "biz1", until=until)]

    def end(self) -> None:
        self.sandbox.delete("Rollout", "biz1")
        self.sandbox.wait_gone("Rollout", "biz1")
        self.sandbox.api.delete(f"/apis/apps/v1/namespaces/{self.sandbox.name}/replicasets")


@pytest.fixture
def releasing(sandbox: Sandbox, argo: ArgoRollouts) -> Iterator[Releasing]:
    found = Releasing(sandbox, argo)
    try:
        yield found
    finally:
        found.end()


def _eventually(look: Callable[[], bool], within: float, wanted: str, seen: Callable[[], object]) -> None:
    """Wait; say what was there instead when time is up."""
    try:
        eventually(look, within=within, what=wanted)
    except AssertionError:
        raise AssertionError(f"not {wanted} within {within:g} s, but {seen()}") from None
