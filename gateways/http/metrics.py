"""Prometheus metrics of the HTTP tunnel."""

from functools import cache

from prometheus_client import Counter, Gauge, Histogram

REQUESTS = Counter("koupleless_http_tunnel_requests_total", "Requests of bases that were taken", ["path"])
CALLS = Counter("koupleless_http_tunnel_calls_total", "Calls to bases by command and how they ended", ["verb", "end"])
CALL_SECONDS = Histogram(
    "koupleless_http_tunnel_call_seconds",
    "Seconds that calls to bases took",
    ["verb"],
    buckets=(0.005, 0.02, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300),
)
ANSWER_BYTES = Gauge("koupleless_http_tunnel_answer_bytes", "Bytes that answers under way may hold beyond 16 KiB each")
EXCESSES = Counter(
    "koupleless_http_tunnel_excessive_answers_total", "Answers that cost more than answers of a base may", ["reason"]
)
POLLS_WAITING = Gauge("koupleless_http_tunnel_polls_waiting", "Polls that wait for a free slot")


@cache
def requests(path: str) -> Counter:
    """Return the counter of requests to a path."""
    return REQUESTS.labels(path=path)


@cache
def calls(command: str, end: str) -> Counter:
    """Return the counter of calls that ended so."""
    return CALLS.labels(command, end)


@cache
def call_seconds(command: str) -> Histogram:
    """Return the histogram of calls with a command."""
    return CALL_SECONDS.labels(command)
