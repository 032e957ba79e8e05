"""The MQTT gateway: what messages of bases cost, how many it takes, and how it comes back after the broker.

Bases do what they do at rest: heartbeats every 10 s, answers to the control plane's health questions and module lists
at their normal rates. All messages have QoS 1.
"""

import argparse
import asyncio
import math
import time
from collections.abc import Mapping
from dataclasses import replace

from benchmarks import targets
from benchmarks.api import Failed
from benchmarks.exposition import Exposition
from benchmarks.figures import Figure, percentile
from benchmarks.mqtt_clients import Dropped, publish
from benchmarks.mqtt_stage import CONTROL_PLANE, GATEWAY, MqttLine, MqttStage, Seen, clock, mqtt_line
from benchmarks.progress import say

RAMP = 10.0
"""Seconds over which bases connect: an interval of heartbeats, over which they are spread from then on."""
READY_WITHIN = 300.0
SETTLE = 15.0
LOOK = 1.0
"""Seconds between two looks at all VNodes; a look costs the control plane time, too."""
OUTAGE = 5.0
"""Seconds at least; a look that is under way is waited for."""
HEARD_WITHIN = 180.0
AFTER = 15.0
"""Seconds after all were heard again in which a late flap would show."""
BURST_WITHIN = 120.0
BURST_LOOK = 0.05
STILL = 5.0
"""Seconds without another message after which a burst is over."""


async def measure(built: MqttStage, options: argparse.Namespace) -> list[Figure]:
    """Return the figures; raises Failed, and OSError when the broker lets nobody in."""
    async with mqtt_line(built) as line:
        figures = await _onboard(line)
        say(f"all Ready; waiting {SETTLE:g} s until only the usual happens")
        await asyncio.sleep(SETTLE)
        figures += await _rest(line, options.seconds)
        if options.burst:
            figures += await _burst(line, options.burst)
        if options.restart_broker:
            figures += await _restart(line)
        return figures


async def _onboard(line: MqttLine) -> list[Figure]:
    count, began = line.stage.bases, time.monotonic()
    say(f"{count} bases begin over {RAMP:g} s")
    await asyncio.to_thread(line.stage.fleet.start)
    while (ready := sum(seen.ready for seen in (await line.vnodes()).values())) < count:
        if not line.stage.fleet.running:
            raise Failed(f"the bases ended: {line.stage.fleet.tail()}")
        if time.monotonic() - began > READY_WITHIN:
            raise Failed(f"{ready} of {count} VNodes Ready after {READY_WITHIN:g} s")
        await asyncio.sleep(LOOK)
    took = time.monotonic() - began
    return [Figure("start of bases -> all VNodes Ready", took, "s", note=f"they connect over {RAMP:g} s")]


async def _rest(line: MqttLine, seconds: float) -> list[Figure]:
    bases = line.stage.bases
    dropped = Dropped(line.stage)
    async with dropped:
        metrics, taken = await line.metrics(GATEWAY), await line.metrics(CONTROL_PLANE)
        used, began = line.usage(), time.monotonic()
        say(f"at rest for {seconds:g} s")
        await asyncio.sleep(seconds)
        metrics = (await line.metrics(GATEWAY)).since(metrics)
        taken = (await line.metrics(CONTROL_PLANE)).since(taken)
        after, took = line.usage(), time.monotonic() - began
        lost = dropped.since
    received, published = arrived(metrics), sum(metrics.by("koupleless_mqtt_published_total").values())
    cores = {name: (after[name].cpu - used[name].cpu) / took for name in used}
    reports = taken.by("koupleless_reports_total", "kind").get(("heartbeat",), 0.0)
    limits = dict.fromkeys((GATEWAY, CONTROL_PLANE), targets.MQTT_CORES_PER_BASE * bases)
    per_message = 1e6 * cores[GATEWAY] * took / max(1.0, received + published)
    return [
        Figure("messages from bases", received / took, "1/s", note=f"within {took:.0f} s"),
        Figure("messages to bases", published / took, "1/s"),
        Figure("CPU of gateway per message", per_message, "us", targets.MQTT_MESSAGE_US, "at rest, from and to bases"),
        *(Figure(f"CPU of {name}", share, "cores", limits.get(name)) for name, share in cores.items()),
        *(Figure(f"memory of {name}", after[name].resident / 1e6, "MB") for name in (GATEWAY, CONTROL_PLANE)),
        Figure("heartbeats at gateway", heartbeats(metrics) / took, "1/s", note=f"{bases / 10:g} are sent"),
        Figure("heartbeats at control plane", reports / took, "1/s"),
        *losses(metrics, lost),
    ]


async def _burst(line: MqttLine, count: int) -> list[Figure]:
    """Publish heartbeats in the names of the bases, which beat no more, until the gateway has all of them."""
    # So that heartbeats which arrive are those that were sent here.
    await line.fleet.post("/admin/mute")
    async with Dropped(line.stage) as dropped:
        metrics, taken = await line.metrics(GATEWAY), await line.metrics(CONTROL_PLANE)
        used, began = line.usage(), time.monotonic()
        say(f"{count} heartbeats as fast as they go")
        publishing = asyncio.create_task(publish(line.stage, count))
        try:
            now, heard = Exposition({}), 0.0
            ended = began
            while heard < count and time.monotonic() - began < BURST_WITHIN:
                await asyncio.sleep(BURST_LOOK)
                now = (await line.metrics(GATEWAY)).since(metrics)
                if heartbeats(now) > heard:
                    heard, ended = heartbeats(now), time.monotonic()
                elif publishing.done() and time.monotonic() - ended > STILL:
                    break
            after = line.usage()
            async with asyncio.timeout(STILL):
                await publishing
        finally:
            publishing.cancel()
        await asyncio.sleep(LOOK)
        lost = dropped.since
    await line.fleet.post("/admin/mute?on=false")
    took, messages = ended - began, arrived(now)
    cpu = after[GATEWAY].cpu - used[GATEWAY].cpu
    reports = (await line.metrics(CONTROL_PLANE)).since(taken).by("koupleless_reports_total", "kind")
    rate = messages / took if took else math.nan
    return [
        Figure("burst: messages from bases", rate, "1/s", targets.MQTT_MESSAGES_PER_SECOND, at_least=True),
        Figure("burst: CPU of gateway per message", 1e6 * cpu / max(1.0, messages), "us"),
        Figure("burst: sent, and not taken by gateway", count - heard, "1", note=f"of {count}; the aim is 0"),
        Figure(
            "burst: heartbeats at control plane",
            reports.get(("heartbeat",), 0.0),
            "1",
            note="a newer one takes the place of one that waits",
        ),
        *(replace(figure, name=f"burst: {figure.name}") for figure in losses(now, lost)),
    ]


async def _restart(line: MqttLine) -> list[Figure]:
    """Take the broker away for a while, and wait until every base was heard again."""
    broker, count = line.stage.broker, line.stage.bases
    say(f"Mosquitto ends, for {OUTAGE:g} s")
    heard: dict[str, float] = {}
    not_ready: set[str] = set()
    absent = 0

    def look(vnodes: Mapping[str, Seen], back: float) -> None:
        nonlocal absent
        absent = max(absent, count - len(vnodes))
        not_ready.update(base for base, seen in vnodes.items() if not seen.ready)
        for base, seen in vnodes.items():
            if seen.last_seen > back:
                heard.setdefault(base, seen.last_seen - back)

    down = clock()
    await asyncio.to_thread(broker.stop)
    gone = clock()
    while clock() - gone < OUTAGE:
        look(await line.vnodes(), math.inf)
        await asyncio.sleep(LOOK)
    back = clock()
    await asyncio.to_thread(broker.start)
    say("Mosquitto is back")
    until = back + HEARD_WITHIN
    while clock() < until:
        look(await line.vnodes(), back)
        if len(heard) == count:
            until = min(until, back + max(heard.values()) + AFTER)
        await asyncio.sleep(LOOK)
    times = list(heard.values())
    return [
        Figure(
            "broker back -> every base heard again",
            max(times) if len(times) == count else math.nan,
            "s",
            targets.MQTT_RECONNECT_SECONDS_PER_BASE * count,
            f"{len(times)} of {count}; asked to end {back - down:.1f} s before",
        ),
        Figure("of one base, p50", percentile(times, 0.50), "s"),
        Figure("of one base, p99", percentile(times, 0.99), "s"),
        Figure("VNodes not Ready at any time since it went", len(not_ready), "1", note="the aim is 0"),
        Figure("VNodes gone at any time since it went", absent, "1", note="the aim is 0"),
    ]


def arrived(metrics: Exposition) -> float:
    """Return how many messages the gateway took, refused, or left to others."""
    names = ("messages", "foreign", "refused")
    return sum(sum(metrics.by(f"koupleless_mqtt_{name}_total").values()) for name in names)


def heartbeats(metrics: Exposition) -> float:
    """Return how many heartbeats the gateway took."""
    return metrics.by("koupleless_mqtt_messages_total", "word").get(("heart",), 0.0)


def losses(metrics: Exposition, dropped: float) -> list[Figure]:
    """Return what was refused or lost on the way, by reason."""
    refused = {reason: n for (reason,), n in metrics.by("koupleless_mqtt_refused_total", "reason").items() if n}
    unqueued = metrics.by("koupleless_gateway_reports_total", "queued").get(("false",), 0.0)
    note = ", ".join(f"{reason} {n:g}" for reason, n in refused.items()) or "the aim is 0"
    return [
        Figure("messages refused by gateway", sum(refused.values()), "1", note=note),
        Figure("reports that gateway could not queue", unqueued, "1", note="the aim is 0"),
        Figure("messages dropped by Mosquitto", dropped, "1", note="the aim is 0"),
    ]
