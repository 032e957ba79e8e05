"""Following migration.md moves a base and its module from the original to us and back without any effect on them."""

import time
from collections.abc import Iterator

import pytest

from tests.everything import ready
from tests.integration.docs.migrating import HTTP, MODULE, Operator, operator
from tests.integration.docs.original import DEAD_AFTER, POD
from tests.integration.docs.shell import check, run
from tests.integration.docs.stage import blocks_of, stage
from tests.programs import eventually
from tests.servers.fetch import Unavailable
from tests.servers.fixtures import not_run
from tests.unit.docs.pages import Block

pytestmark = [pytest.mark.kubernetes, pytest.mark.mosquitto, pytest.mark.timeout(300)]

WITHIN = 150.0


@pytest.fixture(scope="module")
def moving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """The cluster on which the page is followed: the original has managed a base with a module for a while."""
    try:
        with stage(tmp_path_factory.mktemp("operator")) as clean, operator(clean, HTTP) as moving:
            run("kubectl apply -f original", clean.environ(), clean.folder, within=WITHIN)
            eventually(lambda: ready(clean.cluster.api.get(POD)), within=30, what="the original runs")
            moving.base.start()
            eventually(lambda: ready(moving.node()), within=30, what="the original's Node is Ready")
            moving.deploy_module()
            yield moving
    except Unavailable as error:
        not_run("kubernetes", str(error))


@pytest.mark.parametrize("block", blocks_of("migration.md"), ids=lambda block: block.name)
def test_a_block_does_what_it_shows_and_the_module_runs_on(moving: Operator, block: Block) -> None:
    node, pod = moving.node(), moving.pod()
    check(block, moving.stage.environ(), moving.stage.folder, within=WITHIN, here=moving.here())
    moving.check_untouched(node, pod)
    if moving.original.process is None:
        assert moving.base.orders() == [("install", MODULE)], "by the original, and nobody since"


def test_the_original_removes_nothing_later(moving: Operator) -> None:
    node, pod = moving.node(), moving.pod()
    time.sleep(DEAD_AFTER + 15)
    moving.check_untouched(node, pod)
    assert ready(moving.node())
    assert ready(moving.pod())
