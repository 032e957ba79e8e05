"""What the kubelet API says of one Node, to whom, and what paths that name no Node get: real TLS, cluster in memory."""

import json
import time

import pytest

from controlplane.app.ports import Transient
from controlplane.domain.base.usage import Usage
from tests.integration.kubelet.scene import Scene

NODE = "/nodes/vnode.b1.dev"
RIGHTS = {
    "/metrics": "metrics",
    "/metrics/resource": "metrics",
    "/metrics/cadvisor": "metrics",
    "/metrics/probes": "metrics",
    "/stats/summary": "stats",
    "/pods": "pods",
    "/configz": "configz",
    "/healthz": "healthz",
}
DOCUMENTS = ("/stats/summary", "/pods", "/configz")


def body(answer: bytes) -> str:
    """Return what was sent, in one piece or in chunks."""
    return answer.decode()


@pytest.mark.parametrize("path", RIGHTS)
async def test_each_path_takes_its_own_right_on_the_node_or_all(scene: Scene, path: str) -> None:
    assert (await scene.get(NODE + path))[0] == 200, "nodes/proxy allows all"
    assert (await scene.get(NODE + path, tls=scene.authority.client(user="bob")))[0] == 403
    carl = scene.authority.client(user="carl")
    scene.api.allowed.add(("carl", f"nodes/{RIGHTS[path]}", "vnode.b1.dev"))
    assert (await scene.get(NODE + path, tls=carl))[0] == 200
    assert (await scene.get(f"/nodes/vnode.none.dev{path}", tls=carl))[0] == 403
    assert (await scene.get(path if path != "/healthz" else "/metrics", tls=carl))[0] == 403
    dora = scene.authority.client(user="dora")
    scene.api.allowed.add(("dora", "nodes/log", "vnode.b1.dev"))
    assert (await scene.get(NODE + path, tls=dora))[0] == 403


async def test_a_node_that_is_not_there_is_not_found(scene: Scene) -> None:
    scene.api.allowed.add(("eve", "nodes/metrics", ""))
    status, _, text = await scene.get("/nodes/vnode.none.dev/metrics", tls=scene.authority.client(user="eve"))
    assert (status, body(text)) == (404, "there is no VNode vnode.none.dev\n")


@pytest.mark.parametrize("path", [path for path in RIGHTS if path.startswith("/metrics")])
async def test_metrics_without_a_node_are_empty_and_say_where_they_are(scene: Scene, path: str) -> None:
    scene.api.allowed.add(("eve", "nodes/metrics", ""))
    status, head, text = await scene.get(path, tls=scene.authority.client(user="eve"))
    assert status == 200
    assert b"text/plain; version=0.0.4" in head
    assert body(text) == f"# many nodes are served here: those of NAME are at /nodes/NAME{path}\n"


@pytest.mark.parametrize("path", DOCUMENTS)
async def test_documents_without_a_node_are_refused(scene: Scene, path: str) -> None:
    scene.api.allowed.add(("eve", "nodes/proxy", ""))
    status, _, text = await scene.get(path, tls=scene.authority.client(user="eve"))
    assert (status, body(text)) == (400, f"many nodes are served here: ask for /nodes/NAME{path}\n")


async def test_use_is_shown_while_it_is_current(scene: Scene) -> None:
    line = "node_memory_working_set_bytes 7.0 "
    assert "node_memory" not in body((await scene.get(f"{NODE}/metrics/resource"))[2]), "not known"
    scene.usages.known["vnode.b1.dev"] = Usage(time.time(), 7)
    assert line in body((await scene.get(f"{NODE}/metrics/resource"))[2])
    assert "koupleless_base_metaspace_used_bytes" in body((await scene.get(f"{NODE}/metrics"))[2])
    assert json.loads((await scene.get(f"{NODE}/stats/summary"))[2])["node"]["memory"]["workingSetBytes"] == 7
    scene.usages.known["vnode.b1.dev"] = Usage(time.time() - 121, 7)
    assert "node_memory" not in body((await scene.get(f"{NODE}/metrics/resource"))[2]), "too old"


async def test_pods_are_those_of_the_node(scene: Scene) -> None:
    listed = json.loads((await scene.get(f"{NODE}/pods"))[2])
    assert (listed["kind"], [each["metadata"]["name"] for each in listed["items"]]) == ("PodList", ["biz1"])
    scene.api.error = Transient("the API server is away")
    assert (await scene.get(f"{NODE}/pods"))[0] == 500


async def test_the_configuration_says_that_callers_must_be_known(scene: Scene) -> None:
    config = json.loads((await scene.get(f"{NODE}/configz"))[2])["kubeletconfig"]
    assert config["authentication"]["anonymous"] == {"enabled": False}
    assert config["readOnlyPort"] == 0
