"""Does by hand what kubelet and container runtime would: runs the programs of Pods as processes of this machine.

A Pod's container becomes a process with the command and the variables of its spec,
those from ConfigMaps, Secrets and the Pod's fields included. What belongs to a
container's network is made fit for one machine: free ports of 127.0.0.1 instead of
fixed ones, and addresses instead of the cluster's names. Pods become Ready when
/readyz says so. A Pod that is deleted gets SIGTERM.
"""

from __future__ import annotations

import base64
import contextlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType

from service.settings import ALL_VARIABLES
from tests.programs import Programs, status
from tests.servers.cluster import CONTROL_PLANE, KubeCluster
from tests.servers.kubeapi import ApiError, Json
from tests.servers.process import Server, ServerFailed

NAMESPACE = "koupleless-system"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
LOOK_EVERY = 0.3
MODULES = {
    "module-controller": "modulecontroller",
    "controlplane": "controlplane",
    "http-gateway": "gateways.http",
    "mqtt-gateway": "gateways.mqtt",
}
PORTS = {
    "grpc": "GRPC_PORT",
    "report": "REPORT_PORT",
    "health": "HEALTH_PORT",
    "metrics": "METRICS_PORT",
    "http-tunnel": "HTTP_TUNNEL_LISTEN_PORT",
}
"""Variable by the name of a container's port."""


@dataclass
class Running:
    """A Pod's process; ports by their names in the manifest."""

    name: str
    program: str
    server: Server
    ports: Mapping[str, int]

    @property
    def ready(self) -> bool:
        """Whether it says so."""
        return status(f"http://127.0.0.1:{self.ports['health']}/readyz") == 200


class HandKubelet:
    """Runs the Pods of koupleless-system until it is closed; a context manager.

    names are the cluster's names (host:port) and the addresses that they stand for
    here; host names alone may be given as well.
    """

    def __init__(self, cluster: KubeCluster, programs: Programs, environ: Mapping[str, str]) -> None:
        self._cluster = cluster
        self._programs = programs
        self._environ = environ
        self._pods: dict[str, Running] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hand kubelet")
        self.failure: Exception | None = None

    def __enter__(self) -> HandKubelet:
        self._thread.start()
        return self

    def __exit__(self, *_: TracebackType | type[BaseException] | BaseException | None) -> None:
        self._stopping.set()
        self._thread.join()
        # Gateways before what they are connected to.
        for running in sorted(self._pods.values(), key=lambda each: each.program == "controlplane"):
            running.server.stop()

    def running(self, program: str) -> list[Running]:
        """Return the Pods of a program that run, in the order in which they came."""
        if self.failure is not None:
            raise self.failure
        return [each for each in list(self._pods.values()) if each.program == program and each.server.running]

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_EVERY):
            try:
                self._look()
            except (ApiError, OSError, ServerFailed) as error:
                self.failure = error
                return

    def _look(self) -> None:
        pods = {pod["metadata"]["name"]: pod for pod in self._cluster.api.items(PODS)}
        for name in self._pods.keys() - pods.keys():
            self._pods.pop(name).server.stop(within=30)
        for name, pod in sorted(pods.items(), key=lambda item: item[1]["metadata"]["creationTimestamp"]):
            (container,) = pod["spec"]["containers"]
            if name not in self._pods and container["command"][0] in MODULES:
                self._pods[name] = self._start(pod, container)
            if name in self._pods:
                self._tell(pod, self._pods[name])

    def _start(self, pod: Json, container: Json) -> Running:
        (program,) = container["command"]
        ports = {port["name"]: self._programs.port() for port in container["ports"]}
        environ = self._variables(pod, container) | {PORTS[name]: str(port) for name, port in ports.items()}
        environ |= {"GRPC_HOST": "127.0.0.1"} if program in ("controlplane", "module-controller") else {}
        if program == "module-controller":
            environ.setdefault("GRPC_PORT", str(self._programs.port()))
        if "CONTROL_PLANE" in environ:
            replicas = [each for each in self._pods.values() if each.program == "controlplane"]
            environ["CONTROL_PLANE"] = ",".join(f"127.0.0.1:{each.ports['grpc']}" for each in replicas)
        if pod["spec"].get("serviceAccountName"):
            environ["KUBECONFIG"] = str(self._cluster.kubeconfig(CONTROL_PLANE))
        environ |= {name: value for name, value in self._environ.items() if name in environ}
        environ |= {"HTTP_TUNNEL_ALLOWED_CIDRS": "127.0.0.0/8"}
        server = self._programs.program(pod["metadata"]["name"], MODULES[program], environ=environ)
        server.start()
        if "GRPC_PORT" in environ:
            ports["grpc"] = int(environ["GRPC_PORT"])
        return Running(pod["metadata"]["name"], program, server, ports)

    def _variables(self, pod: Json, container: Json) -> dict[str, str]:
        found: dict[str, str] = {}
        for source in container.get("envFrom", []):
            found |= self._object("configmaps", source["configMapRef"]["name"])["data"]
        for variable in container.get("env", []):
            value = variable.get("value", "")
            origin = variable.get("valueFrom", {})
            if "fieldRef" in origin:
                value = _field(pod, origin["fieldRef"]["fieldPath"])
            elif "secretKeyRef" in origin:
                value = self._secret(**{key: origin["secretKeyRef"][key] for key in ("name", "key")})
            found[variable["name"]] = value
        assert found.keys() <= ALL_VARIABLES
        return found

    def _secret(self, name: str, key: str) -> str:
        try:
            return base64.b64decode(self._object("secrets", name)["data"][key]).decode()
        except ApiError as error:
            if error.status == 404:
                return ""
            raise

    def _object(self, kind: str, name: str) -> Json:
        return self._cluster.api.get(f"/api/v1/namespaces/{NAMESPACE}/{kind}/{name}")

    def _tell(self, pod: Json, running: Running) -> None:
        """Write the Pod's status, if it changed."""
        ready = "True" if running.ready else "False"
        conditions = pod.get("status", {}).get("conditions", [])
        if ready in [each["status"] for each in conditions if each["type"] == "Ready"]:
            return
        told = {"phase": "Running", "podIP": "127.0.0.1", "conditions": [{"type": "Ready", "status": ready}]}
        with contextlib.suppress(ApiError):  # it may be gone
            self._cluster.api.patch(f"{PODS}/{running.name}/status", {"status": told})


def _field(pod: Json, path: str) -> str:
    name: str = pod["metadata"]["name"]
    return {"metadata.name": name, "metadata.namespace": NAMESPACE, "status.podIP": "127.0.0.1"}[path]
