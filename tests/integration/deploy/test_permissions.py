"""The shipped roles give exactly the rights that the control plane uses, by the API server's audit log."""

import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
import yaml
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb
from koupleless.modulecontroller.v1.module_controller_pb2_grpc import ModuleControllerServiceStub

from tests.everything import ENV, Bases, Namespace, condition, container, manifest, node_name, ready
from tests.programs import ControlPlane, HttpGateway, Programs, eventually
from tests.servers.cluster import KubeCluster
from tests.servers.fetch import Unavailable
from tests.servers.fixtures import not_run
from tests.servers.kubeapi import Json
from tests.servers.rbac import SHIPPED

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(240)]

Right = tuple[str, str, str, str]
"""Namespace of the role (none: all), API group, resource with subresource, verb."""
ACCOUNT = ("koupleless-system", "module-controller")
TAINT = "schedule.koupleless.io/virtual-node"
AFTER_AN_HOUR = {(ACCOUNT[0], "coordination.k8s.io", "leases", "delete")}
"""A replica that is gone for so long is dropped: FORGET_AFTER in controlplane/app/ownership/liveness.py."""
FOR_EVERYBODY = frozenset({"selfsubjectaccessreviews", "selfsubjectrulesreviews"})
"""Every authenticated user may ask for its own rights."""


@dataclass
class Scene:
    """Control plane and gateway under the shipped service account."""

    cluster: KubeCluster
    programs: Programs
    environ: Mapping[str, str]
    control_plane: ControlPlane
    gateway: HttpGateway

    def bases(self, identity: str, *arguments: str) -> Bases:
        """Start a base; return when its Node is Ready."""
        options = ("--controller", self.gateway.url, "--heartbeat-interval", "2", "--env", ENV)
        bases = Bases(self.programs, identity, *options, *arguments, count=1).start()
        self.wait(lambda: ready(self.node(identity)), f"{identity} is Ready")
        return bases

    def used(self) -> set[Right]:
        """Return the rights that were used until now."""
        return {right(event) for event in self.cluster.audited() if counts(event)}

    def node(self, identity: str) -> Json | None:
        """Return a base's Node, None when there is none."""
        nodes = self.cluster.api.items("/api/v1/nodes")
        return next((node for node in nodes if node["metadata"]["name"] == node_name(identity)), None)

    def mctl(self, *arguments: str) -> str:
        """Return what a command prints."""
        return self.control_plane.mctl()(*arguments)

    def token(self, name: str) -> str:
        """Make a service account and return a token of it."""
        accounts = "/api/v1/namespaces/default/serviceaccounts"
        self.cluster.api.create(accounts, {"metadata": {"name": name}})
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        return str(self.cluster.api.create(f"{accounts}/{name}/token", request)["status"]["token"])

    def wait(self, look: Callable[[], object], what: str) -> None:
        """Return once look says so."""
        eventually(look, within=60, what=what)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    try:
        cluster = KubeCluster(audit=True)
    except Unavailable as error:
        not_run("kubernetes", f"{error}; make test-servers gets it")
    with cluster, Programs(tmp_path) as programs:
        cluster.apply_rbac()
        environ = {
            "CLUSTER": "kubernetes",
            "KUBECONFIG": str(cluster.service_account_kubeconfig(*ACCOUNT)),
            "NAMESPACE": ACCOUNT[0],
            "ENABLE_MODULE_DEPLOYMENT_CONTROLLER": "true",
        }
        control_plane = ControlPlane(programs, **environ).start()
        gateway = HttpGateway(programs, control_plane.address).start()
        yield Scene(cluster, programs, environ, control_plane, gateway)


def test_every_right_is_used_and_none_is_missing(scene: Scene) -> None:
    do_all_that_there_is(scene)
    assert scene.used() == given() - AFTER_AN_HOUR
    assert not [event for event in scene.cluster.audited() if event["responseStatus"]["code"] == 403]


def do_all_that_there_is(scene: Scene) -> None:
    api, default = scene.cluster.api, Namespace(scene.cluster.api)
    scene.bases("one")
    two = scene.bases("two", "--fail-install", "biz9")
    # Modules by Deployments, by DaemonSets, and by the tooling API.
    default.apply(manifest("peer-deployment.yaml"))
    scene.wait(lambda: len([pod for pod in default.pods() if ready(pod)]) == 2, "a Pod on each base")
    scene.mctl("rollout", "status", "deployment/biz1-peer")
    default.delete("Deployment", "biz1-peer")
    everywhere = manifest("daemonset.yaml")
    everywhere["spec"].pop("updateStrategy")  # Kubernetes 1.20 has no maxSurge
    default.apply(everywhere)
    scene.mctl("rollout", "status", "daemonset/biz1")
    released_in_batches(scene, default)
    scene.mctl("install", "biz3", "--version", "1", "--url", "https://repo.example/biz3.jar", "--base", "one")
    scene.mctl("uninstall", "biz3", "--version", "1", "--base", "one")
    default.delete("DaemonSet", "biz1")
    # A tool that the API server knows, and that may do nothing.
    with scene.control_plane.channel_of(scene.token("somebody")) as channel, pytest.raises(grpc.RpcError) as refused:
        ModuleControllerServiceStub(channel).ListVNodes(pb.ListVNodesRequest(), timeout=30)
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
    # The same Event once more is counted.
    failing = manifest("biz1.yaml", name="failing")
    failing["spec"]["containers"][0] |= {"name": "biz9", "image": "https://repo.example/biz9.jar"}
    failing["spec"]["nodeName"] = node_name("two")
    default.apply(failing)
    scene.wait(lambda: default.reasons("failing").count("ModuleInstallFailed") > 1, "an Event that is repeated")
    assert container(default.pods()[0], "waiting")
    default.delete("Pod", "failing", force=True)
    # Another client removes a taint: it is restored beside those of others, which are read before.
    node = scene.node("one")
    assert node is not None
    others = [taint for taint in node["spec"]["taints"] if taint["key"] != TAINT]
    api.patch(f"/api/v1/nodes/{node_name('one')}", {"spec": {"taints": others}}, "application/merge-patch+json")
    scene.wait(lambda: TAINT in str((scene.node("one") or {}).get("spec")), "the taint is back")
    # The gateway is away for a while, which the Nodes say.
    scene.gateway.server.stop()
    scene.wait(lambda: condition(scene.node("one"), "TunnelAvailable")["status"] == "False", "the tunnel is down")
    scene.gateway.start()
    scene.wait(lambda: condition(scene.node("one"), "TunnelAvailable")["status"] == "True", "the tunnel is up")
    # A base deactivates itself.
    two.control("deactivate")
    scene.wait(lambda: scene.node("two") is None, "the Node is removed")
    # Another replica is killed: its record is read before it counts as gone.
    other = ControlPlane(scene.programs, "other", **scene.environ).start()
    other.server.stop(signal.SIGKILL)
    scene.wait(lambda: (ACCOUNT[0], "coordination.k8s.io", "leases", "get") in scene.used(), "it is missed")
    scene.control_plane.server.stop()


def released_in_batches(scene: Scene, default: Namespace) -> None:
    """Release a second revision, and go back while it waits."""
    first = manifest("deployment.yaml", module="biz5")
    prefix = "module.koupleless.io"
    first["metadata"]["annotations"] = {f"{prefix}/batches": "2", f"{prefix}/confirm": "each"}
    default.apply(first)

    def said(reason: str) -> bool:
        return condition(default.get("Deployment", "biz5"), f"{prefix}/Released").get("reason") == reason

    scene.wait(
        lambda: said("Released") and len([pod for pod in default.pods() if ready(pod)]) >= 2, "the first revision"
    )
    template = manifest("deployment.yaml", module="biz5", version="0.0.2")["spec"]["template"]
    change = {"spec": {"template": template}}
    default.api.patch(default.path("Deployment", "biz5"), change, "application/merge-patch+json")
    scene.wait(lambda: said("WaitingForConfirmation"), "the first batch")
    scene.mctl("rollout", "abort", "deployment/biz5")
    scene.wait(lambda: said("Released"), "the first revision again")
    default.delete("Deployment", "biz5")


def counts(event: Json) -> bool:
    """Return whether an audit event is about a resource that needs a right of its own."""
    return "objectRef" in event and event["objectRef"]["resource"] not in FOR_EVERYBODY


def right(event: Json) -> Right:
    """Return the right that a request needed."""
    ref = event["objectRef"]
    resource = "/".join(filter(None, (ref["resource"], ref.get("subresource", ""))))
    where = ref.get("namespace", "")
    return (where if (where, resource) in IN_ONE_NAMESPACE else "", ref.get("apiGroup", ""), resource, event["verb"])


def given() -> set[Right]:
    """Return the rights that the shipped roles give."""
    return {
        (role["metadata"].get("namespace", ""), group, resource, verb)
        for role in yaml.safe_load_all(SHIPPED.read_text(encoding="utf-8"))
        for rule in role.get("rules", [])
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


IN_ONE_NAMESPACE = {(where, resource) for where, _, resource, _ in given() if where}
