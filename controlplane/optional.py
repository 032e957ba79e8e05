"""The parts of the control plane that its settings choose: the cluster, hooks, tracker."""

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import SystemRandom
from typing import NoReturn

import structlog

from controlplane.app.clock import SystemClock
from controlplane.app.ports import ClusterError, Manifests
from controlplane.app.reporting.hooks import HookQueue, Reporter
from controlplane.app.reporting.tracking import Tracker
from controlplane.cluster.api import ApiServer, PodAccess
from controlplane.reports import hooks, trackerfile
from controlplane.reports.posting import PACE_OF_LINKS, Poster, TrackerLink
from controlplane.settings import ControlPlaneSettings
from service import process

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Backend:
    """The cluster's API, what must run beside it, manifests where they can be applied, and its own trouble in words."""

    api: ApiServer
    pods: PodAccess | None = None
    run: Callable[[], Coroutine[None, None, NoReturn]] | None = None
    manifests: Manifests | None = None
    trouble: Callable[[], str | None] = lambda: None


@asynccontextmanager
async def kubernetes(settings: ControlPlaneSettings) -> AsyncIterator[Backend]:
    """Connect to a Kubernetes API server."""
    from controlplane.kube.client import KubeApiServer
    from kubeaccess.authorization import CannotConnect

    try:
        api = await KubeApiServer.connect(settings.kubeconfig)
    except CannotConnect as error:
        fix = "name a kubeconfig with KUBECONFIG, run in a Pod with a service account, or set CLUSTER=embedded"
        if settings.kubeconfig:
            fix = "correct it, or name another with KUBECONFIG; docs/kubeconfig.md has what each field means"
        raise process.StartError(f"{error}; {fix}") from error
    try:
        yield Backend(api, pods=api)
    finally:
        await api.close()


@asynccontextmanager
async def embedded(settings: ControlPlaneSettings) -> AsyncIterator[Backend]:
    """Open the embedded cluster."""
    from controlplane.embedded.api.database import CannotOpen
    from controlplane.embedded.api.store import EmbeddedApiServer
    from controlplane.embedded.cluster import EmbeddedCluster
    from controlplane.embedded.manifests import EmbeddedManifests

    path = Path(settings.embedded_db)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        store = await EmbeddedApiServer.open(str(path))
    except CannotOpen as error:
        raise process.StartError(f"EMBEDDED_DB={path}: {error}") from error
    except OSError as error:
        raise process.StartError(
            f"EMBEDDED_DB={path}: cannot be opened ({error.strerror or error}); "
            "name a file in a folder that this program may write to with EMBEDDED_DB"
        ) from error
    for made in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
        # Of an earlier version, others could read it.
        with suppress(OSError):
            made.chmod(0o600)
    log.info("the embedded cluster is neither highly available nor Kubernetes: for one machine", file=str(path))

    async def run() -> NoReturn:
        try:
            await EmbeddedCluster(store).run()
        except* ClusterError as errors:
            # Starting again does not help before somebody has repaired it.
            raise process.StartError(str(errors.exceptions[0]), exit_code=process.EXIT_REFUSED) from None
        raise AssertionError("run never returns")

    try:
        yield Backend(store, run=run, manifests=EmbeddedManifests(store), trouble=store.trouble)
    finally:
        await store.close()


def reporter(settings: ControlPlaneSettings, poster: Poster) -> Reporter:
    """Return what sends failures to the hooks."""
    found = hooks.parse(settings.report_hooks.get_secret_value(), poster)
    hooks.UNUSABLE.labels("hook").set(len(found.unusable))
    if found.usable:
        log.info("failures are sent to hooks", hooks=[hook.name for hook in found.usable])
    clock, random = SystemClock(), SystemRandom()
    queues = [HookQueue(hook, clock=clock, random=random) for hook in found.usable]
    return Reporter(queues, clock, replica=settings.client_id, env=settings.env)


def tracker(settings: ControlPlaneSettings, poster: Poster, *, has_hooks: bool) -> Tracker | None:
    """Return the tracker, None when nothing is tracked."""
    path = settings.tracker_file
    if path is None:
        return None
    try:
        config = trackerfile.load(path)
    except trackerfile.WrongTrackerFile:
        hooks.UNUSABLE.labels("tracker").set(1)
        return None
    usable = [link for link in config.links if not link.problem]
    hooks.UNUSABLE.labels("link").set(len(config.urls) - len(usable))
    file = trackerfile.EventLog(config.log_dir)
    hooks.UNUSABLE.labels("tracker").set(bool(file.why_not_writable()))
    log.info("events are tracked", file=str(file.path), links=len(usable))
    clock, random = SystemClock(), SystemRandom()
    sent_by = settings.client_id if has_hooks else ""
    links = [TrackerLink(link.url, link.name, poster, sent_by) for link in usable]
    return Tracker(
        file,
        [HookQueue(link, clock=clock, random=random, pace=PACE_OF_LINKS) for link in links],
        replica=settings.client_id,
        env=settings.env,
        everything=config.level == "debug",
    )
