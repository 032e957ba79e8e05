"""Row 12: only bases with a token, or at their own address, are heard; TLS on the port for bases."""

import asyncio
import ssl
from pathlib import Path

import pytest
import trustme

from service.tokens import Key
from tests.certificates import issued
from tests.integration.http_gateway.raw import exchange, heartbeat_body, request
from tests.programs import Mctl, SimulatedBase
from tests.security.http_stage import Stage, eventually, stage

NEW, OLD = (letter * 40 for letter in "no")


def token(key: str, base: str = "base-1") -> str:
    return Key(key.encode()).token(base)


async def status(stage: Stage, base: str, path: str) -> int:
    return (await exchange(stage.gateway.port, request(heartbeat_body(base), f"/t/{path}/heartbeat"))).status


async def test_a_token_ends_with_its_key_and_is_for_its_base_alone(tmp_path: Path) -> None:
    """Which tokens there are is in tests/security/matrix."""
    keys = tmp_path / "keys"
    keys.write_text(f"{NEW}\n{OLD}\n")
    async with stage(tmp_path, HTTP_TUNNEL_TOKEN_KEYS=str(keys)) as scene:
        assert await status(scene, "base-1", token(OLD)) == 200
        assert await status(scene, "base-1", token(NEW, "base-2")) == 403
        question = request(b'{"identity":"base-1"}', f"/t/{token(NEW, 'base-2')}/queryBaseline")
        assert (await exchange(scene.gateway.port, question)).status == 403

        # Taking a key away ends its tokens, without a restart.
        keys.write_text(NEW)

        async def ended() -> bool:
            return await status(scene, "base-1", token(OLD)) == 401

        await eventually(ended)
        assert await status(scene, "base-1", token(NEW)) == 200
        assert {report.base_id for report in scene.stream.matching("heartbeat")} == {"base-1"}


@pytest.mark.parametrize(("check", "answer"), [("enforce", 403), ("off", 200)])
async def test_the_peer_is_who_it_says(tmp_path: Path, check: str, answer: int) -> None:
    async with stage(tmp_path, HTTP_TUNNEL_PEER_CHECK=check) as scene:
        port = scene.gateway.port
        assert (await exchange(port, request(heartbeat_body("a", "127.0.0.1")))).status == 200
        assert (await exchange(port, request(heartbeat_body("a", "::ffff:127.0.0.1")))).status == 200
        assert (await exchange(port, request(heartbeat_body("b", "127.0.0.2")))).status == answer
        refused = await scene.count('koupleless_listener_refused_total{listener="bases",reason="peer"}')
        assert refused == (answer == 403)


async def serial(port: int, ca: trustme.CA) -> bytes:
    context = ssl.create_default_context()
    ca.configure_trust(context)
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    shown: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    return shown


async def test_an_unmodified_base_over_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a token that mctl made, of a certificate that is renewed; plain text and junk get nothing."""
    ca = trustme.CA()
    files = issued(tmp_path, ca, client_ca=False)
    keys = tmp_path / "keys"
    keys.write_text(NEW)
    made = await asyncio.to_thread(
        Mctl("127.0.0.1:1", tmp_path), "token", "create", "--base", "base-1", "--keys", str(keys)
    )
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.crt"))
    async with stage(
        tmp_path,
        HTTP_TUNNEL_CRT_PATH=files.crt.path,
        HTTP_TUNNEL_KEY_PATH=files.key.path,
        HTTP_TUNNEL_TOKEN_KEYS=str(keys),
    ) as scene:
        port = scene.gateway.port
        base = SimulatedBase(scene.programs, f"https://127.0.0.1:{port}/t/{made.strip()}", "base-1")
        await asyncio.to_thread(base.start)
        assert (await scene.stream.report("heartbeat", "base-1")).heartbeat.address.port == base.port

        for junk in (request(heartbeat_body()), b"\x16\x03\x01\x02\x00\x01" * 100):
            with pytest.raises((OSError, ValueError, IndexError)):
                await exchange(port, junk)
        assert await scene.count('koupleless_listener_refused_total{listener="bases",reason="handshake"}') == 2

        before = await serial(port, ca)
        issued(tmp_path, ca, client_ca=False)

        async def renewed() -> bool:
            return await serial(port, ca) != before

        await eventually(renewed)
        beats = len(scene.stream.reports)
        await scene.stream.report("heartbeat", "base-1", after=beats)
        assert made.strip() not in scene.log()
        assert "Traceback" not in scene.log()


async def test_idle_handshakes_hold_no_place_for_long(tmp_path: Path) -> None:
    """Connections that never shake hands count as connections, and end."""
    ca = trustme.CA()
    files = issued(tmp_path, ca, client_ca=False)
    async with stage(tmp_path, HTTP_TUNNEL_CRT_PATH=files.crt.path, HTTP_TUNNEL_KEY_PATH=files.key.path) as scene:
        port = scene.gateway.port
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(100)]
        async with asyncio.timeout(1):
            await serial(port, ca)
        assert await scene.count('koupleless_listener_connections{listener="bases"}') >= 100
        async with asyncio.timeout(20):
            for reader, writer in idle:
                assert await reader.read() == b""
                writer.close()

        async def free() -> bool:
            return await scene.count('koupleless_listener_connections{listener="bases"}') == 0

        await eventually(free)
