"""Workloads through the port of the application, on either cluster."""

import asyncio
from dataclasses import replace

import pytest

from controlplane.app.ports import Conflict, NotFound, Rejected
from controlplane.cluster.adapter import ApiCluster
from controlplane.cluster.api import (
    DAEMON_SETS,
    DEPLOYMENTS,
    ApiServer,
    Json,
    Resource,
)
from controlplane.domain.contract import COMPONENT
from controlplane.domain.objects import (
    ModuleDeployment,
    NodeTerm,
    Requirement,
    SchedulingRules,
    Toleration,
)
from tests.contract.cluster.conftest import eventually
from tests.contract.cluster.specs import NS, VIRTUAL
from tests.placements import affinity, expression, labelled

DOMAIN = "virtual-kubelet.koupleless.io"


def module_deployment(name: str, **labels: str) -> Json:
    container = {"name": "biz1", "image": "i", "env": [{"name": "BIZ_VERSION", "value": "0.0.1"}]}
    template = {
        "containers": [container],
        "tolerations": [{"key": VIRTUAL.key, "operator": "Exists"}],
        **affinity(labelled(expression("k", "NotIn", "v"))),
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": NS, "labels": {f"{DOMAIN}/{k}": v for k, v in labels.items()}},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name, COMPONENT: "module"}}, "spec": template},
        },
    }


async def test_module_deployments_are_seen(cluster: ApiCluster, api: ApiServer, unique: str) -> None:
    await api.create(DEPLOYMENTS, module_deployment(unique, env=unique), NS)
    await eventually(lambda: cluster.deployments.get(f"{NS}/{unique}") is not None)
    deployment = cluster.deployments.get(f"{NS}/{unique}")
    assert deployment is not None
    assert deployment.replicas == 0
    assert deployment.containers[0].version == "0.0.1"
    assert deployment.selector == (Requirement("app", "In", (unique,)),)
    assert deployment.rules == SchedulingRules(
        required_affinity=(NodeTerm((Requirement("k", "NotIn", ("v",)),)),),
        tolerations=(Toleration(VIRTUAL.key, "Exists"),),
    )


async def test_deployments_are_seen_by_the_labels_that_the_original_goes_by(
    cluster: ApiCluster, api: ApiServer, unique: str
) -> None:
    seen = {"all": {"component": "module-deployment", "env": unique, "strategy": "peer"}}
    seen |= {"peer-env": {"env": unique, "strategy": "peer"}, "peer": {"strategy": "peer"}, "env": {"env": unique}}
    unseen: dict[str, dict[str, str]] = {"none": {}, "component": {"component": "module-deployment"}}
    unseen |= {"other": {"env": f"not-{unique}", "strategy": "peer"}, "strategy": {"strategy": "scalable"}}
    for name, labels in (seen | unseen).items():
        await api.create(DEPLOYMENTS, module_deployment(f"{unique}-{name}", **labels), NS)

    def found() -> set[str]:
        names = {deployment.name for deployment in cluster.deployments.all()}
        return {name.removeprefix(f"{unique}-") for name in names if name.startswith(unique)}

    await eventually(lambda: found() == seen.keys())
    # One that gets the environment's label, or loses it, stays; one that gets another one's goes.
    env = f"{DOMAIN}/env"
    for name, label in (("peer", unique), ("peer-env", None), ("env", f"not-{unique}")):
        await api.patch(DEPLOYMENTS, f"{unique}-{name}", {"metadata": {"labels": {env: label}}}, namespace=NS)

    def moved() -> bool:
        there = {name: cluster.deployments.get(f"{NS}/{unique}-{name}") for name in ("peer", "peer-env")}
        now = {name: deployment.labels.get(env) for name, deployment in there.items() if deployment is not None}
        return now == {"peer": unique, "peer-env": None}

    await eventually(moved)
    await eventually(lambda: found() == {"all", "peer-env", "peer"})


async def scaled_to(cluster: ApiCluster, key: str, replicas: int) -> tuple[ModuleDeployment, ModuleDeployment]:
    """Scale a Deployment whose status controllers write meanwhile; return it before and after."""
    async with asyncio.timeout(10.0):
        while True:
            before = cluster.deployments.get(key)
            assert before is not None
            try:
                return before, await cluster.scale_deployment(before, replicas)
            except Conflict:
                await asyncio.sleep(0.05)


async def test_a_deployment_is_scaled_under_its_version(cluster: ApiCluster, api: ApiServer, unique: str) -> None:
    await api.create(DEPLOYMENTS, module_deployment(unique, env=unique), NS)
    key = f"{NS}/{unique}"
    await eventually(lambda: cluster.deployments.get(key) is not None)
    _, scaled = await scaled_to(cluster, key, 1)
    for replicas in (2, 0):
        before, scaled = await scaled_to(cluster, key, replicas)
        assert scaled.replicas == replicas
        assert scaled.containers == before.containers
        seen = cluster.deployments.get(key)
        assert seen is not None
        assert seen.replicas == replicas
        assert int(seen.resource_version) >= int(scaled.resource_version) > int(before.resource_version)
        with pytest.raises(Conflict):
            await cluster.scale_deployment(before, 5)
    with pytest.raises(Rejected):
        await cluster.scale_deployment(replace(scaled, resource_version=""), -1)
    with pytest.raises(NotFound):
        await cluster.scale_deployment(replace(scaled, name=f"{unique}-absent"), 1)
    stored = await api.get(DEPLOYMENTS, unique, NS)
    assert stored["spec"]["replicas"] == 0
    assert stored["spec"]["template"]["spec"]["containers"][0]["image"] == "i"


@pytest.mark.parametrize("resource", [DEPLOYMENTS, DAEMON_SETS], ids=["Deployment", "DaemonSet"])
async def test_a_workload_is_read_for_its_rollout(
    cluster: ApiCluster, api: ApiServer, unique: str, resource: Resource
) -> None:
    labels = {"app": unique, COMPONENT: "module"}
    template = {
        "metadata": {"labels": labels},
        "spec": {
            "containers": [{"name": "biz1", "image": "i", "env": [{"name": "BIZ_VERSION", "value": "0.0.1"}]}],
            "nodeSelector": {"nowhere": unique},
        },
    }
    spec = {"template": template, "selector": {"matchLabels": {"app": unique}}}
    await api.create(resource, {"metadata": {"name": unique, "namespace": NS}, "spec": spec}, NS)
    found = await cluster.workload(resource.kind, NS, unique)
    assert (found.kind, found.namespace, found.name) == (resource.kind, NS, unique)
    assert found.selector == (Requirement("app", "In", (unique,)),)
    assert [(c.name, c.version, c.image) for c in found.containers] == [("biz1", "0.0.1", "i")]
    assert found.desired == (1 if resource is DEPLOYMENTS else 0)
    # The cluster's own controllers may have made the Pod by now.
    assert found.updated <= found.desired
    assert found.available == 0
    with pytest.raises(NotFound):
        await cluster.workload(resource.kind, NS, f"no-{unique}")
