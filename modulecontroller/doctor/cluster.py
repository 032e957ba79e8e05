"""What a start depends on at the API server: its answer, its clock, our permissions, the Service of the kubelet API."""

import asyncio
import re
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import aiohttp

from controlplane.app.ports import ClusterError, Rejected
from controlplane.cluster import fields
from controlplane.cluster.api import SERVICES, ApiServer, Resource
from controlplane.cluster.reading import service
from controlplane.domain.contract import KUBELET_SERVICE, LEASE_NAMESPACE
from controlplane.domain.endpoint import endpoint_of
from controlplane.domain.facts import Address
from controlplane.kube.client import KubeApiServer
from controlplane.kube.credentials import Credentials
from controlplane.kube.errors import Unauthorized
from controlplane.kubelet.offer import FIX, why_not
from controlplane.settings import ClusterKind, ControlPlaneSettings
from kubeaccess.authorization import CannotConnect
from modulecontroller.configuration import Configuration
from modulecontroller.doctor.findings import Finding, Skip, error, need, ok, skipped, warning

OLDEST, NEWEST = (1, 20), (1, 36)
"""Versions of Kubernetes, as (major, minor), between which the tests were run."""
SKEW = 5.0
"""Seconds from which on a difference of clocks is reported: half of what makes messages be dropped."""
FIX_CLOCK = "let NTP set the clocks of all machines: bases' messages that seem older than 10 s are dropped"


class NoAnswer(Skip):
    """The API server cannot be asked: why, and what to do."""

    def __init__(self, found: Finding) -> None:
        super().__init__(f"the API server could not be asked: {found.message}")
        self.found = found


@asynccontextmanager
async def connect(configuration: Configuration) -> AsyncIterator[tuple[ControlPlaneSettings, str, KubeApiServer]]:
    """Give the control plane's settings, and the API server's address and client; raises Skip, NoAnswer."""
    settings = need(configuration, ControlPlaneSettings)
    if settings.kind is ClusterKind.EMBEDDED:
        raise Skip(f"the embedded cluster is used (CLUSTER={settings.cluster.value}), not Kubernetes")
    credentials = Credentials(settings.kubeconfig)
    api, host = KubeApiServer(credentials), ""
    try:
        host = (await credentials.access()).host
        yield settings, host, api
    except CannotConnect as failed:
        fix = "name a good kubeconfig with KUBECONFIG, run in a Pod with a service account, or set CLUSTER=embedded"
        raise NoAnswer(error(str(failed), fix)) from failed
    except ClusterError as failed:
        problem, words = _of_certificate(failed.__cause__), str(failed)
        fix = "start it, or correct KUBECONFIG; from a Pod, look at NetworkPolicies and at the Service kubernetes"
        if problem is not None:
            words = f"its certificate is not good: {problem}"
            fix = "give the right CA (certificate-authority) in the kubeconfig"
        raise NoAnswer(error(f"{host}: {words}", fix)) from failed
    finally:
        await api.close()


def _of_certificate(cause: BaseException | None) -> BaseException | None:
    """Return what is wrong with a certificate, if that is why a connection failed."""
    if isinstance(cause, aiohttp.ClientConnectorCertificateError):
        return cause.certificate_error
    below = cause.__cause__ if cause is not None else None
    return below if isinstance(below, ssl.SSLCertVerificationError) else None


async def api_server(configuration: Configuration) -> AsyncIterator[Finding]:
    """Yield whether the API server accepts our credentials, and is of a version that is known to work."""
    try:
        async with connect(configuration) as (_, host, api):
            try:
                name, _ = await api.version()
                yield version(host, name)
            except Unauthorized as refused:
                fix = "renew the credentials of the kubeconfig, or the service account's token"
                yield error(f"{host} does not accept our credentials: {refused}", fix)
            except Rejected as refused:
                yield error(f"{host} does not show its version: {refused}", "is this a Kubernetes API server?")
    except NoAnswer as failed:
        yield failed.found


def version(host: str, name: str) -> Finding:
    """Return what the name of a version means."""
    found = re.match(r"v(\d+)\.(\d+)", name)
    if found is None:
        return error(f"{host} does not show its version: {name or 'none'}", "is this a Kubernetes API server?")
    number = (int(found[1]), int(found[2]))
    tested = f"the tests were run with {OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]}"
    if number < OLDEST:
        return warning(f"{host} is Kubernetes {name}, older than any that was tried", f"update Kubernetes: {tested}")
    if number > NEWEST:
        fix = f"none needed as long as all works: {tested}"
        return warning(f"{host} is Kubernetes {name}, newer than any that was tried", fix)
    return ok(f"{host} answers; Kubernetes {name}")


async def clock(configuration: Configuration) -> AsyncIterator[Finding]:
    """Yield how far this machine's clock and the API server's are apart."""
    async with connect(configuration) as (_, _, api):
        before = time.time()
        _, date = await api.version()
        yield difference(date, (before + time.time()) / 2)


def difference(date: str, now: float) -> Finding:
    """Return what a Date header says about our clock, which showed now, in epoch seconds."""
    try:
        # The header has whole seconds, cut off: half a second more is right on average.
        theirs = parsedate_to_datetime(date).timestamp() + 0.5
    except ValueError:
        return skipped(f"the API server does not show its time (Date: {date or 'none'})")
    ahead = now - theirs
    if abs(ahead) > SKEW:
        side = "ahead of" if ahead > 0 else "behind"
        return warning(f"this machine's clock is {abs(ahead):.0f} s {side} the API server's", FIX_CLOCK)
    return ok(f"within {max(abs(ahead), 0.5):.1f} s of the API server's")


async def kubelet_api(configuration: Configuration) -> AsyncIterator[Finding]:
    """Yield whether the kubelet API is offered and the API server would find it, or why not."""
    async with connect(configuration) as (settings, _, api):
        lost = "modules have no kubectl logs and kubectl top"
        if settings.kubelet_exec_enabled:
            lost += ", and KUBELET_EXEC_ENABLED=true has no effect"
        if settings.kubelet_proxy_enabled is False:
            raise Skip(f"it is off (KUBELET_PROXY_ENABLED=false): {lost}")
        if why := await why_not(api, settings, settings.namespace, settings.env):
            found = error if settings.kubelet_proxy_enabled else warning
            yield found(f"{why}; {lost}", FIX)
        else:
            yield await kubelet_service(api, settings)
            if settings.kubelet_exec_enabled:
                yield await _streams(api)


async def _streams(api: ApiServer) -> Finding:
    """Return where kubectl exec leads into Pods of bases."""
    for namespace in ("", "default"):
        wanted = Permission("", "pods/exec", "get create", "kubectl exec of modules", namespace)
        if all([await _allowed(api, wanted, verb) for verb in wanted.verbs.split()]):
            if not namespace:
                fix = "bind the role of deploy/kubelet/exec.yaml in single namespaces"
                return warning("kubectl exec of a module leads into bases in every namespace", fix)
            return ok("kubectl exec of a module leads into bases of the namespace default, or where else it is bound")
    fix = "kubectl apply -f deploy/kubelet/exec.yaml, in each namespace whose bases may be entered"
    return warning("KUBELET_EXEC_ENABLED=true, and nothing may be entered in the namespace default", fix)


async def kubelet_service(api: ApiServer, settings: ControlPlaneSettings) -> Finding:
    """Return what the Services mean; raises ClusterError."""
    namespace = settings.namespace
    try:
        listed = await api.list(SERVICES, namespace=namespace, label_selector=f"{KUBELET_SERVICE}=true")
    except Rejected as refused:
        return error(f"Services of namespace {namespace} cannot be listed: {refused}", FIX)
    found = endpoint_of(tuple(map(service, listed.items)), settings.kubelet_proxy_port, settings.env)
    if isinstance(found, Address):
        return ok(f"the API server reaches it at {found}; its certificate should be valid for {found.ip}")
    fix = f"apply deploy/kubelet/service.yaml, in NAMESPACE={namespace}, or correct the Service that is there"
    return error(found, fix)


_COORDINATION = "coordination.k8s.io"
_REVIEWS = Resource("authorization.k8s.io/v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", namespaced=False)
_EVERY_VERB = "get list watch create patch delete"


@dataclass(frozen=True, slots=True)
class Permission:
    """Verbs, separated by blanks, on a resource, in a namespace or in all; resource may have a subresource."""

    group: str
    resource: str
    verbs: str
    why: str
    namespace: str = ""

    def __str__(self) -> str:
        return f"{self.resource} in {self.namespace}" if self.namespace else self.resource


def needed(settings: ControlPlaneSettings) -> Iterator[Permission]:
    """Yield what the control plane does in the cluster: by a test, what the files rbac.yaml in deploy/ give."""
    own = settings.namespace
    yield Permission("", "nodes", _EVERY_VERB, "one Node for each base")
    yield Permission("", "nodes/status", "patch", "conditions of the Nodes")
    yield Permission("", "pods", "list watch create delete", "modules")
    yield Permission("", "pods/status", "patch", "states of modules")
    yield Permission("apps", "deployments", "get list watch patch", "baselines, and mctl rollout")
    yield Permission("apps", "deployments/status", "patch", "releases in batches")
    yield Permission("apps", "replicasets", "list", "releases in batches")
    yield Permission("apps", "daemonsets", "get", "mctl rollout status")
    yield Permission("", "events", "create patch", "reporting what happened")
    yield Permission(_COORDINATION, "leases", "list watch create patch delete", "ownership of VNodes", LEASE_NAMESPACE)
    yield Permission(_COORDINATION, "leases", _EVERY_VERB, "the replicas, which find each other by their leases", own)
    if settings.peers_follow:
        yield Permission("apps", "deployments/scale", "patch", "replicas that follow the bases")
    if settings.kubelet_proxy_enabled:
        yield Permission("authentication.k8s.io", "tokenreviews", "create", "who asks for logs")
        yield Permission("authorization.k8s.io", "subjectaccessreviews", "create", "who may read logs")
        yield Permission("", "pods/log", "get", "logs of bases")
        yield Permission("", "services", "list watch", "the address of the kubelet API", own)


async def permissions(configuration: Configuration) -> AsyncIterator[Finding]:
    """Yield which permissions are missing: one SelfSubjectAccessReview for each verb, which creates nothing."""
    async with connect(configuration) as (settings, _, api):
        wanted = [(permission, verb) for permission in needed(settings) for verb in permission.verbs.split()]
        answers = await asyncio.gather(*(_allowed(api, *pair) for pair in wanted))
        missing: dict[Permission, list[str]] = {}
        for (permission, verb), allowed in zip(wanted, answers, strict=True):
            if not allowed:
                missing.setdefault(permission, []).append(verb)
        for permission, verbs in missing.items():
            fix = "kubectl apply -f deploy/rbac.yaml (and -k deploy/kubelet for the kubelet API), "
            fix += "and run as the service account (or user) that it binds"
            yield error(f"may not {', '.join(verbs)} {permission} (needed for: {permission.why})", fix)
        if not missing:
            resources = {permission for permission, _ in wanted}
            yield ok(f"all {len(wanted)} verbs on {len(resources)} resources that are needed are allowed")
        if await _allowed(api, Permission("*", "*", "*", ""), "*"):
            fix = "run with the roles of deploy/rbac.yaml, which are all that is needed"
            yield warning("everything is allowed in this cluster, far more than is needed", fix)


async def _allowed(api: ApiServer, permission: Permission, verb: str) -> bool:
    group, namespace = permission.group, permission.namespace
    resource, _, subresource = permission.resource.partition("/")
    wanted = {"verb": verb, "group": group, "resource": resource, "subresource": subresource, "namespace": namespace}
    review = {"apiVersion": _REVIEWS.group_version, "kind": _REVIEWS.kind, "spec": {"resourceAttributes": wanted}}
    return fields.flag(fields.mapping(await api.create(_REVIEWS, review), "status"), "allowed")
