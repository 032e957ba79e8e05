"""Each call of each service has a rule, and a rule asks for the rights that the call has in Kubernetes."""

from typing import Any

import orjson
import pytest
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from hypothesis import given
from hypothesis import strategies as st
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb
from koupleless.replica.v1 import replica_pb2
from koupleless.tunnel.v1 import tunnel_pb2

from controlplane.domain.access import Access, Role, role_allows
from controlplane.rpc.access.rules import LARGE, RULES, Who

SERVICES: tuple[Any, ...] = (pb, replica_pb2, tunnel_pb2, health_pb2, reflection_pb2)
TOOLING = "/koupleless.modulecontroller.v1.ModuleControllerService/"


def test_no_method_is_without_a_rule_and_no_rule_without_a_method() -> None:
    methods = {
        f"/{service.full_name}/{method.name}"
        for module in SERVICES
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    assert methods == RULES.keys()


def rights(call: str, request: Message) -> list[str]:
    return [str(access) for access in RULES[TOOLING + call].rights(request, "koupleless-system")]


DEPLOYMENT = orjson.dumps({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": "shop"}})
POD = pb.ObjectRef(api_version="v1", kind="Pod", namespace="shop", name="p")


@pytest.mark.parametrize(
    ("call", "request_", "expected"),
    [
        ("InstallModule", pb.InstallModuleRequest(namespace="shop"), ["create pods in namespace shop"]),
        ("InstallModule", pb.InstallModuleRequest(), ["create pods in namespace default"]),
        ("UninstallModule", pb.UninstallModuleRequest(namespace="shop"), ["delete pods in namespace shop"]),
        ("UninstallModule", pb.UninstallModuleRequest(), ["delete pods"]),
        ("ListVNodes", pb.ListVNodesRequest(), ["list nodes"]),
        ("GetVNode", pb.GetVNodeRequest(), ["list nodes", "list pods", "list events"]),
        ("ListModules", pb.ListModulesRequest(), ["list nodes", "list pods"]),
        ("WatchModules", pb.WatchModulesRequest(), ["list nodes", "list pods", "watch pods"]),
        ("WatchEvents", pb.WatchEventsRequest(), ["list events", "watch events"]),
        ("GetBaseline", pb.GetBaselineRequest(), ["list deployments.apps"]),
        (
            "DrainReplica",
            pb.DrainReplicaRequest(replica="cp-1"),
            ["update leases.coordination.k8s.io module-controller-cp-1 in namespace koupleless-system"],
        ),
        (
            "ApplyManifest",
            pb.ApplyManifestRequest(manifest_json=DEPLOYMENT),
            ["create deployments.apps in namespace shop", "patch deployments.apps in namespace shop"],
        ),
        ("DeleteManifest", pb.DeleteManifestRequest(object=POD), ["delete pods p in namespace shop"]),
        ("GetObject", pb.GetObjectRequest(object=POD), ["get pods p in namespace shop"]),
        ("GetRollout", pb.GetRolloutRequest(workload=POD), ["get pods p in namespace shop", "list pods"]),
        ("GetRollout", pb.GetRolloutRequest(), ["list nodes", "list pods"]),
        ("ConfirmRollout", pb.ConfirmRolloutRequest(workload=POD), ["patch deployments.apps p in namespace shop"]),
        ("AbortRollout", pb.AbortRolloutRequest(workload=POD), ["patch deployments.apps p in namespace shop"]),
        ("WhoAmI", pb.WhoAmIRequest(), []),
        ("CanI", pb.CanIRequest(), []),
    ],
)
def test_a_call_needs_what_it_does(call: str, request_: Message, expected: list[str]) -> None:
    assert rights(call, request_) == expected


def test_a_node_is_in_no_namespace() -> None:
    node = orjson.dumps({"apiVersion": "v1", "kind": "Node", "metadata": {"namespace": "shop"}})
    assert rights("ApplyManifest", pb.ApplyManifestRequest(manifest_json=node)) == ["create nodes", "patch nodes"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["kind", "metadata"]), inner),
    max_leaves=8,
)


@given(json_values.map(orjson.dumps) | st.binary())
def test_whatever_is_applied_needs_rights_to_create_and_change_it(manifest: bytes) -> None:
    found = RULES[TOOLING + "ApplyManifest"].rights(pb.ApplyManifestRequest(manifest_json=manifest), "n")
    assert [access.verb for access in found] == ["create", "patch"]


def test_only_tools_are_tools() -> None:
    for name, rule in RULES.items():
        service, _, method = name.removeprefix("/").partition("/")
        open_ = method in ("WhoAmI", "CanI") or service.startswith("grpc.")
        expected = {"Connect": Who.GATEWAY, "Follow": Who.REPLICA}.get(method, Who.ANYONE if open_ else Who.TOOL)
        assert rule.who is expected
        assert rule.most_bytes <= LARGE


@pytest.mark.parametrize(
    ("role", "verb", "resource", "group", "allowed"),
    [
        (Role.VIEWER, "list", "nodes", "", True),
        (Role.VIEWER, "create", "pods", "", False),
        (Role.OPERATOR, "create", "pods", "", True),
        (Role.OPERATOR, "delete", "deployments", "apps", True),
        (Role.OPERATOR, "update", "leases", "coordination.k8s.io", True),
        (Role.OPERATOR, "delete", "nodes", "", False),
        (Role.OPERATOR, "create", "pods", "metrics.k8s.io", False),
        (Role.ADMIN, "delete", "nodes", "", True),
        (Role.GATEWAY, "list", "nodes", "", False),
        (Role.REPLICA, "list", "nodes", "", False),
    ],
)
def test_roles_of_this_machine(role: Role, verb: str, resource: str, group: str, allowed: bool) -> None:
    assert role_allows(role, Access(verb, resource, group)) is allowed
