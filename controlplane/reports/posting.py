"""Reports as POSTs of JSON to URLs that an operator named: no redirects, all bounded.

To robots of DingTalk groups goes the markdown message of the Go Module Controller V2, in which texts of strangers are
neutral; to links of the tracker the fields of a report.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import aiohttp
import orjson

from controlplane.app.ports import Undelivered
from controlplane.cluster import fields
from controlplane.domain.reports import Allowance, Report
from controlplane.reports.neutral import cut, markdown

WITHIN = aiohttp.ClientTimeout(total=10.0, connect=5.0)
LARGEST_ANSWER = 64 * 1024
_AGAIN = frozenset({408, 425, 429})

TITLE = "Log Notification"
LONGEST_MESSAGE = 12_000
"""Bytes of a message; a robot takes 20,000 in all."""
LONGEST_LABELS = 4_000
LONGEST_FIELD = 500
_TOO_FAST = frozenset({130101, 410100})
_BUSY = -1
REST = 600.0
"""Seconds for which a robot that was called too often takes nothing."""

TOLD_BY = "Koupleless-Told-By"
"""Header: the replica that has given this report to its hooks already, so that the intake does not do it again."""
PACE_OF_LINKS = Allowance(most=200, seconds=60.0)


class Poster:
    """Posts within its context. Proxies of the environment are used, as the original does."""

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=WITHIN, trust_env=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def post(self, url: str, body: object, headers: Mapping[str, str] | None = None) -> bytes:
        """Post a body as JSON; returns the beginning of the answer. Raises Undelivered."""
        try:
            async with self._session.post(
                url,
                data=orjson.dumps(body),
                headers={"Content-Type": "application/json", **(headers or {})},
                allow_redirects=False,
            ) as response:
                answer = await _beginning(response)
        except TimeoutError as error:
            raise Undelivered("no answer in time", again=True) from error
        except (aiohttp.ClientError, OSError) as error:
            # Texts of these errors may have the URL in them, and so a token.
            cause = getattr(error, "strerror", None) or type(error).__name__
            raise Undelivered(f"cannot be reached ({cause})", again=True) from error
        if 200 <= response.status < 300:
            return answer
        if 300 <= response.status < 400:
            raise Undelivered(f"redirects (status {response.status}): name the URL that it redirects to", again=False)
        wait = response.headers.get("Retry-After", "")
        raise Undelivered(
            f"answered status {response.status}",
            again=response.status >= 500 or response.status in _AGAIN,
            retry_after=float(wait) if wait.isascii() and wait.isdigit() and len(wait) < 10 else 0.0,
        )


async def _beginning(response: aiohttp.ClientResponse) -> bytes:
    answer = b""
    while len(answer) < LARGEST_ANSWER and (part := await response.content.read(LARGEST_ANSWER - len(answer))):
        answer += part
    return answer


@dataclass(frozen=True, slots=True)
class TrackerLink:
    """A link of the tracker; sent_by is the replica's name if it has hooks of its own."""

    kind: ClassVar[str] = "link"
    url: str
    name: str
    poster: Poster
    sent_by: str

    async def send(self, report: Report) -> None:
        """Deliver one report; raises Undelivered."""
        await self.poster.post(self.url, report.fields(), {TOLD_BY: self.sent_by} if self.sent_by else {})


@dataclass(frozen=True, slots=True)
class DingTalk:
    """A robot."""

    kind: ClassVar[str] = "dingtalk"
    url: str
    name: str
    poster: Poster

    async def send(self, report: Report) -> None:
        """Deliver one report; raises Undelivered."""
        answer = await self.poster.post(self.url, message(report))
        obj = fields.parsed(answer) or {}
        code = fields.integer(obj, "errcode")
        if not code:  # what is not the answer of a robot counts as taken
            return
        too_fast = code in _TOO_FAST
        raise Undelivered(
            f"answered errcode {code}: {str(obj.get('errmsg', ''))[:200]}",
            again=too_fast or code == _BUSY,
            retry_after=REST if too_fast else 0.0,
        )


def message(report: Report) -> dict[str, object]:
    """Return the body of the POST to a robot."""
    labels = "".join(f"{markdown(name)}: {markdown(value)}\n" for name, value in sorted(report.labels.items()))
    trace, scene, event, result, code = (
        cut(markdown(text), LONGEST_FIELD)
        for text in (report.trace_id, report.scene, report.event, report.result, report.code)
    )
    text = (
        "## MC告警\n\n"
        f"- **Trace ID**: {trace}\n"
        f"- **工单类型**: {scene}\n"
        f"- **节点**: {event}\n"
        f"- **结果**: {result}\n"
        f"- **失败信息**: {cut(markdown(report.message), LONGEST_MESSAGE)}\n"
        f"- **错误代码**: {code}\n"
        f"- **部署信息**: [{cut(labels, LONGEST_LABELS)}]"
    )
    return {"msgtype": "markdown", "markdown": {"title": TITLE, "text": text}}
