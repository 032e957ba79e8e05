"""Following migration.md moves a base and its module from the original to us and back, and nothing happens to them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest
import yaml

from tests.everything import Bases, Namespace, ready
from tests.everything import manifest as manifest_of
from tests.integration.deploy.service import Forwarder
from tests.integration.docs.original import Original
from tests.integration.docs.shell import check
from tests.integration.docs.stage import Stage, blocks_of, stage
from tests.programs import eventually
from tests.servers.fetch import Unavailable
from tests.servers.fixtures import not_run
from tests.servers.kubeapi import Json
from tests.unit.docs.pages import Block

pytestmark = [pytest.mark.kubernetes, pytest.mark.mosquitto, pytest.mark.timeout(300)]

WITHIN = 150.0
VNODE = "vnode.shop-1.dev"
SERVICE = "/api/v1/namespaces/default/services/module-controller"
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
    base: Bases
    module: Json


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """The cluster on which the page is followed."""
    try:
        with stage(tmp_path_factory.mktemp("operator")) as clean, Original(clean.cluster.api) as original:
            service = Forwarder(lambda: behind_the_service(clean, original))
            base = Bases(
                clean.programs,
                "shop-1",
                *("--controller", f"http://127.0.0.1:{service.port}", "--heartbeat-interval", "2"),
                count=1,
            )
            try:
                yield Operator(clean, original, base, deployed(clean, base))
            finally:
                service.close()
    except Unavailable as error:
        not_run("kubernetes", str(error))


def behind_the_service(stage: Stage, original: Original) -> Sequence[int]:
    """Return where the Service leads at this moment: to the original, or to a Service of another namespace."""
    spec = stage.cluster.api.get(SERVICE)["spec"]
    if spec["type"] == "ExternalName":
        name, namespace, *_ = spec["externalName"].split(".")
        return stage.kubelet.behind(f"{name}.{namespace}:7777")
    return [original.port]


def deployed(stage: Stage, base: Bases) -> Json:
    """Let the original run, with a base that has a module; return the module's Pod."""
    api, folder = stage.cluster.api, stage.folder / "original"
    folder.mkdir()
    for manifest in MANIFESTS:
        kind = manifest["kind"].lower()
        (folder / f"{kind}.yaml").write_text(yaml.safe_dump(manifest))
        api.create(f"/api/v1/namespaces/default/{kind}s", manifest)
    base.start()
    eventually(lambda: ready(node(stage)), within=30, what="the original's Node is Ready")
    default = Namespace(api)
    module = manifest_of("biz1.yaml")
    module["spec"]["nodeName"] = VNODE
    default.apply(module)
    (container,) = module["spec"]["containers"]
    base.command("installBiz", {"bizName": "biz1", "bizVersion": "0.0.1", "bizUrl": container["image"]})
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    state = {"name": "biz1", "image": container["image"], "imageID": "", "restartCount": 0, "ready": True}
    status = {
        "phase": "Running",
        "conditions": [{"type": kind, "status": "True"} for kind in ("Ready", "ContainersReady")],
        "containerStatuses": [{**state, "state": {"running": {"startedAt": now}}}],
    }
    api.patch(default.path("Pod", "biz1") + "/status", {"status": status})
    return default.wait_ready("biz1")


def node(stage: Stage) -> Json | None:
    """Return the base's Node, None when there is none."""
    return next((each for each in stage.cluster.api.items("/api/v1/nodes") if each["metadata"]["name"] == VNODE), None)


@pytest.mark.parametrize("block", blocks_of("migration.md"), ids=lambda block: block.name)
def test_a_block_does_what_it_shows_and_the_module_runs_on(operator: Operator, block: Block) -> None:
    before = node(operator.stage)
    check(block, operator.stage.environ(), operator.stage.folder, within=WITHIN)
    assert operator.original.failure is None
    assert operator.base.orders() == [("install", "biz1:0.0.1")], "by the original, and nobody since"
    assert operator.base.modules() == {"biz1:0.0.1": "activated"}
    after, pod = node(operator.stage), Namespace(operator.stage.cluster.api).get("Pod", "biz1")
    assert before is not None
    assert after is not None
    assert pod is not None
    assert before["metadata"]["uid"] == after["metadata"]["uid"]
    assert pod["metadata"]["uid"] == operator.module["metadata"]["uid"]
