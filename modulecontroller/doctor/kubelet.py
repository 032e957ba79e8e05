"""Whether the API server would find the kubelet API: one labelled Service that leads to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import quote

from controlplane.cluster import fields
from controlplane.cluster.reading import service
from controlplane.domain.contract import KUBELET_SERVICE
from controlplane.domain.endpoint import Endpoint, endpoint_of
from controlplane.settings import ControlPlaneSettings
from modulecontroller.configuration import Configuration
from modulecontroller.doctor.findings import Finding, error, ok, skipped
from modulecontroller.doctor.kube import Answer, NoAnswer, connect, subject

ABOUT = "kubelet API"


async def check(configuration: Configuration) -> AsyncIterator[Finding]:
    """Yield whether there is such a Service."""
    settings = subject(configuration)
    if isinstance(settings, str):
        yield skipped(ABOUT, settings)
        return
    if not settings.kubelet_proxy_enabled:
        yield skipped(ABOUT, "it is not enabled (KUBELET_PROXY_ENABLED), so that modules have no kubectl logs")
        return
    selector = quote(f"{KUBELET_SERVICE}=true")
    try:
        async with connect(settings) as api:
            answer = await api.ask(f"/api/v1/namespaces/{settings.namespace}/services?labelSelector={selector}")
            yield judge(settings, answer)
    except NoAnswer as failed:
        yield skipped(ABOUT, f"the API server could not be asked: {failed}")


def judge(settings: ControlPlaneSettings, answer: Answer) -> Finding:
    """Return what the list of Services means."""
    if answer.status != 200:
        fix = "kubectl apply -f deploy/kubelet/rbac.yaml; it is for the namespace koupleless-system"
        return error(ABOUT, f"Services of namespace {settings.namespace} cannot be listed: {answer.message}", fix)
    services = tuple(service(each) for each in fields.objects(answer.body, "items"))
    found = endpoint_of(services, settings.kubelet_proxy_port, settings.env)
    if isinstance(found, Endpoint):
        return ok(ABOUT, f"the API server reaches it at {found}; its certificate should be valid for {found.ip}")
    fix = f"apply deploy/kubelet/service.yaml, in NAMESPACE={settings.namespace}, or correct the Service that is there"
    return error(ABOUT, found, fix)
