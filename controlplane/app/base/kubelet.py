"""What VNodes show of the kubelet API: the address of the Service before it, as long as there is exactly one.

Not known is not absent: until the Services have been listed, a Node keeps what it shows.
"""

import asyncio
from collections.abc import Callable

import structlog

from controlplane.app.changes import synced
from controlplane.app.metrics import KUBELET_SERVICE
from controlplane.app.ports import Informer
from controlplane.domain.base.vnode import kubelet_of
from controlplane.domain.endpoint import Service, endpoint_of
from controlplane.domain.facts import Address
from controlplane.domain.objects import Node

log = structlog.get_logger(__name__)

FIRST_LOOK = 5.0
"""Seconds that a start waits for the Services; without the permission to list them it goes on without."""


class KubeletAddress:
    """Follows the labelled Services; without an informer the kubelet API is not offered. listens_on is our own port."""

    def __init__(self, services: Informer[Service] | None, listens_on: int = 0, env: str = "") -> None:
        self._services = services
        self._env = env
        self._listens_on = listens_on
        self._handlers: list[Callable[[], None]] = []
        self._logged: Address | str | None = None
        if services is not None:
            services.subscribe(self._changed)

    def subscribe(self, handler: Callable[[], None]) -> None:
        """Call handler when Nodes have to show something else."""
        self._handlers.append(handler)

    @property
    def ip(self) -> str:
        """The address that Nodes have in place of their bases', empty if none."""
        found = self._look()
        return found.ip if isinstance(found, Address) else ""

    def addresses(self) -> frozenset[str]:
        """Return the addresses at which it is called."""
        return frozenset({self.ip} - {""})

    def endpoint(self, node: Node | None) -> Address | None:
        """Return what a Node should show, given what it shows."""
        found = self._look()
        if self._services is not None and found is None:
            return kubelet_of(node) if node is not None else None
        return found if isinstance(found, Address) else None

    async def first_look(self) -> None:
        """Wait until the Services are known, but not for long."""
        if self._services is None:
            return
        try:
            async with asyncio.timeout(FIRST_LOOK):
                await synced(self._services)
        except TimeoutError:
            log.warning("Services are not known yet: Nodes keep the addresses that they have", waited=FIRST_LOOK)
        self._changed("")

    def _look(self) -> Address | str | None:
        """Return the endpoint, why there is none, or None when that is not known."""
        if self._services is None or not self._services.synced:
            return None
        return endpoint_of(tuple(self._services.all()), self._listens_on, self._env)

    def _changed(self, _key: str) -> None:
        found = self._look()
        if found is None or found == self._logged:
            return
        self._logged = found
        KUBELET_SERVICE.set(isinstance(found, Address))
        if isinstance(found, Address):
            log.info("the API server reaches the kubelet API through a Service", address=str(found))
        else:
            log.warning("the API server cannot reach the kubelet API: Nodes show their bases' addresses", cause=found)
        for handler in self._handlers:
            handler()


NO_KUBELET = KubeletAddress(None)
"""The kubelet API is not offered."""
