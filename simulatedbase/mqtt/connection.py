"""One connection of a Paho client to a broker, driven by the event loop instead of a thread.

Only connecting, which blocks in Paho, happens in a thread of the loop's pool;
everything else runs in the loop through Paho's socket callbacks. A connection is
used once: a new one has nothing of the old one in it, as with a clean session.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Any

from paho.mqtt.client import Client, MQTTMessage, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion

from simulatedbase.mqtt.broker import Broker, tls

KEEP_ALIVE = 60
CONNECT_SECONDS = 30.0
IN_FLIGHT = 1000
"""Messages of ours that the broker has not acknowledged yet; more are refused."""

_MISC_SECONDS = 10.0
_CLOSED = "closed by the base"

OnMessage = Callable[[str, bytes], None]


class BrokerUnavailable(OSError):
    """The broker does not let us connect; the message says why."""


class PublishFailed(OSError):
    """A message did not reach the broker, or it is unknown whether it did."""


class Connection:
    """A connection that open makes; on_message is told topic and payload of each message and must not raise."""

    def __init__(self, broker: Broker, client_id: str, on_message: OnMessage) -> None:
        self._loop = asyncio.get_running_loop()
        self._broker = broker
        self._on_message = on_message
        self._socket: socket.socket | None = None
        self._pauses = 0
        self._misc: asyncio.TimerHandle | None = None
        self._accepted: asyncio.Future[str] = self._loop.create_future()
        self._acks: dict[int, asyncio.Future[bool]] = {}
        self._client = self._make_client(client_id)
        self.lost: asyncio.Future[str] = self._loop.create_future()
        """Done once the connection is no more, with the reason."""

    @property
    def connected(self) -> bool:
        """The broker accepted us, and nothing ended the connection yet."""
        return self._client.is_connected() and not self.lost.done()

    async def open(self) -> None:
        """Connect; raises BrokerUnavailable."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._dial()
                refusal = await self._accepted
        except (OSError, ValueError) as error:
            self.close()
            why = str(error) or f"no answer within {CONNECT_SECONDS:g} s"
            raise BrokerUnavailable(f"broker {self._broker.host}:{self._broker.port}: {why}") from error
        except asyncio.CancelledError:
            self.close()
            raise
        if refusal:
            self.close()
            raise BrokerUnavailable(f"broker {self._broker.host}:{self._broker.port}: {refusal}")

    async def subscribe(self, topics: Sequence[str]) -> None:
        """Subscribe with QoS 1; raises BrokerUnavailable when the broker goes away or does not allow it."""
        _, mid = self._client.subscribe([(topic, 1) for topic in topics])
        if mid is None or not await self._acknowledged(mid):
            raise BrokerUnavailable(f"broker {self._broker.host}:{self._broker.port}: no subscription")

    def send(self, topic: str, payload: bytes) -> asyncio.Future[bool]:
        """Publish with QoS 1, not retained; raises PublishFailed.

        The future tells whether the broker acknowledged it before the connection ended.
        """
        if not self.connected:
            raise PublishFailed("not connected")
        if len(self._acks) >= IN_FLIGHT:
            raise PublishFailed("too many messages in flight")
        return self._acknowledged(self._client.publish(topic, payload, qos=1).mid)

    async def publish(self, topic: str, payload: bytes) -> None:
        """Send a message and wait until the broker has it; raises PublishFailed."""
        if not await self.send(topic, payload):
            raise PublishFailed("connection lost")

    def pause(self) -> None:
        """Take no more messages until as many calls of resume."""
        self._pauses += 1
        if self._socket is not None:
            self._loop.remove_reader(self._socket)

    def resume(self) -> None:
        """Undo one pause."""
        self._pauses -= 1
        if self._socket is not None and not self._pauses:
            self._loop.add_reader(self._socket, self._read)
            # What TLS has taken off the socket already wakes no reader.
            self._read_decrypted()

    def close(self) -> None:
        """End the connection, for good."""
        self._end(_CLOSED)
        if self._socket is not None:
            self._client.disconnect()
            self._client.loop_write()
        if self._socket is not None:
            # The broker does not read: nothing more can be said to it.
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
        while self._socket is not None:
            self._client.loop_read()

    def _make_client(self, client_id: str) -> Client:
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=True,
            protocol=MQTTv311,
            reconnect_on_failure=False,
        )
        client.connect_timeout = CONNECT_SECONDS
        client.max_inflight_messages_set(IN_FLIGHT)
        if self._broker.username:
            client.username_pw_set(self._broker.username, self._broker.password)
        context = tls(self._broker)
        if context is not None:
            client.tls_set_context(context)
            client.tls_insecure_set(self._broker.insecure)
        client.on_connect = self._on_connect
        client.on_disconnect = lambda _client, _data, _flags, reason, _properties: self._end(str(reason))
        client.on_message = self._on_message_of_paho
        client.on_publish = lambda _client, _data, mid, _reason, _properties: self._settle(mid, well=True)
        client.on_subscribe = self._on_subscribe
        client.on_socket_close = self._on_socket_close
        client.on_socket_register_write = self._on_register_write
        client.on_socket_unregister_write = self._on_unregister_write
        return client

    async def _dial(self) -> None:
        self._client.connect_async(self._broker.host, self._broker.port, KEEP_ALIVE)
        dialling = self._loop.run_in_executor(None, self._client.reconnect)
        try:
            await asyncio.shield(dialling)
        except asyncio.CancelledError:
            # The thread goes on; what it connects is closed.
            dialling.add_done_callback(self._abandon)
            raise
        self._attach()

    def _abandon(self, dialling: asyncio.Future[Any]) -> None:
        if not dialling.cancelled() and dialling.exception() is None:
            self._attach()
            self.close()

    def _attach(self) -> None:
        self._socket = self._client.socket()  # type: ignore[assignment]  # a plain one: we use no websockets
        if self._socket is None:
            return
        self._loop.add_reader(self._socket, self._read)
        self._misc = self._loop.call_later(_MISC_SECONDS, self._look_after)
        self._write()

    def _read(self) -> None:
        self._client.loop_read()
        self._read_decrypted()

    def _read_decrypted(self) -> None:
        while isinstance(self._socket, ssl.SSLSocket) and not self._pauses and self._socket.pending():
            self._client.loop_read()

    def _write(self) -> None:
        self._client.loop_write()
        if self._socket is not None and self._client.want_write():
            self._loop.add_writer(self._socket, self._write)

    def _look_after(self) -> None:
        self._client.loop_misc()
        if self._socket is not None:
            self._misc = self._loop.call_later(_MISC_SECONDS, self._look_after)

    def _on_connect(self, _client: Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if not self._accepted.done():
            self._accepted.set_result(str(reason) if reason.is_failure else "")

    def _on_message_of_paho(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        if not self.lost.done():
            self._on_message(message.topic, bytes(message.payload))

    def _on_subscribe(self, _client: Client, _data: Any, mid: int, reasons: Sequence[Any], _properties: Any) -> None:
        self._settle(mid, well=not any(reason.is_failure for reason in reasons))

    def _on_socket_close(self, _client: Client, _data: Any, closed: Any) -> None:
        if self._socket is None:
            return
        self._socket = None
        self._loop.remove_reader(closed)
        self._loop.remove_writer(closed)
        if self._misc is not None:
            self._misc.cancel()

    def _on_register_write(self, _client: Client, _data: Any, _socket: Any) -> None:
        # While the thread connects there is no socket of ours, and the loop is not to be touched.
        if self._socket is not None:
            self._loop.call_soon(self._write)

    def _on_unregister_write(self, _client: Client, _data: Any, registered: Any) -> None:
        if self._socket is not None:
            self._loop.remove_writer(registered)

    def _acknowledged(self, mid: int) -> asyncio.Future[bool]:
        ack: asyncio.Future[bool] = self._loop.create_future()
        self._acks[mid] = ack
        ack.add_done_callback(lambda _: self._acks.pop(mid, None))
        if self.lost.done():
            ack.set_result(False)
        return ack

    def _settle(self, mid: int, *, well: bool) -> None:
        ack = self._acks.get(mid)
        if ack is not None and not ack.done():
            ack.set_result(well)

    def _end(self, reason: str) -> None:
        if not self._accepted.done():
            self._accepted.set_result(reason)
        if not self.lost.done():
            self.lost.set_result(reason)
        for mid in list(self._acks):
            self._settle(mid, well=False)
