"""Every console block of the pages that is not marked prints what the page shows.

One quick start serves all blocks, in the order of reading: README.md, then the other pages. Pages about a Kubernetes
cluster are in test_deployment.
"""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.docs.shell import check, run
from tests.integration.docs.stage import PAGES as ON_KUBERNETES
from tests.programs import Programs, status
from tests.unit.docs.pages import ROOT, Block, blocks

RUN = [block for block in blocks() if block.why is None and block.page.name not in ON_KUBERNETES]
WITHIN = 60.0
PORTS = {"HEALTH_PORT": 8081, "METRICS_PORT": 9090, "HTTP_TUNNEL_LISTEN_PORT": 7777, "REPORT_PORT": 8080}
"""Ports that pages name."""


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Run the quick start on free ports; the environment in which commands reach it."""
    folder = tmp_path_factory.mktemp("quickstart")
    with Programs(folder) as programs:
        ports = {name: str(programs.port()) for name in (*PORTS, "GRPC_PORT")}
        server = programs.program(
            "quickstart", "modulecontroller", "quickstart", "--data-dir", str(folder / "data"), environ=ports
        )
        server.start()
        server.wait_until(lambda: status(f"http://127.0.0.1:{ports['HEALTH_PORT']}/readyz") == 200, within=WITHIN)
        environ = {
            **os.environ,
            "XDG_STATE_HOME": str(folder),
            **ports,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "MCTL_SERVER": f"127.0.0.1:{ports['GRPC_PORT']}",
        }
        run("mctl wait --for=ready vnode/base-1 vnode/base-2", environ, ROOT, within=WITHIN)
        yield environ


@pytest.mark.parametrize("block", RUN, ids=lambda block: block.name)
def test_a_block_shows_what_happens(block: Block, environ: dict[str, str]) -> None:
    if "curl " in block.text and shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    here = {f"127.0.0.1:{port}": f"127.0.0.1:{environ[name]}" for name, port in PORTS.items()}
    check(block, environ, ROOT, within=WITHIN, here=here)
