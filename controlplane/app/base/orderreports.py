"""What is told of orders that ended, to people and to metrics; nothing is decided here."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from controlplane.app.base.state import Base
from controlplane.app.events import Recorder
from controlplane.app.metrics import ORDER_SECONDS, ORDERS, RESULT_TO_STATUS
from controlplane.app.policy import Timing
from controlplane.app.ports import Clock
from controlplane.domain.base import history, vpod
from controlplane.domain.base.outcomes import Ended
from controlplane.domain.base.replies import Effect
from controlplane.domain.facts import Verb
from controlplane.domain.identity import ModuleKey
from controlplane.domain.objects import Pod

log = structlog.get_logger(__name__)

_DONE = {Verb.INSTALL: "ModuleInstalled", Verb.UNINSTALL: "ModuleUninstalled", Verb.SWITCH: "ModuleSwitched"}
_FAILED = {
    Verb.INSTALL: "ModuleInstallFailed",
    Verb.UNINSTALL: "ModuleUninstallFailed",
    Verb.SWITCH: "ModuleSwitchFailed",
}
_UNANSWERED = {
    Verb.INSTALL: "ModuleInstallUnanswered",
    Verb.UNINSTALL: "ModuleUninstallUnanswered",
    Verb.SWITCH: "ModuleSwitchUnanswered",
}


class Endings:
    """Tells of the orders of one base; holds when each module's last one ended, until a status says so."""

    def __init__(self, base: Base, recorder: Recorder, clock: Clock, timing: Timing) -> None:
        self._base = base
        self._recorder = recorder
        self._clock = clock
        self._timing = timing
        self._ended_at: dict[ModuleKey, float] = {}

    def ended(self, ended: Ended, pods: Sequence[Pod], at: float) -> None:
        """An order on a module ended at a monotonic time."""
        base = self._base
        base.history = history.remember(base.history, ended, wall=self._clock.wall())
        verb, key, told = ended.verb, ended.spec.key, ended.meaning
        ORDERS.labels(verb.value, told.effect.value).inc()
        ORDER_SECONDS.labels(verb.value).observe(max(ended.seconds, 0.0))
        self._ended_at[key] = at
        timeout = self._timing.timeout(verb)
        about = f"{verb.value} of {key} on {base.id}"
        if told.effect is Effect.DONE:
            text = f"{about} done in {ended.seconds:.3f} s"
            self._tell(key, pods, warning=False, reason=_DONE[verb], message=text, seconds=ended.seconds)
        elif told.effect in (Effect.FAILED, Effect.HOPELESS):
            text = f"{about}: {told.reason}: {told.message}"[: vpod.MESSAGE_LIMIT]
            self._tell(key, pods, warning=True, reason=_FAILED[verb], message=text, seconds=ended.seconds)
        elif told.reason == "OutcomeUnknown" and ended.seconds >= timeout:
            text = f"{about}: no answer within {timeout:g} s"
            self._tell(key, pods, warning=True, reason=_UNANSWERED[verb], message=text, seconds=ended.seconds)
        else:
            cause = told.message[:200]
            log.info("order undecided", base=base.id, module=str(key), verb=verb.value, reason=told.reason, cause=cause)

    def _tell(
        self, key: ModuleKey, pods: Sequence[Pod], *, warning: bool, reason: str, message: str, seconds: float
    ) -> None:
        concerned = [pod for pod in pods if any((c.name, c.version) == key for c in pod.containers)]
        for pod in concerned:
            self._recorder.pod(pod, str(key), warning=warning, reason=reason, message=message, seconds=seconds)
        if not concerned:
            vnode = self._base.vnode
            self._recorder.module(vnode, str(key), warning=warning, reason=reason, message=message, seconds=seconds)

    def shown(self, pod: Pod) -> None:
        """A Pod's status was written: measure how long it took from the end of its orders."""
        now = self._clock.monotonic()
        for container in pod.containers:
            at = self._ended_at.pop(ModuleKey(container.name, container.version), None)
            if at is not None:
                RESULT_TO_STATUS.observe(max(now - at, 0.0))

    def all_shown(self) -> None:
        """Every status says what there is to say."""
        self._ended_at.clear()
