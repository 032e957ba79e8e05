"""One connection to a broker, from CONNECT to its end: paho's protocol machine on our event loop.

paho is driven by readiness of its socket; no thread of its own runs. Only making the
connection (name, TCP, TLS), which paho does with blocking calls, happens in a thread.
Every connection is a new client with a clean session: nothing that was said before
an outage is sent again after it, since a base would carry out a command twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from gateways.mqtt.acknowledgements import Acknowledgements, Receipt
from gateways.mqtt.failures import ConnectFailed, Lost, NotSent, Unanswered, not_connected, refused

log = structlog.get_logger(__name__)

CONNECT_TIMEOUT = 5.0
"""Seconds for TCP."""
KEEPALIVE = 20
"""Seconds; a broker that is silently gone is noticed after at most twice that. Also bounds TLS."""
OPEN_TIMEOUT = 30.0
"""Seconds until CONNACK, everything included."""
ANSWER_TIMEOUT = 10.0
"""Seconds for SUBACK and UNSUBACK."""
MAX_PUBLISHES = 8_192
"""Most messages without PUBACK; packet ids are 16 bits."""
TICK = 1.0
_REFUSED = 0x80
_UNSPECIFIED = 0x80
_WITHOUT_REASON = "closed without a reason"
"""All that MQTT 3.1.1 lets a broker say."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where and as whom to connect."""

    host: str
    port: int
    client_id: str
    username: str = ""
    password: str = ""
    tls: ssl.SSLContext | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """Something that a broker delivered. topic is empty when it is no text."""

    topic: str
    payload: bytes
    retained: bool


class Connection:
    """A connection. handler takes each message; its receipt is None where there is nothing to acknowledge."""

    def __init__(self, target: Target, handler: Callable[[Message, Receipt | None], None]) -> None:
        self._target = target
        self._handler = handler
        self._loop = asyncio.get_running_loop()
        self._accepted: asyncio.Future[None] = self._loop.create_future()
        self._ended: asyncio.Future[str] = self._loop.create_future()
        self._publishes: dict[int, asyncio.Future[None]] = {}
        self._requests: dict[int, asyncio.Future[list[int]]] = {}
        self._asked: list[str] = []
        self._descriptor = -1
        self._client = self._new_client(target)
        self.unacknowledged = Acknowledgements(lambda mid: self._client.ack(mid, 1))

    def _new_client(self, target: Target) -> Client:
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=target.client_id,
            clean_session=True,
            protocol=MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        client.connect_timeout = CONNECT_TIMEOUT
        client.max_inflight_messages = 0  # no limit of paho's: MAX_PUBLISHES is ours
        if target.username:
            client.username_pw_set(target.username, target.password or None)
        if target.tls is not None:
            client.tls_set_context(target.tls)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        client.on_unsubscribe = self._on_unsubscribe
        client.on_socket_register_write = self._on_register_write
        client.on_socket_unregister_write = self._on_unregister_write
        client.on_socket_close = self._on_socket_close
        return client

    @property
    def up(self) -> bool:
        """Whether the broker accepted the connection and it has not ended."""
        accepted = self._accepted.done() and self._accepted.exception() is None
        return accepted and not self._ended.done()

    @property
    def asked(self) -> str:
        """What the broker is asked for and has not answered, in words; after the end, why it may have ended."""
        return " and to ".join(self._asked)

    @contextlib.contextmanager
    def asking(self, what: str) -> Iterator[None]:
        """Say what the broker is asked for until the end of the context: it may end the connection instead."""
        self._asked.append(what)
        try:
            yield
        finally:
            if self.up:
                self._asked.remove(what)

    async def open(self) -> None:
        """Connect and wait until the broker accepts. Raises ConnectFailed."""
        try:
            async with asyncio.timeout(OPEN_TIMEOUT):
                await self._connect()
                self._attach()
                await asyncio.wait((self._accepted, self._ended), return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            raise ConnectFailed("timeout", f"no connection within {OPEN_TIMEOUT:g} s") from None
        except OSError as error:
            raise not_connected(error) from None
        finally:
            if not self.up:
                self._drop()
        if not self._accepted.done():
            raise ConnectFailed(
                "lost", f"the broker ended the connection before it accepted it: {self._ended.result()}"
            )
        self._accepted.result()

    async def run(self) -> str:
        """Keep the connection; return why it ended."""
        while not self._ended.done():
            self._client.loop_misc()
            self._read_what_was_not_told()
            await asyncio.wait((self._ended,), timeout=TICK)
        return self._ended.result()

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> asyncio.Future[None]:
        """Send with QoS 1; the future is done with PUBACK, or raises Lost. Raises NotSent."""
        if not self.up:
            raise NotSent("no connection to the broker")
        if len(self._publishes) >= MAX_PUBLISHES:
            raise NotSent("too many messages wait for the broker")
        sent = self._client.publish(topic, payload, qos=1, retain=retain)
        if sent.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise NotSent(f"paho: {sent.rc.name}")
        future: asyncio.Future[None] = self._loop.create_future()
        self._publishes[sent.mid] = future
        return future

    async def subscribe(self, filters: Sequence[str], *, qos: int = 1, within: float = ANSWER_TIMEOUT) -> list[bool]:
        """Subscribe; tell for each filter whether the broker took it. Raises Lost or Unanswered."""
        result, mid = self._client.subscribe([(name, qos) for name in filters])
        codes = await self._request(f"subscribe to {', '.join(filters)}", result, mid, within)
        # A filter without a return code was not taken.
        return [at < len(codes) and codes[at] < _REFUSED for at in range(len(filters))]

    async def unsubscribe(self, filters: Sequence[str]) -> None:
        """Unsubscribe. Raises Lost or Unanswered."""
        result, mid = self._client.unsubscribe(list(filters))
        await self._request(f"unsubscribe from {', '.join(filters)}", result, mid, ANSWER_TIMEOUT)

    async def close(self) -> None:
        """Say DISCONNECT and end the connection."""
        if self.up:
            self._client.disconnect()
            await asyncio.wait((self._ended,), timeout=1.0)
        self._drop()

    async def _request(self, what: str, result: MQTTErrorCode, mid: int | None, within: float) -> list[int]:
        if result != MQTTErrorCode.MQTT_ERR_SUCCESS or mid is None:
            raise Lost(f"paho: {result.name}")
        future: asyncio.Future[list[int]] = self._loop.create_future()
        self._requests[mid] = future
        try:
            with self.asking(what):
                async with asyncio.timeout(within):
                    return await future
        except TimeoutError:
            raise Unanswered(f"the broker was asked to {what} and did not answer within {within:g} s") from None
        finally:
            self._requests.pop(mid, None)

    # Making the connection.

    async def _connect(self) -> None:
        made: asyncio.Future[None] = self._loop.create_future()

        def tell(error: Exception | None) -> None:
            if made.cancelled():
                self._drop()
            elif error is None:
                made.set_result(None)
            else:
                made.set_exception(error)

        def connect() -> None:
            problem: Exception | None = None
            try:
                self._client.connect(self._target.host, self._target.port, KEEPALIVE)
            except (OSError, ValueError) as error:
                problem = error if isinstance(error, OSError) else OSError(str(error))
            with contextlib.suppress(RuntimeError):  # the loop is closed: the process ends
                self._loop.call_soon_threadsafe(tell, problem)

        # A daemon, so that a broker that hangs does not keep the process from ending.
        threading.Thread(target=connect, name="connect to broker", daemon=True).start()
        await made

    def _attach(self) -> None:
        sock = self._client.socket()
        if sock is None:
            raise ConnectionError("the connection ended at once")
        self._descriptor = sock.fileno()
        self._loop.add_reader(self._descriptor, self._readable)
        if self._client.want_write():
            self._loop.add_writer(self._descriptor, self._writable)

    def _drop(self) -> None:
        """Have paho close its socket, whatever state it is in."""
        sock = self._client.socket()
        self._detach()
        if sock is not None:
            sock.close()
        self._end("closed")

    def _detach(self) -> None:
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            self._loop.remove_writer(self._descriptor)
            self._descriptor = -1

    # Readiness.

    def _readable(self) -> None:
        self._client.loop_read()
        # What TLS has decrypted already does not make the socket readable again.
        while (sock := self._client.socket()) is not None and isinstance(sock, ssl.SSLSocket) and sock.pending():
            self._client.loop_read()

    def _read_what_was_not_told(self) -> None:
        """Look at the socket itself: after an error on it uvloop may watch it no more, without a word."""
        if self._descriptor < 0:
            return
        look = select.poll()
        look.register(self._descriptor, select.POLLIN)
        if look.poll(0):
            self._readable()

    def _writable(self) -> None:
        self._client.loop_write()

    def _on_register_write(self, _client: Client, _data: Any, _sock: Any) -> None:
        if self._descriptor >= 0:
            # uvloop refuses when it gave the socket up; that it is dead is found at the next look.
            with contextlib.suppress(RuntimeError):
                self._loop.add_writer(self._descriptor, self._writable)

    def _on_unregister_write(self, _client: Client, _data: Any, _sock: Any) -> None:
        if self._descriptor >= 0:
            self._loop.remove_writer(self._descriptor)

    def _on_socket_close(self, _client: Client, _data: Any, _sock: Any) -> None:
        self._detach()

    # What paho tells; none of it may raise, or paho loses its place in the stream.

    def _on_connect(
        self, _client: Client, _data: Any, _flags: ConnectFlags, code: ReasonCode, _properties: Properties | None
    ) -> None:
        if self._accepted.done():
            return
        if code.is_failure:
            self._accepted.set_exception(refused(code.value, str(code)))
        else:
            self._accepted.set_result(None)

    def _on_disconnect(
        self, _client: Client, _data: Any, _flags: DisconnectFlags, code: ReasonCode, _properties: Properties | None
    ) -> None:
        self._end(_WITHOUT_REASON if code.value == _UNSPECIFIED else str(code))

    def _end(self, reason: str) -> None:
        if not self._ended.done():
            self._ended.set_result(reason)
        lost = Lost("the connection to the broker ended")
        for published in self._publishes.values():
            if not published.done():
                published.set_exception(lost)
                published.exception()  # who does not wait for it need not hear of it
        for request in self._requests.values():
            if not request.done():
                request.set_exception(lost)
        self._publishes.clear()

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        receipt = self.unacknowledged.received(message.mid) if message.qos else None
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""
        try:
            self._handler(Message(topic, bytes(message.payload), message.retain), receipt)
        except Exception:  # supervisor: a defect met with one message must not end the connection
            log.exception("defect while taking a message", topic=topic[:256])
            if receipt is not None:
                receipt.settle()

    def _on_publish(self, _c: Client, _data: Any, mid: int, _code: ReasonCode, _properties: Properties | None) -> None:
        future = self._publishes.pop(mid, None)
        if future is not None and not future.done():
            future.set_result(None)

    def _on_subscribe(
        self, _c: Client, _data: Any, mid: int, codes: list[ReasonCode], _properties: Properties | None
    ) -> None:
        self._answered(mid, [code.value for code in codes])

    def _on_unsubscribe(
        self, _c: Client, _data: Any, mid: int, _codes: list[ReasonCode], _properties: Properties | None
    ) -> None:
        self._answered(mid, [])

    def _answered(self, mid: int, codes: list[int]) -> None:
        future = self._requests.get(mid)
        if future is not None and not future.done():
            future.set_result(codes)
