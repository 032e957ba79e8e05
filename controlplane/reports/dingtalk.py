"""Robots of DingTalk groups: the markdown message that the Go Module Controller V2 sends them."""

from __future__ import annotations

import orjson

from controlplane.app.ports import Undelivered
from controlplane.domain.reports import Report
from controlplane.reports.posting import Poster

TITLE = "Log Notification"
LONGEST_MESSAGE = 12_000
"""Bytes of a message; a robot takes 20,000 in all."""
LONGEST_LABELS = 4_000

_TOO_FAST = frozenset({130101, 410100})
_BUSY = -1
REST = 600.0
"""Seconds for which a robot that was called too often takes nothing."""


class DingTalk:
    """One robot."""

    kind = "dingtalk"

    def __init__(self, url: str, name: str, poster: Poster) -> None:
        self.name = name
        self._url = url
        self._poster = poster

    async def send(self, report: Report) -> None:
        """Deliver one report; raises Undelivered."""
        answer = await self._poster.post(self._url, message(report))
        code, text = _error(answer)
        if not code:
            return
        too_fast = code in _TOO_FAST
        raise Undelivered(
            f"answered errcode {code}: {text[:200]}",
            again=too_fast or code == _BUSY,
            retry_after=REST if too_fast else 0.0,
        )


def message(report: Report) -> dict[str, object]:
    """Return the body of the POST."""
    labels = "".join(f"{name}: {value}\n" for name, value in sorted(report.labels.items()))
    text = (
        "## MC告警\n\n"
        f"- **Trace ID**: {report.trace_id}\n"
        f"- **工单类型**: {report.scene}\n"
        f"- **节点**: {report.event}\n"
        f"- **结果**: {report.result}\n"
        f"- **失败信息**: {_cut(report.message, LONGEST_MESSAGE)}\n"
        f"- **错误代码**: {report.code}\n"
        f"- **部署信息**: [{_cut(labels, LONGEST_LABELS)}]"
    )
    return {"msgtype": "markdown", "markdown": {"title": TITLE, "text": text}}


def _cut(text: str, most: int) -> str:
    encoded = text.encode(errors="replace")
    return text if len(encoded) <= most else encoded[:most].decode(errors="ignore") + "..."


def _error(answer: bytes) -> tuple[int, str]:
    """Return code and text of an answer; what is no answer of a robot counts as none."""
    try:
        told = orjson.loads(answer)
    except orjson.JSONDecodeError:
        return 0, ""
    code = told.get("errcode") if isinstance(told, dict) else None
    return (code, str(told.get("errmsg", ""))) if isinstance(code, int) else (0, "")
