"""Who takes the risk of gRPC without TLS is reminded of it. That doctor does, too, is shown by its own tests."""

import json
from pathlib import Path

from tests.programs import ControlPlane, Programs, ask


def test_plaintext_beyond_this_machine_is_said_in_the_log_and_by_readyz(tmp_path: Path) -> None:
    with Programs(tmp_path) as programs:
        insecure = {"GRPC_HOST": "0.0.0.0", "GRPC_INSECURE": "true"}
        control_plane = ControlPlane(programs, EMBEDDED_DB=str(tmp_path / "cluster.db"), **insecure).start()
        assert ask(f"http://127.0.0.1:{control_plane.health}/readyz?verbose") == (
            200,
            "ok\ngRPC: without TLS, tokens can be read on the way (GRPC_INSECURE=true)\n",
        )
        lines = [json.loads(line) for line in control_plane.server.log.read_text().splitlines()]
        assert [each["level"] for each in lines if "GRPC_INSECURE=true" in each["event"]] == ["warning"]
