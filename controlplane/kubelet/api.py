"""What the kubelet API answers: the table of its routes."""

from collections.abc import Iterator

from aiohttp import web

from controlplane.domain.access import Caller
from controlplane.kubelet.access import CONFIG, HEALTH, METRICS, PODS, STATS, Right
from controlplane.kubelet.logs import ModuleLogs
from controlplane.kubelet.nodes import AnswerForNode, NodeAnswers, ok, which_metrics, which_node
from controlplane.kubelet.routes import Route, Routes
from controlplane.kubelet.streams import ModuleStreams

METRICS_PATHS = ("/metrics", "/metrics/resource", "/metrics/cadvisor", "/metrics/probes")
DOCUMENT_PATHS = (("/stats/summary", STATS), ("/pods", PODS), ("/configz", CONFIG))


def routes(logs: ModuleLogs, nodes: NodeAnswers, streams: ModuleStreams | None = None) -> Routes:
    """Return the table of all that is answered; streams is None where they are off."""
    return Routes(
        [
            Route("/healthz", _healthz),
            Route("/healthz/*", _healthz),
            Route("/containerLogs/*/*/*", logs.send),
            *(streams.routes() if streams is not None else ()),
            *(Route(f"/nodes/*{path}", nodes.of(right, answer)) for path, right, answer in _of_nodes(nodes)),
            *(Route(path, nodes.of_none(METRICS, which_metrics(path))) for path in METRICS_PATHS),
            *(Route(path, nodes.of_none(right, which_node(path))) for path, right in DOCUMENT_PATHS),
        ]
    )


def _of_nodes(nodes: NodeAnswers) -> Iterator[tuple[str, Right, AnswerForNode]]:
    """Iterate over what is answered for one Node, and what it takes."""
    yield "/metrics", METRICS, nodes.base_metrics
    yield "/metrics/resource", METRICS, nodes.resource_metrics
    yield "/metrics/cadvisor", METRICS, nodes.no_metrics
    yield "/metrics/probes", METRICS, nodes.no_metrics
    yield "/stats/summary", STATS, nodes.summary
    yield "/pods", PODS, nodes.pod_list
    yield "/configz", CONFIG, nodes.config
    yield "/healthz", HEALTH, nodes.healthy


async def _healthz(_request: web.BaseRequest, _caller: Caller, _names: tuple[str, ...]) -> web.Response:
    return ok()
