"""The connections of this process are found, and ended, whoever accepted them."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, cast

import grpc
import pytest
from grpc import aio

from controlplane.rpc.access.connections import _written
from service.accepted import AcceptedConnections


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as one:
        yield one


def test_what_was_accepted_is_found_and_ended(listening: socket.socket) -> None:
    address = listening.getsockname()
    connections = AcceptedConnections({address[1]})
    assert not connections.look(), "a socket that listens is no connection"
    with ExitStack() as stack:
        first, second = (stack.enter_context(socket.create_connection(address)) for _ in range(2))
        accepted = [stack.enter_context(listening.accept()[0]) for _ in range(2)]
        found = {each.address: each for each in connections.look()}
        assert found.keys() == {first.getsockname(), second.getsockname()}
        assert {*connections.look()} == {*found.values()}
        connections.cut(found[first.getsockname()])
        for ours, said in ((accepted[0], b""), (accepted[1], b"x")):
            second.sendall(b"x")
            ours.settimeout(5.0)
            assert ours.recv(1) == said
        for ours in accepted:
            ours.close()
        # Its number is another one's by now, or nobody's.
        connections.cut(found[second.getsockname()])
        assert not connections.look()


async def test_peers_are_written_as_grpc_does() -> None:
    peers: list[str] = []

    class Servicer(grpc.GenericRpcHandler):
        def service(self, _details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[bytes, bytes]":
            return grpc.unary_unary_rpc_method_handler(self.answer)

        async def answer(self, _request: bytes, context: "aio.ServicerContext[bytes, bytes]") -> bytes:
            peers.append(context.peer())
            return b""

    server = aio.server()
    server.add_generic_rpc_handlers((Servicer(),))
    port = server.add_insecure_port("[::]:0")
    await server.start()
    connections = AcceptedConnections({port})
    async with aio.insecure_channel(f"127.0.0.1:{port}") as v4, aio.insecure_channel(f"[::1]:{port}") as v6:
        for channel in (v4, v6):
            await cast("Any", channel.unary_unary("/a/b"))(b"")
        assert {_written(each.address) for each in connections.look()} == {*peers}
    await server.stop(0)
