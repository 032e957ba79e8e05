"""Targets: objects of users, as the API server or the embedded cluster hands them to the control plane.

Whoever may write a Pod may put anything into it that the API server lets through. Reading is total.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import orjson
import yaml
from hypothesis import strategies as st

from controlplane.app.ports import ClusterError
from controlplane.cluster import fields, patches, reading
from controlplane.cluster.api import DAEMON_SETS, DEPLOYMENTS, PODS, Json, PatchType
from controlplane.cluster.informer import newer
from controlplane.domain import quantities, times
from controlplane.domain.base import additions, deadline, releases, vnode
from controlplane.domain.base.environment import Place
from controlplane.domain.base.wishes import wishes
from controlplane.domain.endpoint import endpoint_of
from controlplane.domain.identity import BaseId
from controlplane.domain.objects import Pod
from controlplane.domain.ownership import replicas
from controlplane.domain.workloads import deployments, placement
from controlplane.domain.workloads.rollout import of_workload
from controlplane.embedded.api.resources import RESOURCES, image, key_of, selection
from controlplane.embedded.api.store import EmbeddedApiServer
from controlplane.embedded.manifests import EmbeddedManifests, ready
from controlplane.kube import errors
from controlplane.kube.client import _event
from controlplane.kubelet import basepods
from controlplane.kubelet.requests import log_options
from controlplane.reports import intake, neutral, posting
from controlplane.rpc.tooling import codec
from service.masking import masked
from tests.everything import EXAMPLES
from tests.fuzz import inputs
from tests.fuzz.target import Target

PLACE = Place("10.0.0.7", "64Mi")
PAGES: Sequence[Json] = [
    obj for path in sorted(EXAMPLES.glob("*.yaml")) for obj in yaml.safe_load_all(path.read_text()) if obj
]
_STATUS: Json = {
    "phase": "Running",
    "startTime": "2026-01-01T00:00:00Z",
    "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
    "containerStatuses": [
        {"name": "biz1", "ready": True, "restartCount": 1, "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}
    ],
}
_RESOURCES: Json = {"limits": {"memory": "64Mi", "cpu": "500m"}, "requests": {"memory": "1e3"}}
_ENV: list[Json] = [
    {"name": "BIZ_VERSION", "value": "1"},
    {"name": "A", "value": "$(BIZ_VERSION)$(BIZ_VERSION)"},
    {"name": "B", "value": "$(A)$(A)$(A)"},
    {"name": "L", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
    {"name": "F", "valueFrom": {"fieldRef": {"fieldPath": "metadata.annotations['a']"}}},
]
_PROBE: Json = {"httpGet": {"port": "web", "path": "/"}, "periodSeconds": 1, "failureThreshold": 2}
_META: Json = {
    "name": "p",
    "namespace": "default",
    "uid": "u",
    "resourceVersion": "7",
    "labels": {"a": "b"},
    "annotations": {"a": "b", "koupleless.io/install-strategy": "force"},
    "creationTimestamp": "2026-01-01T00:00:00Z",
    "ownerReferences": [{"uid": "o", "controller": True}],
    "deletionGracePeriodSeconds": 30,
    "generation": 2,
}
_CONTAINER: Json = {
    "name": "biz1",
    "image": "https://example.com/a.jar",
    "args": ["--a=$(A)$(B)"],
    "env": _ENV,
    "resources": _RESOURCES,
    "ports": [{"name": "web", "containerPort": 8080}],
    "readinessProbe": _PROBE,
    "startupProbe": {"grpc": {"port": 1}},
}
_POD: Json = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": _META,
    "spec": {
        "nodeName": "vnode.a.dev",
        "containers": [_CONTAINER],
        "initContainers": [{"name": "i", "image": "x", "restartPolicy": "Always"}],
        "activeDeadlineSeconds": 10,
        "readinessGates": [{"conditionType": "g"}],
        "volumes": [{"name": "v"}],
    },
    "status": _STATUS,
}
_NODE: Json = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {"name": "vnode.a.dev", "labels": {"base.koupleless.io/name": "a"}, "annotations": {}},
    "spec": {"taints": [{"key": "k", "value": "v", "effect": "NoExecute"}], "unschedulable": True},
    "status": {
        "addresses": [{"type": "InternalIP", "address": "10.0.0.7"}],
        "capacity": {"pods": "65535", "memory": "262144Ki"},
        "allocatable": {"memory": "100Ki"},
        "conditions": _STATUS["conditions"],
        "nodeInfo": {"containerRuntimeVersion": "java://17"},
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
    },
}
_LEASE: Json = {
    "metadata": {
        "name": "vnode.a.dev",
        "namespace": "kube-node-lease",
        "annotations": {"a": '{"biz:1":"0123/u/2026"}'},
    },
    "spec": {
        "holderIdentity": "h",
        "leaseTransitions": 1,
        "leaseDurationSeconds": 40,
        "renewTime": "2026-01-01T00:00:00.000000Z",
    },
}
_SERVICE: Json = {
    "metadata": {"name": "k"},
    "spec": {"clusterIP": "10.0.0.1", "ports": [{"port": 1, "targetPort": "x"}]},
}
_OBJECTS = [_POD, _NODE, _LEASE, _SERVICE, *PAGES]


def _of_pod(pod: Pod) -> object:
    """Return what is made of a Pod that is on a base."""
    return wishes((pod,), PLACE), deadline.remaining(pod, 1.0), codec.modules(pod.node_name, None, (pod,))


def _object(data: bytes) -> object:
    obj = fields.parsed(data)
    if obj is None:
        return None
    pod, node, lease = reading.pod(obj), reading.node(obj), reading.lease(obj)
    deployment, service = reading.module_deployment(obj), reading.service(obj)
    return (
        (pod, _of_pod(pod), reading.foreign_pod(obj)),
        (node, codec.vnode(node.name, BaseId("a"), node, None, lease), vnode.profile_of(node, BaseId("a"), "dev")),
        (lease, replicas.replica_of(lease), *(releases.recorded(text) for text in lease.annotations.values())),
        [additions.onto(node, additions.recorded(text)) for text in lease.annotations.values()],
        (additions.record(additions.of(node)), vnode.module_limit(reading.limited_pod(obj).limit)),
        (
            deployment,
            deployments.demand_of(deployment),
            deployments.baseline_demand(deployment, "dev", peers_follow=True),
        ),
        (service, endpoint_of((service,), 10250, "dev")),
        [codec.rollout(_rollout(kind, obj, pod)) for kind in (DEPLOYMENTS.kind, DAEMON_SETS.kind)],
        (basepods._candidate(obj), reading.key(obj), patches.merged_taints(obj, ())),
    )


def _rollout(kind: str, obj: Json, pod: Pod) -> Any:
    return of_workload(reading.workload(kind, obj), (pod,))


async def _stored(data: bytes) -> object:
    """Apply the object in the first line to an empty embedded cluster, and patch it with those of the others."""
    manifest, *lines = data.split(b"\n")
    bodies = [found for line in lines if (found := fields.parsed(line)) is not None]
    store = await EmbeddedApiServer.open(":memory:")
    try:
        name, _ = await EmbeddedManifests(store).apply(manifest, dry_run=False)
        resource = next(each for each in RESOURCES if each.kind == name.kind)
        for patch in bodies:
            for kind, part in ((PatchType.STRATEGIC, "status"), (PatchType.STRATEGIC, ""), (PatchType.MERGE, "")):
                with suppress(ClusterError):
                    await store.patch(
                        resource, name.name, patch, namespace=name.namespace, subresource=part, patch_type=kind
                    )
        obj = await store.get(resource, name.name, name.namespace)
        views = _object(orjson.dumps(obj)), ready(obj), image(obj), key_of(resource, obj).name
        await store.delete(resource, name.name, namespace=name.namespace)
        return views
    finally:
        await store.close()


def _embedded(data: bytes) -> object:
    return asyncio.run(_stored(data))


def _selector(data: bytes) -> object:
    text = data.decode(errors="replace")
    found = placement.parse_selector(text)
    chosen = selection(PODS, "default", text, "")
    assert chosen(image(_POD)) == (placement.matches(found, {"a": "b"}))
    return found


def _record(data: bytes) -> object:
    found = releases.recorded(data.decode(errors="replace"))
    assert releases.recorded(releases.record(found)) == found
    return found


def _additions(data: bytes) -> object:
    found = additions.recorded(data.decode(errors="replace"))
    text, left_out = additions.record(found)
    assert left_out or not found or additions.recorded(text) == found
    return found


def _scalar(data: bytes) -> object:
    text = data.decode(errors="replace")
    written = quantities.canonical(text)
    assert written is None or quantities.parse(written) == quantities.parse(text)
    assert written is None or quantities.canonical(written) == written
    return quantities.parse(text), times.parse_time(text), placement.int64(text), newer(text, "7"), codec.written(text)


def _report(data: bytes) -> object:
    report = intake.read(data)
    assert report.line("now").count("\n") == 1
    return report, report.line("now"), posting.message(report), orjson.dumps(report.fields())


def _strange(data: bytes) -> object:
    """Show a text of a stranger in a chat, and in a log."""
    text = data.decode(errors="replace")
    shown = neutral.markdown(text)
    assert "@" not in shown
    assert "\n" not in shown
    cut = neutral.cut(shown, 40)
    assert len(cut.encode()) <= 43
    return shown, cut, masked(text)


def _status(data: bytes) -> object:
    found = [errors.error_of_reply(code, data, retry_after="", write=True) for code in (401, 404, 409, 422, 500, 504)]
    found.append(errors.error_of_reply(503, b"", retry_after=data.decode("latin-1"), write=False))
    return [str(error) for error in found]


def _query(data: bytes) -> object:
    pairs = [pair.partition("=")[::2] for pair in data.decode("utf-8", "surrogateescape").split("&")]
    return log_options(pairs)


_EXPONENTIAL = b'{"metadata":{"name":"p"},"spec":{"containers":[{"name":"b","image":"i","env":[%s]}]}}' % b",".join(
    b'{"name":"A%d","value":"%s"}' % (number, b"$(A%d)" % (number - 1) * 4 if number else b"x") for number in range(13)
)
_STEPS = [[obj, {"status": _STATUS}, {"metadata": {"labels": {"a": "c"}}}] for obj in _OBJECTS if "kind" in obj]
_STATUSES = [
    {
        "kind": "Status",
        "reason": "Timeout",
        "message": "m",
        "details": {"retryAfterSeconds": 1, "causes": [{"field": "f"}]},
    }
]
_EVENTS = [{"type": kind, "object": obj} for kind in ("ADDED", "ERROR", "BOOKMARK") for obj in (_POD, _STATUSES[0])]
_REPORTS = [
    {
        "traceID": "t",
        "scene": "s",
        "event": "e",
        "result": "r",
        "message": "m",
        "code": "c",
        "labels": {"a": "b"},
        "timeUsed": 1,
    }
]
_STRANGE = [
    b"@all [a](http://u:p@h/?token=secret) <@x>",
    b"authorization: Bearer abcdefghijklmnopqrst",
    b"-----BEGIN PRIVATE KEY-----\nMII",
    b"/t/token/heartbeat eyJhbGciOiJ9.e30.x",
]
_SELECTORS = [b"a=b", b"a in (b, c),!d", b"e!=f,g notin (h)", b"a.b/c", b"a==b"]
_TEXTS = st.sampled_from([text.encode() for text in inputs.SCALARS if isinstance(text, str)])

TARGETS = (
    Target(
        "kubernetes-object",
        (
            "controlplane.cluster.reading",
            "controlplane.cluster.containers",
            "controlplane.cluster.fields",
            "controlplane.cluster.scheduling",
            "controlplane.cluster.patches",
            "controlplane.domain.base.environment",
            "controlplane.domain.base.vnode",
            "controlplane.kubelet.basepods",
        ),
        st.just(_EXPONENTIAL) | inputs.documents(_OBJECTS),
        _object,
        size=64,
        calls=1000,
    ),
    Target(
        "embedded-object",
        (
            "controlplane.cluster.fieldrules",
            "controlplane.embedded.api.database",
            "controlplane.embedded.api.patch",
            "controlplane.embedded.api.schema",
            "controlplane.embedded.api.store",
            "controlplane.embedded.api.writes",
            "controlplane.embedded.manifests",
        ),
        inputs.objects(_STEPS).map(
            lambda steps: b"\n".join(map(inputs.written, steps if isinstance(steps, list) else [steps]))
        ),
        _embedded,
        (ClusterError,),
        size=64,
        calls=2000,
    ),
    Target(
        "label-selector",
        ("controlplane.domain.workloads.placement", "controlplane.embedded.api.resources"),
        inputs.texts(_SELECTORS, [b" ", b",", b"(", b")", b"in", b"notin", b"!", b"=", b"\xc2\xa0"]),
        _selector,
        (placement.InvalidSelector, ClusterError),
    ),
    Target(
        "release-record",
        ("controlplane.domain.base.releases",),
        inputs.documents([{"biz:1": "0123/u/2026-01-01T00:00:00Z", "b:2": ""}]),
        _record,
    ),
    Target(
        "node-additions",
        ("controlplane.domain.base.additions",),
        inputs.documents([{"labels": {"a": "b"}, "taints": [["k", "v", "NoExecute"]], "unschedulable": True}]),
        _additions,
    ),
    Target(
        "quantity-and-time",
        (
            "controlplane.cluster.informer",
            "controlplane.domain.quantities",
            "controlplane.domain.times",
            "controlplane.rpc.tooling.codec",
        ),
        _TEXTS
        | inputs.texts([b"2026-01-01T00:00:00.123456Z", b"64Mi", b"1e3", b"0.5"], [b"e", b".", b"9" * 40, b"-", b"+"]),
        _scalar,
    ),
    Target("report", ("controlplane.reports.intake",), inputs.documents(_REPORTS), _report, (intake.NotAReport,)),
    Target(
        "strange-text",
        ("controlplane.reports.neutral", "service.masking"),
        inputs.texts(_STRANGE, [b"@", b"\\", b"://", b"=", b"_", b"&#1;", b"[", b"\n", b"Bearer ", b"x" * 300]),
        _strange,
    ),
    Target("api-status", ("controlplane.kube.errors",), inputs.documents(_STATUSES), _status),
    Target("watch-event", ("controlplane.kube.client",), inputs.documents(_EVENTS), _event, (ClusterError,)),
    Target(
        "log-query",
        ("controlplane.kubelet.requests",),
        inputs.texts([b"tailLines=5&follow=true", b"sinceTime=2026"], [b"&", b"=", b"\xff", b"limitBytes"]),
        _query,
    ),
)
