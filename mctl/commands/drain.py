"""mctl drain: a replica gives its VNodes to the others, as before it is stopped or moved."""

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated

import typer
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

from mctl.errors import CommandError, UsageError
from mctl.invocation import connected, duration_option, replica_names
from mctl.pacing import Looks
from mctl.rpc.client import ToolingClient
from service.wording import clean

_TIMEOUT = 120.0


@connected
def drain(
    client: ToolingClient,
    replica: Annotated[
        str,
        typer.Argument(metavar="REPLICA", help="CLIENT_ID, as mctl get replicas shows.", autocompletion=replica_names),
    ],
    undo: Annotated[bool, typer.Option("--undo", help="Have it take VNodes again.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Return only when it owns no VNodes any more.")] = False,
    timeout: Annotated[float | None, duration_option("--timeout", "With --wait: longest to wait.", "2m")] = None,
) -> None:
    """Have a replica give its VNodes to the others and take none, until it ends or --undo.

    Modules run on; the replica stays and answers. With --wait this ends with code 4 when it is not done in time.
    """
    if undo and wait:
        raise UsageError("--undo and --wait exclude each other: a replica that takes VNodes again is not waited for")
    if timeout is not None and not wait:
        raise UsageError("--timeout says how long to wait: give --wait too")
    left = client.call(client.stub.DrainReplica, pb.DrainReplicaRequest(replica=replica, undo=undo)).vnodes
    title = clean(f"replica/{replica}")
    if undo:
        typer.echo(f"{title} takes VNodes again; it owns {left}")
        return
    typer.echo(f"{title} draining: it {_owns(left)}")
    if wait:
        looks = Looks(_TIMEOUT if timeout is None else timeout)
        try:
            for owned in owned_until_empty(lambda: client.within(looks.left).replicas(), replica, looks):
                _progress(f"{title} draining: it {_owns(owned)}")
        finally:
            _progress("")
        typer.echo(f"{title} drained")


def owned_until_empty(ask: Callable[[], Sequence[pb.Replica]], name: str, looks: Looks) -> Iterator[int]:
    """Yield how many VNodes a replica owns, when that changes, until it owns none or is not there any more.

    Raises CommandError when the replica takes VNodes again, TimedOut.
    """
    drained, last = False, -1
    for _ in looks:
        replica = next((one for one in ask() if one.id == name), None)
        if replica is None:
            return
        # Another replica that answers may not know of the drain yet, but not the other way round.
        if drained and replica.state == "active":
            raise CommandError(f"replica {name} takes VNodes again: somebody ended its drain")
        drained = drained or replica.state != "active"
        if drained and not replica.vnodes:
            return
        if replica.vnodes != last:
            last = replica.vnodes
            yield last
    raise looks.timed_out(
        f"replica {name} {_owns(last)}; it goes on draining, mctl get shards shows which VNodes are left"
    )


def _owns(vnodes: int) -> str:
    return f"still owns {vnodes} VNode{'s' * (vnodes != 1)}" if vnodes else "owns no VNodes"


def _progress(text: str) -> None:
    """Write over the line of progress on a terminal, and nothing elsewhere."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()
