"""Following migration.md moves a base and its module from the original to us and back, and nothing happens to them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest
import yaml

from tests.everything import EXAMPLES, Namespace, ready
from tests.integration.deploy.kubelet import NODE
from tests.integration.deploy.service import Forwarder
from tests.integration.docs.original import Original
from tests.integration.docs.shell import check
from tests.integration.docs.stage import Stage, blocks_of, stage
from tests.programs import SimulatedBase, eventually
from tests.servers.fetch import Unavailable
from tests.servers.fixtures import not_run
from tests.servers.kubeapi import Json
from tests.unit.docs.pages import Block

pytestmark = [pytest.mark.kubernetes, pytest.mark.mosquitto, pytest.mark.timeout(300)]

WITHIN = 150.0
VNODE = "vnode.shop-1.dev"
SERVICE = "/api/v1/namespaces/default/services/module-controller"
RUNNING = {"biz1:0.0.1": "activated"}
MANIFESTS: Sequence[Json] = (
    {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "module-controller", "namespace": "default", "labels": {"app": "module-controller"}},
        "spec": {
            "containers": [
                {
                    "name": "module-controller",
                    "image": "registry.example/the-original:2.1.0",
                    "env": [
                        {"name": "ENABLE_HTTP_TUNNEL", "value": "true"},
                        {"name": "ENV", "value": "dev"},
                        {"name": "VNODE_WORKER_NUM", "value": "8"},
                    ],
                }
            ]
        },
    },
    {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "module-controller", "namespace": "default"},
        "spec": {"selector": {"app": "module-controller"}, "ports": [{"port": 7777}]},
    },
)
"""The original as it was deployed."""


@dataclass
class Operator:
    """A cluster in which the original has looked after a base with a module for a while."""

    stage: Stage
    original: Original
    base: SimulatedBase
    module: Json
    installs: int


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """The cluster on which the page is followed."""
    try:
        with stage(tmp_path_factory.mktemp("operator")) as ready_stage, Original(ready_stage.cluster.api) as original:
            yield deployed(ready_stage, original)
    except Unavailable as error:
        not_run("kubernetes", str(error))


def deployed(stage: Stage, original: Original) -> Operator:
    """Let the original run, with a base that has a module."""
    api, folder = stage.cluster.api, stage.folder / "original"
    folder.mkdir()
    for manifest in MANIFESTS:
        (folder / f"{manifest['kind'].lower()}.yaml").write_text(yaml.safe_dump(manifest))
        api.create(f"/api/v1/namespaces/default/{manifest['kind'].lower()}s", manifest)

    def behind() -> Sequence[int]:
        spec = api.get(SERVICE)["spec"]
        if spec["type"] == "ExternalName":
            name, namespace, *_ = spec["externalName"].split(".")
            return stage.kubelet.behind(f"{name}.{namespace}:7777")
        return [original.port]

    service = Forwarder(behind)
    base = SimulatedBase(stage.programs, f"http://127.0.0.1:{service.port}", "shop-1").start()
    default = Namespace(api)
    eventually(lambda: ready(find_node(stage)), within=30, what="the original's Node")
    module = yaml.safe_load((EXAMPLES / "biz1.yaml").read_text(encoding="utf-8"))
    module["spec"]["nodeName"] = VNODE
    default.apply(module)
    base.install("biz1", "0.0.1")
    told = {"type": "Ready", "status": "True"}
    status = {"name": "biz1", "image": "i", "imageID": "", "ready": True, "restartCount": 0, "state": {"running": {}}}
    status |= {"phase": "Running"}
    api.patch(
        default.path("Pod", "biz1") + "/status",
        {"status": {"phase": "Running", "conditions": [told, {**told, "type": "ContainersReady"}]}},
    )
    return Operator(stage, original, base, default.wait_ready("biz1"), len(base.commands()))


def find_node(stage: Stage) -> Json | None:
    nodes = {node["metadata"]["name"]: node for node in stage.cluster.api.items("/api/v1/nodes")}
    assert NODE in nodes
    return nodes.get(VNODE)
