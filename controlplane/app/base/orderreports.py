"""What is reported of orders that ended: Events, log and metrics; nothing is decided here."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import structlog

from controlplane.app.base.surroundings import Surroundings
from controlplane.app.metrics import ORDER_SECONDS, ORDERS, RESULT_TO_STATUS
from controlplane.domain.base import outcomes, vpod
from controlplane.domain.base.outcomes import Ended
from controlplane.domain.base.replies import Effect, describe, failures
from controlplane.domain.base.state import Base
from controlplane.domain.facts import TIMEOUTS, BatchInstalled, Verb
from controlplane.domain.identity import ModuleKey
from controlplane.domain.objects import Pod
from controlplane.domain.remarks import Remark

log = structlog.get_logger(__name__)

SLOW = 10.0
"""Seconds from which on an order that was done is worth an Event: the Pod's status says that it was, anyway."""
FAILURES_RECORDED = 20
"""Failed modules of one baseline that are recorded one by one."""

_REASONS = {
    Verb.INSTALL: ("ModuleInstalled", "ModuleInstallFailed", "ModuleInstallUnanswered"),
    Verb.UNINSTALL: ("ModuleUninstalled", "ModuleUninstallFailed", "ModuleUninstallUnanswered"),
    Verb.SWITCH: ("ModuleSwitched", "ModuleSwitchFailed", "ModuleSwitchUnanswered"),
}


@dataclass(slots=True)
class OrderReports:
    """Reports the orders of one base; holds when each module's last one ended, until a status says so."""

    around: Surroundings
    _ended_at: dict[ModuleKey, float] = field(default_factory=dict)

    def ended(self, base: Base, ended: Ended, pods: Sequence[Pod], at: float, *, troubled: bool) -> Base:
        """Report an order on a module that ended at a monotonic time; return the base with it in its history.

        troubled: the order before it did not bring the module where it should be.
        """
        verb, key, meaning = ended.verb, ended.spec.key, ended.meaning
        ORDERS.labels(verb.value, meaning.effect.value).inc()
        ORDER_SECONDS.labels(verb.value).observe(ended.seconds)
        self._ended_at[key] = at
        timeout, about = TIMEOUTS[verb], f"{verb.value} of {key} on {base.id}"
        done, failed, unanswered = _REASONS[verb]
        if meaning.effect is Effect.DONE:
            news = troubled or ended.seconds >= SLOW
            self._say(base, ended, pods, done, f"{about} done in {ended.seconds:.3f} s", f"{about} done", written=news)
        elif meaning.effect in (Effect.FAILED, Effect.PERMANENT):
            self._say(base, ended, pods, failed, f"{about}: {meaning.reason}: {meaning.message}"[: vpod.MESSAGE_LIMIT])
        elif meaning.reason == "OutcomeUnknown" and ended.seconds >= timeout:
            self._say(base, ended, pods, unanswered, f"{about}: no answer within {timeout:g} s")
        else:
            cause = meaning.message[:200]
            log.info(
                "order undecided", base=base.id, module=str(key), verb=verb.value, reason=meaning.reason, cause=cause
            )
        return replace(base, history=outcomes.remember(base.history, ended, wall=self.around.clock.wall()))

    def _say(
        self,
        base: Base,
        ended: Ended,
        pods: Sequence[Pod],
        reason: str,
        message: str,
        event: str = "",
        *,
        written: bool = True,
    ) -> None:
        key, remark = ended.spec.key, Remark(ended.meaning.effect is not Effect.DONE, reason, message, ended.seconds)
        concerned = [pod for pod in pods if any(c.key == key for c in pod.containers)]
        for pod in concerned:
            self.around.recorder.pod(pod, remark, module=str(key), written=written, event=event)
        if not concerned:
            self.around.recorder.module(base.vnode, str(key), remark)

    def baseline(self, base: Base, batch: BatchInstalled) -> None:
        """Report how the baseline of a base went."""
        failed = failures(batch)
        for url, reply in failed[:FAILURES_RECORDED]:
            message = f"baseline of {base.id}: {url} {describe(reply)}"
            self.around.recorder.module(base.vnode, url, Remark(True, "BaselineInstallFailed", message))
        log.info("baseline installed", base=base.id, modules=len(batch.items), failed=len(failed))

    def shown(self, pod: Pod) -> None:
        """A Pod's status was written: measure how long it took from the end of its orders."""
        now = self.around.clock.monotonic()
        for container in pod.containers:
            at = self._ended_at.pop(container.key, None)
            if at is not None:
                RESULT_TO_STATUS.observe(max(now - at, 0.0))

    def all_shown(self) -> None:
        """Every status says what there is to say."""
        self._ended_at.clear()
