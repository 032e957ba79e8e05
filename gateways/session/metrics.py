"""Prometheus metrics of the links to the control plane."""

from functools import cache

from koupleless.tunnel.v1 import tunnel_pb2 as pb
from prometheus_client import Counter, Gauge

STREAMS = Gauge("koupleless_gateway_streams", "Welcomed streams to control plane replicas")
STREAM_ENDS = Counter("koupleless_gateway_stream_ends_total", "Ends of streams to replicas", ["welcomed"])
WATCHED = Gauge("koupleless_gateway_watched_bases", "Bases that are polled")
ORDERS_OPEN = Gauge("koupleless_gateway_orders_open", "Orders under way")
ORDERS = Counter("koupleless_gateway_orders_total", "Orders by verb and outcome", ["verb", "outcome"])
DUPLICATE_ORDERS = Counter("koupleless_gateway_duplicate_orders_total", "Orders that had arrived before")
STALE = Counter("koupleless_gateway_stale_fences_total", "Messages refused for a lower fence", ["message"])
MALFORMED = Counter("koupleless_gateway_malformed_messages_total", "Messages of replicas that were not understood")
REPORTS = Counter("koupleless_gateway_reports_total", "Reports offered, by kind and whether queued", ["kind", "queued"])
OUTBOX = Gauge("koupleless_gateway_outbox_depth", "Reports and results waiting or unacknowledged", ["replica"])
DROPPED = Counter(
    "koupleless_gateway_dropped_total",
    "Reports and results that no replica took, by kind and reason",
    ["kind", "reason"],
)

_FACTS = pb.Report.DESCRIPTOR.oneofs_by_name["fact"].fields
KINDS = {fact.name: message.name for fact in _FACTS if (message := fact.message_type) is not None}
"""By the name of a fact in Report: the label for it."""
KINDS |= {"modules": "ModuleList", "batch_install_result": "BatchReply"}


@cache
def reports(kind: str, *, queued: bool) -> Counter:
    """Return the counter of reports with such a fact."""
    return REPORTS.labels(kind=KINDS[kind], queued=str(queued).lower())
