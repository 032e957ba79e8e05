"""A stand-in for the Go Module Controller V2 that does to Leases, Nodes and modules what the original does.

It runs as one process of the original while there is a Pod "module-controller" in the namespace default. Each Pod
starts with an empty memory:

- Its holder name is random. It takes a base that has no Lease, by creating one. It leaves a Lease of another holder
  alone, even an expired one, and so its own once that expired. A Lease without a holder makes it crash.
- It knows the bases of Nodes that exist at its start, and those that send heartbeats.
- Every 3 s it removes Node and Lease of each of its bases that it received nothing from for 60 s. A base that it never
  received anything from is removed at once.
- When it has taken a base it installs the modules of the Pods that it saw since it knows the base. A base that already
  has one makes the Pod not Ready until the next comparison. Every 15 s it uninstalls modules without a Pod. Pods that
  it saw before stay as they are.
- Taking a base a second time makes it crash.
"""

import contextlib
import math
import queue
import threading
import time
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from tests.integration.docs.original_tunnels import Heartbeat, Tunnel
from tests.servers.kubeapi import ApiError, Json, KubeApi

POD = "/api/v1/namespaces/default/pods/module-controller"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
OWN = "virtual-kubelet.koupleless.io"
LOOK_EVERY = 0.2
LEASE_EVERY, HEALTH_EVERY, MODULES_EVERY, DEAD_EVERY = 10.0, 10.0, 15.0, 3.0
LEASE_SECONDS, DEAD_AFTER = 40.0, 60.0


class Panic(Exception):
    """The original's process ends."""


class Original:
    """Runs until it is closed; a context manager. process is None without a Pod; failure is why it crashed."""

    def __init__(self, api: KubeApi, tunnel: Tunnel) -> None:
        self._api = api
        self._tunnel = tunnel
        self.process: _Process | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="original")
        self.failure: Exception | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: TracebackType | type[BaseException] | BaseException | None) -> None:
        self._stopping.set()
        self._thread.join()
        self._tunnel.close()

    def knows(self, vnode: str) -> bool:
        """Return whether it runs, and keeps something of a VNode in memory."""
        return self.process is not None and vnode in self.process.vnodes

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_EVERY):
            try:
                self._look()
            except (Panic, ApiError, OSError) as error:
                self.failure = error
                self._tunnel.close()
                return

    def _look(self) -> None:
        pod = find(self._api, POD)
        if pod is None or pod["metadata"].get("deletionTimestamp"):
            if self.process is not None:
                self.process = None
                self._tunnel.close()
            if pod is not None:
                self._api.delete(POD, grace_seconds=0)
            return
        if self.process is None:
            self._tunnel.open()
            self.process = _Process(self._api, self._tunnel)
            _write_pod_status(self._api, POD, pod, ready=True)
        self.process.step()


@dataclass
class _VNode:
    """Its state of a base: last_seen is the time of the last message, known has UIDs of the Pods that it installs."""

    name: str
    identity: str
    address: str
    labels: Json
    last_seen: float = -math.inf
    leads: bool = False
    taken: bool = False
    known: set[str] = field(default_factory=set)
    due: dict[str, float] = field(default_factory=dict)

    def is_due(self, what: str, every: float) -> bool:
        now = time.monotonic()
        if now < self.due.get(what, 0.0):
            return False
        self.due[what] = now + every
        return True

    def is_dead(self) -> bool:
        return time.monotonic() - self.last_seen >= DEAD_AFTER


class _Process:
    def __init__(self, api: KubeApi, tunnel: Tunnel) -> None:
        self._api = api
        self._tunnel = tunnel
        self._holder = str(uuid.uuid4())
        self._seen: set[str] = set()
        self.vnodes: dict[str, _VNode] = {}
        for node in api.items("/api/v1/nodes"):
            labels = node["metadata"]["labels"]
            if labels.get(f"{OWN}/component") == "vnode" and labels.get(f"{OWN}/env") == "dev":
                name = node["metadata"]["name"]
                self.vnodes[name] = _VNode(name, _identity(name), _address(node), labels)

    def step(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._take_heartbeat(self._tunnel.heartbeats.get_nowait())
        pods = self._pods()
        for vnode in list(self.vnodes.values()):
            self._meet(vnode, [pod for pod in pods if pod["spec"].get("nodeName") == vnode.name])
            if vnode.is_due("lease", LEASE_EVERY):
                self._look_at_lease(vnode)
            if vnode.leads:
                self._look_after(vnode)
        self._seen |= {pod["metadata"]["uid"] for pod in pods}

    def _take_heartbeat(self, heartbeat: Heartbeat) -> None:
        name = f"vnode.{heartbeat.identity}.dev"
        if name not in self.vnodes and heartbeat.active:
            self.vnodes[name] = _VNode(name, heartbeat.identity, heartbeat.address, _labels(name, heartbeat))
        if vnode := self.vnodes.get(name):
            vnode.last_seen = time.monotonic() if heartbeat.active else -math.inf
            vnode.address = heartbeat.address

    def _pods(self) -> list[Json]:
        return self._api.items("/api/v1/pods?labelSelector=" + f"{OWN}/component%3Dmodule")

    def _meet(self, vnode: _VNode, pods: list[Json]) -> None:
        for pod in pods:
            uid = pod["metadata"]["uid"]
            if uid not in self._seen:
                vnode.known.add(uid)
                if vnode.leads:
                    self._install(vnode, pod)

    def _look_at_lease(self, vnode: _VNode) -> None:
        lease = find(self._api, f"{LEASES}/{vnode.name}")
        made = lease is None
        if lease is None:
            labels = {f"{OWN}/env": "dev", f"{OWN}/component": "vnode-lease"}
            spec = {"holderIdentity": self._holder, "leaseDurationSeconds": int(LEASE_SECONDS), "renewTime": _now()}
            lease = self._api.create(LEASES, {"metadata": {"name": vnode.name, "labels": labels}, "spec": spec})
        before, vnode.leads = vnode.leads, self._is_mine(lease)
        if vnode.leads and not before:
            self._take(vnode)
        if vnode.leads and not made:
            renewed = {"spec": {"holderIdentity": self._holder, "renewTime": _now()}}
            self._api.patch(f"{LEASES}/{vnode.name}", renewed, "application/merge-patch+json")

    def _is_mine(self, lease: Json) -> bool:
        if "holderIdentity" not in lease["spec"]:
            raise Panic(f"the Lease {lease['metadata']['name']} has no holder: nil pointer dereference")
        if lease["spec"]["holderIdentity"] != self._holder:
            return False
        renewed = datetime.fromisoformat(lease["spec"]["renewTime"])
        return (datetime.now(UTC) - renewed).total_seconds() <= LEASE_SECONDS

    def _take(self, vnode: _VNode) -> None:
        if vnode.taken:
            raise Panic(f"{vnode.name} is taken a second time: close of closed channel")
        vnode.taken = True
        if find(self._api, f"/api/v1/nodes/{vnode.name}") is None:
            self._api.create("/api/v1/nodes", _node(vnode))
        self._renew_node(vnode)
        for pod in self._pods():
            if pod["metadata"]["uid"] in vnode.known:
                self._install(vnode, pod)

    def _look_after(self, vnode: _VNode) -> None:
        if vnode.is_due("dead", DEAD_EVERY) and vnode.is_dead():
            del self.vnodes[vnode.name]
            self._api.delete(f"/api/v1/nodes/{vnode.name}")
            self._api.delete(f"{LEASES}/{vnode.name}")
            return
        with contextlib.suppress(OSError):  # a base that does not answer is silent
            if vnode.is_due("health", HEALTH_EVERY):
                health = self._ask(vnode, "health", {})
                if health["data"]["healthData"]["masterBizInfo"]["bizState"].upper() == "ACTIVATED":
                    vnode.last_seen = time.monotonic()
                self._renew_node(vnode)
            if vnode.is_due("modules", MODULES_EVERY):
                self._compare(vnode, self._ask(vnode, "queryAllBiz", {})["data"])

    def _compare(self, vnode: _VNode, modules: list[Json]) -> None:
        """Make known Pods Ready as their modules are, and uninstall modules without a Pod."""
        pods = {_module(pod): pod for pod in self._pods() if pod["spec"].get("nodeName") == vnode.name}
        for module in modules:
            key = (module["bizName"], module["bizVersion"])
            if key not in pods:
                self._ask(vnode, "uninstallBiz", {"bizName": key[0], "bizVersion": key[1]})
            elif pods[key]["metadata"]["uid"] in vnode.known:
                self._write_status(pods[key], ready=module["bizState"].upper() == "ACTIVATED")

    def _install(self, vnode: _VNode, pod: Json) -> None:
        name, version = _module(pod)
        body = {"bizName": name, "bizVersion": version, "bizUrl": pod["spec"]["containers"][0]["image"]}
        with contextlib.suppress(OSError):
            self._write_status(pod, ready=self._ask(vnode, "installBiz", body)["code"] == "SUCCESS")

    def _write_status(self, pod: Json, *, ready: bool) -> None:
        _write_pod_status(
            self._api,
            f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}",
            pod,
            ready=ready,
        )

    def _ask(self, vnode: _VNode, command: str, body: Json) -> Json:
        return self._tunnel.ask(vnode.identity, vnode.address, command, body)

    def _renew_node(self, vnode: _VNode) -> None:
        ready = {"type": "Ready", "status": "True", "reason": "NodeReady", "lastHeartbeatTime": _now()}
        with contextlib.suppress(ApiError):  # it does not notice when another client removed the Node
            self._api.patch(f"/api/v1/nodes/{vnode.name}/status", {"status": {"conditions": [ready]}})


def find(api: KubeApi, path: str) -> Json | None:
    """Return an object, None when there is none."""
    try:
        return api.get(path)
    except ApiError as error:
        if error.status != 404:
            raise
        return None


def _write_pod_status(api: KubeApi, path: str, pod: Json, *, ready: bool) -> None:
    (container,) = pod["spec"]["containers"]
    state = {"running": {"startedAt": _now()}} if ready else {"waiting": {"reason": "BizBroken"}}
    container_status = {
        "name": container["name"],
        "image": container["image"],
        "imageID": "",
        "restartCount": 0,
        "ready": ready,
    }
    status = {
        "phase": "Running",
        "conditions": [{"type": kind, "status": str(ready)} for kind in ("Ready", "ContainersReady")],
        "containerStatuses": [{**container_status, "state": state}],
    }
    with contextlib.suppress(ApiError):  # it may be gone
        api.patch(path + "/status", {"status": status})


def _module(pod: Json) -> tuple[str, str]:
    (container,) = pod["spec"]["containers"]
    (version,) = [each["value"] for each in container["env"] if each["name"] == "BIZ_VERSION"]
    return container["name"], version


def _identity(name: str) -> str:
    return name.removeprefix("vnode.").removesuffix(".dev")


def _address(node: Json) -> str:
    (address,) = [each["address"] for each in node["status"]["addresses"] if each["type"] == "InternalIP"]
    return f"{address}:{node['metadata']['labels'].get('base.koupleless.io/tunnel-port', '1238')}"


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _labels(name: str, heartbeat: Heartbeat) -> Json:
    return {
        f"{OWN}/component": "vnode",
        f"{OWN}/env": "dev",
        "base.koupleless.io/name": heartbeat.metadata["name"],
        "base.koupleless.io/version": heartbeat.metadata["version"],
        "base.koupleless.io/cluster-name": heartbeat.metadata["clusterName"],
        "base.koupleless.io/host-name": heartbeat.identity,
        "base.koupleless.io/tunnel-port": heartbeat.address.rpartition(":")[2],
        "kubernetes.io/hostname": name,
    }


def _node(vnode: _VNode) -> Json:
    taints = [
        {"key": "schedule.koupleless.io/virtual-node", "value": "True", "effect": "NoExecute"},
        {"key": "schedule.koupleless.io/node-env", "value": "dev", "effect": "NoExecute"},
    ]
    capacity = {"pods": "65535", "memory": "200Mi"}
    status = {
        "addresses": [{"type": "InternalIP", "address": vnode.address.rpartition(":")[0]}],
        "capacity": capacity,
        "allocatable": capacity,
        "conditions": [{"type": "Ready", "status": "True", "reason": "NodeReady"}],
    }
    return {"metadata": {"name": vnode.name, "labels": vnode.labels}, "spec": {"taints": taints}, "status": status}
