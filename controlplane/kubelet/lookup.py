"""Which Pod of a base a request for a module's Pod leads to, and whether the caller may be led there."""

import asyncio
from dataclasses import dataclass

from controlplane.app.ports import ClusterError, Informer
from controlplane.cluster.api import ApiServer
from controlplane.domain.access import Caller
from controlplane.domain.objects import Node, OtherContainer, Pod
from controlplane.kubelet import basepods
from controlplane.kubelet.access import KubeletAccess, Right
from controlplane.kubelet.basepods import BasePod
from service.refusals import RequestRefused

WITHIN = 20.0
"""Seconds for finding out whether and where the base of a module is."""


class NotRun(RequestRefused):
    """A container of a module's Pod is no module."""

    def __init__(self, pod: Pod, container: OtherContainer) -> None:
        super().__init__(
            400,
            "not_run",
            f"the {container.kind.value} {container.name} of Pod {pod.key} is not run: a virtual node runs modules; "
            "kubectl debug works on the base's Pod",
        )


@dataclass(slots=True)
class Lookup:
    """Looks for the bases of the module Pods on our VNodes; namespace is one in which bases are looked for first."""

    pods: Informer[Pod]
    nodes: Informer[Node]
    access: KubeletAccess
    api: ApiServer
    namespace: str

    async def find(self, caller: Caller, verb: str, right: Right, names: tuple[str, ...]) -> tuple[Pod, BasePod]:
        """Return a module's Pod and its base's; raises RequestRefused: NotRun, NoBasePod where the base is in none.

        The caller needs the right on the Node. Names are namespace and Pod, and a container or none.
        """
        try:
            async with asyncio.timeout(WITHIN):
                return await self._find(caller, verb, right, names)
        except TimeoutError:
            raise RequestRefused(500, "slow", f"not found out within {WITHIN:g} s where the base is") from None
        except ClusterError as error:
            raise RequestRefused(500, "cluster", f"the Pod of the base cannot be looked up: {error}") from error

    async def _find(self, caller: Caller, verb: str, right: Right, names: tuple[str, ...]) -> tuple[Pod, BasePod]:
        namespace, name, *containers = names
        if not (self.pods.synced and self.nodes.synced):
            raise RequestRefused(500, "not_synced", "the Pods are not known yet, try again in a moment")
        pod = self.pods.get(f"{namespace}/{name}")
        node = self.nodes.get(pod.node_name) if pod is not None else None
        # Whoever has no right does not learn which Pods there are.
        await self.access.must(caller, verb, node.name if node is not None else "", right)
        if pod is None or node is None:
            raise RequestRefused(404, "no_module", f"there is no module Pod {namespace}/{name} on a VNode")
        if other := next((each for each in pod.others if each.name in containers), None):
            raise NotRun(pod, other)
        if unknown := set(containers) - {each.name for each in pod.containers}:
            raise RequestRefused(404, "no_container", f"Pod {pod.key} has no container {', '.join(unknown)}")
        return pod, await basepods.find(self.api, node, (pod.namespace, self.namespace))
