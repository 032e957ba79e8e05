"""Event loops of tests: one that ends with a connection open fails the test that left it.

Without that the connection is found when garbage is collected, in whichever test runs then.
"""

import asyncio
import time

WITHIN = 2.0
"""Seconds for connections that are being closed: TLS says farewell first."""


class Loop(asyncio.SelectorEventLoop):
    """asyncio's loop, which ends with no connection open."""

    def close(self) -> None:
        """Close it; raises AssertionError for connections that nobody closed."""
        try:
            if not self.is_closed():
                self._close_connections()
        finally:
            super().close()

    def _close_connections(self) -> None:
        ends = time.monotonic() + WITHIN
        while (left := self._connections()) and time.monotonic() < ends:
            self.run_until_complete(asyncio.sleep(0.01))
        if left:
            for transport in left:
                transport.abort()
            self.run_until_complete(asyncio.sleep(0))
            ends_of = [f"{each.get_extra_info('sockname')} to {each.get_extra_info('peername')}" for each in left]
            raise AssertionError(f"open when the loop ended: {', '.join(ends_of)}")

    def _connections(self) -> list[asyncio.Transport]:
        return [each for each in list(self._transports.values()) if each._sock is not None]  # type: ignore[attr-defined]


class Policy(asyncio.DefaultEventLoopPolicy):
    """Makes these loops."""

    _loop_factory = Loop
