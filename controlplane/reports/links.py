"""Links of the tracker: the fields of a report as JSON."""

from __future__ import annotations

from controlplane.domain.reports import Allowance, Report
from controlplane.reports.posting import Poster

TOLD_BY = "Koupleless-Told-By"
"""Header: the replica that has given this report to its hooks already, so that the intake does not do it again."""

PACE = Allowance(most=200, seconds=60.0)


class Link:
    """One link; told_by is the replica's name if it has hooks of its own."""

    kind = "link"

    def __init__(self, url: str, name: str, poster: Poster, *, told_by: str) -> None:
        self.name = name
        self._url = url
        self._poster = poster
        self._headers = {TOLD_BY: told_by} if told_by else {}

    async def send(self, report: Report) -> None:
        """Deliver one report; raises Undelivered."""
        await self._poster.post(self._url, report.fields(), self._headers)
