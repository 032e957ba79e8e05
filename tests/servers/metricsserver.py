"""The real metrics-server beside a test cluster, which serves its API under metrics.k8s.io."""

from pathlib import Path
from types import TracebackType
from typing import Self

from tests.servers.cluster import KubeCluster
from tests.servers.kubeapi import ApiError, Json
from tests.servers.process import Port, Server

NAMESPACE, NAME = "kube-system", "metrics-server"
API = "/apis/metrics.k8s.io/v1beta1"
_RBAC = "/apis/rbac.authorization.k8s.io/v1"
_SERVICES = "/apis/apiregistration.k8s.io/v1/apiservices"
_RULES = [
    {"apiGroups": [""], "resources": ["nodes/metrics"], "verbs": ["get"]},
    {"apiGroups": [""], "resources": ["pods", "nodes"], "verbs": ["get", "list", "watch"]},
]
"""What its own manifests give it."""
READY_WITHIN = 90.0


class MetricsServer:
    """A context manager; kubelets have to show certificates of the cluster's CA.

    programs is the folder of its bundle, folder where its files go.
    """

    def __init__(self, cluster: KubeCluster, programs: Path, folder: Path) -> None:
        self._cluster = cluster
        self._port = Port()
        self._made: list[str] = []
        self.log = folder / "metrics-server.log"
        self._create(f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts", {"metadata": {"name": NAME}})
        kubeconfig = cluster.service_account_kubeconfig(NAMESPACE, NAME)
        flags = {
            "secure-port": self._port.number,
            "bind-address": "127.0.0.1",
            "cert-dir": folder / "metrics-server",
            "kubeconfig": kubeconfig,
            "authentication-kubeconfig": kubeconfig,
            "authorization-kubeconfig": kubeconfig,
            "kubelet-certificate-authority": cluster.pki.ca,
            "kubelet-preferred-address-types": "InternalIP,ExternalIP,Hostname",
            "kubelet-use-node-status-port": "true",
            "kubelet-request-timeout": "5s",
            "metric-resolution": "10s",
            "v": 1,
        }
        command = [str(programs / NAME), *(f"--{name}={value}" for name, value in flags.items())]
        self._server = Server(NAME, command, self.log)

    def __enter__(self) -> Self:
        self._allow()
        self._server.start()
        self._register()
        self._server.wait_until(self._answers, within=READY_WITHIN)
        return self

    def __exit__(self, *_: TracebackType | type[BaseException] | BaseException | None) -> None:
        for path in reversed(self._made):
            self._cluster.api.delete(path)
        self._server.stop()
        self._port.close()

    def _allow(self) -> None:
        account: Json = {"kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE}
        self._create(f"{_RBAC}/clusterroles", {"metadata": {"name": NAME}, "rules": _RULES})
        for binding, role in ((NAME, NAME), (f"{NAME}-delegator", "system:auth-delegator")):
            reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}
            bound: Json = {"metadata": {"name": binding}, "roleRef": reference, "subjects": [account]}
            self._create(f"{_RBAC}/clusterrolebindings", bound)
        reader = "extension-apiserver-authentication-reader"
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": reader}
        bound = {"metadata": {"name": NAME}, "roleRef": reference, "subjects": [account]}
        self._create(f"{_RBAC}/namespaces/{NAMESPACE}/rolebindings", bound)

    def _register(self) -> None:
        """Have the API server pass on what is asked of metrics.k8s.io."""
        # Without kube-proxy a Service leads nowhere but by its name.
        spec: Json = {"type": "ExternalName", "externalName": "localhost"}
        self._create(f"/api/v1/namespaces/{NAMESPACE}/services", {"metadata": {"name": NAME}, "spec": spec})
        spec = {
            "group": "metrics.k8s.io",
            "version": "v1beta1",
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "insecureSkipTLSVerify": True,
            "service": {"namespace": NAMESPACE, "name": NAME, "port": self._port.number},
        }
        self._create(_SERVICES, {"metadata": {"name": "v1beta1.metrics.k8s.io"}, "spec": spec})

    def _answers(self) -> bool:
        try:
            return bool(self._cluster.api.get(f"{API}/nodes")["kind"] == "NodeMetricsList")
        except (ApiError, OSError):
            return False

    def _create(self, collection: str, obj: Json) -> None:
        self._cluster.api.create(collection, obj)
        self._made.append(f"{collection}/{obj['metadata']['name']}")
