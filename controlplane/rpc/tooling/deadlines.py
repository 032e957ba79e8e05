"""How the deadline of a call is shared out."""

from __future__ import annotations

from typing import Any

from grpc import aio

FOR_OTHERS = 2.0
"""Seconds that the other replicas are given to answer."""

LONGEST_CHANGE = 300.0
"""Seconds that a mutation may take whose caller sets no deadline."""

TO_ANSWER = 1.0
"""Seconds of a call's deadline, but at most a fifth of it, that are kept for the answer to travel."""

Context = aio.ServicerContext[Any, Any]


def time_for_others(context: Context) -> float:
    """Return the seconds that the others may take for a call: half of its own at most."""
    remaining = context.time_remaining()
    return FOR_OTHERS if remaining is None else min(FOR_OTHERS, max(remaining, 0.0) / 2)


def time_to_change(context: Context) -> float:
    """Return the seconds that a mutation may take, so that its answer arrives before the deadline of its call."""
    remaining = context.time_remaining()
    left = LONGEST_CHANGE if remaining is None else max(remaining, 0.0)
    return min(LONGEST_CHANGE, left - min(TO_ANSWER, left / 5))
