"""Writes that put right what somebody else changed are counted, and said when they go on."""

from collections.abc import Callable

from controlplane.app.metrics import REPAIRS
from controlplane.domain.remarks import Remark
from controlplane.domain.repairs import WORTH_SAYING

REASON = "ChangedByOthers"


def repaired(what: str, times: int, say: Callable[[Remark], None]) -> None:
    """Count a write if it was a repair, and say it once if there were some in a row. what is as in the metric."""
    if times:
        REPAIRS.labels(what).inc()
    if times == WORTH_SAYING:
        message = f"somebody else keeps changing what is written here ({what}): it is put right less and less often"
        say(Remark(True, REASON, message))
