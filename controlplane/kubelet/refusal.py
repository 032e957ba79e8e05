"""Why a request is not answered as it wished."""

from __future__ import annotations

from collections.abc import Mapping


class Refusal(Exception):
    """A refusal: HTTP status, reason for metrics, text for people.

    What somebody who types ``kubectl logs`` should read has status 400, 403 or 500:
    of all others the API server passes on the status alone.
    """

    def __init__(self, status: int, reason: str, text: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.reason = reason
        self.text = text
        self.headers = dict(headers or {})
