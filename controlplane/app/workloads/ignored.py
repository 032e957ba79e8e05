"""Says of which module Deployments nothing is done, and why: an Event for each, once."""

import asyncio
from collections.abc import Callable
from typing import NoReturn

from controlplane.app.changes import Subscription
from controlplane.app.events import Recorder
from controlplane.app.metrics import DEPLOYMENTS_IGNORED
from controlplane.app.policy import Policy
from controlplane.app.ports import Cluster
from controlplane.domain.objects import ModuleDeployment
from controlplane.domain.remarks import Remark
from controlplane.domain.workloads.deployments import ignored

TOGETHER = 0.3
"""Seconds in which changes gather before they are looked at."""
LOOK_AGAIN = 10.0
"""Seconds after which it is looked whether another replica's part became ours."""


class IgnoredDeployments:
    """Finds them. mine says, by namespace/name, whether this replica writes the Event."""

    def __init__(self, cluster: Cluster, recorder: Recorder, policy: Policy, mine: Callable[[str], bool]) -> None:
        self._cluster = cluster
        self._recorder = recorder
        self._policy = policy
        self._mine = mine
        self._changed: Subscription[str] = Subscription()
        self._ignored: dict[str, tuple[ModuleDeployment, Remark]] = {}
        self._recorded: dict[str, tuple[str, Remark]] = {}
        """UID and what was recorded, by namespace/name."""
        cluster.deployments.subscribe(self._changed.note)

    async def run(self) -> NoReturn:
        """Look at what changed, until cancelled."""
        while True:
            await asyncio.sleep(TOGETHER)
            self._look()
            await self._changed.wait(LOOK_AGAIN)

    def _look(self) -> None:
        for key in self._changed.take():
            deployment = self._cluster.deployments.get(key)
            follow = self._policy.peers_follow
            why = ignored(deployment, self._policy.env, peers_follow=follow) if deployment is not None else None
            if deployment is None or why is None:
                self._ignored.pop(key, None)
                self._recorded.pop(key, None)
            else:
                self._ignored[key] = deployment, why
        mine = [key for key in self._ignored if self._mine(key)]
        DEPLOYMENTS_IGNORED.set(len(mine))
        for key in mine:
            deployment, why = self._ignored[key]
            if self._recorded.get(key) != (deployment.uid, why):
                self._recorded[key] = deployment.uid, why
                self._recorder.deployment(deployment, why)
