"""This program runs with the variables, role and namespace of the Deployments of the Go Module Controller V2.

The variables are those of its sample (samples/module_controller_pod.yaml), of its quick start and of its guide to the
kubelet proxy. Placeholders are filled in: ENV=YOUR_ENV, which no Node can have in its name, and the address of the
broker.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import partial

import pytest

from tests.integration.modulecontroller.conftest import ModuleController
from tests.programs import Programs, SimulatedBase, eventually
from tests.servers import manifests
from tests.servers.cluster import KubeCluster
from tests.servers.kubeapi import ApiError, Json
from tests.servers.mosquitto import Mosquitto

USER = "virtual-kubelet"
ROLE = "/apis/rbac.authorization.k8s.io/v1/clusterroles/originals-role"
BINDING = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/originals-role"
MEMBER = "/apis/coordination.k8s.io/v1/namespaces/default/leases/module-controller-module-controller-pre-0"

SAMPLE: Mapping[str, str] = {
    "ENABLE_MQTT_TUNNEL": "false",
    "ENABLE_HTTP_TUNNEL": "true",
    "MQTT_BROKER": "YOUR_MQTT_BROKER_ENDPOINT",
    "MQTT_PORT": "YOUR_MQTT_PORT",
    "MQTT_USERNAME": "YOUR_MQTT_USERNAME",
    "MQTT_PASSWORD": "YOUR_MQTT_PASSWORD",
    "MQTT_CLIENT_PREFIX": "YOUR_MQTT_CLIENT_PREFIX",
    "REPORT_HOOKS": "YOUR_REPORT_HOOKS",
    "ENV": "dev",
    "IS_CLUSTER": "false",
    "WORKLOAD_MAX_LEVEL": "3",
    "ENABLE_MODULE_DEPLOYMENT_CONTROLLER": "true",
    "VNODE_WORKER_NUM": "8",
}
QUICK_START = {"ENABLE_HTTP_TUNNEL": "true"}
LEFT_BLANK = dict.fromkeys(SAMPLE, "") | QUICK_START
KUBELET_PROXY = {**QUICK_START, "NAMESPACE": "default", "KUBELET_PROXY_ENABLED": "true"}


def service_links(name: str, **ports: int) -> dict[str, str]:
    """Return what Kubernetes sets in every Pod for a Service, where enableServiceLinks is not turned off."""
    host, first = "10.96.0.20", next(iter(ports.values()))
    links = {
        f"{name}_SERVICE_HOST": host,
        f"{name}_SERVICE_PORT": str(first),
        f"{name}_PORT": f"tcp://{host}:{first}",
    }
    for port_name, port in ports.items():
        prefix = f"{name}_PORT_{port}_TCP"
        links |= {f"{name}_SERVICE_PORT_{port_name}": str(port), prefix: f"tcp://{host}:{port}"}
        links |= {f"{prefix}_PROTO": "tcp", f"{prefix}_PORT": str(port), f"{prefix}_ADDR": host}
    return links


SERVICES = {
    **service_links("KUBERNETES", HTTPS=443),
    **service_links("MODULE_CONTROLLER", HTTPTUNNEL=7777, KUBELET_PROXY=10250),
}


def role() -> list[Json]:
    """Return the role of the original's guide, for the user whose kubeconfig is used."""
    api = "rbac.authorization.k8s.io"
    every = ["get", "watch", "list", "update", "patch", "create", "delete"]
    nodes = ["pods", "pods/status", "pods/spec", "nodes", "nodes/status", "events", "pods/log"]
    rules = [
        {"apiGroups": [""], "resources": nodes, "verbs": every},
        {"apiGroups": ["apps"], "resources": ["deployments", "daemonSets"], "verbs": ["get", "watch", "list"]},
        {"apiGroups": [""], "resources": ["configmaps", "secrets", "services"], "verbs": ["get", "watch", "list"]},
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": every},
    ]
    reference = {"apiGroup": api, "kind": "ClusterRole", "name": "originals-role"}
    subjects = [{"apiGroup": api, "kind": "User", "name": USER}]
    meta = {"name": "originals-role"}
    return [
        {"apiVersion": f"{api}/v1", "kind": "ClusterRole", "metadata": meta, "rules": rules},
        {
            "apiVersion": f"{api}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": meta,
            "roleRef": reference,
            "subjects": subjects,
        },
    ]


@pytest.fixture
def cluster(kube: KubeCluster) -> Iterator[KubeCluster]:
    with ExitStack() as stack:
        for path, applied in zip((ROLE, BINDING), role(), strict=True):
            manifests.apply(kube.api, applied)
            stack.callback(partial(kube.api.delete, path))
        stack.callback(partial(remove, kube, MEMBER))
        yield kube


def remove(kube: KubeCluster, path: str) -> None:
    try:
        kube.api.delete(path)
    except ApiError as error:
        if error.status != 404:
            raise


def controller(programs: Programs, cluster: KubeCluster, environ: Mapping[str, str]) -> ModuleController:
    """Return the program as in the Pod; only what a test machine needs differs."""
    made = ModuleController(programs)
    kept = {name: made.environ[name] for name in ("TEST_MARK", "HTTP_TUNNEL_ALLOWED_CIDRS", *made.ports)}
    made.environ = {
        **SERVICES,
        **environ,
        "KUBECONFIG": str(cluster.kubeconfig(USER)),
        # The name of the Pod, which is its host name.
        "CLIENT_ID": "module-controller-pre-0",
        **kept,
    }
    made.server = programs.program("pod", "modulecontroller", environ=made.environ)
    return made


def node_ready(cluster: KubeCluster, base: str) -> bool:
    nodes = [node for node in cluster.api.items("/api/v1/nodes") if node["metadata"]["name"] == f"vnode.{base}.dev"]
    return any(c["type"] == "Ready" and c["status"] == "True" for node in nodes for c in node["status"]["conditions"])


@pytest.mark.parametrize("environ", [SAMPLE, QUICK_START, LEFT_BLANK], ids=["sample", "quick start", "left blank"])
def test_it_starts_and_makes_a_node_of_a_base(
    programs: Programs, cluster: KubeCluster, environ: Mapping[str, str]
) -> None:
    pod = controller(programs, cluster, environ).start()
    SimulatedBase(programs, pod.url("", "HTTP_TUNNEL_LISTEN_PORT"), "b").start()
    eventually(lambda: node_ready(cluster, "b"), within=60, what="the base's Node")
    complained = "hook 1 (***) gets no reports: it is not a URL" in pod.server.log.read_text()
    assert complained is bool(environ.get("REPORT_HOOKS"))


def test_it_starts_with_a_broker_filled_in(programs: Programs, cluster: KubeCluster, mosquitto: Mosquitto) -> None:
    broker = {"ENABLE_MQTT_TUNNEL": "true", "MQTT_BROKER": "127.0.0.1", "MQTT_PORT": str(mosquitto.port)}
    controller(programs, cluster, {**SAMPLE, **broker}).start()
    over_mqtt = ("--tunnel", "mqtt", "--broker", "127.0.0.1", "--mqtt-port", str(mosquitto.port), "--env", "dev")
    SimulatedBase(programs, "http://127.0.0.1:1", "m", *over_mqtt).start()
    eventually(lambda: node_ready(cluster, "m"), within=60, what="the base's Node")


def test_it_starts_with_the_kubelet_proxy(programs: Programs, cluster: KubeCluster) -> None:
    certificate, key = cluster.pki.server("kubelet-of-the-original", "127.0.0.1")
    mounted = {
        "KUBELET_PROXY_PORT": str(programs.port()),
        "KUBELET_PROXY_CRT_PATH": str(certificate),
        "KUBELET_PROXY_KEY_PATH": str(key),
        "KUBELET_PROXY_CLIENT_CA_PATH": str(cluster.pki.ca),
    }
    pod = controller(programs, cluster, {**KUBELET_PROXY, **mounted}).start()
    assert "kubelet API started" in pod.server.log.read_text()


def test_placeholders_that_nothing_can_run_with_are_named(programs: Programs, cluster: KubeCluster) -> None:
    pod = controller(programs, cluster, {**SAMPLE, "ENV": "YOUR_ENV", "ENABLE_MQTT_TUNNEL": "true"})
    ended = pod.once()
    assert ended.returncode == 2
    assert "ENV=YOUR_ENV: " in ended.stderr
    assert "REPORT_HOOKS" not in ended.stderr
