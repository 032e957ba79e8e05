"""The whole system as real processes: cluster, broker, control plane, a gateway of each tunnel, and bases."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import yaml

from tests.programs import STARTED_WITHIN, ControlPlane, HttpGateway, MqttGateway, Programs, ask, eventually, status
from tests.servers.bundles import OLDEST_KUBERNETES, under_test
from tests.servers.cluster import KubeCluster
from tests.servers.kubeapi import ApiError, Json, KubeApi
from tests.servers.mosquitto import Mosquitto

EXAMPLES = Path(__file__).parents[1] / "examples"
ENV = "dev"
TUNNELS = ("http", "mqtt")

_PATHS = {
    "Pod": "/api/v1/namespaces/{}/pods",
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "DaemonSet": "/apis/apps/v1/namespaces/{}/daemonsets",
    "StatefulSet": "/apis/apps/v1/namespaces/{}/statefulsets",
    "Rollout": "/apis/argoproj.io/v1alpha1/namespaces/{}/rollouts",
}
WORKLOADS = ("Deployment", "DaemonSet", "StatefulSet")
_VERBS = {"installBiz": "install", "uninstallBiz": "uninstall", "switchBiz": "switch"}


class Everything:
    """Everything but bases. environ goes to the control plane."""

    def __init__(self, cluster: KubeCluster, broker: Mosquitto, programs: Programs, **environ: str) -> None:
        self.cluster = cluster
        self.broker = broker
        self.programs = programs
        self.control_plane = ControlPlane(
            programs,
            **cluster.environ(),
            LOG_LEVEL="debug",
            **environ,
        )
        address = self.control_plane.address
        self.http = HttpGateway(programs, address, LOG_LEVEL="debug")
        self.mqtt = MqttGateway(programs, address, broker.port, LOG_LEVEL="debug")

    def start(self) -> Self:
        """Start our own programs, and wait until they are ready."""
        self.control_plane.start()
        self.http.start()
        self.mqtt.start()
        return self

    def bases(self, identity: str, *arguments: str, tunnel: str = "http", count: int = 1) -> "Bases":
        """Start bases on one tunnel, or both; several are IDENTITY-1 to IDENTITY-count."""
        options = ["--env", ENV, "--controller", self.http.url, "--heartbeat-interval", "2", "--count", str(count)]
        if tunnel != "http":
            options += ["--broker", "127.0.0.1", "--mqtt-port", str(self.broker.port)]
            options += ["--heartbeats-survive", "--reconnect-longest", "5"]
        return Bases(self.programs, identity, *options, "--tunnel", tunnel, *arguments, count=count).start()


class Bases:
    """One process of one or several simulated bases. Calls that name no base concern all of them."""

    def __init__(self, programs: Programs, identity: str, *arguments: str, count: int) -> None:
        self.identities = [identity] if count == 1 else [f"{identity}-{number}" for number in range(1, count + 1)]
        admin = programs.port()
        self._root = f"http://127.0.0.1:{admin}/admin"
        self.server = programs.program(
            f"bases-{identity}",
            "simulatedbase",
            *("--identity", identity, "--admin-port", str(admin), "--port", "0", *arguments),
            environ={},
        )

    @property
    def nodes(self) -> list[str]:
        """Names of their Nodes."""
        return [node_name(identity) for identity in self.identities]

    @property
    def port(self) -> int:
        """Port of the only base."""
        (port,) = [base["port"] for base in self._bases()]
        return int(port)

    def start(self) -> Self:
        """Start the process and wait until all bases run."""
        self.server.start()
        self.server.wait_until(lambda: status(f"{self._root}/bases") == 200, within=STARTED_WITHIN)
        eventually(lambda: all(base["running"] for base in self._bases()), within=STARTED_WITHIN, what="bases run")
        return self

    def states(self) -> dict[str, dict[str, str]]:
        """Return state by name:version of all modules, by base."""
        return {
            base["identity"]: {f"{m['name']}:{m['version']}": m["state"].lower() for m in base["modules"]}
            for base in self._bases()
        }

    def modules(self) -> dict[str, str]:
        """Return state by name:version of the modules of the only base."""
        ((_, modules),) = self.states().items()
        return modules

    def orders(self, base: str = "") -> list[tuple[str, str]]:
        """Return the orders that a base got, as ("install", "biz1:0.0.1"), in order; a batch is listed one by one."""
        found = []
        for command in self._ask(f"commands?base={base}"):
            verb, body = command["verb"], command["body"]
            if verb in _VERBS:
                found.append((_VERBS[verb], _key(body)))
            elif verb == "batchInstallBiz":
                found += [("install", _key(item)) for item in body["bizList"]]
        return found

    def history(self) -> dict[str, list[Json]]:
        """Return what was inside each base after each change, oldest first; see Moment."""
        found: dict[str, list[Json]] = {identity: [] for identity in self.identities}
        for moment in self._ask("history"):
            found[moment["base"]].append(moment)
        return found

    def bodies(self, verb: str) -> list[Json]:
        """Return the bodies of a command of arklet that all bases got, oldest first."""
        return [command["body"] for command in self._ask("commands") if command["verb"] == verb]

    def command(self, verb: str, body: Json) -> Json:
        """Send the only base a command of arklet, as another client would; return the answer."""
        _, text = ask(f"http://127.0.0.1:{self.port}/{verb}", method="POST", body=json.dumps(body).encode())
        answer: Json = json.loads(text)
        return answer

    def control(self, what: str, base: str = "") -> None:
        """Change how they behave, for example "restart" or "hang?command=installBiz"."""
        code, text = ask(f"{self._root}/{what}{'&' if '?' in what else '?'}base={base}", method="POST")
        assert code == 200, text

    def _bases(self) -> list[Json]:
        found: list[Json] = self._ask("bases")
        return found

    def _ask(self, what: str) -> Any:
        return json.loads(ask(f"{self._root}/{what}")[1])


def _key(body: Json) -> str:
    return f"{body.get('bizName', '')}:{body.get('bizVersion', '')}"


def node_name(identity: str) -> str:
    """Return the name of a base's Node."""
    return f"vnode.{identity}.{ENV}"


def example(file: str) -> Path:
    """Return an example in the form for the Kubernetes under test."""
    older = EXAMPLES / "before-1.31" / file
    return older if OLDEST_KUBERNETES in under_test() and older.exists() else EXAMPLES / file


def manifest(
    file: str, *, version: str = "0.0.1", cluster: str = "default", name: str = "", module: str = "biz1"
) -> Json:
    """Return an example with another module or version everywhere, other bases, and a name."""
    text = example(file).read_text(encoding="utf-8")
    found: Json = yaml.safe_load(text.replace("0.0.1", version).replace("biz1", module))
    found["metadata"]["name"] = name or found["metadata"]["name"]
    rules = pod_spec(found)["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    (expression,) = rules["nodeSelectorTerms"][0]["matchExpressions"]
    assert expression["key"] == "base.koupleless.io/cluster-name"
    expression["values"] = [cluster]
    return found


def pod_spec(obj: Json) -> Json:
    """Return the spec of a Pod, or of the Pods of a workload."""
    spec: Json = obj["spec"] if obj["kind"] == "Pod" else obj["spec"]["template"]["spec"]
    return spec


def condition(obj: Json | None, kind: str) -> Json:
    """Return a condition of an object, empty when there is none."""
    conditions = (obj or {}).get("status", {}).get("conditions", [])
    found: Json = next((c for c in conditions if c["type"] == kind), {})
    return found


def ready(obj: Json | None) -> bool:
    """Return whether a Node or Pod is Ready."""
    return condition(obj, "Ready").get("status") == "True"


class Namespace:
    """What a user sees and does in one namespace."""

    def __init__(self, api: KubeApi, name: str = "default") -> None:
        self.api = api
        self.name = name

    def path(self, kind: str, name: str = "") -> str:
        """Return the path of a collection or an object."""
        return _PATHS[kind].format(self.name) + (f"/{name}" if name else "")

    def apply(self, obj: Json) -> Json:
        """Create an object, or make it so."""
        obj = {**obj, "metadata": {**obj["metadata"], "namespace": self.name}}
        try:
            return self.api.create(self.path(obj["kind"]), obj)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
            return self.api.call("PUT", self.path(obj["kind"], obj["metadata"]["name"]), obj)

    def get(self, kind: str, name: str) -> Json | None:
        """Return an object, None when there is none."""
        try:
            return self.api.get(self.path(kind, name))
        except ApiError as error:
            if error.status != 404:
                raise
            return None

    def pods(self, *, leaving: bool = False) -> list[Json]:
        """Return the Pods, oldest first; those that are being deleted only if asked for."""
        pods = [
            pod for pod in self.api.items(self.path("Pod")) if leaving or "deletionTimestamp" not in pod["metadata"]
        ]
        return sorted(pods, key=lambda pod: pod["metadata"]["creationTimestamp"])

    def scale(self, kind: str, name: str, replicas: int) -> None:
        """Set the number of Pods of a workload."""
        self.api.patch(self.path(kind, name), {"spec": {"replicas": replicas}}, "application/merge-patch+json")

    def delete(self, kind: str, name: str, *, force: bool = False) -> None:
        """Delete an object; a Pod by force if asked for."""
        self.api.delete(self.path(kind, name), grace_seconds=0 if force else None)

    def reasons(self, name: str = "") -> list[str]:
        """Return the reasons of Events about an object, or all, each as often as it was counted."""
        events = self.api.items(f"/api/v1/namespaces/{self.name}/events")
        return [
            event["reason"]
            for event in events
            if not name or event["involvedObject"]["name"] == name
            for _ in range((event.get("series") or {}).get("count") or event.get("count") or 1)
        ]

    def wait_ready(self, name: str, within: float = 40.0) -> Json:
        """Return a Pod once it is Ready."""
        return self._wait_pod(name, ready, within, "Ready")

    def wait_waiting(self, name: str, reason: str, within: float = 30.0) -> Json:
        """Return the status of a Pod's only container once it waits for that reason."""
        pod = self._wait_pod(name, lambda pod: container(pod, "waiting").get("reason") == reason, within, reason)
        found: Json = pod["status"]["containerStatuses"][0]
        return found

    def wait_gone(self, kind: str, name: str, within: float = 60.0) -> None:
        """Return once an object is gone."""
        eventually(lambda: self.get(kind, name) is None, within=within, what=f"{kind} {name} gone")

    def _wait_pod(self, name: str, look: Callable[[Json], bool], within: float, what: str) -> Json:
        found: list[Json] = []

        def seen() -> bool:
            pod = self.get("Pod", name)
            found[:] = [pod] if pod else []
            return pod is not None and look(pod)

        try:
            eventually(seen, within=within, what=what)
        except AssertionError:
            raise AssertionError(f"Pod {name} not {what} within {within:g} s: {found and found[0]['status']}") from None
        return found[0]


def container(pod: Json, kind: str) -> Json:
    """Return one kind of state of a Pod's first container, empty when it has another."""
    statuses = pod["status"].get("containerStatuses") or [{}]
    found: Json = statuses[0].get("state", {}).get(kind, {})
    return found
