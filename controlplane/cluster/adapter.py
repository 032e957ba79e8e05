"""The application's cluster port over an ``ApiServer``: Kubernetes and embedded alike."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NoReturn

from controlplane.app.ports import Clock, Conflict, NotFound
from controlplane.cluster import fields, patches, reading
from controlplane.cluster.api import (
    DAEMON_SETS,
    DEPLOYMENTS,
    LEASES,
    NODES,
    PODS,
    REPLICA_SETS,
    SERVICES,
    ApiServer,
    Json,
    PatchType,
)
from controlplane.cluster.events import EventWriter
from controlplane.cluster.informer import BoundPodInformer, DeploymentInformer, ObjectInformer
from controlplane.domain import contract
from controlplane.domain.endpoint import Service
from controlplane.domain.objects import (
    Condition,
    Lease,
    ModuleDeployment,
    Node,
    NodeStatus,
    Pod,
    PodStatus,
)
from controlplane.domain.revisions import Revision
from controlplane.domain.times import rfc3339
from controlplane.domain.workloads.rollout import Workload

_FOREIGN = f"{contract.COMPONENT}!={contract.COMPONENT_MODULE}"
_WITH_ROLLOUT = {resource.kind: resource for resource in (DEPLOYMENTS, DAEMON_SETS)}


class ApiCluster:
    """Implements ``controlplane.app.ports.Cluster``.

    A write's result is taken into the informer's cache before the write returns. The deletion of a Node or Lease waits
    for the watch to show it, but not longer than a second: an object that a finalizer holds stays in the cache, as it
    stays in the cluster.
    """

    def __init__(self, api: ApiServer, *, env: str, kind: str, clock: Clock, namespace: str = "default") -> None:
        component, ours = f"{contract.COMPONENT}=", f"{contract.ENV}={env}"
        peers = f"{contract.STRATEGY}={contract.STRATEGY_PEER},!{contract.ENV}"
        leases, members = f"{component}{contract.COMPONENT_VNODE_LEASE}", f"{component}{contract.COMPONENT_REPLICA}"
        self.kind = kind
        self.pods = BoundPodInformer(api, PODS, reading.pod, f"{component}{contract.COMPONENT_MODULE}", clock)
        self.foreign = BoundPodInformer(
            api, PODS, reading.foreign_pod, _FOREIGN, clock, field_selector="status.phase=Pending,spec.nodeName!="
        )
        limited = f"{contract.MAX_MODULE_COUNT},{_FOREIGN}"
        self.limited_pods = ObjectInformer(api, PODS, reading.limited_pod, limited, clock)
        self.nodes = ObjectInformer(api, NODES, reading.node, f"{component}{contract.COMPONENT_VNODE},{ours}", clock)
        self.leases = ObjectInformer(
            api, LEASES, reading.lease, f"{leases},{ours}", clock, namespace=contract.LEASE_NAMESPACE
        )
        self.members = ObjectInformer(api, LEASES, reading.lease, f"{members},{ours}", clock, namespace=namespace)
        self.deployments = DeploymentInformer(
            *(ObjectInformer(api, DEPLOYMENTS, reading.module_deployment, each, clock) for each in (ours, peers))
        )
        self._informers: list[ObjectInformer[Any]] = [
            self.pods,
            self.foreign,
            self.limited_pods,
            self.nodes,
            self.leases,
            self.members,
        ]
        self._informers += self.deployments.parts
        self._api = api
        self._clock = clock
        self.record_event = EventWriter(api, clock).write

    async def run(self) -> NoReturn:
        """Keep the informers current until cancelled; outages are retried, with backoff."""
        async with asyncio.TaskGroup() as group:
            for informer in self._informers:
                group.create_task(informer.run(), name="informer")
        raise AssertionError("informers never return")

    def trouble(self) -> str | None:
        """Say in words why the cluster cannot be worked with now, or None."""
        words = [trouble for informer in self._informers if (trouble := informer.trouble()) is not None]
        return "; ".join(dict.fromkeys(words)) or None

    async def create_node(self, spec: Node) -> Node:
        """Create a Node with its status in one write."""
        created = await self._api.create(NODES, patches.new_node(spec, self._now()))
        return self.nodes.wrote(created)

    async def patch_node(self, current: Node, spec: Node) -> Node:
        """Bring labels, annotations and taints that we own to spec, and the provider ID if there is none.

        Nothing is written where they are so.

        Raises Conflict if the Node is another one now, or if somebody else wrote it between our reading its taints and
        our writing them.
        """
        changed, details = patches.node_metadata(current, spec), patches.node_spec(current, spec)
        if not set(current.taints).issuperset(spec.taints):
            read = await self._api.get(NODES, current.name)
            meta = fields.mapping(read, "metadata")
            if fields.text(meta, "uid") != current.uid:
                raise Conflict(f"node {current.name} is another one now")
            version = fields.text(meta, "resourceVersion")
            taints = patches.merged_taints(read, spec.taints)
            patch = {"metadata": {**changed, "resourceVersion": version}, "spec": {**details, "taints": taints}}
        elif changed or details:
            patch = {"metadata": {**changed, "uid": current.uid}, **({"spec": details} if details else {})}
        else:
            return current
        return self.nodes.wrote(await self._api.patch(NODES, current.name, patch))

    async def patch_node_status(self, name: str, status: NodeStatus) -> Node:
        """Merge the status; conditions are merged by type."""
        patch = patches.node_status(self.nodes.get(name), status, self._now())
        patched = await self._api.patch(NODES, name, patch, subresource="status", patch_type=PatchType.STRATEGIC)
        return self.nodes.wrote(patched)

    async def delete_node(self, name: str, uid: str) -> None:
        """Delete a Node if it still is that one."""
        await self._api.delete(NODES, name, uid=uid)
        await self.nodes.deleted(name, uid)

    async def create_lease(self, lease: Lease) -> Lease:
        """Create a VNode lease or member lease."""
        return self._leases(lease).wrote(await self._api.create(LEASES, patches.new_lease(lease), lease.namespace))

    async def update_lease(self, lease: Lease) -> Lease:
        """Write holder, times, transitions and annotations if the lease still has lease.resource_version."""
        patched = await self._api.patch(
            LEASES, lease.name, patches.lease(lease), namespace=lease.namespace, urgent=True
        )
        return self._leases(lease).wrote(patched)

    async def annotate_lease(self, lease: Lease, annotations: Mapping[str, str]) -> Lease:
        """Set annotations, whatever version the lease has; others stay."""
        patch = {"metadata": {"uid": lease.uid, "annotations": dict(annotations)}}
        return self._leases(lease).wrote(await self._api.patch(LEASES, lease.name, patch, namespace=lease.namespace))

    async def read_lease(self, lease: Lease) -> Lease:
        """Read a lease from the cluster itself, past the informer; raises NotFound."""
        return reading.lease(await self._api.get(LEASES, lease.name, lease.namespace))

    async def delete_lease(self, lease: Lease) -> None:
        """Delete a Lease if it still has lease.resource_version."""
        await self._api.delete(LEASES, lease.name, namespace=lease.namespace, resource_version=lease.resource_version)
        await self._leases(lease).deleted(f"{lease.namespace}/{lease.name}", lease.uid)

    def _leases(self, lease: Lease) -> ObjectInformer[Lease]:
        return self.members if lease.labels.get(contract.COMPONENT) == contract.COMPONENT_REPLICA else self.leases

    async def create_pod(self, pod: Pod) -> Pod:
        """Create a module Pod."""
        return self.pods.wrote(await self._api.create(PODS, patches.new_pod(pod), pod.namespace))

    async def patch_pod_status(self, pod: Pod, status: PodStatus) -> Pod:
        """Merge the status if the Pod still has pod.uid; conditions are merged by type."""
        patched = await self._api.patch(
            PODS,
            pod.name,
            patches.pod_status(pod, status),
            namespace=pod.namespace,
            subresource="status",
            patch_type=PatchType.STRATEGIC,
        )
        return self.pods.wrote(patched, own=True)

    async def delete_pod(self, pod: Pod, grace_seconds: int | None = None) -> None:
        """Delete a Pod if it still has pod.uid; 0 removes it at once, None leaves the Pod its own grace.

        Does not wait for the watch: many Pods are deleted side by side, and a finalizer may hold each.
        """
        if grace_seconds == 0:
            self.pods.removing(pod.uid)
        await self._api.delete(PODS, pod.name, namespace=pod.namespace, uid=pod.uid, grace_seconds=grace_seconds)

    async def foreign_pods(self, node_name: str) -> tuple[Pod, ...]:
        """Read the Pods bound to a Node that are not labelled as modules, in any phase; some seconds old at worst."""
        listed = await self._api.list(
            PODS, label_selector=_FOREIGN, field_selector=f"spec.nodeName={node_name}", from_memory=True
        )
        return tuple(reading.foreign_pod(obj) for obj in listed.items)

    async def reject_pod(self, pod: Pod, reason: str, message: str) -> None:
        """Make a Pod Failed if it still has pod.resource_version."""
        patch = patches.rejection(pod, reason, message, self._now())
        await self._api.patch(
            PODS,
            pod.name,
            patch,
            namespace=pod.namespace,
            subresource="status",
            patch_type=PatchType.STRATEGIC,
        )

    async def scale_deployment(self, deployment: ModuleDeployment, replicas: int) -> ModuleDeployment:
        """Set the number of replicas if the Deployment still has deployment.resource_version."""
        patch = {"metadata": {"resourceVersion": deployment.resource_version}, "spec": {"replicas": replicas}}
        scale = await self._api.patch(
            DEPLOYMENTS, deployment.name, patch, namespace=deployment.namespace, subresource="scale"
        )
        scaled = replace(
            deployment,
            resource_version=fields.text(fields.mapping(scale, "metadata"), "resourceVersion"),
            # A Scale leaves 0 out.
            replicas=fields.integer(fields.mapping(scale, "spec"), "replicas") or 0,
        )
        return self.deployments.written(deployment.key, scaled)

    async def revisions(self, deployment: ModuleDeployment) -> tuple[Revision, ...]:
        """Read the ReplicaSets of a Deployment."""
        return tuple(reading.revision(obj) for obj in await self._replica_sets(deployment))

    async def _replica_sets(self, deployment: ModuleDeployment) -> list[Json]:
        listed = await self._api.list(REPLICA_SETS, namespace=deployment.namespace)
        owned = ((obj, reading.controller(fields.mapping(obj, "metadata"))) for obj in listed.items)
        return [obj for obj, owner in owned if fields.text(owner, "uid") == deployment.uid]

    async def write_release(self, deployment: ModuleDeployment, state: str, condition: Condition) -> ModuleDeployment:
        """Write how far a release is if the Deployment still has deployment.resource_version."""
        said = deployment.releasing
        before = Condition(condition.type, said.status, said.reason, said.message, said.since) if said else condition
        changed = replace(condition, last_transition_time=self._now()).after((before,))
        patch = patches.release(deployment, state, changed)
        return await self._patch_deployment(deployment, patch, subresource="status", patch_type=PatchType.STRATEGIC)

    async def release_pod(self, pod: Pod, condition: Condition) -> Pod:
        """Add a condition to a Pod if it still has pod.uid."""
        patched = await self._api.patch(
            PODS,
            pod.name,
            patches.pod_condition(pod, replace(condition, last_transition_time=self._now())),
            namespace=pod.namespace,
            subresource="status",
            patch_type=PatchType.STRATEGIC,
        )
        return self.pods.wrote(patched)

    async def undo_deployment(self, deployment: ModuleDeployment, revision: str) -> ModuleDeployment:
        """Give a Deployment the template of the revision with a hash; raises NotFound."""
        found = (obj for obj in await self._replica_sets(deployment) if reading.revision(obj).hash == revision)
        if (replica_set := next(found, None)) is None:
            raise NotFound(f"Deployment {deployment.key} has no ReplicaSet {revision} any more")
        present = fields.mapping(await self._api.get(DEPLOYMENTS, deployment.name, deployment.namespace), "spec")
        template = patches.difference(fields.mapping(present, "template"), patches.template_of(replica_set))
        metadata = {"resourceVersion": deployment.resource_version, "annotations": {contract.ANNOTATION_ABORT: None}}
        return await self._patch_deployment(deployment, {"metadata": metadata, "spec": {"template": template}})

    async def annotate_deployment(
        self, deployment: ModuleDeployment, annotations: Mapping[str, str | None]
    ) -> ModuleDeployment:
        """Set annotations, or remove those that are None, if the Deployment still has deployment.uid."""
        patch = {"metadata": {"uid": deployment.uid, "annotations": dict(annotations)}}
        return await self._patch_deployment(deployment, patch)

    async def _patch_deployment(
        self,
        deployment: ModuleDeployment,
        patch: Json,
        *,
        subresource: str = "",
        patch_type: PatchType = PatchType.MERGE,
    ) -> ModuleDeployment:
        patched = await self._api.patch(
            DEPLOYMENTS,
            deployment.name,
            patch,
            namespace=deployment.namespace,
            subresource=subresource,
            patch_type=patch_type,
        )
        return self.deployments.written(deployment.key, reading.module_deployment(patched))

    async def workload(self, kind: str, namespace: str, name: str) -> Workload:
        """Read a Deployment or DaemonSet; raises NotFound."""
        return reading.workload(kind, await self._api.get(_WITH_ROLLOUT[kind], name, namespace))

    def _now(self) -> str:
        return rfc3339(self._clock.wall())


def kubelet_services(api: ApiServer, namespace: str, clock: Clock) -> ObjectInformer[Service]:
    """Return the informer of the Services before our kubelet API."""
    return ObjectInformer(api, SERVICES, reading.service, f"{contract.KUBELET_SERVICE}=true", clock, namespace)
