"""Answers for one Node what its kubelet would: what it uses, its Pods, how it is set up.

One address serves all VNodes, so that a path has to say which one is meant: /nodes/NAME before what a kubelet has. The
paths without it say where to ask.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import orjson
from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from controlplane.app.ports import Clock, ClusterError, Informer, PodInformer, Usages
from controlplane.cluster.api import PODS, ApiServer, Json
from controlplane.domain import quantities
from controlplane.domain.access import Caller
from controlplane.domain.base.usage import Usage
from controlplane.domain.objects import Node
from controlplane.kubelet import figures
from controlplane.kubelet.access import KubeletAccess, Right
from controlplane.kubelet.routes import Answer
from service.refusals import RequestRefused

CURRENT = 120.0
"""Seconds for which what a base said of its use is shown."""
LIST_WITHIN = 20.0
"""Seconds for the list of a Node's Pods."""

AnswerForNode = Callable[[Node], Awaitable[web.Response]]


@dataclass(frozen=True, slots=True)
class NodeAnswers:
    """Answers for the VNodes of our environment."""

    nodes: Informer[Node]
    pods: PodInformer
    access: KubeletAccess
    api: ApiServer
    usages: Usages
    clock: Clock

    def of(self, right: Right, answer: AnswerForNode) -> Answer:
        """Return what answers for the Node that a path names, to whoever has a right on it."""

        async def answered(_request: web.BaseRequest, caller: Caller, names: tuple[str, ...]) -> web.Response:
            if not (self.nodes.synced and self.pods.synced):
                raise RequestRefused(500, "not_synced", "the Nodes are not known yet, try again in a moment")
            node = self.nodes.get(names[0])
            # Whoever has no right does not learn which Nodes there are.
            await self.access.must(caller, "get", node.name if node is not None else "", right)
            if node is None:
                raise RequestRefused(404, "no_node", f"there is no VNode {names[0]}")
            return await answer(node)

        return answered

    def of_none(self, right: Right, answer: Callable[[], web.Response]) -> Answer:
        """Return what answers a path that names no Node, to whoever has a right on all."""

        async def answered(_request: web.BaseRequest, caller: Caller, _names: tuple[str, ...]) -> web.Response:
            await self.access.must(caller, "get", "", right)
            return answer()

        return answered

    async def resource_metrics(self, node: Node) -> web.Response:
        """/metrics/resource: what metrics-server reads."""
        return _metrics(figures.resource_metrics(await self._usage(node), self.pods.on_node(node.name)))

    async def base_metrics(self, node: Node) -> web.Response:
        """/metrics: what a base says of itself."""
        return _metrics(figures.base_metrics(await self._usage(node), node.name))

    async def no_metrics(self, node: Node) -> web.Response:
        """/metrics/cadvisor and /metrics/probes: there is no container that cAdvisor could measure."""
        return _metrics(f"# {node.name} is a base: what it uses is in /metrics/resource and /metrics\n".encode())

    async def summary(self, node: Node) -> web.Response:
        """/stats/summary."""
        return _json(figures.summary(node.name, await self._usage(node), self.pods.on_node(node.name)))

    async def pod_list(self, node: Node) -> web.Response:
        """/pods: all Pods that are bound to it, as the API server has them."""
        try:
            async with asyncio.timeout(LIST_WITHIN):
                listed = await self.api.list(PODS, field_selector=f"spec.nodeName={node.name}")
        except (ClusterError, TimeoutError) as error:
            text = f"the Pods of {node.name} cannot be listed: {str(error) or f'no answer within {LIST_WITHIN:g} s'}"
            raise RequestRefused(500, "cluster", text) from error
        return _json({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": list(listed.items)})

    async def config(self, node: Node) -> web.Response:
        """/configz: the part of a kubelet's configuration that holds here, too."""
        return _json({"kubeletconfig": _config(node)})

    async def healthy(self, _node: Node) -> web.Response:
        """/healthz: this replica answers; whether the base does, its Node says."""
        return ok()

    async def _usage(self, node: Node) -> Usage | None:
        usage = await self.usages.of(node.name)
        return usage if usage is not None and self.clock.wall() - usage.at < CURRENT else None


def ok() -> web.Response:
    """Say that this replica answers."""
    return web.Response(text="ok\n")


def which_metrics(path: str) -> Callable[[], web.Response]:
    """Say where the metrics of a Node are; scrapers that name none find nothing, and no error."""
    return lambda: _metrics(f"# many nodes are served here: those of NAME are at /nodes/NAME{path}\n".encode())


def which_node(path: str) -> Callable[[], web.Response]:
    """Refuse a path that has to name a Node."""

    def refuse() -> web.Response:
        raise RequestRefused(400, "which_node", f"many nodes are served here: ask for /nodes/NAME{path}")

    return refuse


def _config(node: Node) -> Json:
    return {
        "kind": "KubeletConfiguration",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "port": node.status.kubelet_port,
        "readOnlyPort": 0,
        "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": True}},
        "authorization": {"mode": "Webhook"},
        "registerWithTaints": [
            {"key": taint.key, "value": taint.value, "effect": taint.effect} for taint in node.taints
        ],
        "maxPods": int(quantities.parse(node.status.capacity.get("pods", "")) or 0),
        "enableDebuggingHandlers": True,
    }


def _metrics(text: bytes) -> web.Response:
    return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})


def _json(value: Json) -> web.Response:
    return web.Response(body=orjson.dumps(value), content_type="application/json")
