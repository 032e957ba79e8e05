"""A server that keeps its context shows the certificate of the moment: each loop, TLS 1.2 and 1.3, no server name."""

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
import uvloop

from service.tls import Certificates
from tests.certificates import issued
from tests.serving import serving

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


async def serial(port: int, ca: trustme.CA, version: ssl.TLSVersion) -> bytes:
    """Return the certificate that a server shows, which has to be one of the CA."""
    context = ssl.create_default_context()
    context.minimum_version = context.maximum_version = version
    ca.configure_trust(context)
    # An address sends no server name.
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="127.0.0.1")
    shown: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    return shown


async def say_nothing(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Close at once."""


async def renewed(folder: Path, version: ssl.TLSVersion) -> None:
    ca = trustme.CA()
    certificates = Certificates(issued(folder, ca, client_ca=False), "test", look_every=0.05)
    await certificates.load()
    async with serving(say_nothing, tls=certificates.following_context()) as port:
        following = asyncio.create_task(certificates.follow())
        before = await serial(port, ca, version)
        assert await serial(port, ca, version) == before
        issued(folder, ca)
        async with asyncio.timeout(10):
            await certificates.changed.wait()
        assert await serial(port, ca, version) != before
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS)
def test_a_renewed_certificate_is_shown(
    tmp_path: Path, loop: Callable[[], asyncio.AbstractEventLoop], version: ssl.TLSVersion
) -> None:
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(renewed(tmp_path, version))
