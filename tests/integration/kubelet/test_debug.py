"""What asks for containers that are no modules ends, and says why they are not run."""

from collections.abc import Iterator
from functools import partial

import pytest

from tests.integration.kubelet.conftest import MODULES, Stage, put_module, ready
from tests.programs import eventually

pytestmark = pytest.mark.timeout(200)


@pytest.fixture(params=["b1", "b2"])
def pod(request: pytest.FixtureRequest, stage: Stage) -> Iterator[str]:
    """A Pod of a module for a test alone: what is added for debugging stays in its Pod."""
    name = f"debugged-{request.param}"
    put_module(stage.kube, name, request.param)
    eventually(partial(ready, stage.kube, name), within=60, what=f"Pod {name} Ready")
    yield name
    stage.kube.api.delete(f"/api/v1/namespaces/{MODULES}/pods/{name}")
    pods = f"/api/v1/namespaces/{MODULES}/pods"
    eventually(
        lambda: name not in {each["metadata"]["name"] for each in stage.kube.api.items(pods)},
        within=60,
        what=f"Pod {name} gone",
    )


@pytest.mark.parametrize("options", [("-i",), ()], ids=["attached", "not attached"])
def test_debug_of_a_module_ends(stage: Stage, pod: str, options: tuple[str, ...]) -> None:
    done = stage.kubectl("debug", pod, "--image", "busybox", "--container", "debug", *options)
    assert done.returncode == 0, done.stderr
    not_run = f"the ephemeral container debug of Pod modules/{pod} is not run"
    assert (not_run in done.stdout) == bool(options)
    log = stage.kubectl("logs", pod, "--container", "debug")
    assert not_run in log.stdout, log.stderr
    refused = stage.kubectl("exec", pod, "--container", "debug", "--", "true")
    assert not_run in refused.stderr
    every = stage.kubectl("logs", pod, "--all-containers")
    assert every.returncode == 0, every.stderr
