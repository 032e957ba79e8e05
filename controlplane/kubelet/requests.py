"""Requests for logs: the query, as the API server is asked for it, and why one is refused. Pure."""

from collections.abc import Iterable, Mapping

_FLAGS = ("follow", "previous", "timestamps")
_VALUES = ("tailLines", "sinceSeconds", "sinceTime", "limitBytes", "stream")


class RequestRefused(Exception):
    """A request is not answered: HTTP status, reason for metrics, text for people.

    What somebody who types ``kubectl logs`` should read has status 400, 403 or 500: of all others the API server passes
    on the status alone.
    """

    def __init__(self, status: int, reason: str, text: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.reason = reason
        self.text = text
        self.headers = dict(headers or {})


def log_options(query: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return what of a log is wanted, as the API server is asked for it, which refuses values that cannot be.

    Unknown and empty options are ignored, of repeated ones the first counts.
    """
    given = {name: value.encode(errors="replace").decode() for name, value in reversed(list(query))}
    # All streams is what every version of Kubernetes gives, older ones without knowing the option.
    values = {name: given[name] for name in _VALUES if given.get(name, "") not in ("", "All")}
    return values | {name: "true" for name in _FLAGS if given.get(name, "false").lower() not in ("false", "0")}
