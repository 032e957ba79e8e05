"""Whether the kubelet API of VNodes is offered, and what it is built of: from the settings and what the cluster has."""

from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from random import SystemRandom
from typing import TYPE_CHECKING, NoReturn

import structlog

from controlplane.app.base.kubelet import NO_KUBELET, KubeletAddress
from controlplane.app.clock import SystemClock
from controlplane.app.ports import Usages
from controlplane.cluster.adapter import ApiCluster, kubelet_services
from controlplane.cluster.api import ApiServer, PodAccess
from controlplane.settings import ControlPlaneSettings
from service import process

if TYPE_CHECKING:
    from controlplane.kubelet.shown import Shown

log = structlog.get_logger(__name__)

Part = Callable[[], Coroutine[None, None, NoReturn]]


@dataclass(frozen=True, slots=True)
class Kubelet:
    """The kubelet API: its address for Nodes, what runs for it, given what bases use, and in words how it stands."""

    address: KubeletAddress = NO_KUBELET
    parts: Callable[[Usages], Mapping[str, Part]] = lambda _: {}
    notes: Callable[[], Sequence[str]] = tuple


@asynccontextmanager
async def kubelet(
    settings: ControlPlaneSettings, api: ApiServer, pods: PodAccess | None, cluster: ApiCluster
) -> AsyncIterator[Kubelet]:
    """Serve the kubelet API if it is enabled, or if it can be and nobody said otherwise; pods leads to bases' Pods.

    Raises StartError where it is enabled and cannot be served.
    """
    enabled = settings.kubelet_proxy_enabled
    if enabled is False or pods is None:
        yield Kubelet()
        return
    from controlplane.kubelet.offer import FIX, why_not

    why = "" if enabled else await why_not(api, settings, settings.namespace, settings.env)
    async with AsyncExitStack() as stack:
        served = Kubelet()
        try:
            if not why:
                served = await _served(settings, api, pods, cluster, stack)
        except process.StartError as error:
            if enabled:
                raise
            why = str(error)
        if why:
            log.info("no kubelet API: modules have no kubectl logs and kubectl top", cause=why, fix=FIX)
            served = Kubelet(notes=lambda: [f"kubelet API: off: {why}"])
        yield served


async def _served(
    settings: ControlPlaneSettings, api: ApiServer, pods: PodAccess, cluster: ApiCluster, stack: AsyncExitStack
) -> Kubelet:
    """Listen until the stack ends. Raises StartError."""
    from controlplane.access.reviews import Reviewer
    from controlplane.kubelet.access import KubeletAccess
    from controlplane.kubelet.api import routes
    from controlplane.kubelet.logs import ModuleLogs
    from controlplane.kubelet.logsource import LogSource
    from controlplane.kubelet.logtemplate import LogTemplate
    from controlplane.kubelet.lookup import Lookup
    from controlplane.kubelet.nodes import NodeAnswers
    from controlplane.kubelet.server import KubeletServer
    from controlplane.kubelet.streams import ModuleStreams

    clock, port, namespace = SystemClock(), settings.kubelet_proxy_port, settings.namespace
    services = kubelet_services(api, namespace, clock)
    address = KubeletAddress(services, port, settings.env)
    shown, certificates, notes = _certificate(settings, api, address)
    access = KubeletAccess(Reviewer(api))
    server = KubeletServer(settings.status_host, port, shown, access)
    stack.push_async_callback(server.stop)
    await server.start()
    log.info("kubelet API started", port=server.port, namespace=namespace)
    lookup = Lookup(cluster.pods, cluster.nodes, access, api, namespace)
    elsewhere = None
    if settings.log_source:
        elsewhere = LogSource(LogTemplate(settings.log_source), settings.log_source_token_path)
        stack.push_async_callback(elsewhere.close)
    streams = ModuleStreams(lookup, pods) if settings.kubelet_exec_enabled else None

    def parts(usages: Usages) -> Mapping[str, Part]:
        nodes = NodeAnswers(cluster.nodes, cluster.pods, access, api, usages, clock)
        return {
            "kubelet-services": services.run,
            "kubelet": partial(server.run, routes(ModuleLogs(lookup, pods, elsewhere), nodes, streams)),
            **certificates,
        }

    return Kubelet(address, parts, notes)


def _certificate(
    settings: ControlPlaneSettings, api: ApiServer, address: KubeletAddress
) -> tuple["Shown", Mapping[str, Part], Callable[[], Sequence[str]]]:
    """Return what is shown to clients, what runs to keep it current, and how it stands, in words."""
    from controlplane.certificates.keeper import KUBELET, CertificateKeeper, Place
    from controlplane.certificates.requesting import CertificateRequester
    from controlplane.kubelet.settings import CA_CONFIG_MAP, SIGNED_SECRET, TLS_SECRET
    from controlplane.kubelet.shown import from_files, kept

    if (files := settings.kubelet_files) is not None:
        return from_files(files), {}, tuple
    clock, namespace = SystemClock(), settings.namespace
    place = Place(namespace, TLS_SECRET, CA_CONFIG_MAP, addresses=address.addresses, purpose=KUBELET)
    keeper = CertificateKeeper(api, place, clock, SystemRandom())
    signed = CertificateRequester(api, namespace, SIGNED_SECRET, address.addresses, clock, SystemRandom())
    shown = kept(keeper.first, lambda: signed.current or keeper.current, settings.kubelet_client_ca)

    def notes() -> Sequence[str]:
        return (*keeper.notes(), *signed.notes())

    return shown, {"kubelet-certificates": keeper.run, "kubelet-signed": signed.run}, notes
