"""A loop of a test ends with no connection open, or says which; servers of tests leave none."""

import asyncio
import ssl

import pytest
import trustme

from tests import loops
from tests.loops import Loop
from tests.serving import serving


async def keep_open(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"x")
    await asyncio.sleep(60)


async def close(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"x")


async def break_off(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    assert await reader.read(1) == b"y"


def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return TLS for a server and for a client that trusts it."""
    ca = trustme.CA()
    ours, theirs = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    ca.issue_cert("127.0.0.1").configure_cert(ours)
    ca.configure_trust(theirs)
    return ours, theirs


def test_a_connection_that_nobody_closes_fails_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "WITHIN", 0.1)

    async def leave_open() -> None:
        async with serving(close) as port:
            reader, writers[port] = await asyncio.open_connection("127.0.0.1", port)
            assert await reader.read() == b"x"

    writers: dict[int, asyncio.StreamWriter] = {}
    runner = asyncio.Runner(loop_factory=Loop)
    runner.run(leave_open())
    (port,) = writers
    with pytest.raises(AssertionError, match=rf"open when the loop ended: .* to \('127.0.0.1', {port}\)$"):
        runner.close()
    assert runner._loop.is_closed()  # type: ignore[attr-defined]


def test_a_connection_that_is_being_closed_has_time_for_it() -> None:
    async def ask() -> None:
        ours, theirs = contexts()
        async with serving(close, tls=ours) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=theirs)
            assert await reader.read(1) == b"x"
            writer.close()

    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(ask())


async def test_a_server_ends_its_connections() -> None:
    ours, theirs = contexts()
    async with serving(keep_open, tls=ours) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=theirs)
        assert await reader.read(1) == b"x"
        _, in_handshake = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.sleep(0.05)
        _, accepted_at_last = await asyncio.open_connection("127.0.0.1", port)
    for each in (writer, in_handshake, accepted_at_last):
        each.transport.abort()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


async def test_what_fails_in_a_server_fails_the_test() -> None:
    async def ask() -> None:
        async with serving(break_off) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"z")
            assert await reader.read() == b""
            writer.transport.abort()

    with pytest.raises(AssertionError, match="b'z' == b'y'"):
        await ask()


async def test_a_peer_that_goes_is_no_failure() -> None:
    async with serving(keep_open) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await reader.read(1) == b"x"
        writer.transport.abort()
