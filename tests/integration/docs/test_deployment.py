"""Following the pages on a clean cluster, from the first block to the last, does what they show.

kube-apiserver, scheduler, controller-manager, kubectl and the manifests are the real
ones, and Pods run under the shipped service account; only containers are processes
of this machine (tests/integration/deploy/kubelet.py).
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.docs.shell import check
from tests.integration.docs.stage import PAGES, Stage, stage
from tests.servers.fetch import Unavailable
from tests.servers.fixtures import not_run
from tests.unit.docs.pages import Block, blocks

pytestmark = [pytest.mark.kubernetes, pytest.mark.mosquitto, pytest.mark.timeout(300)]

RUN = [block for block in blocks() if block.why is None and block.page.name in PAGES]
WITHIN = 150.0


@pytest.fixture(scope="module")
def followed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The cluster on which a page is followed; each page has its own."""
    try:
        with stage(tmp_path_factory.mktemp("operator")) as ready:
            yield ready
    except Unavailable as error:
        not_run("kubernetes", str(error))


@pytest.mark.parametrize(
    ("followed", "block"),
    [pytest.param(block.page.name, block, id=block.name) for block in RUN],
    indirect=["followed"],
    scope="module",
)
def test_a_block_does_what_it_shows(followed: Stage, block: Block) -> None:
    check(block, followed.environ(), followed.folder, within=WITHIN)
