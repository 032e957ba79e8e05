"""A simulated base answers over HTTP as a real one does, byte for byte."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from gateways.arklet import payloads
from gateways.arklet.fields import first_object
from simulatedbase.base import SimulatedBase
from simulatedbase.profile import Profile
from tests.integration.simulatedbase.wire import SECONDS, command, exchange, post, until

INSTALL = b'{"bizName":"biz1","bizVersion":"0.0.1","bizUrl":"https://repo.example/biz1.jar"}'
EMPTY_LIST = b'HTTP/1.1 200 OK\r\n\r\n{"baseIdentity":"b","code":"SUCCESS","data":[]}'
ONLY_POST = (
    b"HTTP/1.1 500 Internal Server Error\r\nContent_Length: 42\r\n\r\nPOST http request only supported by arklet"
)


@pytest.fixture
async def base() -> AsyncIterator[SimulatedBase]:
    base = SimulatedBase(Profile(identity="b"))
    await base.start()
    yield base
    await base.stop()


@pytest.mark.parametrize("body", [b"{}", b"", b"null", b'{"unknown":1}'])
async def test_answer_has_no_headers_and_ends_with_the_connection(base: SimulatedBase, body: bytes) -> None:
    assert await exchange(base.port, post("queryAllBiz", body)) == EMPTY_LIST


async def test_query_string_and_content_type_are_ignored(base: SimulatedBase) -> None:
    request = b"POST /queryAllBiz?a=b HTTP/1.1\r\ncontent-length: 2\r\nContent-Type: text/html\r\n\r\n{}"
    assert await exchange(base.port, request) == EMPTY_LIST


async def test_chunked_body_is_read(base: SimulatedBase) -> None:
    request = (
        b"POST /queryAllBiz HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;x=y\r\n{\r\n1\r\n}\r\n0\r\nT: x\r\n\r\n"
    )
    assert await exchange(base.port, request) == EMPTY_LIST


async def test_path_is_exact(base: SimulatedBase) -> None:
    for path in ("health/", "HEALTH", "", "a/b"):
        assert await command(base.port, path) == b'{"code":"CMD_NOT_FOUND","message":"please follow the doc"}'


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /health HTTP/1.1\r\n\r\n",
        b"PUT /health HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
        b"post /health HTTP/1.1\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"POST /health SPDY/3\r\n\r\n",
        b"POST /health HTTP/1.1\r\nno colon\r\n\r\n",
        b"POST /health HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /health HTTP/1.1\r\nContent-Length: \xb2\r\n\r\n",
        b"POST /health HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /health HTTP/1.1\r\nA: " + b"a" * 9000 + b"\r\n\r\n",
    ],
)
async def test_only_post_is_served(base: SimulatedBase, request_bytes: bytes) -> None:
    assert await exchange(base.port, request_bytes) == ONLY_POST
    assert not base.commands


@pytest.mark.parametrize("sent", [0, 1024 * 1024 + 1, 3 * 1024 * 1024])
async def test_body_over_one_mebibyte_is_refused(base: SimulatedBase, sent: int) -> None:
    head = b"POST /installBiz HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % max(sent, 1024 * 1024 + 1)
    reader, writer = await asyncio.open_connection("127.0.0.1", base.port)
    async with asyncio.timeout(SECONDS):
        writer.write(head + b" " * sent)
        await writer.drain()
        assert await reader.readuntil(b"\r\n\r\n") == (
            b"HTTP/1.1 413 Request Entity Too Large\r\ncontent-length: 0\r\n\r\n"
        )
        writer.close()
        await writer.wait_closed()
    assert not base.commands


@pytest.mark.parametrize("body", [b"[]", b"123", b'" "', b" ", b'{"a":', b"\xff"])
async def test_body_that_is_no_object_is_never_answered(base: SimulatedBase, body: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", base.port)
    writer.write(post("health", body))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await reader.read()
    assert not base.commands
    assert await exchange(base.port, post("queryAllBiz", b"{}")) == EMPTY_LIST
    writer.transport.abort()


async def test_repeated_install_is_answered_as_a_repetition(base: SimulatedBase) -> None:
    first = await command(base.port, "installBiz", INSTALL)
    assert first.startswith(
        b'{"baseIdentity":"b","code":"SUCCESS","data":{"bizInfos":[{"attributes":{},"bizName":"biz1"'
    )
    assert b'"bizState":"activated"' in first
    assert (
        payloads.reply(first_object(await command(base.port, "installBiz", INSTALL))).client_code
        == pb.CLIENT_CODE_REPEAT_BIZ
    )
    (module,) = payloads.modules(first_object(await command(base.port, "queryAllBiz"))).modules
    assert (module.name, module.version) == ("biz1", "0.0.1")
    assert [(received.verb, received.body) for received in base.commands][:1] == [
        (
            "installBiz",
            {"bizName": "biz1", "bizVersion": "0.0.1", "bizUrl": "https://repo.example/biz1.jar"},
        )
    ]
    assert base.counts == {"installBiz": 2, "queryAllBiz": 1}


async def test_command_goes_on_without_its_client(base: SimulatedBase) -> None:
    base.faults.slow["installBiz"] = 0.1
    _, writer = await asyncio.open_connection("127.0.0.1", base.port)
    writer.write(post("installBiz", INSTALL))
    await writer.drain()
    writer.transport.abort()
    await until(lambda: bool(base.modules()))


async def test_hanging_command_blocks_no_other(base: SimulatedBase) -> None:
    base.faults.hang.add("health")
    reader, writer = await asyncio.open_connection("127.0.0.1", base.port)
    writer.write(post("health", b"{}"))
    await command(base.port, "queryAllBiz")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await reader.read()
    writer.transport.abort()
    assert base.counts["health"] == 1


async def test_dropped_reply_has_its_effect(base: SimulatedBase) -> None:
    base.faults.drop_replies.add("installBiz")
    assert await exchange(base.port, post("installBiz", INSTALL)) == b""
    assert [biz.identity for biz in base.modules()] == ["biz1:0.0.1"]


async def test_client_that_never_sends_or_leaves_halfway_blocks_no_other(base: SimulatedBase) -> None:
    _, idle = await asyncio.open_connection("127.0.0.1", base.port)
    _, leaving = await asyncio.open_connection("127.0.0.1", base.port)
    leaving.write(b"POST /installBiz HTTP/1.1\r\nContent-Length: 100\r\n\r\n{")
    await leaving.drain()
    leaving.transport.abort()
    assert await exchange(base.port, post("queryAllBiz", b"{}")) == EMPTY_LIST
    await base.stop()
    idle.transport.abort()
