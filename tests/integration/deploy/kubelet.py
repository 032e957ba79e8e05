"""Stands for kubelet, container runtime and cluster network: Pods run as processes of this machine.

There is one Node for them, "worker". A Pod's container becomes a process with the command and the arguments of its
spec, and a token of its service account. Its variables include those from ConfigMaps, Secrets and the Pod's fields. Its
volumes are folders of this machine, to which variables lead that name a path in them.
What belongs to a container's network is changed to fit one machine: free ports of 127.0.0.1 instead of fixed ones; for
a Service, a port that leads to the Pods that it selects; for a headless one, their ports. A Pod becomes Ready when
/readyz says so, and gets SIGTERM when it is deleted.
"""

import base64
import contextlib
import http
import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from types import TracebackType
from typing import Self

from controlplane.rpc.settings import TLS_SECRET
from modulecontroller.configuration import VARIABLES
from tests.integration.deploy.service import Forwarder
from tests.integration.deploy.volumes import Volumes
from tests.programs import Programs, status
from tests.servers.cluster import KubeCluster
from tests.servers.kubeapi import ApiError, Json
from tests.servers.process import Server, ServerFailed

NAMESPACE = "koupleless-system"
NODE = "worker"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
LOOK_EVERY = 0.3
HEARTBEAT_EVERY = 5.0
STOP_WITHIN = 30.0
MODULES = {
    "module-controller": "modulecontroller",
    "controlplane": "controlplane",
    "http-gateway": "gateways.http",
    "mqtt-gateway": "gateways.mqtt",
    "simulated-base": "simulatedbase",
}
"""What is run, by command; other Pods stay Pending."""
PORTS = {
    "grpc": "GRPC_PORT",
    "report": "REPORT_PORT",
    "health": "HEALTH_PORT",
    "metrics": "METRICS_PORT",
    "http-tunnel": "HTTP_TUNNEL_LISTEN_PORT",
    "kubelet": "KUBELET_PROXY_PORT",
}
"""Variable by the name of a container's port."""
_SERVICE = re.compile(rf"\b(?P<name>[a-z-]+)\.{NAMESPACE}:(?P<port>\d+)")


class NotYet(Exception):
    """Something that a Pod needs does not exist yet; the Pod is tried again."""


@dataclass
class Running:
    """A Pod's process; ports by their names in the manifest; address is the podIP, where nothing listens."""

    name: str
    program: str
    labels: Mapping[str, str]
    server: Server
    ports: Mapping[str, int]
    address: str
    volumes: Volumes

    @property
    def ready(self) -> bool:
        """Whether /readyz says so, where the program has one."""
        if "health" not in self.ports:
            return self.server.running
        return status(f"http://127.0.0.1:{self.ports['health']}/readyz") == 200


class HandKubelet:
    """Runs the Pods of koupleless-system until it is closed; a context manager.

    stand_ins are variables for services that the cluster lacks here, by the prefix of the variables that they replace.
    A Pod that has a variable with the prefix gets them.
    """

    def __init__(self, cluster: KubeCluster, programs: Programs, stand_ins: Mapping[str, Mapping[str, str]]) -> None:
        self._cluster = cluster
        self._programs = programs
        self._stand_ins = stand_ins
        self._pods: dict[str, Running] = {}
        self._services: dict[str, Forwarder] = {}
        self._addresses = count(1)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hand kubelet")
        self._last_heartbeat = 0.0
        self.failure: Exception | None = None

    def __enter__(self) -> Self:
        self._register()
        self._thread.start()
        return self

    def __exit__(self, *_: TracebackType | type[BaseException] | BaseException | None) -> None:
        self._stopping.set()
        self._thread.join()
        # Clients stop before their servers.
        for running in sorted(self._pods.values(), key=lambda each: list(MODULES).index(each.program), reverse=True):
            running.server.stop()
        for service in self._services.values():
            service.close()

    def running(self, *programs: str) -> list[Running]:
        """Return the running Pods of programs, in the order of their start."""
        if self.failure is not None:
            raise self.failure
        return [each for each in list(self._pods.values()) if each.program in programs and each.server.running]

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_EVERY):
            try:
                self._send_heartbeat()
                self._look()
            except (ApiError, OSError, ServerFailed) as error:
                self.failure = error
                return

    def _look(self) -> None:
        pods = [pod for pod in self._cluster.api.items(PODS) if pod["spec"].get("nodeName") == NODE]
        # Servers start before their clients.
        for pod in sorted(pods, key=_order):
            meta = pod["metadata"]
            (container,) = pod["spec"]["containers"]
            if meta.get("deletionTimestamp"):
                if running := self._pods.pop(meta["name"], None):
                    running.server.stop(within=STOP_WITHIN)
                self._cluster.api.delete(f"{PODS}/{meta['name']}", grace_seconds=0)
            elif container["command"][0] in MODULES:
                with contextlib.suppress(NotYet):
                    running = self._pods.get(meta["name"]) or self._start(pod, container)
                    running.volumes.refresh()
                    self._write_status(pod, running)

    def _start(self, pod: Json, container: Json) -> Running:
        (program,) = container["command"]
        name, labels = pod["metadata"]["name"], pod["metadata"].get("labels", {})
        ports = {port["name"]: self._programs.port() for port in container["ports"]}
        volumes = Volumes(self._cluster, pod, self._programs.folder / name)
        environ = _mounted(self._variables(pod, container), volumes.mount(container))
        assert environ.keys() <= VARIABLES | {"XDG_STATE_HOME"} or program == "simulated-base"
        arguments = [self._expanded(each, environ) for each in container.get("args", [])]
        if program == "simulated-base":
            arguments += ["--listen=127.0.0.1", "--port=0"]  # the last value of an option counts
        environ |= {PORTS[port]: str(number) for port, number in ports.items() if port in PORTS}
        for prefix, instead in self._stand_ins.items():
            if any(name.startswith(prefix) for name in environ):
                environ |= instead
        if "CONTROL_PLANE" in environ:
            if not (replicas := self.behind(environ["CONTROL_PLANE"])):
                raise NotYet
            environ["CONTROL_PLANE"] = ",".join(f"127.0.0.1:{port}" for port in replicas)
        if program in ("controlplane", "module-controller"):
            ports.setdefault("grpc", self._programs.port())
            environ |= {"GRPC_HOST": "127.0.0.1", "GRPC_PORT": str(ports["grpc"])}
        if program == "controlplane":
            environ["GRPC_TLS_SECRET"] = TLS_SECRET  # which it takes by itself where it is in a Pod
        if program in ("http-gateway", "module-controller"):
            environ["HTTP_TUNNEL_ALLOWED_CIDRS"] = "127.0.0.0/8"
        if pod["spec"].get("automountServiceAccountToken", True):
            account = pod["spec"]["serviceAccountName"]
            environ.setdefault("NAMESPACE", NAMESPACE)  # which comes with the token, as does the CA
            if "KUBELET_PROXY_PORT" in environ:
                environ.setdefault("KUBELET_PROXY_CLIENT_CA_PATH", str(self._cluster.pki.ca))
            environ["KUBECONFIG"] = str(self._cluster.service_account_kubeconfig(NAMESPACE, account))
        environ.setdefault("XDG_STATE_HOME", str(volumes.folder))
        server = self._programs.program(name, MODULES[program], *arguments, environ=environ)
        server.start()
        address = f"10.244.0.{next(self._addresses)}"
        self._pods[name] = Running(name, program, labels, server, ports, address, volumes)
        return self._pods[name]

    def _expanded(self, argument: str, environ: Mapping[str, str]) -> str:
        """Return an argument with $(VARIABLES) and Services replaced."""
        text = re.sub(r"\$\((\w+)\)", lambda found: environ[found[1]], argument)
        return _SERVICE.sub(lambda found: self._service(found[0]), text)

    def _service(self, name: str) -> str:
        """Return an address that leads to a Service, whichever Pods are behind it."""
        if name not in self._services:
            self._services[name] = Forwarder(lambda: self.behind(name))
        return f"127.0.0.1:{self._services[name].port}"

    def behind(self, service: str) -> Sequence[int]:
        """Return where the Pods behind a port of a Service listen."""
        found = _SERVICE.fullmatch(service)
        assert found, service
        spec = self._object("services", found["name"])["spec"]
        (port,) = [port["targetPort"] for port in spec["ports"] if port["port"] == int(found["port"])]
        pods = [each for each in list(self._pods.values()) if spec["selector"].items() <= each.labels.items()]
        return [each.ports[port] for each in pods]

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
                if (secret := self._secret(origin["secretKeyRef"])) is None:
                    continue
                value = secret
            found[variable["name"]] = value
        return found

    def _secret(self, source: Json) -> str | None:
        """Return what a key of a Secret has, None where it is optional and not there; raises NotYet."""
        try:
            return base64.b64decode(self._object("secrets", source["name"])["data"][source["key"]]).decode()
        except ApiError as error:
            if error.status != http.HTTPStatus.NOT_FOUND:
                raise
            if not source.get("optional"):
                raise NotYet from None
            return None

    def _object(self, kind: str, name: str) -> Json:
        return self._cluster.api.get(f"/api/v1/namespaces/{NAMESPACE}/{kind}/{name}")

    def _write_status(self, pod: Json, running: Running) -> None:
        """Write the Pod's status if it changed."""
        ready = running.ready
        conditions = pod.get("status", {}).get("conditions", [])
        if str(ready) in [each["status"] for each in conditions if each["type"] == "Ready"]:
            return
        (container,) = pod["spec"]["containers"]
        now = _now()
        state = {"name": container["name"], "image": container["image"], "imageID": "", "restartCount": 0}
        status = {
            "phase": "Running",
            "podIP": running.address,
            "startTime": now,
            "conditions": [{"type": "Ready", "status": str(ready), "lastTransitionTime": now}],
            "containerStatuses": [{**state, "ready": ready, "state": {"running": {"startedAt": now}}}],
        }
        with contextlib.suppress(ApiError):  # it may be gone
            self._cluster.api.patch(f"{PODS}/{running.name}/status", {"status": status})

    def _register(self) -> None:
        capacity = {"cpu": "64", "memory": "64Gi", "pods": "110"}
        node = {
            "metadata": {"name": NODE, "labels": {"kubernetes.io/hostname": NODE}},
            "status": {
                "capacity": capacity,
                "allocatable": capacity,
                "conditions": [{"type": "Ready", "status": "True", "reason": "HandKubelet"}],
            },
        }
        self._cluster.api.create("/api/v1/nodes", node)

    def _send_heartbeat(self) -> None:
        """Renew the Node's heartbeat at intervals, as a kubelet does."""
        if time.monotonic() - self._last_heartbeat < HEARTBEAT_EVERY:
            return
        condition = {"type": "Ready", "status": "True", "lastHeartbeatTime": _now()}
        self._cluster.api.patch(f"/api/v1/nodes/{NODE}/status", {"status": {"conditions": [condition]}})
        self._last_heartbeat = time.monotonic()


def _order(pod: Json) -> int:
    program = pod["spec"]["containers"][0].get("command", [""])[0]
    return list(MODULES).index(program) if program in MODULES else len(MODULES)


def _mounted(environ: Mapping[str, str], mounts: Mapping[str, str]) -> dict[str, str]:
    """Return variables whose paths lead to where volumes are on this machine."""
    found = dict(environ)
    for name, value in environ.items():
        for path, folder in mounts.items():
            if value == path or value.startswith(f"{path}/"):
                found[name] = folder + value.removeprefix(path)
    return found


def _field(pod: Json, path: str) -> str:
    name: str = pod["metadata"]["name"]
    return {"metadata.name": name, "metadata.namespace": NAMESPACE, "status.podIP": "127.0.0.1"}[path]


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
