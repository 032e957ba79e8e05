"""Following deployment.md on a clean cluster, from the first block to the last, does what it shows.

kube-apiserver, scheduler, controller-manager, kubectl and the manifests are the real ones, and Pods run under the
shipped service account; only containers are processes of this machine (tests/integration/deploy/kubelet.py).
"""

from collections.abc import Iterator

import pytest

from tests.integration.docs.shell import check
from tests.integration.docs.stage import Stage, blocks_of, stage
from tests.servers.fetch import Unavailable
from tests.servers.fixtures import not_run
from tests.unit.docs.pages import Block

pytestmark = [pytest.mark.kubernetes, pytest.mark.mosquitto, pytest.mark.timeout(300)]

WITHIN = 150.0
FORBIDDEN = 403


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The cluster on which the page is followed."""
    try:
        with stage(tmp_path_factory.mktemp("operator")) as ready:
            yield ready
    except Unavailable as error:
        not_run("kubernetes", str(error))


@pytest.mark.parametrize("block", blocks_of("deployment.md"), ids=lambda block: block.name)
def test_a_block_does_what_it_shows(operator: Stage, block: Block) -> None:
    check(block, operator.environ(), operator.folder, within=WITHIN, here=operator.here())
    if "delete namespace" not in block.text:
        refused = [event for event in operator.cluster.audited() if event["responseStatus"]["code"] == FORBIDDEN]
        assert not refused, "the shipped roles give too little"
