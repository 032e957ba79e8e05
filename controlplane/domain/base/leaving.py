"""Does a base go away? A heartbeat that says so is a hint only: anybody may send one in the name of a base.

A goodbye counts when it comes the way that the heartbeats of the base come: over the same tunnel and, over HTTP, from
the same peer. The base is then asked, at once and again after 1, 3, 7 and 15 s. The goodbye is believed when

- the base stops answering: a question failed, and there was no sign of life for ``SILENT`` seconds;
- or its answer about its health says so, and none says otherwise within ``CONFIRM`` seconds.

Where the base could not be heard meanwhile, all of this begins again when it can: it may have come back.

A base that sends heartbeats again stays, and so does one that still answers after ``OPEN`` seconds. Goodbyes in its
name then count for nothing for ``QUIET`` seconds, so that they cannot make others ask it all the time.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from controlplane.domain.base.hearing import Heard, look_at
from controlplane.domain.facts import BaseState, PollFailure, TunnelKind, Way

SILENT: Mapping[PollFailure, float] = {
    PollFailure.NOT_CONNECTED: 2.0,
    PollFailure.NOT_A_BASE: 2.0,
    PollFailure.NO_ANSWER: 13.0,
}
"""Seconds without a sign of life, by how a question failed: nobody listens there, or somebody who does not answer. The
latter may only be slow, and then sends a heartbeat meanwhile (every 12 s over HTTP, every 10 s over MQTT)."""
CONFIRM = 8.0
OPEN = 30.0
QUIET = 60.0
CROSSED = 2.0
"""Seconds in which a heartbeat that was sent before the goodbye may come after it."""
WAY_HELD = 250.0
"""Seconds for which a peer that sent heartbeats cannot be replaced by another one: two intervals of old runtimes."""


@dataclass(frozen=True, slots=True)
class Leaving:
    """What is known of whether one base goes away. Times are monotonic seconds."""

    ways: Mapping[TunnelKind, tuple[str, float]] = field(default_factory=dict)
    """The peer that heartbeats come from over each tunnel, and when the last one came."""
    said_at: float | None = None
    """When the goodbye came that is being examined."""
    examined_from: float = 0.0
    """Since when it is examined: later than that where the base could not be heard meanwhile."""
    asked: int = 0
    """How often the base was asked since then."""
    failed: PollFailure | None = None
    """How the last question since then failed; None if it was answered."""
    confirmed_at: float | None = None
    """Since when its answers about its health say so, too."""
    believed: str = ""
    """Why it counts as gone, empty while it does not."""
    doubted_at: float = float("-inf")
    """When a goodbye last turned out to be none."""
    doubt: str = ""
    """Why a goodbye was last refused, for people."""
    doubt_shown_at: float = float("-inf")
    refused: int = 0
    """Goodbyes that were refused."""


STAYS = Leaving()
"""Nothing was heard of a base yet."""


def known_way(leaving: Leaving, way: Way) -> bool:
    """Return whether the heartbeats of a base come this way."""
    return leaving.ways.get(way.tunnel, (None, 0.0))[0] == way.peer


def heartbeat(leaving: Leaving, way: Way, now: float) -> Leaving:
    """Take a heartbeat of a base that goes on."""
    peer, at = leaving.ways.get(way.tunnel, (way.peer, now))
    if peer == way.peer or now - at >= WAY_HELD:
        leaving = replace(leaving, ways={**leaving.ways, way.tunnel: (way.peer, now)})
    crossed = leaving.said_at is not None and now - leaving.said_at < CROSSED
    if crossed or (leaving.said_at is None and not leaving.believed):
        return leaving
    return replace(leaving, said_at=None, confirmed_at=None, believed="")


def goodbye(leaving: Leaving, way: Way, now: float) -> Leaving:
    """Take a heartbeat that says that the base goes away."""
    if leaving.said_at is not None or leaving.believed:
        return leaving
    if not known_way(leaving, way):
        origin = f"{way.peer or way.tunnel.value}, where its heartbeats do not come from"
        return _refuse(leaving, f"a goodbye in its name came from {origin}", now)
    if now - leaving.doubted_at < QUIET:
        return _refuse(leaving, "goodbyes in its name keep coming, although it stayed", now)
    return replace(leaving, said_at=now, examined_from=now, asked=0, failed=None, confirmed_at=None)


def healthy(leaving: Leaving, state: BaseState, now: float) -> Leaving:
    """Take what the base says of its state when it is asked for its health."""
    match state:
        case BaseState.DEACTIVATED if leaving.confirmed_at is None:
            if leaving.said_at is None:
                leaving = replace(leaving, said_at=now, examined_from=now, asked=0)
            return replace(leaving, confirmed_at=now, failed=None)
        case BaseState.ACTIVATED if leaving.confirmed_at is not None:
            return replace(leaving, confirmed_at=None)
        case _:
            return leaving


def answered(leaving: Leaving) -> Leaving:
    """Take an answer of the base, whatever it says."""
    return leaving if leaving.failed is None else replace(leaving, failed=None)


def failed(leaving: Leaving, failure: PollFailure) -> Leaving:
    """Take a question that failed."""
    if leaving.said_at is None or failure not in SILENT:
        return leaving
    return replace(leaving, failed=failure)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What follows now: whether to ask the base, and when to judge again without news (None: only with news)."""

    leaving: Leaving
    ask: bool = False
    next_at: float | None = None


def judge(leaving: Leaving, *, last_seen: float, heard: Heard, now: float) -> Judgement:
    """Judge a goodbye; last_seen is the last sign of life of any kind, heard since and up to when it could be seen."""
    if leaving.said_at is None:
        return Judgement(leaving)
    if heard.since > leaving.examined_from:
        leaving = replace(leaving, examined_from=heard.since, asked=0, failed=None, confirmed_at=None)
    since = leaving.examined_from
    times = [since + OPEN]
    if leaving.confirmed_at is not None:
        gone_at = leaving.confirmed_at + CONFIRM
        times.append(look_at(gone_at, now))
        if heard.until >= gone_at:
            return Judgement(_believe(leaving, "the base said that it goes away, also when it was asked"))
    if leaving.failed is not None:
        gone_at = max(since, last_seen) + SILENT[leaving.failed]
        times.append(look_at(gone_at, now))
        if heard.until >= gone_at:
            return Judgement(_believe(leaving, "the base said that it goes away, and does not answer any more"))
    if now >= since + OPEN:
        stayed = replace(leaving, said_at=None, confirmed_at=None, doubted_at=now)
        return Judgement(_refuse(stayed, "a goodbye in its name came, but it still answers", now))
    ask = now >= _ask_at(leaving)
    if ask:
        leaving = replace(leaving, asked=leaving.asked + 1)
    return Judgement(leaving, ask, min(*times, _ask_at(leaving)))


def _ask_at(leaving: Leaving) -> float:
    return leaving.examined_from + 2.0**leaving.asked - 1.0


def _believe(leaving: Leaving, why: str) -> Leaving:
    return replace(leaving, said_at=None, confirmed_at=None, believed=why)


def _refuse(leaving: Leaving, why: str, now: float) -> Leaving:
    """Count a goodbye that has no effect; one in ``QUIET`` seconds is shown."""
    leaving = replace(leaving, refused=leaving.refused + 1)
    if now - leaving.doubt_shown_at < QUIET:
        return leaving
    return replace(leaving, doubt=why, doubt_shown_at=now)
