"""An API server that answers by a script, connection by connection."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from controlplane.kube.client import KubeApiServer
from kubeaccess.access import Access
from tests.fakes.kubeaccess import fixed
from tests.serving import serving

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter, int], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@asynccontextmanager
async def served(script: Script, **access: object) -> AsyncIterator[tuple[KubeApiServer, list[bytes]]]:
    """Serve with a script for each connection, which are numbered from 1; give a client, and the heads it sent."""
    heads: list[bytes] = []
    numbers = iter(range(1, 100))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = next(numbers)
        while head := await reader.readuntil(b"\r\n\r\n"):
            heads.append(head)
            length = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
            await reader.readexactly(int(length[0].split(b":")[1]) if length else 0)
            await script(reader, writer, number)
            await writer.drain()
            if writer.is_closing():
                return

    async with serving(serve) as port:
        client = KubeApiServer(fixed(Access(f"http://127.0.0.1:{port}/prefix/", **access)))  # type: ignore[arg-type]
        try:
            yield client, heads
        finally:
            await client.close()


def always(*sent: bytes, close: bool = False) -> Script:
    async def script(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _number: int) -> None:
        for part in sent:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.01)
        if close:
            writer.close()

    return script
