"""A gateway's stream, made by hand."""

import queue
from typing import Self

import grpc
from koupleless.tunnel.v1 import tunnel_pb2 as pb


class Stream:
    """One hand-made session; channel shows who calls, and ends with it."""

    def __init__(self, channel: grpc.Channel, *first: pb.ConnectRequest) -> None:
        self._channel = channel
        self._outgoing: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        for message in first:
            self.send(message)
        connect: grpc.StreamStreamMultiCallable[bytes, pb.ConnectResponse] = self._channel.stream_stream(
            "/koupleless.tunnel.v1.TunnelService/Connect", response_deserializer=pb.ConnectResponse.FromString
        )
        self._call = connect(iter(self._outgoing.get, None), timeout=60)

    def send(self, message: pb.ConnectRequest | bytes) -> None:
        """Send a message, or bytes that are none."""
        self._outgoing.put(message if isinstance(message, bytes) else message.SerializeToString())

    def next(self, kind: str) -> pb.ConnectResponse:
        """Return the next message of a kind, passing over others."""
        for message in self._call:
            if message.WhichOneof("message") == kind:
                return message
        raise AssertionError(f"the stream ended without {kind}")

    def status(self) -> tuple[grpc.StatusCode, str]:
        """Return how the stream ended."""
        try:
            for _ in self._call:
                pass
        except grpc.RpcError:
            pass
        return self._call.code(), self._call.details() or ""

    def end(self) -> None:
        self._outgoing.put(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._outgoing.put(None)
        self._call.cancel()
        self._channel.close()
