"""What each call needs: the kind of caller, what it does in the words of Kubernetes, and how large a request may be.

A call that is not in the table is refused.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeAlias

import orjson
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb
from koupleless.replica.v1 import replica_pb2
from koupleless.tunnel.v1 import tunnel_pb2

from controlplane.domain.access import Access
from controlplane.domain.contract import MEMBER_LEASE_PREFIX

KIB = 1024
SMALL = 64 * KIB
LARGE = 1536 * KIB
"""Bytes of a request: what etcd takes of an object, and no request needs more."""


class Who(Enum):
    """Kinds of callers; anyone is whoever is known."""

    ANYONE = "anyone"
    TOOL = "tool"
    GATEWAY = "gateway"
    REPLICA = "replica"
    NOBODY = "nobody"


Rights: TypeAlias = Callable[[Any, str], Sequence[Access]]
"""What a request does; the second argument is the namespace of the control plane."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What one call needs."""

    rights: Rights
    who: Who = Who.TOOL
    most_bytes: int = SMALL


CLOSED = Rule(lambda _request, _namespace: (), Who.NOBODY)
OPEN = Rule(lambda _request, _namespace: (), Who.ANYONE)

_NODES = Access("list", "nodes")
_PODS = Access("list", "pods")
_EVENTS = Access("list", "events")


def _always(*rights: Access) -> Rights:
    return lambda _request, _namespace: rights


def _install(request: pb.InstallModuleRequest, _namespace: str) -> Sequence[Access]:
    return (Access("create", "pods", namespace=request.namespace or "default"),)


def _uninstall(request: pb.UninstallModuleRequest, _namespace: str) -> Sequence[Access]:
    return (Access("delete", "pods", namespace=request.namespace),)


def _drain(request: pb.DrainReplicaRequest, namespace: str) -> Sequence[Access]:
    lease = MEMBER_LEASE_PREFIX + request.replica
    return (Access("update", "leases", "coordination.k8s.io", namespace=namespace, name=lease),)


def _apply(request: pb.ApplyManifestRequest, _namespace: str) -> Sequence[Access]:
    """Return what applying an object does; what is no object is refused when it is read."""
    try:
        found = orjson.loads(request.manifest_json)
    except orjson.JSONDecodeError:
        found = {}
    manifest = found if isinstance(found, dict) else {}
    metadata = manifest.get("metadata")
    namespace = str(metadata.get("namespace") or "default") if isinstance(metadata, dict) else "default"
    version, kind = str(manifest.get("apiVersion") or ""), str(manifest.get("kind") or "")
    return tuple(_object(verb, version, kind, namespace, "") for verb in ("create", "patch"))


def _on_object(verb: str, ref: pb.ObjectRef) -> Sequence[Access]:
    return (_object(verb, ref.api_version, ref.kind, ref.namespace or "default", ref.name),)


def _object(verb: str, version: str, kind: str, namespace: str, name: str) -> Access:
    # The kinds of the embedded cluster have regular plurals.
    group = version.rpartition("/")[0]
    return Access(verb, f"{kind.lower()}s", group, namespace="" if kind == "Node" else namespace, name=name)


def _rollout(request: pb.GetRolloutRequest, namespace: str) -> Sequence[Access]:
    if request.WhichOneof("subject") == "workload":
        return (*_on_object("get", request.workload), _PODS)
    return (_NODES, _PODS)


def _steer(request: pb.ConfirmRolloutRequest | pb.AbortRolloutRequest, _namespace: str) -> Sequence[Access]:
    # Whatever kind the caller names, a Deployment is changed.
    ref = request.workload
    return (Access("patch", "deployments", "apps", namespace=ref.namespace or "default", name=ref.name),)


_TOOLS: Mapping[str, Rule] = {
    "ListVNodes": Rule(_always(_NODES)),
    "GetVNode": Rule(_always(_NODES, _PODS, _EVENTS)),
    "ListModules": Rule(_always(_NODES, _PODS)),
    "ListGateways": Rule(_always(_NODES)),
    "ListReplicas": Rule(_always(_NODES)),
    "ListShards": Rule(_always(_NODES)),
    "ListOperations": Rule(_always(_NODES, _PODS)),
    "WatchVNodes": Rule(_always(_NODES, Access("watch", "nodes"))),
    "WatchModules": Rule(_always(_NODES, _PODS, Access("watch", "pods"))),
    "WatchEvents": Rule(_always(_EVENTS, Access("watch", "events"))),
    "GetRollout": Rule(_rollout),
    "ConfirmRollout": Rule(_steer),
    "AbortRollout": Rule(_steer),
    "GetBaseline": Rule(_always(Access("list", "deployments", "apps"))),
    "GetObject": Rule(lambda request, _: _on_object("get", request.object)),
    "InstallModule": Rule(_install),
    "UninstallModule": Rule(_uninstall),
    "ApplyManifest": Rule(_apply, most_bytes=LARGE),
    "DeleteManifest": Rule(lambda request, _: _on_object("delete", request.object)),
    "DrainReplica": Rule(_drain),
    "WhoAmI": OPEN,
    "CanI": OPEN,
}


def _of(module: Any, service: str, rules: Mapping[str, Rule]) -> dict[str, Rule]:
    full_name = module.DESCRIPTOR.services_by_name[service].full_name
    return {f"/{full_name}/{name}": rule for name, rule in rules.items()}


RULES: Mapping[str, Rule] = {
    **_of(pb, "ModuleControllerService", _TOOLS),
    **_of(tunnel_pb2, "TunnelService", {"Connect": Rule(_always(), Who.GATEWAY, most_bytes=LARGE)}),
    **_of(replica_pb2, "ReplicaService", {"Follow": Rule(_always(), Who.REPLICA)}),
    **_of(health_pb2, "Health", dict.fromkeys(("Check", "Watch", "List"), OPEN)),
    **_of(reflection_pb2, "ServerReflection", {"ServerReflectionInfo": OPEN}),
}
