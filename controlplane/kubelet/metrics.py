"""What the kubelet API counts."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

CONNECTIONS = Gauge("koupleless_kubelet_connections", "Connections to the kubelet API that are open")
REFUSED = Counter("koupleless_kubelet_refused_total", "Requests to the kubelet API that were refused", ["reason"])
STREAMS = Gauge("koupleless_kubelet_logs_open", "Logs that are being sent")
STREAMED = Counter("koupleless_kubelet_logs_total", "Logs that were sent, by how that ended", ["outcome"])
SENT = Counter("koupleless_kubelet_log_bytes_total", "Bytes of logs that were sent")
REVIEWS = Counter(
    "koupleless_kubelet_reviews_total", "Callers that the API server was asked about", ["kind", "outcome"]
)
RELOADS = Counter("koupleless_kubelet_certificate_reloads_total", "Changed certificate files", ["outcome"])
