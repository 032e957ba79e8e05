"""The real controller of Argo Rollouts beside a test cluster, and its plugin of kubectl."""

import os
import subprocess
from contextlib import ExitStack, closing
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.servers.bundles import ARGO_ROLLOUTS
from tests.servers.cluster import KubeCluster, kubectl
from tests.servers.kubeapi import Json
from tests.servers.process import Port, Server, accepts

NAMESPACE = NAME = "argo-rollouts"
_ACCOUNTS = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts"
CRDS, ROLE = ARGO_ROLLOUTS.folders
_BINDINGS = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
READY_WITHIN = 60.0


class ArgoRollouts:
    """A context manager: CRDs, roles and controller, which has the rights of its own manifests.

    programs is the folder of its bundle, folder where its log goes.
    """

    def __init__(self, cluster: KubeCluster, programs: Path, folder: Path) -> None:
        self._cluster = cluster
        self._folder = programs
        self._log = folder / "argo-rollouts.log"
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            # What a run before may have left.
            self._delete_manifests()
            stack.callback(self._delete_manifests)
            self._manifests("create")
            self._kubectl("wait", "customresourcedefinitions", "--all", "--for=condition=Established")
            self._allow(stack)
            self._start(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: TracebackType | type[BaseException] | BaseException | None) -> None:
        self._stack.close()

    def plugin(self, *arguments: str, namespace: str, fails: bool = False, within: float = 60.0) -> str:
        """Run ``kubectl argo rollouts``; return what it prints, errors included."""
        environ = {**os.environ, "PATH": f"{self._folder}{os.pathsep}{os.environ['PATH']}"}
        # As kubectl wants it of its plugins: the name of the plugin first, flags behind it.
        place = ["--kubeconfig", str(self._cluster.kubeconfig()), "--namespace", namespace]
        command = [str(kubectl()), "argo", "rollouts", *arguments, *place]
        done = subprocess.run(command, capture_output=True, text=True, timeout=within, check=False, env=environ)
        assert (done.returncode != 0) is fails, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def _start(self, stack: ExitStack) -> None:
        metrics, health = (stack.enter_context(closing(Port())).number for _ in range(2))
        flags = {
            "kubeconfig": self._cluster.service_account_kubeconfig(NAMESPACE, NAME),
            "namespace": NAMESPACE,
            "leader-elect": "false",
            "metricsPort": metrics,
            "healthzPort": health,
        }
        command = [str(self._folder / "rollouts-controller"), *(f"--{name}={value}" for name, value in flags.items())]
        server = Server(NAME, command, self._log)
        stack.callback(server.stop)
        server.start()
        server.wait_until(lambda: accepts(metrics) and accepts(health), within=READY_WITHIN)

    def _manifests(self, verb: str, *options: str) -> None:
        for name in (CRDS, ROLE):
            self._kubectl(verb, "-k", str(self._folder / name), *options)

    def _kubectl(self, *arguments: str) -> None:
        # A definition is gone once all objects of its kind are.
        done = self._cluster.kubectl(*arguments, within=180)
        assert done.returncode == 0, done.stderr

    def _delete_manifests(self) -> None:
        self._manifests("delete", "--ignore-not-found", "--wait")

    def _allow(self, stack: ExitStack) -> None:
        api = self._cluster.api
        api.create("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
        stack.callback(api.delete, f"/api/v1/namespaces/{NAMESPACE}")
        api.create(_ACCOUNTS, {"metadata": {"name": NAME}})
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": NAME}
        account: Json = {"kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE}
        api.create(_BINDINGS, {"metadata": {"name": NAME}, "roleRef": reference, "subjects": [account]})
        stack.callback(api.delete, f"{_BINDINGS}/{NAME}")
