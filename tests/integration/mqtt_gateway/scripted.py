"""A broker on loopback with enough of MQTT 3.1.1, whose behaviour a test chooses."""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Self

from tests.serving import serving

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT = (
    *(1, 2, 3, 4, 8, 9, 10, 11),
    *(12, 13, 14),
)
FAILURE = 0x80


class End(Exception):
    """The broker ends the connection."""


class Silence(Exception):
    """The broker does not answer."""


@dataclass
class Behaviour:
    """What the broker does with a SUBSCRIBE, with a PUBLISH, and with $share filters that it granted.

    subscribe returns the return codes, and publish whether the message is passed on; both may raise End or Silence.
    """

    subscribe: Callable[[Sequence[str]], Sequence[int]] = lambda filters: [1] * len(filters)
    publish: Callable[[str, bool], bool] = lambda _topic, _retain: True
    shares: str = "spread"
    """"spread": one member of a group gets a message. "all": each does. "plain": the filter is that of a topic."""
    retained: dict[str, bytes] = field(default_factory=dict)
    """Messages that are retained from before, by topic."""


@dataclass(eq=False)
class Session:
    """One connection."""

    client_id: str
    writer: asyncio.StreamWriter
    filters: list[str] = field(default_factory=list)
    ids: Iterator[int] = field(default_factory=lambda: itertools.count(1))


class ScriptedBroker:
    """Serves on a free port; connects counts the connections of each client id."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.port = 0
        self.connects: Counter[str] = Counter()
        self.subscribed: list[list[str]] = []
        self._sessions: list[Session] = []
        self._turn = itertools.count()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        async with serving(self._serve) as self.port:
            yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session: Session | None = None
        with suppress(End):
            try:
                _, body = await _packet(reader)
                session = Session(_text(body, 10)[0], writer)
                self.connects[session.client_id] += 1
                self._sessions.append(session)
                writer.write(_frame(CONNACK << 4, b"\0\0"))
                while True:
                    first, body = await _packet(reader)
                    with suppress(Silence):
                        self._take(session, first, body)
            finally:
                if session is not None:
                    self._sessions.remove(session)

    def _take(self, session: Session, first: int, body: bytes) -> None:
        match first >> 4:
            case 8:
                filters, at = [], 2
                while at < len(body):
                    name, at = _text(body, at)
                    filters.append(name)
                    at += 1
                self.subscribed.append(filters)
                codes = self.behaviour.subscribe(filters)
                taken = [name for name, code in zip(filters, codes, strict=False) if code < FAILURE]
                # An existing subscription is replaced (MQTT 3.1.1, 3.8.4): nothing is delivered twice for it.
                session.filters = [known for known in session.filters if known not in taken] + taken
                session.writer.write(_frame(SUBACK << 4, body[:2] + bytes(codes)))
                for topic, payload in self.behaviour.retained.items():
                    if any(matches(name, topic) for name in filters if name in session.filters):
                        self._send(session, topic, payload, retained=True)
            case 10:
                at = 2
                while at < len(body):
                    name, at = _text(body, at)
                    session.filters = [known for known in session.filters if known != name]
                session.writer.write(_frame(UNSUBACK << 4, body[:2]))
            case 3:
                topic, at = _text(body, 0)
                passed = self.behaviour.publish(topic, bool(first & 1))
                if first & 0b110:
                    session.writer.write(_frame(PUBACK << 4, body[at : at + 2]))
                    at += 2
                if passed:
                    self._deliver(topic, body[at:])
            case 12:
                session.writer.write(_frame(PINGRESP << 4, b""))
            case 14:
                raise End

    def _deliver(self, topic: str, payload: bytes) -> None:
        groups: dict[str, list[Session]] = {}
        for session in self._sessions:
            for name in session.filters:
                if name.startswith("$share/") and self.behaviour.shares != "plain":
                    if matches(name.split("/", 2)[2], topic):
                        groups.setdefault(name, []).append(session)
                elif matches(name, topic):
                    self._send(session, topic, payload)
        for members in groups.values():
            one = members[next(self._turn) % len(members)]
            for session in members if self.behaviour.shares == "all" else [one]:
                self._send(session, topic, payload)

    def _send(self, session: Session, topic: str, payload: bytes, *, retained: bool = False) -> None:
        name = topic.encode()
        number = next(session.ids) % 0xFFFF + 1
        body = len(name).to_bytes(2, "big") + name + number.to_bytes(2, "big") + payload
        session.writer.write(_frame(PUBLISH << 4 | 0b10 | retained, body))


def matches(name: str, topic: str) -> bool:
    """Return whether a topic matches a filter without $share."""
    wanted, levels = name.split("/"), topic.split("/")
    for number, level in enumerate(wanted):
        if level == "#":
            return True
        if number >= len(levels) or level not in ("+", levels[number]):
            return False
    return len(wanted) == len(levels)


async def _packet(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    first = (await reader.readexactly(1))[0]
    length = shift = 0
    while True:
        byte = (await reader.readexactly(1))[0]
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return first, await reader.readexactly(length)


def _frame(first: int, body: bytes) -> bytes:
    length, rest = bytearray(), len(body)
    while True:
        rest, byte = rest >> 7, rest & 0x7F
        length.append(byte | (0x80 if rest else 0))
        if not rest:
            return bytes([first]) + bytes(length) + body


def _text(body: bytes, at: int) -> tuple[str, int]:
    end = at + 2 + int.from_bytes(body[at : at + 2], "big")
    return body[at + 2 : end].decode(), end
