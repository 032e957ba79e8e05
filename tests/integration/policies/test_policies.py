"""What happens to Pods by the policies of a cluster happens to modules."""

from typing import Any

import pytest

from tests.corner import Sandbox
from tests.everything import Bases, condition
from tests.programs import eventually
from tests.servers.kubeapi import ApiError, Json

APPLY = "application/apply-patch+yaml"
BIZ1, BIZ2 = "biz1:0.0.1", "biz2:0.0.1"
ACTIVATED = "activated"

pytestmark = [pytest.mark.timeout(300), pytest.mark.mosquitto]


def create(sandbox: Sandbox, group: str, plural: str, obj: Json) -> Json:
    """Create an object of any kind in the test's namespace."""
    return sandbox.api.create(f"{group}/namespaces/{sandbox.name}/{plural}", obj)


def copies(sandbox: Sandbox, replicas: int) -> Json:
    """Return a Deployment of the example's module, whose Pods may be anywhere."""
    template = sandbox.manifest("biz1.yaml")
    labels = template["metadata"]["labels"] | {"app": "biz1"}
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": "biz1"}}}
    pods = {"metadata": {"labels": labels}, "spec": template["spec"]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "biz1"},
        "spec": {**spec, "template": pods},
    }


def installed(bases: Bases) -> list[str]:
    """Return the modules of all bases."""
    return [key for modules in bases.states().values() for key in modules]


def ready_pods(sandbox: Sandbox) -> list[str]:
    return [pod["metadata"]["name"] for pod in sandbox.pods() if condition(pod, "Ready").get("status") == "True"]


def test_a_quota_counts_module_pods_and_is_given_back_with_the_module(sandbox: Sandbox) -> None:
    bases = sandbox.bases("a", count=2)
    quota = create(sandbox, "/api/v1", "resourcequotas", {"metadata": {"name": "q"}, "spec": {"hard": {"pods": "1"}}})
    path = f"/api/v1/namespaces/{sandbox.name}/resourcequotas/{quota['metadata']['name']}"
    eventually(lambda: "used" in sandbox.api.get(path).get("status", {}), within=30, what="the quota is counted")
    sandbox.apply(copies(sandbox, 2))
    eventually(lambda: len(ready_pods(sandbox)) == 1, within=40, what="the one Pod that the quota allows")
    eventually(lambda: "FailedCreate" in sandbox.reasons(), within=20, what="the other is refused")
    (first,) = ready_pods(sandbox)
    sandbox.delete("Pod", first)
    sandbox.wait_gone("Pod", first)
    eventually(lambda: len(ready_pods(sandbox)) == 1, within=60, what="another Pod in its place")
    eventually(lambda: installed(bases) == [BIZ1], within=30, what="one module")
    assert sandbox.api.get(path)["status"]["used"]["pods"] == "1"


def test_defaults_of_a_limit_range_leave_modules_schedulable(sandbox: Sandbox) -> None:
    bases = sandbox.bases("a", "--metaspace-max", str(256 << 20))
    sizes = {"cpu": "100m", "memory": "40Mi"}
    limits = {"limits": [{"type": "Container", "default": sizes, "defaultRequest": sizes}]}
    create(sandbox, "/api/v1", "limitranges", {"metadata": {"name": "defaults"}, "spec": limits})
    sandbox.pod("biz1")
    pod = sandbox.wait_ready("biz1")
    assert pod["spec"]["containers"][0]["resources"]["requests"] == sizes
    assert bases.modules() == {BIZ1: ACTIVATED}


def test_a_module_of_higher_priority_takes_the_room_of_another(sandbox: Sandbox) -> None:
    bases = sandbox.bases("a", "--metaspace-max", str(256 << 20))
    name = f"{sandbox.name}-high"
    sandbox.api.create("/apis/scheduling.k8s.io/v1/priorityclasses", {"metadata": {"name": name}, "value": 1000})
    try:
        for module, priority in (("biz1", ""), ("biz2", name)):
            pod = sandbox.manifest("biz1.yaml", name=module)
            (container,) = pod["spec"]["containers"]
            container |= {"name": module, "image": f"https://repo.example/{module}-0.0.1.jar"}
            container["resources"] = {"requests": {"memory": "140Mi"}}
            pod["spec"] |= {"priorityClassName": priority} if priority else {}
            sandbox.apply(pod)
            sandbox.wait_ready(module, within=60)
        sandbox.wait_gone("Pod", "biz1")
        assert bases.modules() == {BIZ2: ACTIVATED}
        assert "Preempted" in sandbox.reasons("biz1")
    finally:
        sandbox.api.delete(f"/apis/scheduling.k8s.io/v1/priorityclasses/{name}")


def evict(sandbox: Sandbox, pod: str) -> None:
    """Ask for an eviction as kubectl drain does; raises ApiError."""
    beta = sandbox.everything.cluster.minor < 22
    body = {"apiVersion": f"policy/v1{'beta1' if beta else ''}", "kind": "Eviction", "metadata": {"name": pod}}
    sandbox.api.create(f"{sandbox.path('Pod', pod)}/eviction", body)


def test_a_disruption_budget_keeps_the_last_copy_of_a_module(sandbox: Sandbox) -> None:
    bases = sandbox.bases("a", count=2)
    group = "/apis/policy/v1beta1" if sandbox.everything.cluster.minor < 21 else "/apis/policy/v1"
    selector = {"matchLabels": {"app": "biz1"}}
    budget: Json = {"metadata": {"name": "biz1"}, "spec": {"minAvailable": 1, "selector": selector}}
    create(sandbox, group, "poddisruptionbudgets", budget)
    sandbox.apply(copies(sandbox, 1))
    eventually(lambda: len(ready_pods(sandbox)) == 1, within=40, what="one copy")
    (first,) = ready_pods(sandbox)
    with pytest.raises(ApiError, match="disruption budget"):
        evict(sandbox, first)
    sandbox.scale("Deployment", "biz1", 2)
    eventually(lambda: len(ready_pods(sandbox)) == 2, within=40, what="two copies")

    def evicted() -> bool:
        try:
            evict(sandbox, first)
        except ApiError as error:
            return error.status == 404
        return True

    eventually(evicted, within=30, what="the first may go")
    sandbox.wait_gone("Pod", first)
    assert BIZ1 in installed(bases)


def test_a_finalizer_holds_the_pod_and_not_the_module(sandbox: Sandbox) -> None:
    bases = sandbox.bases("a")
    pod = sandbox.manifest("biz1.yaml")
    pod["metadata"]["finalizers"] = ["example.com/held"]
    sandbox.apply(pod)
    sandbox.wait_ready("biz1")
    sandbox.delete("Pod", "biz1")
    eventually(lambda: bases.modules() == {}, within=30, what="the module is uninstalled")
    assert [verb for verb, _ in bases.orders()].count("uninstall") == 1
    assert sandbox.get("Pod", "biz1") is not None
    sandbox.api.patch(sandbox.path("Pod", "biz1"), {"metadata": {"finalizers": None}}, "application/merge-patch+json")
    sandbox.wait_gone("Pod", "biz1")
    assert [verb for verb, _ in bases.orders()].count("uninstall") == 1


def test_a_module_goes_with_the_owner_of_its_pod(sandbox: Sandbox) -> None:
    bases = sandbox.bases("a")
    owner = create(sandbox, "/api/v1", "configmaps", {"metadata": {"name": "owner"}})["metadata"]
    pod = sandbox.manifest("biz1.yaml")
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["uid"]}
    pod["metadata"]["ownerReferences"] = [reference]
    sandbox.apply(pod)
    sandbox.wait_ready("biz1")
    sandbox.api.delete(f"/api/v1/namespaces/{sandbox.name}/configmaps/owner")
    sandbox.wait_gone("Pod", "biz1")
    assert bases.modules() == {}


def applied(sandbox: Sandbox, manager: str, spec: Json, *, force: bool = False) -> Json:
    """Apply a part of the Pod biz1 as some manager, on the server; raises ApiError."""
    body: Json = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "biz1"}, "spec": spec}
    options = f"fieldManager={manager}&force={str(force).lower()}"
    return sandbox.api.patch(f"{sandbox.path('Pod', 'biz1')}?{options}", body, APPLY)


def test_two_managers_share_a_pod_and_ours_has_its_status_alone(sandbox: Sandbox) -> None:
    bases = sandbox.bases("a")
    pod = sandbox.manifest("biz1.yaml")
    pod["metadata"]["namespace"] = sandbox.name
    sandbox.api.patch(f"{sandbox.path('Pod', 'biz1')}?fieldManager=first&force=false", pod, APPLY)
    sandbox.wait_ready("biz1")
    other: dict[str, Any] = {"containers": [{"name": "biz1", "image": "https://repo.example/biz1-0.0.2.jar"}]}
    with pytest.raises(ApiError, match="conflict"):
        applied(sandbox, "second", other)
    applied(sandbox, "second", other, force=True)
    eventually(lambda: bases.orders().count(("install", BIZ1)) == 2, within=40, what="the image of the second manager")
    managed = sandbox.wait_ready("biz1")["metadata"]["managedFields"]
    of_spec = {entry["manager"] for entry in managed if "f:spec" in entry["fieldsV1"]}
    assert {"first", "second"} <= of_spec
    ours = [entry for entry in managed if entry["manager"] == "koupleless-module-controller"]
    assert [set(entry["fieldsV1"]) for entry in ours] == [{"f:status"}]


def test_a_network_policy_for_module_pods_changes_nothing(sandbox: Sandbox) -> None:
    """A module has the network of its base: who wants to close it selects the base's Pod."""
    bases = sandbox.bases("a")
    deny: Json = {"metadata": {"name": "deny"}, "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}}
    create(sandbox, "/apis/networking.k8s.io/v1", "networkpolicies", deny)
    sandbox.pod("biz1")
    sandbox.wait_ready("biz1")
    assert bases.modules() == {BIZ1: ACTIVATED}
