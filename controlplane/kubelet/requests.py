"""Requests for logs: the query, as the API server is asked for it. Pure."""

from collections.abc import Iterable

_FLAGS = ("follow", "previous", "timestamps")
_VALUES = ("tailLines", "sinceSeconds", "sinceTime", "limitBytes", "stream")


def log_options(query: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return what of a log is wanted, as the API server is asked for it, which refuses values that cannot be.

    Unknown and empty options are ignored, of repeated ones the first counts.
    """
    given = {name: value.encode(errors="replace").decode() for name, value in reversed(list(query))}
    # All streams is what every version of Kubernetes gives, older ones without knowing the option.
    values = {name: given[name] for name in _VALUES if given.get(name, "") not in ("", "All")}
    return values | {name: "true" for name in _FLAGS if given.get(name, "false").lower() not in ("false", "0")}
