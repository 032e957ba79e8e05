"""Workers that carry out a schedule: users through the API server, faults on processes and bases."""

import http.client
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

from tests.corner import Sandbox
from tests.everything import Bases, Everything, manifest, node_name, pod_spec
from tests.servers.kubeapi import ApiError, Json
from tests.servers.process import Server
from tests.soak.judge import Down
from tests.soak.schedule import Step

AGAIN = 0.5
RETRIED_FOR = 150.0
"""Seconds for which a user retries; longer than any outage."""
OTHERS = {"PATCH": "application/merge-patch+json"}


class Worker(threading.Thread):
    """Carries out steps when they are due, in order, in a thread of its own. say is called with each."""

    def __init__(self, steps: Sequence[Step], began: float, say: Callable[[str], None]) -> None:
        super().__init__(name=type(self).__name__, daemon=True)
        self._steps = steps
        self._began = began
        self._say = say
        self.done: Counter[str] = Counter()
        self.failure: BaseException | None = None

    def run(self) -> None:
        """Do all steps; failure is the error of a step."""
        try:
            for step in self._steps:
                time.sleep(max(0.0, self._began + step.at - time.monotonic()))
                self._say(f"{time.monotonic() - self._began:6.1f} {step}")
                self.do(step)
                self.done[step.what] += 1
            self.finish()
        except BaseException as error:  # raised by the test, which waits for this thread
            self.failure = error

    def finish(self) -> None:
        """Wait until all steps are done."""

    def do(self, step: Step) -> None:
        """Do one step."""
        raise NotImplementedError


class User(Worker):
    """Creates, changes and deletes, and tries again while the API server is away."""

    def __init__(self, sandbox: Sandbox, steps: Sequence[Step], began: float, say: Callable[[str], None]) -> None:
        super().__init__(steps, began, say)
        self._sandbox = sandbox

    def do(self, step: Step) -> None:
        """Do one step."""
        sandbox = self._sandbox
        match step.what:
            case "create":
                *modules, revision, forced = step.more
                pod = bare_pod(sandbox, step.whom, step.how, modules, revision, forced=bool(forced))
                self._try(lambda: sandbox.api.create(sandbox.path("Pod"), pod), fine={"AlreadyExists"})
            case "delete":
                self._try(lambda: sandbox.delete("Pod", step.whom))
            case "force-delete":
                self._try(lambda: sandbox.delete("Pod", step.whom, force=True))
            case "change":
                containers = [{"name": module, "image": image(module, step.how)} for module in step.more]
                patch = {"spec": {"containers": containers}}
                # Kubernetes removes Pods of removed Nodes.
                self._try(
                    lambda: sandbox.api.patch(sandbox.path("Pod", step.whom), patch), fine={"NotFound", "Invalid"}
                )
            case "deploy":
                obj = workload(sandbox, step.whom, step.how, int(step.more[0]))
                self._try(lambda: sandbox.api.create(sandbox.path("Deployment"), obj), fine={"AlreadyExists"})
            case "scale":
                self._try(lambda: sandbox.scale("Deployment", step.whom, int(step.how)), fine={"NotFound"})
            case "update":
                template = workload(sandbox, step.whom, step.how, 1)["spec"]["template"]
                self._try(
                    lambda: sandbox.api.patch(
                        sandbox.path("Deployment", step.whom), {"spec": {"template": template}}, OTHERS["PATCH"]
                    ),
                    fine={"NotFound"},
                )
            case "undeploy":
                self._try(lambda: sandbox.delete("Deployment", step.whom))
            case _:
                raise AssertionError(f"nobody knows how to do {step}")

    def _try(self, call: Callable[[], object], *, fine: Iterable[str] = ()) -> None:
        deadline = time.monotonic() + RETRIED_FOR
        while True:
            try:
                call()
            except ApiError as error:
                if error.reason in fine:
                    return
                temporary = error.status >= 500 or error.status in (409, 429)
                if not temporary or time.monotonic() > deadline:
                    raise
            except (OSError, http.client.HTTPException):
                if time.monotonic() > deadline:
                    raise
            else:
                return
            time.sleep(AGAIN)


class Chaos(Worker):
    """Causes faults and ends them, each target in a thread of its own: a step that hangs delays no other target.

    downs are the times in which bases could not be reached, by Node.
    """

    def __init__(
        self,
        everything: Everything,
        groups: Mapping[str, Bases],
        steps: Sequence[Step],
        began: float,
        say: Callable[[str], None],
    ) -> None:
        super().__init__(steps, began, say)
        self._everything = everything
        self._groups = groups
        self._group_of = {identity: group for group in groups.values() for identity in group.identities}
        self.downs: dict[str, list[Down]] = {}
        self._workers: dict[str, ThreadPoolExecutor] = {}
        self._begun: list[Future[None]] = []

    def do(self, step: Step) -> None:
        """Begin one step."""
        group = self._group_of.get(step.whom)
        thing = step.whom if group is None else next(name for name, other in self._groups.items() if other is group)
        if thing not in self._workers:
            self._workers[thing] = ThreadPoolExecutor(1, f"chaos {thing}")
        self._begun.append(self._workers[thing].submit(self._do, step))
        for begun in self._begun:
            if begun.done():
                begun.result()

    def finish(self) -> None:
        """Wait until all steps are done; raises what one of them raised."""
        for begun in self._begun:
            begun.result()

    def _do(self, step: Step) -> None:
        if step.whom in self._group_of:
            group = self._group_of[step.whom]
            (self._heal if step.what == "heal" else self._fault)(group, step)
        elif step.whom in self._groups:
            group = self._groups[step.whom]
            self._signal(group.server, step)
            for identity in group.identities:
                self._mark(identity, down=step.what != "heal")
        elif step.whom == "apiserver":
            self._api_server(step)
        elif step.whom == "broker":
            (self._everything.broker.start if step.what == "heal" else self._everything.broker.stop)()
        else:
            self._signal(self._server(step.whom), step)

    def _fault(self, group: Bases, step: Step) -> None:
        base, what = step.whom, step.what
        if what in ("stop", "stay away", "deactivate", "restart"):
            self._mark(base, down=True, announced=what == "deactivate")
        words = {
            "hang": "hang?command=installBiz",
            "drop-replies": "drop-replies?command=installBiz",
            "slow": "slow?command=installBiz&seconds=3",
            "stay away": "stop",
        }
        control(group, words.get(what, what), base)
        if what == "restart":
            self._mark(base, down=False)

    def _heal(self, group: Bases, step: Step) -> None:
        base = step.whom
        if step.how in ("stop", "stay away", "deactivate"):
            control(group, "start", base)
            self._mark(base, down=False)
        else:
            control(group, "heal", base)
        if step.how == "hang":
            # A module that hangs holds its lock until the JVM is restarted.
            self._fault(group, replace(step, what="restart"))

    def _mark(self, identity: str, *, down: bool, announced: bool = False) -> None:
        times = self.downs.setdefault(node_name(identity), [])
        if down:
            times.append(Down(time.monotonic(), announced))
        else:
            times[-1].end = time.monotonic()

    def _api_server(self, step: Step) -> None:
        cluster = self._everything.cluster
        match step.what, step.how:
            case "heal", "freeze":
                cluster.thaw_apiserver()
            case "heal", _:
                cluster.start_apiserver()
            case "freeze", _:
                cluster.freeze_apiserver()
            case what, _:
                cluster.stop_apiserver(signal.SIGKILL if what == "kill" else signal.SIGTERM)

    def _server(self, name: str) -> Server:
        everything = self._everything
        servers = {
            "http-gateway": everything.http.server,
            "mqtt-gateway": everything.mqtt.server,
            "controlplane": everything.control_plane.server,
        }
        return servers[name]

    def _signal(self, server: Server, step: Step) -> None:
        match step.what, step.how:
            case "heal", "freeze":
                server.signal(signal.SIGCONT)
            case "heal", _:
                server.start()
            case "freeze", _:
                server.signal(signal.SIGSTOP)
            case what, _:
                server.stop(signal.SIGKILL if what == "kill" else signal.SIGTERM)


def control(group: Bases, what: str, base: str) -> None:
    """Control a base, with retries: one that finds no broker is started again, as a container would be."""
    deadline = time.monotonic() + RETRIED_FOR
    while True:
        try:
            return group.control(what, base)
        except (OSError, AssertionError):
            if time.monotonic() > deadline:
                raise
            time.sleep(AGAIN)


def image(module: str, revision: str) -> str:
    """Return the URL of a module's jar."""
    return f"https://repo.example/{module}-1.0.0.jar?revision={revision}"


def bare_pod(sandbox: Sandbox, name: str, base: str, modules: Sequence[str], revision: str, *, forced: bool) -> Json:
    """Return a Pod of modules for one base, which the scheduler puts there."""
    obj = sandbox.manifest("biz1.yaml", name=name)
    spec = pod_spec(obj)
    (template,) = spec["containers"]
    spec["nodeSelector"] = {"kubernetes.io/hostname": node_name(base)}
    env = [{"name": "BIZ_VERSION", "value": "1.0.0"}]
    spec["containers"] = [
        {**template, "name": module, "image": image(module, revision), "env": env} for module in modules
    ]
    if forced:
        obj["metadata"]["annotations"] = {"module.koupleless.io/install-strategy": "force"}
    obj["metadata"]["namespace"] = sandbox.name
    return obj


def workload(sandbox: Sandbox, name: str, version: str, replicas: int) -> Json:
    """Return a Deployment of the module of its own name, as in the examples."""
    obj = manifest("deployment.yaml", version=f"0.0.{version}", cluster=sandbox.cluster, module=name)
    obj["metadata"]["namespace"] = sandbox.name
    obj["spec"]["replicas"] = replicas
    return obj
