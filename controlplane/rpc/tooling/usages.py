"""What bases use: of our own as it is, of others as their owners said a moment ago."""

import asyncio

from controlplane.app.tooling.vnodes import VNodes
from controlplane.domain.base.usage import Usage
from controlplane.rpc.tooling.index import Index
from controlplane.rpc.tooling.replicas import ReplicaLinks

FRESH = 5.0
"""Seconds for which what the other replicas said is new enough: bases are asked less often."""


class SharedUsages:
    """Reads what bases use; whoever asks meanwhile shares one question to the other replicas."""

    def __init__(self, vnodes: VNodes, index: Index, links: ReplicaLinks) -> None:
        self._vnodes = vnodes
        self._index = index
        self._links = links
        self._asking = asyncio.Lock()
        self._asked_at = float("-inf")

    async def of(self, node: str) -> Usage | None:
        """Return what the base of a VNode uses, None where that is not known."""
        if self._vnodes.base(node) is None:
            async with self._asking:
                if asyncio.get_running_loop().time() - self._asked_at >= FRESH:
                    await self._links.sync()
                    self._asked_at = asyncio.get_running_loop().time()
        return self._index.usage(node)
