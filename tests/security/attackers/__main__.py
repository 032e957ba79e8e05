"""One attack as a process of its own: python -m tests.security.attackers ATTACK ..."""

import argparse
import asyncio
import socket
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from itertools import cycle, islice

from service.process import raise_file_limit
from tests.security.attackers import invented, malformed
from tests.security.attackers.answers import ATTACKS, hostile
from tests.security.attackers.crowds import PREFACE, crowd

NAMES = ("invented-http", "invented-mqtt", "answers", "crowds", "malformed")
BEAT_EVERY = 5.0
PEER = "127.0.0.67"
"""Of the bases with hostile answers: sources that have invented bases wait for turns of their own."""
RENEW_EVERY = 2.0
TURNS = 12
"""Rounds of malformed requests between two looks at the clock."""


async def answers(port: int, count: int, seconds: float) -> str:
    """Be bases with hostile answers: each on a port of its own, with heartbeats as a base sends them."""
    began, heard = time.monotonic(), Counter[str]()
    async with AsyncExitStack() as stack:
        behaviours = islice(cycle(ATTACKS.values()), count)
        bases = [await stack.enter_async_context(hostile(behave)) for behave in behaviours]
        while time.monotonic() - began < seconds:
            for number, base in enumerate(bases):
                with suppress(OSError):
                    body = invented.heartbeat(f"hostile-{number}", "127.0.0.1", base.port)
                    heard[await invented.post(port, body, PEER)] += 1
            await asyncio.sleep(BEAT_EVERY)
        if not (asked := sum(base.asked for base in bases)):
            raise SystemExit("nobody asked the hostile bases, so that nothing was attacked")
        return f"{said(heard)}; asked {asked} times"


def crowds(ports: list[int], count: int, seconds: float) -> str:
    """Hold idle connections at several ports, and open others in their place."""
    began, opened = time.monotonic(), 0
    while time.monotonic() - began < seconds:
        for port in ports:
            for says in (b"", PREFACE):
                with suppress(OSError), crowd(port, count, addresses=min(12, count), says=says) as held:
                    opened += len(held)
                    time.sleep(RENEW_EVERY)
    return f"{opened} connections"


def bad_requests(ports: list[int], seconds: float) -> str:
    """Send malformed requests for so long."""
    began, sent = time.monotonic(), 0
    while time.monotonic() - began < seconds:
        with suppress(OSError):
            malformed.send(ports, TURNS)
            sent += TURNS * len(malformed.BAD)
    return f"{sent} requests"


def said(answers: Counter[str]) -> str:
    """Return how often which answer was given."""
    return ", ".join(f"{number} times {answer}" for answer, number in answers.most_common(3)) or "no answer"


def main() -> None:
    """Attack as the arguments say; the last line says what was done."""
    parser = argparse.ArgumentParser(prog="python -m tests.security.attackers")
    parser.add_argument("attack", choices=NAMES)
    parser.add_argument("--ports", type=lambda text: [int(port) for port in text.split(",")], required=True)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    raise_file_limit()
    socket.setdefaulttimeout(5.0)
    ports, count, seconds = options.ports, options.count, options.seconds
    attacks: dict[str, Callable[[], str]] = {
        "invented-http": lambda: said(asyncio.run(invented.over_http(ports[0], count, seconds))),
        "invented-mqtt": lambda: invented.over_mqtt(ports[0], count, seconds),
        "answers": lambda: asyncio.run(answers(ports[0], count, seconds)),
        "crowds": lambda: crowds(ports, count, seconds),
        "malformed": lambda: bad_requests(ports, seconds),
    }
    print("done:", attacks[options.attack]())


if __name__ == "__main__":
    main()
