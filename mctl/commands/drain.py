"""mctl drain: a replica gives its VNodes to the others, as before it is stopped or moved."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from typing import Annotated

import typer

from mctl.commands.completion import replica_names
from mctl.errors import Refused, TimedOut, Usage
from mctl.invocation import connected, seconds
from mctl.records import Replica
from mctl.rpc.client import Client
from mctl.text import clean

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 1.0
_LAST_LOOK = 1.0
_TIMEOUT = 120.0


@connected
def drain(
    client: Client,
    replica: Annotated[
        str,
        typer.Argument(metavar="REPLICA", help="CLIENT_ID, as mctl get replicas tells.", autocompletion=replica_names),
    ],
    undo: Annotated[bool, typer.Option("--undo", help="Have it take VNodes again.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Return only when it owns no VNodes any more.")] = False,
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout", metavar="DURATION", parser=seconds, show_default="2m", help="With --wait: longest to wait."
        ),
    ] = None,
) -> None:
    """Have a replica give its VNodes to the others and take none, until it ends or --undo.

    Modules run on; the replica stays and answers. With --wait this ends with code 4 when it is not done in time.
    """
    if undo and wait:
        raise Usage("--undo and --wait exclude each other: a replica that takes VNodes again is not waited for")
    if timeout is not None and not wait:
        raise Usage("--timeout says how long to wait: give --wait too")
    left = client.drain(replica, undo=undo)
    title = clean(f"replica/{replica}")
    if undo:
        typer.echo(f"{title} takes VNodes again; it owns {left}")
        return
    typer.echo(f"{title} draining: it {_owns(left)}")
    if wait:
        line = _Line()
        try:
            until_empty(
                lambda limit: client.within(limit).list_replicas(),
                replica,
                _TIMEOUT if timeout is None else timeout,
                told=lambda owned: line.show(f"{title} draining: it {_owns(owned)}"),
            )
        finally:
            line.clear()
        typer.echo(f"{title} drained")


def until_empty(
    look: Callable[[float], list[Replica]],
    name: str,
    timeout: float,
    *,
    told: Callable[[int], None],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Return when the replica owns no VNodes or is not there any more; told is given how many it owns.

    look is given the seconds that it may take. Raises Refused when the replica takes
    VNodes again, TimedOut after timeout seconds.
    """
    deadline = clock() + timeout
    pause = _FIRST_PAUSE
    drained, last = False, -1
    while True:
        replica = next((one for one in look(max(_LAST_LOOK, deadline - clock())) if one.id == name), None)
        if replica is None:
            return
        # Another replica that answers may not have heard of the drain yet, but not the other way round.
        if drained and replica.state == "active":
            raise Refused(f"replica {name} takes VNodes again: somebody ended its drain")
        drained = drained or replica.state != "active"
        if drained and not replica.vnodes:
            return
        if replica.vnodes != last:
            last, pause = replica.vnodes, _FIRST_PAUSE
            told(last)
        remaining = deadline - clock()
        if remaining <= 0:
            raise TimedOut(
                f"timed out after {timeout:g}s: replica {name} {_owns(replica.vnodes)}; "
                "it goes on draining, mctl get shards tells which VNodes are left"
            )
        sleep(min(remaining, random.uniform(pause / 2, pause)))  # noqa: S311 - jitter
        pause = min(_LONGEST_PAUSE, pause * 1.5)


def _owns(vnodes: int) -> str:
    return f"still owns {vnodes} VNode{'s' * (vnodes != 1)}" if vnodes else "owns no VNodes"


class _Line:
    """A line of progress on a terminal that is written over, nothing elsewhere."""

    def __init__(self) -> None:
        self._stream = sys.stderr
        self._shown = False

    def show(self, text: str) -> None:
        if self._stream.isatty():
            self._shown = True
            self._stream.write(f"\r\x1b[K{text}")
            self._stream.flush()

    def clear(self) -> None:
        if self._shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
