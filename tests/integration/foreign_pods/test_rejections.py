"""Pods that are no modules are rejected within seconds, made again at a pace, and never hang."""

import time

import pytest

from tests.corner import Sandbox
from tests.everything import Bases, container
from tests.integration.foreign_pods.conftest import run
from tests.integration.foreign_pods.shapes import EVERYTHING, SHAPES, deployment
from tests.programs import eventually
from tests.servers.kubeapi import Json
from tests.watching import Change, Watching

pytestmark = [pytest.mark.timeout(300), pytest.mark.mosquitto]

LOOP = 25.0
"""Seconds in which a DaemonSet makes five Pods, and a ReplicaSet hundreds, if nothing paces them."""


def node_of(base: Bases) -> str:
    (node,) = base.nodes
    return node


def rejected(pod: Json) -> bool:
    return (pod["status"]["phase"], pod["status"].get("reason")) == ("Failed", "NotAModule")


def owners(changes: list[Change]) -> dict[str, set[str]]:
    """Return the UIDs of the Pods in some changes, by the name of what made them."""
    found: dict[str, set[str]] = {}
    for change in changes:
        for owner in change.obj["metadata"].get("ownerReferences", []):
            found.setdefault(owner["name"], set()).add(change.obj["metadata"]["uid"])
    return found


def test_daemon_sets_that_tolerate_everything_get_an_answer_and_no_loop(sandbox: Sandbox) -> None:
    sandbox.bases("a")
    sandbox.pod("biz1")
    sandbox.wait_ready("biz1")
    with Watching(sandbox.api, sandbox.path("Pod")) as pods:
        for shape in SHAPES.values():
            sandbox.apply(shape)

        def answers() -> list[Change]:
            return [change for change in pods.changes if rejected(change.obj)]

        eventually(lambda: owners(answers()).keys() == SHAPES.keys(), within=15, what="a Pod of each is rejected")
        assert all("type NotIn [virtual-kubelet]" in change.obj["status"]["message"] for change in answers())
        time.sleep(LOOP)
    made = {name: len(uids) for name, uids in owners(pods.changes).items()}
    assert made == dict.fromkeys(SHAPES, 2), "the one that was rejected, and the one that waits"
    assert sandbox.reasons().count("NotAModule") == 2 * len(SHAPES)
    assert "NotAModule" not in sandbox.reasons("biz1")
    assert container(sandbox.wait_ready("biz1"), "running")
    deleted = run(sandbox, "delete", "namespace", sandbox.name, "--timeout", "60s", within=70)
    assert deleted.returncode == 0, deleted.stderr


def test_a_deployment_that_tolerates_everything_does_not_make_pods_without_end(sandbox: Sandbox) -> None:
    sandbox.bases("a", count=2)
    sandbox.apply(deployment("web", replicas=2))
    eventually(lambda: any(map(rejected, sandbox.pods())), within=15, what="a rejected Pod")
    time.sleep(LOOP)
    pods = sandbox.pods()
    assert len(list(filter(rejected, pods))) == 1
    assert len(pods) == 3, "two are wanted, and the rejected one stays"
    eventually(lambda: sandbox.reasons().count("NotAModule") == 3, within=15, what="an Event for each")
    sandbox.delete("Deployment", "web")
    eventually(lambda: not sandbox.pods(leaving=True), within=15, what="all Pods gone")


def test_drain_and_debug_end(sandbox: Sandbox) -> None:
    node = node_of(sandbox.bases("a"))
    sandbox.apply(SHAPES["kube-proxy"])
    sandbox.apply(deployment("web", replicas=2))
    sandbox.pod("biz1")
    sandbox.wait_ready("biz1")
    debugged = run(sandbox, "debug", f"node/{node}", "--image", "registry.example/tools:1", "--", "true")
    assert debugged.returncode == 0, debugged.stderr

    def debugger() -> Json | None:
        return next((pod for pod in sandbox.pods() if pod["metadata"]["name"].startswith("node-debugger")), None)

    eventually(lambda: (pod := debugger()) is not None and rejected(pod), within=15, what="the debugging Pod rejected")
    drained = run(sandbox, "drain", node, "--ignore-daemonsets", "--force", "--timeout", "60s", within=70)
    assert drained.returncode == 0, drained.stderr
    assert debugger() is None
    run(sandbox, "uncordon", node)


def test_deleted_pods_go_at_once_whatever_their_grace_and_finalizers_are_left_to_their_owners(
    sandbox: Sandbox,
) -> None:
    node = node_of(sandbox.bases("a"))
    made = sandbox.api.create(f"/api/v1/namespaces/{sandbox.name}/configmaps", {"metadata": {"name": "owner"}})
    owner = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "name": "owner",
        "uid": made["metadata"]["uid"],
        "controller": True,
    }
    for name, finalizers in (("first", []), ("paced", []), ("held", ["example.com/held"])):
        spec = {
            "nodeName": node,
            "tolerations": EVERYTHING,
            "terminationGracePeriodSeconds": 600,
            "containers": [{"name": "c", "image": "registry.example/web:1"}],
        }
        owners = [owner] if name != "held" else []
        meta = {"name": name, "ownerReferences": owners, "finalizers": finalizers}
        sandbox.apply({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
    for name in ("first", "paced", "held"):
        sandbox.delete("Pod", name)
    for name in ("first", "paced"):
        sandbox.wait_gone("Pod", name, within=15)
    eventually(lambda: rejected(sandbox.get("Pod", "held") or {"status": {"phase": ""}}), within=15, what="rejected")
    held = sandbox.get("Pod", "held")
    assert held is not None
    assert held["metadata"]["deletionGracePeriodSeconds"] == 0
    sandbox.api.patch(sandbox.path("Pod", "held"), {"metadata": {"finalizers": None}}, "application/merge-patch+json")
    sandbox.wait_gone("Pod", "held", within=15)


def test_a_module_that_loses_its_label_is_no_module_any_more(sandbox: Sandbox) -> None:
    base = sandbox.bases("a")
    sandbox.pod("biz1")
    sandbox.wait_ready("biz1")
    label = {"metadata": {"labels": {"virtual-kubelet.koupleless.io/component": None}}}
    sandbox.api.patch(sandbox.path("Pod", "biz1"), label, "application/merge-patch+json")
    eventually(lambda: rejected(sandbox.get("Pod", "biz1") or {}), within=15, what="rejected")
    sandbox.delete("Pod", "biz1")
    sandbox.wait_gone("Pod", "biz1", within=15)
    eventually(lambda: base.modules() == {}, within=60, what="the module uninstalled")
