"""One after the other, with a turn of the event loop between: what comes from sockets is taken meanwhile.

Tasks that become due together would otherwise all run in one turn of the loop. A message needs a few turns from socket
to task, so it would then wait a few times for all of them.
"""

import asyncio
from collections import deque
from dataclasses import dataclass, field


@dataclass(slots=True)
class RunQueue:
    """Lets one task go on in each turn of the event loop, in the order in which they asked."""

    _waiting: deque[asyncio.Future[None]] = field(default_factory=deque)
    _taken: bool = False

    async def turn(self) -> None:
        """Return once it is the caller's turn."""
        loop = asyncio.get_running_loop()
        if not self._taken:
            self._taken = True
            loop.call_soon(self._next)
            return
        turn = loop.create_future()
        self._waiting.append(turn)
        await turn

    def _next(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # Not cancelled.
                turn.set_result(None)
                asyncio.get_running_loop().call_soon(self._next)
                return
        self._taken = False
