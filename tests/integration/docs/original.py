"""A stand-in for the Go Module Controller V2, as far as an operator who moves away from it, or back, meets it.

It runs while there is a Pod "module-controller" in the namespace default. Of bases that
send it heartbeats it keeps Lease and Node: it makes a Lease that is missing, renews its
own, and leaves those of others alone, expired ones too, as the original does. It is no
imitation of anything else.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import ClassVar

from tests.servers.kubeapi import ApiError, Json, KubeApi

POD = "/api/v1/namespaces/default/pods/module-controller"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
HOLDER = "5f0cd4b0-5a3c-4a0e-9d3e-0e0f4c6f7a11"
"""The original calls itself by a random name at each start."""
LOOK_EVERY, RENEW_EVERY = 0.3, 5.0


class Original:
    """Runs until it is closed; a context manager."""

    def __init__(self, api: KubeApi) -> None:
        self._api = api
        self._bases: set[str] = set()
        self._stopping = threading.Event()
        self._renewed = 0.0
        self._thread = threading.Thread(target=self._run, name="original")
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Heartbeats", (_Heartbeats,), {"bases": self._bases}))
        self._serving = threading.Thread(target=self._server.serve_forever, name="original's port")
        self.port = int(self._server.server_address[1])
        self.failure: Exception | None = None

    def __enter__(self) -> Original:
        self._thread.start()
        self._serving.start()
        return self

    def __exit__(self, *_: TracebackType | type[BaseException] | BaseException | None) -> None:
        self._stopping.set()
        self._server.shutdown()
        self._serving.join()
        self._thread.join()
        self._server.server_close()

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_EVERY):
            try:
                self._look()
            except (ApiError, OSError) as error:
                self.failure = error
                return

    def _look(self) -> None:
        pod = _find(self._api, POD)
        if pod is None:
            self._bases.clear()
        elif pod["metadata"].get("deletionTimestamp"):
            self._bases.clear()
            self._api.delete(POD, grace_seconds=0)
        elif time.monotonic() - self._renewed > RENEW_EVERY or not self._bases:
            for base in list(self._bases):
                self._keep(base)
                self._renewed = time.monotonic()

    def _keep(self, base: str) -> None:
        name = f"vnode.{base}.dev"
        lease = _find(self._api, f"{LEASES}/{name}")
        now = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime())
        spec = {"holderIdentity": HOLDER, "leaseDurationSeconds": 40, "renewTime": now}
        if lease is None:
            labels = {"virtual-kubelet.koupleless.io/env": "dev"}
            labels["virtual-kubelet.koupleless.io/component"] = "vnode-lease"
            self._api.create(LEASES, {"metadata": {"name": name, "labels": labels}, "spec": spec})
        elif lease["spec"]["holderIdentity"] == HOLDER:
            self._api.patch(f"{LEASES}/{name}", {"spec": spec}, "application/merge-patch+json")
        else:
            return
        if _find(self._api, f"/api/v1/nodes/{name}") is None:
            self._api.create("/api/v1/nodes", _node(name, base))
        beat = {"type": "Ready", "status": "True", "reason": "NodeReady", "lastHeartbeatTime": now}
        self._api.patch(f"/api/v1/nodes/{name}/status", {"status": {"conditions": [beat]}})


class _Heartbeats(BaseHTTPRequestHandler):
    bases: ClassVar[set[str]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.bases.add(body["baseMetadata"]["identity"])
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"SUCCESS")

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Say nothing."""


def _find(api: KubeApi, path: str) -> Json | None:
    with contextlib.suppress(ApiError):
        return api.get(path)
    return None


def _node(name: str, base: str) -> Json:
    labels = {
        "virtual-kubelet.koupleless.io/component": "vnode",
        "virtual-kubelet.koupleless.io/env": "dev",
        "base.koupleless.io/name": "shop",
        "base.koupleless.io/version": "1.0.0",
        "base.koupleless.io/cluster-name": "default",
        "base.koupleless.io/host-name": base,
        "kubernetes.io/hostname": name,
        "kubernetes.io/role": "agent",
        "type": "virtual-kubelet",
    }
    taints = [
        {"key": "schedule.koupleless.io/virtual-node", "value": "True", "effect": "NoExecute"},
        {"key": "schedule.koupleless.io/node-env", "value": "dev", "effect": "NoExecute"},
    ]
    capacity = {"pods": "65535", "memory": "200Mi"}
    status = {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "capacity": capacity,
        "allocatable": capacity,
        "conditions": [{"type": "Ready", "status": "True", "reason": "NodeReady"}],
    }
    return {"metadata": {"name": name, "labels": labels}, "spec": {"taints": taints}, "status": status}
