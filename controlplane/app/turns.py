"""Long work in turns: whoever handles many things lets others run in between."""

import asyncio

AT_ONCE = 100
"""Things that are looked at or copied in one turn: a millisecond at most."""


class Turns:
    """Counts the things that were handled in this turn."""

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._at_once = at_once
        self._handled = 0

    async def handled(self, things: int = 1) -> None:
        """Count more things; let others run once there are enough."""
        self._handled += things
        if self._handled >= self._at_once:
            self._handled = 0
            await asyncio.sleep(0)
