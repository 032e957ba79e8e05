"""What each field of a Pod means on a virtual node.

A module is a part of a running JVM, so that much of what a Pod can say has nothing to act on. The tables below are the
whole truth: docs/pods.md is made from them, and a test compares them with the fields that Kubernetes has.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import Enum


class Treatment(Enum):
    """What happens to a field."""

    HONOURED = "honoured"
    KUBERNETES = "by Kubernetes"
    """The API server, the scheduler or a controller acts on it; nothing is left for a node to do."""
    REFUSED = "refused"
    """The container is not installed: reason UnsupportedField."""
    IGNORED = "ignored, Event"
    NO_EFFECT = "no effect"
    """Ignored without an Event: it has a default that everybody gets, or nothing depends on it."""


_NOTHING: tuple[object, ...] = (None, False, "", [], {})


@dataclass(frozen=True, slots=True)
class Field:
    """One field. path is dotted, lists are passed through; defaults are values with which it says nothing."""

    path: str
    treatment: Treatment
    note: str
    defaults: tuple[object, ...] = _NOTHING


_HONOURED, _KUBERNETES, _REFUSED = Treatment.HONOURED, Treatment.KUBERNETES, Treatment.REFUSED
_IGNORED, _NO_EFFECT = Treatment.IGNORED, Treatment.NO_EFFECT
_NOT_READ = "not read for modules; write the value into the Pod, or have the module read it in its base"

_AS_ITS_BASE = "a module runs as its base does"
_CONFINED = (None, "RuntimeDefault", "Localhost")


def _restrictions(*more: Field) -> Iterator[Field]:
    """Return the rows of a securityContext.

    What it restricts a module could do no more of anyway; only what asks for more than its base gives is reported.
    Platforms set users and groups in every Pod.
    """
    fields = (
        Field("appArmorProfile.localhostProfile", _NO_EFFECT, _AS_ITS_BASE),
        Field("appArmorProfile.type", _IGNORED, f"only `Unconfined` is reported: {_AS_ITS_BASE}", _CONFINED),
        Field("runAsGroup", _NO_EFFECT, _AS_ITS_BASE),
        Field("runAsNonRoot", _NO_EFFECT, _AS_ITS_BASE),
        Field("runAsUser", _NO_EFFECT, _AS_ITS_BASE),
        Field("seLinuxOptions", _NO_EFFECT, _AS_ITS_BASE),
        Field("seccompProfile.localhostProfile", _NO_EFFECT, _AS_ITS_BASE),
        Field("seccompProfile.type", _IGNORED, f"only `Unconfined` is reported: {_AS_ITS_BASE}", _CONFINED),
        Field("windowsOptions", _NO_EFFECT, _AS_ITS_BASE),
        *more,
    )
    for field in sorted(fields, key=lambda field: field.path):
        yield replace(field, path=f"securityContext.{field.path}")


POD = (
    Field("activeDeadlineSeconds", _HONOURED, "the modules are uninstalled then; phase Failed, `DeadlineExceeded`"),
    Field("affinity", _KUBERNETES, "the scheduler"),
    Field("automountServiceAccountToken", _NO_EFFECT, "a module gets no token either way"),
    Field("containers", _HONOURED, "see below; [one that is no module](#containers-that-are-no-modules) is not run"),
    Field("dnsConfig", _IGNORED, "names are resolved as in the base's own Pod"),
    Field("dnsPolicy", _NO_EFFECT, "as `dnsConfig`"),
    Field("enableServiceLinks", _NO_EFFECT, "modules get no variables for Services"),
    Field("ephemeralContainers", _IGNORED, "not run; debug the base's Pod"),
    Field("hostAliases", _IGNORED, "the base has its own"),
    Field("hostIPC", _IGNORED, "the base's process has its own"),
    Field("hostNetwork", _IGNORED, "the base's network is used"),
    Field("hostPID", _IGNORED, "the base's process has its own"),
    Field("hostUsers", _IGNORED, "the base's process has its own", (None, True)),
    Field("hostname", _IGNORED, "a module has that of its base"),
    Field("hostnameOverride", _IGNORED, "as `hostname`"),
    Field("imagePullSecrets", _IGNORED, "the base fetches the jar, with credentials of its own if it needs some"),
    Field("initContainers", _IGNORED, "not run, native sidecars (`restartPolicy: Always`) included"),
    Field("nodeName", _KUBERNETES, "the scheduler, or whoever sets it"),
    Field("nodeSelector", _KUBERNETES, "the scheduler"),
    Field("os", _NO_EFFECT, "modules are Java"),
    Field("overhead", _KUBERNETES, "the scheduler counts it"),
    Field("preemptionPolicy", _KUBERNETES, "the scheduler"),
    Field("priority", _KUBERNETES, "the scheduler"),
    Field("priorityClassName", _KUBERNETES, "the API server makes `priority` of it"),
    Field("readinessGates", _HONOURED, "the Pod is Ready when all are True as well"),
    Field("resourceClaims", _IGNORED, "a base has no devices"),
    Field("resources.claims", _IGNORED, "a base has no devices"),
    Field("resources.limits", _IGNORED, "nothing in a JVM holds a module to them; variables may refer to them"),
    Field("resources.requests", _KUBERNETES, "the scheduler counts them; see [Resources](#resources)"),
    Field("restartPolicy", _IGNORED, "a failed module is tried again as with `Always`", (None, "Always")),
    Field("runtimeClassName", _IGNORED, "the base's JVM is the runtime"),
    Field("schedulerName", _KUBERNETES, "that scheduler"),
    Field("schedulingGates", _KUBERNETES, "the scheduler"),
    Field("schedulingGroup", _KUBERNETES, "the scheduler"),
    *_restrictions(
        Field("fsGroup", _NO_EFFECT, _AS_ITS_BASE),
        Field("fsGroupChangePolicy", _NO_EFFECT, _AS_ITS_BASE),
        Field("seLinuxChangePolicy", _NO_EFFECT, _AS_ITS_BASE),
        Field("supplementalGroups", _NO_EFFECT, _AS_ITS_BASE),
        Field("supplementalGroupsPolicy", _NO_EFFECT, _AS_ITS_BASE),
        Field("sysctls", _IGNORED, "the base's host has its own"),
    ),
    Field("serviceAccount", _NO_EFFECT, "the old name of `serviceAccountName`"),
    Field("serviceAccountName", _IGNORED, "a module acts as its base; variables may name it", (None, "", "default")),
    Field("setHostnameAsFQDN", _IGNORED, "as `hostname`"),
    Field("shareProcessNamespace", _IGNORED, "all modules share the base's process"),
    Field("subdomain", _IGNORED, "as `hostname`"),
    Field(
        "terminationGracePeriodSeconds", _NO_EFFECT, "a Pod stays until its modules left: `MODULE_UNINSTALL_TIMEOUT`"
    ),
    Field("tolerations", _KUBERNETES, "the scheduler and the taint manager"),
    Field("topologySpreadConstraints", _KUBERNETES, "the scheduler"),
    Field("volumes", _IGNORED, "a module sees the base's files; the injected token volume is not reported"),
)
"""Fields of a Pod's spec."""

_PROBE_FIELDS = (
    Field("exec", _IGNORED, "there is no process to run a command in"),
    Field("failureThreshold", _HONOURED, ""),
    Field("grpc", _HONOURED, "the standard health service, without TLS"),
    Field("httpGet.host", _REFUSED, "a probe goes to the Pod's IP and nowhere else; leave it out"),
    Field("httpGet.httpHeaders", _HONOURED, ""),
    Field("httpGet.path", _HONOURED, "redirects are followed on the same host, at most 10"),
    Field("httpGet.port", _HONOURED, "a number, or a name of `ports`"),
    Field("httpGet.scheme", _HONOURED, "with HTTPS the certificate is not checked, as by kubelets"),
    Field("initialDelaySeconds", _HONOURED, "counted from when the module was started"),
    Field("periodSeconds", _HONOURED, "longer when a replica has more than 500 probes a second"),
    Field("successThreshold", _HONOURED, ""),
    Field("tcpSocket.host", _REFUSED, "a probe goes to the Pod's IP and nowhere else; leave it out"),
    Field("tcpSocket.port", _HONOURED, "a number, or a name of `ports`"),
    Field("terminationGracePeriodSeconds", _NO_EFFECT, "no probe ends a module"),
    Field("timeoutSeconds", _HONOURED, "at most 60"),
)


def _probe(name: str) -> Iterator[Field]:
    return (Field(f"{name}.{each.path}", each.treatment, each.note) for each in _PROBE_FIELDS)


CONTAINER = (
    Field("args", _HONOURED, "given to the module, with `$(VAR)` expanded"),
    Field("command", _IGNORED, "a module is started by its main class"),
    Field(
        "env.name",
        _HONOURED,
        "`BIZ_VERSION` is the [version](#the-version-of-a-module), the others are given to the module",
    ),
    Field("env.value", _HONOURED, "with `$(VAR)` expanded"),
    Field("env.valueFrom.configMapKeyRef", _REFUSED, f"a ConfigMap is {_NOT_READ}"),
    Field("env.valueFrom.fieldRef", _HONOURED, "see [Variables](#variables)"),
    Field("env.valueFrom.fileKeyRef", _REFUSED, "there are no volumes to read it from"),
    Field("env.valueFrom.resourceFieldRef", _HONOURED, "see [Variables](#variables)"),
    Field("env.valueFrom.secretKeyRef", _REFUSED, f"a Secret is {_NOT_READ}"),
    Field("envFrom", _REFUSED, f"ConfigMaps and Secrets are {_NOT_READ}"),
    Field("image", _HONOURED, "the URL of the jar; it may say the [version](#the-version-of-a-module)"),
    Field("imagePullPolicy", _NO_EFFECT, "the base fetches the jar for each installation"),
    Field("lifecycle.postStart", _IGNORED, "what is to be done belongs into the module"),
    Field("lifecycle.preStop", _IGNORED, "what is to be done belongs into the module"),
    Field("lifecycle.stopSignal", _IGNORED, "a module is no process"),
    Field("livenessProbe", _IGNORED, "a module is never reinstalled for a probe; see [Probes](#probes)"),
    Field("name", _HONOURED, "the module's name"),
    Field("ports.containerPort", _NO_EFFECT, "for people, and for probes that name it"),
    Field("ports.hostIP", _NO_EFFECT, "as `ports.hostPort`"),
    Field("ports.hostPort", _IGNORED, "the scheduler keeps Pods with one port apart; nothing opens it"),
    Field("ports.name", _HONOURED, "probes may name it"),
    Field("ports.protocol", _NO_EFFECT, "as `ports.containerPort`"),
    *_probe("readinessProbe"),
    Field("resizePolicy", _NO_EFFECT, "there is nothing to resize"),
    Field("resources.claims", _IGNORED, "a base has no devices"),
    Field("resources.limits", _IGNORED, "nothing in a JVM holds a module to them; variables may refer to them"),
    Field("resources.requests", _KUBERNETES, "the scheduler counts them; see [Resources](#resources)"),
    Field("restartPolicy", _IGNORED, "as that of the Pod", (None, "Always")),
    Field("restartPolicyRules", _IGNORED, "a module has no exit code"),
    *_restrictions(
        Field("allowPrivilegeEscalation", _IGNORED, _AS_ITS_BASE),
        Field("capabilities.add", _IGNORED, _AS_ITS_BASE),
        Field("capabilities.drop", _NO_EFFECT, _AS_ITS_BASE),
        Field("privileged", _IGNORED, _AS_ITS_BASE),
        Field("procMount", _IGNORED, _AS_ITS_BASE, (None, "Default")),
        Field("readOnlyRootFilesystem", _NO_EFFECT, _AS_ITS_BASE),
    ),
    *_probe("startupProbe"),
    Field("stdin", _IGNORED, "a module has no input"),
    Field("stdinOnce", _IGNORED, "a module has no input"),
    Field("terminationMessagePath", _NO_EFFECT, "messages come from the base"),
    Field("terminationMessagePolicy", _NO_EFFECT, "messages come from the base"),
    Field("tty", _IGNORED, "a module has no terminal"),
    Field("volumeDevices", _IGNORED, "a base has no devices"),
    Field("volumeMounts", _NO_EFFECT, "reported with the Pod's `volumes`"),
    Field("workingDir", _IGNORED, "a module has that of its base"),
)
"""Fields of a container that is a module."""


def top_level(fields: Iterable[Field]) -> frozenset[str]:
    """Return the names of a table's fields without what is inside them."""
    return frozenset(field.path.partition(".")[0] for field in fields)
