"""Counters of what we ask of the API server."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

REQUESTS = Counter(
    "koupleless_api_requests_total",
    "Requests to the Kubernetes API; code is the HTTP status, or error when there was no reply.",
    ("verb", "resource", "code"),
)
SECONDS = Histogram(
    "koupleless_api_request_seconds",
    "Time from sending a request to the Kubernetes API to its whole reply, in seconds; watches excluded.",
    ("verb", "resource"),
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
QUEUED = Histogram(
    "koupleless_api_request_wait_seconds",
    "Time that a request to the Kubernetes API waited for our own limit, in seconds.",
    ("priority",),
    buckets=(0.001, 0.01, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0),
)
CREDENTIALS = Counter(
    "koupleless_api_credential_fetches_total",
    "Times that credentials for the Kubernetes API were looked for; result is fetched or failed.",
    ("result",),
)
