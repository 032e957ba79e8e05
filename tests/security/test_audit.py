"""Each change by a tool says who made it: in the log, in an Event and an annotation of the object, and in mctl."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import pytest

from tests.programs import ControlPlane, HttpGateway, Mctl, Programs, SimulatedBase, eventually
from tests.servers.cleaning import SYSTEM_NAMESPACE
from tests.servers.cluster import KubeCluster

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(180)]

URL = "https://repo.example/biz1.jar"
ALICE = f"system:serviceaccount:{SYSTEM_NAMESPACE}:alice"
BINDINGS = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
ACCOUNTS = f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/serviceaccounts"


@dataclass(frozen=True, slots=True)
class Stage:
    """Two replicas, and mctl as a user of the cluster."""

    kube: KubeCluster
    replicas: list[ControlPlane]
    mctl: Mctl

    def kubectl(self, *arguments: str, namespace: str = "default") -> str:
        done = self.kube.kubectl(*arguments, namespace=namespace)
        done.check_returncode()
        return done.stdout

    def audited(self) -> list[dict[str, str]]:
        """Return the lines of the audit."""
        logs = (replica.server.log.read_text().splitlines() for replica in self.replicas)
        lines = (json.loads(line) for line in chain.from_iterable(logs) if line.startswith("{"))
        return [line for line in lines if line.get("logger") == "audit"]

    def described(self, *arguments: str, namespace: str, messages: list[str]) -> bool:
        """Return whether kubectl describe shows Events with all of these messages."""
        shown = self.kubectl("describe", *arguments, namespace=namespace)
        return all(message in shown for message in messages)


@pytest.fixture
def stage(kube: KubeCluster, programs: Programs) -> Iterator[Stage]:
    subject = {"kind": "ServiceAccount", "namespace": SYSTEM_NAMESPACE, "name": "alice"}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
    kube.api.create(ACCOUNTS, {"metadata": {"name": "alice"}})
    kube.api.create(BINDINGS, {"metadata": {"name": "alice"}, "roleRef": role, "subjects": [subject]})
    try:
        replicas = [
            ControlPlane(
                programs,
                name,
                **kube.environ(),
            ).start()
            for name in ("r0", "r1")
        ]
        gateway = HttpGateway(programs, ",".join(replica.address for replica in replicas)).start()
        SimulatedBase(programs, gateway.url, "b1").start()
        mctl = replicas[0].mctl()
        mctl.environ["MCTL_TOKEN"] = kube.service_account_token(SYSTEM_NAMESPACE, "alice")
        mctl("wait", "vnode/b1", "--timeout", "60s")
        yield Stage(kube, replicas, mctl)
    finally:
        kube.api.delete(f"{BINDINGS}/alice")
        kube.api.delete(f"{ACCOUNTS}/alice")


def test_each_change_of_a_module_says_who_made_it(stage: Stage) -> None:
    install = ("install", "biz1", "--version", "1", "--url", URL, "--base", "b1")
    stage.mctl(*install)
    stage.mctl("wait", "module/biz1:1", "--timeout", "30s")
    (pod,) = stage.kube.api.items("/api/v1/namespaces/default/pods")
    assert pod["metadata"]["annotations"]["module.koupleless.io/requested-by"] == ALICE
    name = pod["metadata"]["name"]
    created = change(stage, "install", f"pod default/{name}", "created")
    eventually(
        lambda: stage.described("pod", name, namespace="default", messages=[created]), within=30, what="its Event"
    )
    stage.mctl(*install)
    change(stage, "install", f"pod default/{name}", "unchanged")
    stage.mctl("uninstall", "biz1", "--version", "1", "--base", "b1")
    deleted = change(stage, "uninstall", f"pod default/{name}", "deleted")

    def events() -> str:
        return stage.kubectl("get", "events", "--field-selector", f"involvedObject.uid={pod['metadata']['uid']}")

    eventually(lambda: created in (shown := events()) and deleted in shown, within=30, what="both Events")
    shown = stage.mctl("events")
    assert created in shown
    assert deleted in shown
    assert "unchanged" not in shown


def test_a_drain_says_who_asked_for_it(stage: Stage) -> None:
    lease = "module-controller-r1"
    stage.mctl("drain", "r1")
    drained = change(stage, "drain", f"lease {SYSTEM_NAMESPACE}/{lease}", "done")
    stage.mctl("drain", "r1", "--undo")
    undone = change(stage, "undo drain", f"lease {SYSTEM_NAMESPACE}/{lease}", "done")
    eventually(
        lambda: stage.described("lease", lease, namespace=SYSTEM_NAMESPACE, messages=[drained, undone]),
        within=30,
        what="Events of the Lease",
    )
    metadata = stage.kube.api.get(f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM_NAMESPACE}/leases/{lease}")[
        "metadata"
    ]
    assert metadata["annotations"]["module.koupleless.io/requested-by"] == ALICE
    shown = stage.mctl("events")
    assert drained in shown
    assert undone in shown


def change(stage: Stage, verb: str, thing: str, result: str) -> str:
    """Return the message about the only change of that kind in the log."""
    (line,) = (line for line in stage.audited() if (line["verb"], line["result"]) == (verb, result))
    assert (line["event"], line["level"], line["user"], line["object"]) == ("change", "info", ALICE, thing)
    known = f" (request {line['request_id']})" if line["request_id"] else ""
    return f"{ALICE}: {verb} {thing}{known}: {result}"
