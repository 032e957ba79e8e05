"""Recorded messages between real bases and gateways: see README.md in this folder."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Exchange:
    """One exchange over HTTP; None stands for what was not sent. seconds end with the last byte of the reply."""

    id: str
    runtime: str
    verb: str
    note: str
    request_head: bytes | None
    request_body: bytes | None
    reply_head: bytes | None
    reply_body: bytes | None
    request_writes: tuple[str, ...]
    reply_writes: tuple[str, ...]
    reply_ends: str | None
    close: str
    seconds: float | None
    trimmed: bool

    @property
    def by_hand(self) -> bool:
        """The request came from a test client, not from a base or a gateway."""
        return self.note.startswith("Sent by hand")

    @property
    def request(self) -> bytes:
        """All bytes of the request."""
        return (self.request_head or b"") + (self.request_body or b"")

    @property
    def reply(self) -> bytes:
        """All bytes of the reply."""
        return (self.reply_head or b"") + (self.reply_body or b"")

    def parts(self, writes: tuple[str, ...], head: bytes | None, body: bytes | None) -> list[bytes]:
        """Return what each of some writes held."""
        held = {"head": head or b"", "body": body or b"", "head+body": (head or b"") + (body or b"")}
        return [held[write] for write in writes]

    def sent(self) -> list[bytes]:
        """Return the request write by write."""
        return self.parts(self.request_writes, self.request_head, self.request_body)

    def answered(self) -> list[bytes]:
        """Return the reply write by write."""
        return self.parts(self.reply_writes, self.reply_head, self.reply_body)

    def asked(self) -> Any:
        """Return the JSON of the request."""
        return json.loads(self.request_body or b"{}")

    def json(self) -> Any:
        """Return the JSON of the reply."""
        return json.loads(self.reply_body or b"null")


@dataclass(frozen=True, slots=True)
class Published:
    """One message over MQTT; runtime is None where no base is involved."""

    id: str
    runtime: str | None
    topic: str
    qos: int
    retain: bool
    payload: bytes
    note: str
    trimmed: bool

    @property
    def from_base(self) -> bool:
        """A base published it."""
        return self.note.startswith("From the base")

    def json(self) -> Any:
        """Return the JSON of the payload."""
        return json.loads(self.payload)

    def stamped(self, millis: int) -> bytes:
        """Return the payload of a base as if it had been published at another time, in epoch milliseconds."""
        was = f'"publishTimestamp":{self.json()["publishTimestamp"]}'.encode()
        assert self.payload.count(was) == 1
        return self.payload.replace(was, f'"publishTimestamp":{millis}'.encode())


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode("ascii")


def _exchange(line: Mapping[str, Any]) -> Exchange:
    framing = line["framing"]
    return Exchange(
        id=line["id"],
        runtime=line["runtime"],
        verb=line["verb"],
        note=line["note"],
        request_head=_bytes(line["request_head"]),
        request_body=_bytes(line["request_body"]),
        reply_head=_bytes(line["reply_head"]),
        reply_body=_bytes(line["reply_body"]),
        request_writes=tuple(framing["request_writes"]),
        reply_writes=tuple(framing["reply_writes"]),
        reply_ends=framing["reply_ends"],
        close=framing["close"],
        seconds=line["seconds"],
        trimmed=line.get("trimmed", False),
    )


def _published(line: Mapping[str, Any]) -> Published:
    return Published(
        id=line["id"],
        runtime=line["runtime"],
        topic=line["topic"],
        qos=line["qos"],
        retain=bool(line["retain"]),
        payload=line["payload"].encode(),
        note=line["note"],
        trimmed=line.get("trimmed", False),
    )


def _lines(file: str) -> list[Any]:
    return [json.loads(line) for line in (FOLDER / file).read_text(encoding="utf-8").splitlines()]


HTTP: Mapping[str, Exchange] = {line["id"]: _exchange(line) for line in _lines("http.jsonl")}
MQTT: Mapping[str, Published] = {line["id"]: _published(line) for line in _lines("mqtt.jsonl")}

TO_GATEWAY = [exchange for exchange in HTTP.values() if exchange.verb == "heartbeat"]
TO_BASE = [exchange for exchange in HTTP.values() if exchange.verb != "heartbeat"]
"""Commands."""
FROM_BASE = [message for message in MQTT.values() if message.from_base]
