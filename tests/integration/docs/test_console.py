"""The pages show what really happens: every console block that is not marked is run, and its output compared.

One quick start serves all blocks, in the order in which they are read: README.md,
then the other pages. Times, ages and identifiers that differ from run to run are
not compared, nor is the width of columns.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.programs import Programs, status
from tests.unit.docs.pages import ROOT, Block, blocks

RUN = [block for block in blocks() if block.why is None]
WITHIN = 60.0


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Run the quick start on free ports; the environment in which commands reach it."""
    folder = tmp_path_factory.mktemp("quickstart")
    with Programs(folder) as programs:
        ports = {
            name: str(programs.port())
            for name in ("GRPC_PORT", "HTTP_TUNNEL_LISTEN_PORT", "HEALTH_PORT", "METRICS_PORT", "REPORT_PORT")
        }
        server = programs.program(
            "quickstart", "modulecontroller", "quickstart", "--data-dir", str(folder / "data"), environ=ports
        )
        server.start()
        server.wait_until(lambda: status(f"http://127.0.0.1:{ports['HEALTH_PORT']}/readyz") == 200, within=WITHIN)
        environ = {
            **os.environ,
            **ports,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "MCTL_SERVER": f"127.0.0.1:{ports['GRPC_PORT']}",
        }
        run("mctl wait --for=ready vnode/base-1 vnode/base-2", environ)
        yield environ


def run(command: str, environ: dict[str, str]) -> str:
    """Run a command as it is typed; return what it prints."""
    ports = {"HEALTH_PORT": 8081, "METRICS_PORT": 9090, "HTTP_TUNNEL_LISTEN_PORT": 7777, "REPORT_PORT": 8080}
    for name, port in ports.items():
        command = command.replace(f"127.0.0.1:{port}", f"127.0.0.1:{environ[name]}")
    typed = command.replace(".venv/bin/", "")
    done = subprocess.run(
        ["bash", "-c", typed], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=WITHIN, check=False
    )
    return done.stdout + done.stderr


def comparable(text: str) -> list[str]:
    """Return lines without what differs from run to run."""
    for pattern, name in (
        (r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME"),
        (r"\d+\.\d+ s\b", "SECONDS"),
        (r"\b\d+[smhd]\b", "AGE"),
        (r"127\.0\.0\.1:\d+", "ADDRESS"),
    ):
        text = re.sub(pattern, name, text)
    return [" ".join(line.split()) for line in text.splitlines()]


@pytest.mark.parametrize("block", RUN, ids=lambda block: block.name)
def test_a_block_shows_what_happens(block: Block, environ: dict[str, str]) -> None:
    if "curl " in block.text and shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    for command, output in block.commands():
        assert comparable(run(command, environ)) == comparable(output), f"{block.name}: {command}"
