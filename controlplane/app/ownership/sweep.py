"""Leftovers of bases that are gone: Leases without a Node whose holder ended.

A Lease that nobody holds and that keeps records is no leftover at once: the base may come back with modules that are
ours, and its Node with what others put on it. It is kept for ``RECORD_KEPT``.
"""

import structlog

from controlplane.app.ownership.leases import LeaseKeeper
from controlplane.app.ownership.records import are_worth_keeping
from controlplane.app.ports import ClusterError, NotFound
from controlplane.domain.identity import base_of_node
from controlplane.domain.objects import Lease
from controlplane.domain.times import parse_time

log = structlog.get_logger(__name__)

RECORD_KEPT = 7 * 24 * 3600.0
"""Seconds for which the records of a base that is gone are kept."""
MOST_RECORDS = 20_000
"""Records of bases that are gone; beyond that the oldest are removed."""


async def sweep(keeper: LeaseKeeper) -> None:
    """Look once at all Leases, and remove those that are left over of bases that the roster does not know."""
    leases = keeper.cluster.leases
    kept = sorted(lease.renew_time for lease in leases.all() if is_record(lease))
    oldest = kept[-MOST_RECORDS] if len(kept) > MOST_RECORDS else ""
    for key in [f"{lease.namespace}/{lease.name}" for lease in leases.all()]:
        # Looked up again: much may have happened since the last removal.
        lease = leases.get(key)
        if lease is None or not _left_over(keeper, lease, oldest):
            continue
        log.info("lease of a base that is gone removed", lease=lease.name)
        try:
            await keeper.cluster.delete_lease(lease)
        except NotFound:
            continue
        except ClusterError as error:
            # It costs nothing but a line in a list; the next sweep tries again.
            log.warning("lease not removed", lease=lease.name, cause=str(error))


def _left_over(keeper: LeaseKeeper, lease: Lease, oldest: str) -> bool:
    base, roster = base_of_node(lease.name, keeper.env), keeper.roster
    if base is None or roster.serving(base) or base in roster.unserved() or keeper.wait(base) > 0:
        return False
    if keeper.cluster.nodes.get(lease.name) is not None or not keeper.members.mine(lease.name):
        return False
    if not is_record(lease) or lease.renew_time < oldest:
        return True
    ended = parse_time(lease.renew_time)
    return ended is not None and keeper.clock.wall() - ended >= RECORD_KEPT


def is_record(lease: Lease) -> bool:
    """Return whether a Lease stands only for the records of a base that is gone."""
    return not lease.holder and are_worth_keeping(lease.annotations)
