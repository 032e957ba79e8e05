"""Row 13: heartbeats make the gateway call bases only, and each place for one base."""

from pathlib import Path

import pytest

from tests.integration.http_gateway.raw import exchange, heartbeat_body, request
from tests.security.http_stage import stage

FORBIDDEN = (22, 80, 443, 1023, 6443, 10250, 10255, 10256, 2379, 2380)


@pytest.mark.parametrize(("listed", "answer"), [("", 400), ("1-1023,6443,2379-2380,10250-10256", 200)])
async def test_ports_of_others_are_refused_unless_listed(tmp_path: Path, listed: str, answer: int) -> None:
    async with stage(tmp_path, HTTP_TUNNEL_ALLOWED_PORTS=listed) as scene:
        for port in FORBIDDEN:
            beat = request(heartbeat_body(f"base-{port}", port=port))
            said = await exchange(scene.gateway.port, beat)
            assert said.status == answer, port
            assert ("HTTP_TUNNEL_ALLOWED_PORTS" in said.body.decode()) is (answer == 400)
        beat = request(heartbeat_body("base-30000", port=30000))
        assert (await exchange(scene.gateway.port, beat)).status == 200
        refused = await scene.count('koupleless_listener_refused_total{listener="bases",reason="address"}')
        assert refused == (len(FORBIDDEN) if answer == 400 else 0)
        assert ("below 1024" in scene.log()) is (answer == 400)


async def test_one_address_and_port_is_of_one_base(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        port = scene.gateway.port
        assert (await exchange(port, request(heartbeat_body("first")))).status == 200
        for number in range(50):
            said = await exchange(port, request(heartbeat_body(f"invented-{number}")))
            assert said.status == 409
            assert b"127.0.0.1:1238 is base first's" in said.body
        assert (await exchange(port, request(heartbeat_body("invented", "::ffff:127.0.0.1")))).status == 409
        assert (await exchange(port, request(heartbeat_body("first")))).status == 200
        assert (await exchange(port, request(heartbeat_body("other", port=1239)))).status == 200
        await scene.stream.report("heartbeat", "other")
        assert {report.base_id for report in scene.stream.matching("heartbeat")} == {"first", "other"}
        assert await scene.count('koupleless_listener_refused_total{listener="bases",reason="address_in_use"}') == 51
        assert "is base first's" in scene.log()
