"""A raw HTTP client: sends bytes as they are given, and reads the reply."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


async def exchange(port: int, *parts: bytes, pause: float = 0.0, within: float = 15.0) -> Answer:
    """Send the parts, then read to the end of the connection."""
    async with asyncio.timeout(within):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(pause)
            received = await reader.read(-1)
        finally:
            writer.transport.abort()
    head, _, body = received.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    return Answer(int(lines[0].split(" ")[1]), headers, body)


def request(body: bytes, path: str = "/heartbeat", method: str = "POST", **headers: str) -> bytes:
    """Return a request as a Java base sends it."""
    fields = {"Content-Type": "application/json", "Host": "gateway", "Content-Length": str(len(body))}
    fields.update({name.replace("_", "-"): value for name, value in headers.items()})
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body


def heartbeat_body(identity: Any = "base-1", ip: Any = "127.0.0.1", port: Any = 1238, **more: Any) -> bytes:
    """Return the body of a heartbeat."""
    metadata = {"identity": identity, "name": "shop", "version": "1.0.0", "clusterName": "default"}
    return json.dumps(
        {"baseMetadata": metadata, "localHostName": "h", "localIP": ip, "port": port, "state": "activated", **more}
    ).encode()
