"""A stream of bytes is split into the lines of a watch."""

import asyncio

import aiohttp
import pytest
from aiohttp.base_protocol import BaseProtocol
from hypothesis import given
from hypothesis import strategies as st

from controlplane.app.ports import Transient
from controlplane.kube.connections import Request, Sending
from controlplane.kube.transport import Stream


async def lines(pieces: list[bytes], limit: int) -> list[bytes]:
    """Return the lines of a stream whose bytes come in pieces, without their ends."""
    protocol = BaseProtocol(asyncio.get_running_loop())
    protocol.connection_made(asyncio.Transport())
    reader = aiohttp.StreamReader(protocol, 2**16)
    stream = Stream(Request("watch", "nodes", "/"), Sending(), reader, None)

    async def feed() -> None:
        for piece in pieces:
            reader.feed_data(piece)
            await asyncio.sleep(0)
        reader.feed_eof()

    feeding = asyncio.create_task(feed())
    found = [line.rstrip(b"\n") async for line in stream.lines(limit)]
    await feeding
    return found


@given(
    st.lists(st.binary(min_size=1, max_size=20).filter(lambda line: b"\n" not in line and line.strip()), max_size=8),
    st.data(),
)
def test_the_lines_are_the_same_however_the_bytes_come(sent: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(line + b"\n" for line in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert asyncio.run(lines(pieces, 1000)) == sent


async def test_an_unfinished_line_waits_and_empty_ones_are_ignored() -> None:
    assert await lines([b"ab", b"c\n\n\nd", b"\n"], 100) == [b"abc", b"d"]


@pytest.mark.parametrize("pieces", [[b"x" * 11], [b"x" * 6, b"x" * 6], [b"x" * 11 + b"\n"]])
async def test_a_line_beyond_the_limit_is_refused(pieces: list[bytes]) -> None:
    with pytest.raises(Transient, match="a line is too long"):
        await lines(pieces, 10)
