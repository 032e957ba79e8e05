"""After random work of users under random faults, the cluster and the bases agree. See README.md."""

import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping

import pytest

from tests.corner import Sandbox, isolated, stage
from tests.everything import Bases, Everything, node_name
from tests.programs import STARTED_WITHIN, eventually, status
from tests.servers.cluster import KubeCluster
from tests.servers.kubeapi import ApiError
from tests.soak import judge
from tests.soak.doers import Chaos, User, Worker
from tests.soak.schedule import Users, chaos, users
from tests.watching import Watching

SECONDS = float(os.environ.get("SOAK_SECONDS", "100"))
_GIVEN = os.environ.get("SOAK_SEED", "1")
SEED = random.randrange(1, 1_000_000) if _GIVEN == "random" else int(_GIVEN)
CONVERGED_WITHIN = 180.0
"""Seconds: a crash loop's pause, an orphan's grace and a Pod's hold come one after another."""
STAYS_SO = 20.0
"""Seconds for which it must then stay so: longer than a poll."""

GROUPS: dict[str, tuple[str, tuple[str, ...]]] = {
    "hb": ("http", ("--multi-version", "both")),
    "hd": ("http", ("--multi-version", "default", "--broken-stays")),
    "mb": ("mqtt", ("--multi-version", "both", "--broken-stays")),
    "ms": ("mqtt", ("--multi-version", "switch")),
}
EACH = 3

pytestmark = [pytest.mark.timeout(SECONDS + 900), pytest.mark.mosquitto]


@pytest.fixture
def sandbox(kube_cluster: KubeCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    folder = tmp_path_factory.mktemp("soak")
    with (
        stage(kube_cluster, folder, MODULE_UNINSTALL_TIMEOUT="60") as everything,
        isolated(everything, "soak") as own,
    ):
        yield own


def test_after_random_work_and_faults_desired_and_actual_agree(sandbox: Sandbox) -> None:
    say(f"soak: SOAK_SEED={SEED} SOAK_SECONDS={SECONDS:g}; logs in {sandbox.everything.programs.folder}")
    groups = {name: start(sandbox, name) for name in GROUPS}
    bases = [identity for group in groups.values() for identity in group.identities]
    work = users(SEED, SECONDS, bases)
    faults = chaos(SEED, SECONDS, {name: group.identities for name, group in groups.items()})
    with Watching(sandbox.api, "/api/v1/nodes") as nodes:
        began = time.monotonic()
        user = User(sandbox, work.steps, began, say)
        breaker = Chaos(sandbox.everything, groups, faults, began, say)
        run(user, breaker)
        say(f"soak: all done after {time.monotonic() - began:.0f} s: {user.done.total()} operations {dict(user.done)}")
        say(f"soak: {breaker.done.total() - breaker.done['heal']} faults {dict(breaker.done)}")
        all_is_well(sandbox.everything)
        agreed(lambda: disagreements(sandbox, groups))
        say(f"soak: agreed after {time.monotonic() - began:.0f} s")
    removed = [change.obj["metadata"]["name"] for change in nodes.changes if change.kind == "DELETED"]
    histories = {base: moments for group in groups.values() for base, moments in group.history().items()}
    say(f"soak: {len(removed)} Nodes removed; installs of what was there: {judge.repeats(histories)}")
    assert judge.removed_alive(nodes.changes, breaker.downs) == []
    assert judge.double_installs(histories) == []
    assert judge.missing(wanted(work), sandbox.pods(), removed) == []
    assert judge.defects(logs(sandbox.everything)) == []


def start(sandbox: Sandbox, name: str) -> Bases:
    tunnel, arguments = GROUPS[name]
    return sandbox.bases(name, "--install-time", "0.4", *arguments, tunnel=tunnel, count=EACH)


def run(*workers: Worker) -> None:
    """Run all workers to their end; raises the error of the first that fails."""
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers) and not any(worker.failure for worker in workers):
        time.sleep(0.1)
    for worker in workers:
        if worker.failure is not None:
            raise worker.failure


def all_is_well(everything: Everything) -> None:
    """Wait until each program is ready again."""
    ports = [everything.control_plane.health, everything.http.health, everything.mqtt.health]
    for port in ports:
        url = f"http://127.0.0.1:{port}/readyz"
        eventually(lambda url=url: status(url) == 200, within=STARTED_WITHIN, what=f"{url} says ready")  # type: ignore[misc]


def disagreements(sandbox: Sandbox, groups: Mapping[str, Bases]) -> list[str]:
    try:
        pods = sandbox.pods(leaving=True)
    except (ApiError, OSError) as error:
        return [f"the API server does not answer: {error}"]
    inside = {node_name(base): found for group in groups.values() for base, found in group.states().items()}
    deployments = sandbox.api.items(sandbox.path("Deployment"))
    short = [
        f"Deployment {obj['metadata']['name']} has {obj['status'].get('availableReplicas', 0)} available Pods"
        for obj in deployments
        if obj["status"].get("availableReplicas", 0) != obj["spec"]["replicas"]
        or obj["status"].get("updatedReplicas", 0) != obj["spec"]["replicas"]
        or obj["status"].get("replicas", 0) != obj["spec"]["replicas"]
    ]
    return judge.disagreements(pods, inside) + short


def agreed(look: Callable[[], list[str]]) -> None:
    """Wait until there is no difference, and there stays none for a while."""
    deadline = time.monotonic() + CONVERGED_WITHIN
    since = None
    while True:
        found, now = look(), time.monotonic()
        if found:
            since = None
            assert now < deadline, f"not agreed after {CONVERGED_WITHIN:g} s, seed {SEED}: {found}"
        else:
            since = since or now
            if now - since >= STAYS_SO:
                return
        time.sleep(0.5)


def wanted(work: Users) -> dict[str, str]:
    """Return the Node of each bare Pod that users want in the end."""
    return {pod.name: node_name(pod.base) for pod in work.pods.values()}


def logs(everything: Everything) -> dict[str, list[str]]:
    programs = (everything.control_plane, everything.http, everything.mqtt)
    return {program.server.name: program.server.log.read_text().splitlines() for program in programs}


_saying = threading.Lock()


def say(line: str) -> None:
    """Print progress at once; shown with -s, or when the test fails."""
    with _saying:
        print(line, file=sys.stderr, flush=True)
