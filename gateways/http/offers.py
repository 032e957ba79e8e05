"""Which commands a base offers, found out by asking it for help.

Runtimes before 1.4.1 know no batchInstallBiz, and bases may register commands of
their own. What a base said holds for ten minutes, in which it may be replaced by
another version; bases that could not be asked are asked again the next time.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from gateways.arklet import commands, payloads
from gateways.arklet.facts import Verb
from gateways.http.arklet_client import Lost, NotSent
from gateways.http.questions import Caller
from gateways.session.messages import Address

HOLDS = 600.0
"""Seconds for which an answer is believed."""
MOST_BASES = 20_000
"""Bases whose answers are kept; the one that was asked first is forgotten first."""


class Offers:
    """What bases said. timeout is in seconds."""

    def __init__(self, client: Caller, *, timeout: float, now: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._timeout = timeout
        self._now = now
        self._told: OrderedDict[Address, tuple[frozenset[str], float]] = OrderedDict()

    async def offers(self, address: Address, verb: Verb) -> bool:
        """Tell whether the base at an address offers a command; False also when it cannot be asked."""
        told = self._told.get(address)
        if told is None or self._now() - told[1] >= HOLDS:
            try:
                answer = await self._client.call(address, Verb.HELP, commands.body(Verb.HELP), timeout=self._timeout)
                told = (payloads.help_commands(answer), self._now())
            except (NotSent, Lost, payloads.Malformed, payloads.Negative):
                return False
            self._told.pop(address, None)
            self._told[address] = told
            if len(self._told) > MOST_BASES:
                self._told.popitem(last=False)
        return verb.value in told[0]
