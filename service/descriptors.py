"""What the file descriptors of a process are for: each kind of connection has its share, and takes none of another.

The limit is that of the process (ulimit -n), which service.process raises to what the machine allows.
"""

import resource
import sys

OWN = 256
"""Files, and connections that the program itself opens, such as those to the API server."""
CALLERS = 2_048
"""Connections to its gRPC server."""
SHARE = 8
"""Where descriptors are few, an eighth of them for each of these."""


def of_callers() -> int:
    """Return how many connections the gRPC server may have."""
    return _share(CALLERS, _limit())


def of_listeners() -> int:
    """Return how many connections the other ports may have together: what is left."""
    limit = _limit()
    return limit - _share(OWN, limit) - _share(CALLERS, limit)


def _share(most: int, limit: int) -> int:
    return min(most, limit // SHARE)


def _limit() -> int:
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if limit == resource.RLIM_INFINITY else limit
