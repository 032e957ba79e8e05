"""The audit: who changed what through the tooling API, one line in the log for each object, and an Event."""

from collections.abc import Sequence

import structlog

from controlplane.app.events import About, Recorder
from controlplane.app.tooling.installs import Outcome, Result
from controlplane.domain.remarks import Remark
from controlplane.rpc.access.guard import CALLER

log = structlog.get_logger("audit")


class Audit:
    """Records changes of the caller of this call."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def pods(self, verb: str, request_id: str, outcomes: Sequence[Outcome]) -> None:
        """Record what became of Pods; Events are for those that changed."""
        for pod, end in outcomes:
            changed = isinstance(end, Result) and end is not Result.UNCHANGED
            result = end.value if isinstance(end, Result) else f"failed: {end}"
            about = About("Pod", pod.namespace, pod.name, pod.uid) if changed else None
            self._record(verb, request_id, f"pod {pod.key}", result, about, vnode=pod.node_name, pod=pod.key)

    def change(self, verb: str, request_id: str, about: About, result: str) -> None:
        """Record the change of any other object."""
        name = f"{about.namespace}/{about.name}" if about.namespace else about.name
        self._record(verb, request_id, f"{about.kind.lower()} {name}", result, about)

    def _record(
        self, verb: str, request_id: str, thing: str, result: str, about: About | None, vnode: str = "", pod: str = ""
    ) -> None:
        user = CALLER.get().user
        log.info("change", user=user, verb=verb, object=thing, request_id=request_id, result=result)
        if about is not None:
            known = f" (request {request_id})" if request_id else ""
            remark = Remark(False, "ChangeRequested", f"{user}: {verb} {thing}{known}: {result}")
            self._recorder.change(about, remark, user=user, vnode=vnode, pod=pod)
