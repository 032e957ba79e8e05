"""Why an HTTP request is refused."""

from collections.abc import Mapping


class RequestRefused(Exception):
    """A request is not answered: HTTP status, reason for metrics, text for people, headers of the answer."""

    def __init__(self, status: int, reason: str, text: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.reason = reason
        self.text = text
        self.headers = dict(headers or {})
