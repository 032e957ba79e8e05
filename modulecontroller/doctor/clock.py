"""Whether this machine's clock goes with the API server's. Messages of bases older than 10 s are dropped."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime

from modulecontroller.configuration import Configuration
from modulecontroller.doctor.findings import Finding, ok, skipped, warning
from modulecontroller.doctor.kube import NoAnswer, connect, subject

ABOUT = "clock"
SKEW = 5.0
"""Seconds of difference from which on it is told: half of what makes messages be dropped."""
FIX = "let NTP set the clocks of all machines: bases' messages that seem older than 10 s are dropped"


async def check(configuration: Configuration) -> AsyncIterator[Finding]:
    """Yield how far the clocks are apart."""
    settings = subject(configuration)
    if isinstance(settings, str):
        yield skipped(ABOUT, settings)
        return
    try:
        async with connect(settings) as api:
            before = time.time()
            answer = await api.ask("/version")
            yield judge(answer.headers.get("Date", ""), (before + time.time()) / 2)
    except NoAnswer as failed:
        yield skipped(ABOUT, f"the API server could not be asked: {failed}")


def judge(date: str, now: float) -> Finding:
    """Return what a Date header says about our clock, which showed now, in epoch seconds."""
    try:
        # The header has whole seconds, cut off: half a second more is right on average.
        theirs = parsedate_to_datetime(date).timestamp() + 0.5
    except ValueError:
        return skipped(ABOUT, f"the API server does not tell its time (Date: {date or 'none'})")
    ahead = now - theirs
    if abs(ahead) > SKEW:
        words = f"this machine's clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the API server's"
        return warning(ABOUT, words, FIX)
    return ok(ABOUT, f"within {max(abs(ahead), 0.5):.1f} s of the API server's")
