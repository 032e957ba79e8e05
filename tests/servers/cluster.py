"""A Kubernetes control plane of plain processes on loopback: etcd, API server, controllers, scheduler.

RBAC is on. There are no kubelets: our control plane is what writes the status of Nodes and Pods. Calls block: use
``asyncio.to_thread`` in a running event loop.
"""

import json
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

from tests.servers import rbac
from tests.servers.bundles import find, under_test
from tests.servers.cleaning import SYSTEM_NAMESPACE, clean
from tests.servers.credentials import Credentials
from tests.servers.fetch import Unavailable
from tests.servers.kubeapi import ApiError, Json, KubeApi
from tests.servers.process import Port, Server, accepts

ADMIN = "admin"
CONTROL_PLANE = "controlplane"
"""The user that apply_rbac binds to the shipped roles."""
FRONT_PROXY = "front-proxy-client"
"""The user that the API server is for servers of other APIs, to which it passes requests on."""
SERVICE_ACCOUNT = "system:serviceaccount:koupleless-system:module-controller"
"""The user that the control plane is where a Pod runs it."""

SYSTEM_NAMESPACES = frozenset({"default", "kube-node-lease"})
"""The server creates these only after it reports ready."""

ETCD_READY_WITHIN = 30.0
READY_WITHIN = 90.0
STOP_WITHIN = 20.0
CLIENT_RATE = 300
"""Requests per second that controllers and scheduler allow themselves: tests must not measure their limit."""


def programs() -> dict[str, Path]:
    """Return the path of each program; raises Unavailable."""
    found = {}
    for bundle in under_test():
        place = find(bundle)
        if place is None:
            raise Unavailable(f"no {bundle.name} {bundle.version} in KUBEBUILDER_ASSETS or the cache")
        found.update({program: place.folder / program for program in bundle.programs})
    return found


def kubectl() -> Path:
    """Return the path of kubectl; raises Unavailable."""
    return programs()["kubectl"]


class KubeCluster:
    """A cluster of its own in a folder of its own; a context manager that starts and ends it.

    With controllers, Deployments, namespaces and taints work as in any cluster and Pods are scheduled; without, there
    is only the API. With audit, what the control plane asks for is written down, be it the user "controlplane" or the
    shipped service account.
    """

    def __init__(self, *, controllers: bool = True, durable: bool = False, audit: bool = False) -> None:
        self._programs = programs()
        self._audit = audit
        self._controllers = controllers
        self._durable = durable
        self._stack = ExitStack()
        self._servers: dict[str, Server] = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.folder = Path(tempfile.mkdtemp(prefix="kube-cluster-"))
            stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
            self._etcd_port, self._port = stack.enter_context(_port()), stack.enter_context(_port())
            self._credentials = Credentials(self.folder / "pki")
            self.api = self.client(ADMIN)
            stack.callback(self._stop_all)
            self._start_etcd()
            self.start_apiserver()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def url(self) -> str:
        """Where the API server listens."""
        return f"https://127.0.0.1:{self._port}"

    @property
    def version(self) -> str:
        """Version that the API server reports, like v1.36.3."""
        return str(self.api.get("/version")["gitVersion"])

    @property
    def minor(self) -> int:
        """Minor version of Kubernetes: 36 for v1.36.3."""
        return int(self.version.split(".")[1])

    @property
    def serving(self) -> bool:
        """Whether the API server's process runs."""
        server = self._servers.get("kube-apiserver")
        return server is not None and server.running

    @property
    def pki(self) -> Credentials:
        """The cluster's certificates."""
        return self._credentials

    def environ(self, user: str = CONTROL_PLANE) -> dict[str, str]:
        """Return the variables with which a control plane works on this cluster as a user."""
        kubeconfig = str(self.kubeconfig(user))
        return {"CLUSTER": "kubernetes", "NAMESPACE": SYSTEM_NAMESPACE, "KUBECONFIG": kubeconfig}

    def client(self, user: str) -> KubeApi:
        """Return a client that is a user."""
        return KubeApi(self._port, self._credentials.tls(user))

    def kubeconfig(self, user: str = ADMIN) -> Path:
        """Return a kubeconfig file: admin may do all; controlplane what apply_rbac gave it; others nothing."""
        return self._credentials.kubeconfig(user, self.url)

    def kubectl(
        self, *arguments: str, namespace: str = "default", says: str = "", within: float = 60.0, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl as administrator; says is what it reads, options are those of subprocess.run.

        Raises TimeoutExpired after so many seconds: nothing may hang.
        """
        command = [str(kubectl()), "--kubeconfig", str(self.kubeconfig()), "--namespace", namespace, *arguments]
        return subprocess.run(
            command, input=says, capture_output=True, text=True, timeout=within, check=False, **options
        )

    def service_account_token(self, namespace: str, name: str, audience: str = "https://kubernetes.default.svc") -> str:
        """Return a token that is good for some hours; raises ApiError, OSError."""
        request = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"audiences": [audience], "expirationSeconds": 4 * 3600},
        }
        granted = self.api.create(f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token", request)
        return str(granted["status"]["token"])

    def service_account_kubeconfig(self, namespace: str, name: str) -> Path:
        """Return a kubeconfig file with a token that is good for some hours; raises ApiError, OSError."""
        token = self.service_account_token(namespace, name)
        return self._credentials.token_kubeconfig(f"{namespace}-{name}", self.url, token)

    def stop_apiserver(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Stop the API server; etcd and the port stay ours. Connections to it are refused from now on."""
        self._servers["kube-apiserver"].stop(how, within=STOP_WITHIN)

    def start_apiserver(self) -> None:
        """Start the API server, again if it was stopped, and wait until it is ready.

        Controllers and scheduler are restarted with it: after an outage they end themselves, or connect again only
        after a backoff of up to a minute.
        """
        server = self._server("kube-apiserver", self._apiserver_flags())
        server.start()
        server.wait_until(self._ready, within=READY_WITHIN)
        for controllers in self._controllers_and_scheduler():
            controllers.stop(signal.SIGKILL)
            controllers.start()

    def audited(self) -> list[Json]:
        """Return the audit events of all that the control plane asked for, oldest first."""
        log = self.folder / "audit.log"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def apply_rbac(self) -> None:
        """Give the user "controlplane" the shipped roles; raises ApiError, OSError."""
        rbac.apply(self.api, CONTROL_PLANE)

    def clean(self) -> None:
        """Remove what a test left behind, an outage included; raises NotClean, ApiError, OSError."""
        if self.serving:
            self.thaw_apiserver()
        if not all(server.running for server in self._servers.values()):
            self.start_apiserver()
        clean(self.api)

    def freeze_apiserver(self) -> None:
        """Suspend the API server: connections stay, nothing is answered."""
        self._servers["kube-apiserver"].signal(signal.SIGSTOP)

    def thaw_apiserver(self) -> None:
        """Resume a suspended API server."""
        self._servers["kube-apiserver"].signal(signal.SIGCONT)

    def _ready(self) -> bool:
        if not self.api.ready():
            return False
        try:
            names = {namespace["metadata"]["name"] for namespace in self.api.items("/api/v1/namespaces")}
        except (ApiError, OSError):
            return False
        return names >= SYSTEM_NAMESPACES

    def _start_etcd(self) -> None:
        url = f"http://127.0.0.1:{self._etcd_port}"
        flags = {
            "data-dir": self.folder / "etcd",
            "listen-client-urls": url,
            "advertise-client-urls": url,
            "listen-peer-urls": "http://127.0.0.1:0",
            "log-level": "warn",
            "quota-backend-bytes": 4 << 30,
        }
        server = self._server("etcd", _flags(flags) + ([] if self._durable else ["--unsafe-no-fsync"]))
        server.start()
        server.wait_until(lambda: accepts(self._etcd_port), within=ETCD_READY_WITHIN)

    def _apiserver_flags(self) -> list[str]:
        pki = self._credentials
        front_proxy = pki.files(FRONT_PROXY)
        audit = {}
        if self._audit:
            policy = self.folder / "audit.json"
            rules = [{"level": "Metadata", "users": [CONTROL_PLANE, SERVICE_ACCOUNT]}, {"level": "None"}]
            policy.write_text(
                json.dumps(
                    {
                        "apiVersion": "audit.k8s.io/v1",
                        "kind": "Policy",
                        "omitStages": ["RequestReceived", "ResponseStarted"],
                        "rules": rules,
                    }
                )
            )
            # Written at once, not in batches: tests look right after.
            audit = {
                "audit-policy-file": policy,
                "audit-log-path": self.folder / "audit.log",
                "audit-log-mode": "blocking",
            }
        return _flags(
            {
                "etcd-servers": f"http://127.0.0.1:{self._etcd_port}",
                "bind-address": "127.0.0.1",
                "advertise-address": "127.0.0.1",
                "secure-port": self._port,
                # A loopback address cannot be an endpoint of the Service "kubernetes", and nobody needs it.
                "endpoint-reconciler-type": "none",
                "tls-cert-file": pki.server_crt,
                "tls-private-key-file": pki.server_key,
                "client-ca-file": pki.ca,
                "service-account-key-file": pki.service_accounts_key,
                "service-account-signing-key-file": pki.service_accounts_key,
                "service-account-issuer": "https://kubernetes.default.svc",
                # Services have addresses that reach programs of this machine: there is no kube-proxy.
                # As in clusters: agents of nodes are so.
                "allow-privileged": "true",
                "service-cluster-ip-range": "127.8.0.0/24",
                "kubelet-client-certificate": pki.kubelet_client_crt,
                "kubelet-client-key": pki.kubelet_client_key,
                "kubelet-certificate-authority": pki.ca,
                "authorization-mode": "RBAC",
                # For APIs that other servers have, as metrics-server does.
                "requestheader-client-ca-file": pki.ca,
                "requestheader-allowed-names": FRONT_PROXY,
                "requestheader-username-headers": "X-Remote-User",
                "requestheader-group-headers": "X-Remote-Group",
                "requestheader-extra-headers-prefix": "X-Remote-Extra-",
                "proxy-client-cert-file": front_proxy[0],
                "proxy-client-key-file": front_proxy[1],
                # Pods need no service account here: nothing ever runs in them.
                "disable-admission-plugins": "ServiceAccount",
                **audit,
            }
        )

    def _controllers_and_scheduler(self) -> list[Server]:
        if not self._controllers:
            return []
        shared = {
            "leader-elect": "false",
            "secure-port": 0,
            "kube-api-qps": CLIENT_RATE,
            "kube-api-burst": 2 * CLIENT_RATE,
        }
        if self.minor < 24:
            # Without it they listen on a fixed port besides; later versions do not know the flag.
            shared["port"] = 0
        controllers = {
            **shared,
            "kubeconfig": self.kubeconfig(ADMIN),
            "service-account-private-key-file": self._credentials.service_accounts_key,
            "root-ca-file": self._credentials.ca,
            "cluster-signing-cert-file": self._credentials.ca,
            "cluster-signing-key-file": self._credentials.ca_key,
            "horizontal-pod-autoscaler-sync-period": "2s",
        }
        scheduler = {**shared, "kubeconfig": self.kubeconfig("system:kube-scheduler")}
        return [
            self._server("kube-controller-manager", _flags(controllers)),
            self._server("kube-scheduler", _flags(scheduler)),
        ]

    def _server(self, program: str, flags: list[str]) -> Server:
        if program not in self._servers:
            command = [str(self._programs[program]), *flags]
            self._servers[program] = Server(program, command, self.folder / f"{program}.log")
        return self._servers[program]

    def _stop_all(self) -> None:
        # etcd last: what writes to it would otherwise wait for it.
        for server in reversed(self._servers.values()):
            server.stop(within=STOP_WITHIN)


@contextmanager
def _port() -> Iterator[int]:
    port = Port()
    try:
        yield port.number
    finally:
        port.close()


def _flags(flags: Mapping[str, object]) -> list[str]:
    return [f"--{name}={value}" for name, value in flags.items()]
