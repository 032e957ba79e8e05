"""The event loop's time as a clock, so that looptime turns it."""

import asyncio


class LoopClock:
    """Implements ``controlplane.app.ports.Clock``."""

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def wall(self) -> float:
        return 1_700_000_000.0 + self.monotonic()
