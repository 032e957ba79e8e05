"""Bases that are not there: their heartbeats, as many as one likes."""

import asyncio
import json
import time
from collections import Counter

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from tests.mqtt import stop

AT_ONCE = 64
"""Connections at the same time."""
PEER = "127.0.0.66"
"""Where their heartbeats come from."""
CLOSED = 1239
"""A port where nobody listens."""


def heartbeat(identity: str, ip: str, port: int) -> bytes:
    """Return the heartbeat of a base."""
    metadata = {"identity": identity, "name": "invented", "version": "1", "clusterName": "default"}
    data = {"baseMetadata": metadata, "localIP": ip, "port": port, "state": "activated"}
    return json.dumps(data).encode()


def invented(number: int, port: int) -> bytes:
    """Return the heartbeat of a base that is not there, which has an address of its own on this machine."""
    return heartbeat(f"invented-{number}", f"127.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}", port)


async def post(port: int, body: bytes, peer: str = PEER) -> str:
    """Post a heartbeat as a stranger, and return the first line of the answer; raises OSError."""
    head = f"POST /heartbeat HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(peer, 0))
    try:
        writer.write(head.encode() + body)
        # To the end: who closes first keeps its port for a while.
        return (await reader.read()).partition(b"\r\n")[0].decode()
    finally:
        writer.close()


async def over_http(port: int, count: int, seconds: float = 0.0) -> Counter[str]:
    """Post heartbeats of bases that are not there, over so many seconds, and return how they were answered."""
    room, answers = asyncio.Semaphore(AT_ONCE), Counter[str]()

    async def invent(number: int) -> None:
        async with room:
            try:
                answers[await post(port, invented(number, CLOSED))] += 1
            except OSError as error:
                answers[type(error).__name__] += 1

    began, posts = time.monotonic(), list[asyncio.Task[None]]()
    for number in range(count):
        await asyncio.sleep(max(0.0, began + seconds * number / count - time.monotonic()))
        posts.append(asyncio.create_task(invent(number)))
    await asyncio.gather(*posts)
    return answers


def over_mqtt(port: int, count: int, seconds: float = 0.0) -> str:
    """Publish heartbeats of bases that are not there, over so many seconds, and return how many."""
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="stranger")
    client.max_queued_messages_set(0)
    client.connect("127.0.0.1", port)
    client.loop_start()
    began = time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, began + seconds * number / count - time.monotonic()))
        data = json.loads(invented(number, 0))
        envelope = json.dumps({"data": data, "publishTimestamp": int(time.time() * 1000)})
        client.publish(f"koupleless_dev/invented-{number}/base/heart", envelope, qos=1)
    client.publish("koupleless_dev/last/base/none", b"", qos=1).wait_for_publish(60.0)
    stop(client)
    return f"{count} published"
