"""Failures, sent to hooks: each once, with repetitions counted; each hook at its own pace.

Nothing here ever waits for a hook but the hook's own task, and all that waits is bounded. A report that was sent and
not answered is sent again, so that a hook may get it twice; one that a hook does not take in time is given up, counted
and logged.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import NoReturn

import structlog

from controlplane.app.events import Happening
from controlplane.app.metrics import HOOK_QUEUE, HOOK_REPEATS, HOOK_REPORTS
from controlplane.app.ports import Clock, Hook, Undelivered
from controlplane.domain import reports
from controlplane.domain.backoff import Backoff
from controlplane.domain.identity import base_of_node
from controlplane.domain.reports import Allowance, Report, Sent
from service.masking import masked

log = structlog.get_logger(__name__)

WAITING = 500
REMEMBERED = 4096
ATTEMPTS = 8
RETRY = Backoff(first=2.0, longest=60.0, jitter=0.5)
LONGEST_RETRY = 600.0
DEADLINE = 30.0
"""Seconds that one attempt may take."""
PACE = Allowance(most=20, seconds=60.0)
"""What a DingTalk robot takes."""


class HookQueue:
    """The way to one hook: what waits, how often it may be called, what is tried again."""

    def __init__(self, hook: Hook, *, clock: Clock, random: Random, pace: Allowance = PACE) -> None:
        self._hook = hook
        self._clock = clock
        self._random = random
        self._pace = pace
        self._waiting: deque[Report] = deque()
        self._came = asyncio.Event()
        self._called: deque[float] = deque(maxlen=pace.most)
        self._left_out = 0
        self._failing = False

    def put(self, report: Report) -> None:
        """Have a report sent, without secrets; when too many wait the oldest is left out."""
        if len(self._waiting) >= WAITING:
            self._waiting.popleft()
            self._left_out += 1
            self._count("dropped")
        else:
            HOOK_QUEUE.labels(self._hook.kind).inc()
        self._waiting.append(_masked(report))
        self._came.set()

    async def run(self) -> NoReturn:
        """Send what waits, until cancelled."""
        while True:
            await self._came.wait()
            await self._allowed()
            await self._deliver(self._next())
            if not self._waiting:
                self._came.clear()

    def _next(self) -> Report:
        """Take the report to send now; with a long queue all of its kind as one."""
        first = self._waiting.popleft()
        others: list[Report] = []
        if len(self._waiting) >= reports.GATHER_ABOVE:
            others = [report for report in self._waiting if reports.alike(report, first)]
            self._waiting = deque(report for report in self._waiting if not reports.alike(report, first))
        HOOK_QUEUE.labels(self._hook.kind).dec(1 + len(others))
        self._count("gathered", len(others))
        report = reports.gathered(first, others)
        if self._left_out:
            message = f"{report.message} ({self._left_out} earlier reports were left out: too many waited)"
            report, self._left_out = replace(report, message=message), 0
        return report

    async def _deliver(self, report: Report) -> None:
        attempt = 0
        while True:
            attempt += 1
            await self._allowed()
            self._called.append(self._clock.monotonic())
            refusal = await self._try(report)
            if refusal is None:
                self._count("sent")
                if self._failing:
                    self._failing = False
                    log.info("hook takes reports again", hook=self._hook.name)
                return
            if not self._failing:
                self._failing = True
                log.warning("hook does not take reports", hook=self._hook.name, cause=str(refusal))
            if not refusal.again or attempt >= ATTEMPTS:
                break
            delay = RETRY.delay(attempt, self._random.random())
            await asyncio.sleep(max(delay, min(refusal.retry_after, LONGEST_RETRY)))
        self._count("failed")
        log.warning("report given up", hook=self._hook.name, event_reported=report.event, attempts=attempt)

    async def _try(self, report: Report) -> Undelivered | None:
        try:
            async with asyncio.timeout(DEADLINE):
                await self._hook.send(report)
        except Undelivered as refusal:
            return refusal
        except TimeoutError:
            return Undelivered(f"no answer within {DEADLINE:g} s", again=True)
        except Exception:
            # Hooks are made of foreign code; a defect of one must not end the control plane.
            log.exception("hook failed", hook=self._hook.name)
            return Undelivered("a defect of the hook", again=False)
        return None

    async def _allowed(self) -> None:
        if wait := self._pace.wait(self._called, self._clock.monotonic()):
            await asyncio.sleep(wait)

    def _count(self, outcome: str, number: int = 1) -> None:
        HOOK_REPORTS.labels(self._hook.kind, outcome).inc(number)


class Reporter:
    """Gives failures to all hooks, the same one once within ten minutes and then with its count."""

    def __init__(self, queues: Sequence[HookQueue], clock: Clock, *, replica: str, env: str) -> None:
        self.queues = tuple(queues)
        self._clock = clock
        self._replica = replica
        self._env = env
        self._sent: OrderedDict[str, Sent] = OrderedDict()
        self._came = asyncio.Event()

    def happened(self, happening: Happening) -> None:
        """Report a failure; nothing else is reported."""
        if self.queues and happening.remark.warning:
            report = report_of(happening, replica=self._replica, env=self._env)
            if report is not None:
                self.report(report)

    def report(self, report: Report) -> None:
        """Send a report, or count it when the same was just sent."""
        if not self.queues:
            return
        known = self._sent.get(report.key)
        if known is not None:
            HOOK_REPEATS.inc()
            self._sent[report.key] = known.again(report)
            return
        # All times are equally long, so that the order in which they begin is that in which they end.
        self._sent[report.key] = Sent(self._clock.monotonic(), report)
        self._came.set()
        self._send(report)
        if len(self._sent) > REMEMBERED:
            _, oldest = self._sent.popitem(last=False)
            if oldest.repeats:
                self._send(oldest.summary())

    async def run(self) -> NoReturn:
        """Serve the hooks and report repetitions, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number, queue in enumerate(self.queues, 1):
                group.create_task(queue.run(), name=f"hook-{number}")
            group.create_task(self._close_in_time(), name="repetitions")
        raise AssertionError("hooks are served until cancelled")

    async def _close_in_time(self) -> NoReturn:
        while True:
            await self._came.wait()
            if not self._sent:
                self._came.clear()
                continue
            key, oldest = next(iter(self._sent.items()))
            wait = oldest.at + reports.SAME_WITHIN - self._clock.monotonic()
            if wait > 0:
                await asyncio.sleep(wait)
                continue
            del self._sent[key]
            if oldest.repeats:
                self._sent[key] = Sent(self._clock.monotonic(), oldest.last)
                self._send(oldest.summary())

    def _send(self, report: Report) -> None:
        for queue in self.queues:
            queue.put(report)


def _masked(report: Report) -> Report:
    """Return a report without secrets: one of /log has whatever its sender wrote."""
    return replace(
        report,
        scene=masked(report.scene),
        event=masked(report.event),
        result=masked(report.result),
        message=masked(report.message),
        code=masked(report.code),
        labels={masked(name): masked(value) for name, value in report.labels.items()},
        trace_id=masked(report.trace_id),
    )


def report_of(happening: Happening, *, replica: str, env: str) -> Report | None:
    """Return the report of a happening; None when it is not reported."""
    remark = happening.remark
    kind = reports.classify(
        remark.reason, warning=remark.warning, module=bool(happening.module), vnode=bool(happening.vnode)
    )
    if kind is None:
        return None
    about = {
        "base": base_of_node(happening.vnode, env),
        "module": happening.module,
        "pod": happening.pod,
        "deployment": happening.deployment,
        "replica": replica,
    }
    return Report(
        key="\n".join((remark.reason, happening.vnode, happening.module, happening.pod, happening.deployment)),
        scene=kind.scene,
        event=kind.event,
        result=reports.FAIL if remark.warning else reports.SUCCESS,
        message=remark.message if remark.warning else "",
        code=kind.code,
        labels={**happening.labels, **{name: value for name, value in about.items() if value}},
        trace_id=happening.trace_id,
        milliseconds=round(remark.seconds * 1000),
    )
