"""One connection to a broker, from CONNECT to its end: paho's protocol machine on our event loop.

paho is driven by readiness of its socket; no thread of its own runs. Only connecting (name, TCP, TLS), which paho does
with blocking calls, happens in a thread. A connection is used once and has a clean session: nothing that was sent
before an outage is sent again after it, since a base would carry out a command twice.
"""

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.reasoncodes import ReasonCode

from mqttclient.failures import ConnectFailed, Lost, NotSent, Unanswered, not_connected, refused
from mqttclient.receipts import Acknowledgements, Receipt
from mqttclient.settings import BrokerSettings

log = structlog.get_logger(__name__)

CONNECT_TIMEOUT = 5.0
"""Seconds for TCP, and again for TLS."""
OPEN_TIMEOUT = 30.0
"""Seconds until CONNACK, everything included."""
ANSWER_TIMEOUT = 10.0
"""Seconds for SUBACK and UNSUBACK."""
MAX_PUBLISHES = 8_192
"""Most messages that are not written, or without PUBACK; packet ids are 16 bits."""
LOOKS = 20
"""How often in a keepalive the connection is looked after."""
_REFUSED = 0x80
_UNSPECIFIED = 0x80
_WITHOUT_REASON = "closed without a reason"
"""All that MQTT 3.1.1 lets a broker say."""


@dataclass(frozen=True, slots=True)
class MqttMessage:
    """Something that a broker delivered. topic is empty when it is not text; QoS 0 has a receipt without effect."""

    topic: str
    payload: bytes
    retained: bool
    receipt: Receipt = field(default_factory=Receipt, compare=False)


class MqttConnection:
    """A connection that open makes.

    handler takes each message; it must neither block nor close, and see that the receipt is settled. ended is done once
    the connection is no more, with the reason. Wait for it with asyncio.wait, which does not cancel it. A broker that
    is silently gone is noticed after twice keepalive seconds.
    """

    def __init__(
        self, settings: BrokerSettings, client_id: str, handler: Callable[[MqttMessage], None], *, keepalive: int = 20
    ) -> None:
        self._settings = settings
        self._handler = handler
        self._keepalive = keepalive
        self._loop = asyncio.get_running_loop()
        self._accepted: asyncio.Future[ConnectFailed | None] = self._loop.create_future()
        self.ended: asyncio.Future[str] = self._loop.create_future()
        self._publishes: dict[int, asyncio.Future[None]] = {}
        self._requests: dict[int, asyncio.Future[list[int]]] = {}
        self._asked: list[str] = []
        self._descriptor = -1
        self._pauses = 0
        self._next_look: asyncio.TimerHandle | None = None
        self.unacknowledged = Acknowledgements(lambda mid: self._client.ack(mid, 1))
        client = self._client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=True,
            protocol=MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        client.connect_timeout = CONNECT_TIMEOUT
        client.max_inflight_messages = 0  # no limit of paho's: MAX_PUBLISHES is ours
        if settings.username:
            client.username_pw_set(settings.username, settings.password.get_secret_value() or None)
        if settings.tls_context is not None:
            client.tls_set_context(settings.tls_context)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_answer
        client.on_unsubscribe = self._on_answer
        client.on_socket_register_write = self._on_register_write
        client.on_socket_unregister_write = self._on_unregister_write
        client.on_socket_close = self._on_socket_close

    @property
    def up(self) -> bool:
        """Whether the broker accepted the connection and it has not ended."""
        return self._accepted.done() and self._accepted.result() is None and not self.ended.done()

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
                await self._dial()
                await asyncio.wait((self._accepted,))
        except (OSError, ValueError) as error:
            raise not_connected(error) from None
        finally:
            if not self.up:
                self.close()
        if (failure := self._accepted.result()) is not None:
            raise failure

    def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> asyncio.Future[None]:
        """Send; the future is done with PUBACK, with QoS 0 once it is written, or raises Lost. Raises NotSent."""
        if not self.up:
            raise NotSent("no connection to the broker")
        if len(self._publishes) >= MAX_PUBLISHES:
            raise NotSent("too many messages wait for the broker")
        sent = self._client.publish(topic, payload, qos=qos, retain=retain)
        if sent.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise NotSent(f"paho: {sent.rc.name}")
        future: asyncio.Future[None] = self._loop.create_future()
        self._publishes[sent.mid] = future
        return future

    async def subscribe(self, filters: Mapping[str, int], *, within: float = ANSWER_TIMEOUT) -> list[bool]:
        """Subscribe to filters, each with its QoS; return for each whether the broker took it.

        Raises Lost or Unanswered.
        """
        sent = self._client.subscribe([*filters.items()])
        codes = await self._request(f"subscribe to {', '.join(filters)}", *sent, within)
        # A filter without a return code was not taken.
        return [at < len(codes) and codes[at] < _REFUSED for at in range(len(filters))]

    async def unsubscribe(self, filters: Sequence[str]) -> None:
        """Unsubscribe; a broker that does not answer may go on delivering. Raises Lost."""
        sent = self._client.unsubscribe(list(filters))
        with contextlib.suppress(Unanswered):
            await self._request(f"unsubscribe from {', '.join(filters)}", *sent, ANSWER_TIMEOUT)

    async def _request(self, what: str, result: MQTTErrorCode, mid: int | None, within: float) -> list[int]:
        if result != MQTTErrorCode.MQTT_ERR_SUCCESS or mid is None or self.ended.done():
            raise Lost("the connection to the broker ended")
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

    def pause(self) -> None:
        """Take nothing from the broker, acknowledgements included, until as many calls of resume."""
        self._pauses += 1
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)

    def resume(self) -> None:
        """Undo one pause."""
        self._pauses -= 1
        if not self._pauses and self._descriptor >= 0:
            self._loop.add_reader(self._descriptor, self._read)
            self._read()

    def close(self) -> None:
        """Send DISCONNECT, if the broker reads, and end the connection in whatever state it is."""
        self._end("closed")
        if self._descriptor < 0:
            return  # Not connected; while the thread still connects, what it connects is closed.
        self._client.disconnect()
        self._client.loop_write()
        if (sock := self._client.socket()) is not None:
            self._detach()
            sock.close()

    # Making the connection.

    async def _dial(self) -> None:
        dialled: asyncio.Future[None] = self._loop.create_future()

        def finish(error: OSError | ValueError | None) -> None:
            if error is None:
                self._attach()
            if dialled.cancelled():
                self.close()
            elif error is None:
                dialled.set_result(None)
            else:
                dialled.set_exception(error)

        def dial() -> None:
            problem: OSError | ValueError | None = None
            try:
                self._client.connect(self._settings.broker, self._settings.port, self._keepalive)
            except (OSError, ValueError) as error:
                problem = error
            with contextlib.suppress(RuntimeError):  # the loop is closed: the process ends
                self._loop.call_soon_threadsafe(finish, problem)

        # A daemon, so that a broker that hangs does not keep the process from ending.
        threading.Thread(target=dial, name="connect to broker", daemon=True).start()
        await dialled

    def _attach(self) -> None:
        sock = self._client.socket()
        if sock is None:
            self._end("the connection ended at once")
            return
        self._descriptor = sock.fileno()
        self._loop.add_reader(self._descriptor, self._read)
        self._look_after()
        self._write()

    def _detach(self) -> None:
        if self._descriptor < 0:
            return
        self._loop.remove_reader(self._descriptor)
        self._loop.remove_writer(self._descriptor)
        self._descriptor = -1
        if self._next_look is not None:
            self._next_look.cancel()

    # Readiness.

    def _read(self) -> None:
        self._client.loop_read()
        # What TLS has decrypted already does not make the socket readable again.
        while not self._pauses and isinstance(sock := self._client.socket(), ssl.SSLSocket) and sock.pending():
            self._client.loop_read()

    def _write(self) -> None:
        self._client.loop_write()
        if self._descriptor >= 0 and self._client.want_write():
            # uvloop refuses when it gave the socket up; that it is dead is found at the next look.
            with contextlib.suppress(RuntimeError):
                self._loop.add_writer(self._descriptor, self._write)

    def _look_after(self) -> None:
        """Keep the connection alive, and read unasked: after an error uvloop may silently watch a socket no more."""
        self._next_look = self._loop.call_later(self._keepalive / LOOKS, self._look_after)
        self._client.loop_misc()
        if not self._pauses:
            self._read()

    def _on_register_write(self, _client: Client, _data: Any, _sock: Any) -> None:
        # Not while the thread connects.
        if self._descriptor >= 0:
            self._loop.call_soon(self._write)

    def _on_unregister_write(self, _client: Client, _data: Any, _sock: Any) -> None:
        if self._descriptor >= 0:
            self._loop.remove_writer(self._descriptor)

    def _on_socket_close(self, _client: Client, _data: Any, _sock: Any) -> None:
        self._detach()

    # What paho reports; none of it may raise, or paho loses its place in the stream.

    def _on_connect(self, _client: Client, _data: Any, _flags: Any, code: ReasonCode, _properties: Any) -> None:
        if not self._accepted.done():
            self._accepted.set_result(refused(code.value, str(code)) if code.is_failure else None)

    def _on_disconnect(self, _client: Client, _data: Any, _flags: Any, code: ReasonCode, _properties: Any) -> None:
        self._end(_WITHOUT_REASON if code.value == _UNSPECIFIED else str(code))

    def _end(self, reason: str) -> None:
        if self.ended.done():
            return
        self.ended.set_result(reason)
        if not self._accepted.done():
            text = f"the broker ended the connection before it accepted it: {reason}"
            self._accepted.set_result(ConnectFailed("lost", text))
        unanswered: list[asyncio.Future[Any]] = [*self._publishes.values(), *self._requests.values()]
        for waiting in unanswered:
            if not waiting.done():
                waiting.set_exception(Lost("the connection to the broker ended"))
                waiting.exception()  # nobody has to wait for it
        self._publishes.clear()

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        receipt = self.unacknowledged.received(message.mid) if message.qos else Receipt()
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""
        try:
            self._handler(MqttMessage(topic, bytes(message.payload), message.retain, receipt))
        except Exception:  # supervisor: a defect met with one message must not end the connection
            log.exception("defect while taking a message", topic=topic[:256])
            receipt.settle()

    def _on_publish(self, _client: Client, _data: Any, mid: int, _code: Any, _properties: Any) -> None:
        future = self._publishes.pop(mid, None)
        if future is not None and not future.done():
            future.set_result(None)

    def _on_answer(self, _c: Client, _data: Any, mid: int, codes: list[ReasonCode], _properties: Any) -> None:
        """Take SUBACK, with a return code for each filter, or UNSUBACK."""
        future = self._requests.get(mid)
        if future is not None and not future.done():
            future.set_result([code.value for code in codes])
