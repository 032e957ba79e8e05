"""How far a rollout is, in the words of kubectl."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Trouble:
    """What keeps a rollout from its end; vnode, pod and module are empty where it is about none."""

    vnode: str
    pod: str
    module: str
    reason: str
    message: str

    def __str__(self) -> str:
        """Return it on one line: where, what, why."""
        where = " on ".join(filter(None, (self.pod and f"pod {self.pod}", self.vnode)))
        return ": ".join(filter(None, (where, self.module, self.reason, self.message)))


@dataclass(frozen=True, slots=True)
class Rollout:
    """Counts in Pods of a workload or bases of a module; failure is why it does not get on by itself."""

    observed: bool
    desired: int
    updated: int
    available: int
    old: int
    done: bool
    failure: str
    troubles: tuple[Trouble, ...]


@dataclass(frozen=True, slots=True)
class Words:
    """How kubectl speaks of a kind: "deployment", and what its parts are called."""

    kind: str
    parts: str = "replicas"

    def progress(self, name: str, rollout: Rollout) -> str:
        """Return what is waited for, or that nothing is."""
        title = f'{self.kind} "{name}"'
        if rollout.done:
            return f"{title} successfully rolled out"
        if not rollout.observed:
            return f"Waiting for {title} spec update to be observed..."
        return f"Waiting for {title} rollout to finish: {self._lacking(rollout)}..."

    def _lacking(self, rollout: Rollout) -> str:
        if rollout.updated < rollout.desired:
            return f"{rollout.updated} out of {rollout.desired} new {self.parts} have been updated"
        if rollout.old:
            return f"{rollout.old} old {self.parts} are pending termination"
        return f"{rollout.available} of {rollout.updated} updated {self.parts} are available"


WORDS = {
    "deployment": Words("deployment"),
    "daemonset": Words("daemon set", "pods"),
    "module": Words("module", "bases"),
}
