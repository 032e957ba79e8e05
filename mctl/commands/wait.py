"""mctl wait: until VNodes, modules, Pods or workloads are ready or gone."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Annotated

import typer

from mctl import manifests
from mctl.errors import TimedOut, Usage
from mctl.invocation import OptionalFiles, Seconds, connected
from mctl.rpc.client import Client
from mctl.targets import ObjectTarget, Standing, WaitTarget, parse_target
from mctl.text import clean

_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0
_LAST_LOOK = 1.0


class Condition(Enum):
    """What is waited for."""

    READY = "ready"
    GONE = "gone"

    def met(self, standing: Standing) -> bool:
        """Tell whether a target that stands like this has it."""
        return standing.ready if self is Condition.READY else not standing.present


@connected
def wait(
    client: Client,
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KIND/NAME]...",
            show_default=False,
            help="vnode/NAME, module/NAME[:VERSION], pod/NAME, deployment/NAME or daemonset/NAME.",
        ),
    ] = None,
    condition: Annotated[Condition, typer.Option("--for", help="What to wait for.")] = Condition.READY,
    filename: OptionalFiles = None,
    base: Annotated[
        str, typer.Option("--base", metavar="IDENTITY", help="Modules: only on this base or Node name.")
    ] = "",
    namespace: Annotated[
        str, typer.Option("--namespace", "-n", metavar="NS", help="Namespace of objects that name none.")
    ] = "default",
    timeout: Seconds = 60.0,
) -> None:
    """Wait until all targets are ready, or gone. Ends with code 4 when they are not in time."""
    wanted = [parse_target(text, base=base, namespace=namespace) for text in targets or ()]
    if filename:
        wanted += [ObjectTarget(m.with_default_namespace(namespace).ref()) for m in manifests.read(filename)]
    if not wanted:
        raise Usage("say what to wait for: kind/name, or manifests with -f")
    until(client, wanted, condition, timeout, told=lambda line: typer.echo(clean(line)))


def until(
    client: Client,
    targets: Sequence[WaitTarget],
    condition: Condition,
    timeout: float,
    *,
    told: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Return when all targets meet the condition; told gets a line for each. Raises TimedOut after timeout seconds."""
    deadline = clock() + timeout
    pending = list(targets)
    pause = _FIRST_PAUSE
    while True:
        unmet: list[tuple[WaitTarget, Standing]] = []
        for target in pending:
            standing = target.look(client, max(_LAST_LOOK, deadline - clock()))
            if condition.met(standing):
                told(f"{target.title} {condition.value}")
            else:
                unmet.append((target, standing))
        if not unmet:
            return
        remaining = deadline - clock()
        if remaining <= 0:
            raise TimedOut(*(f"timed out after {timeout:g}s: {t.title} {s.why}" for t, s in unmet))
        pending = [target for target, _ in unmet]
        sleep(min(remaining, random.uniform(pause / 2, pause)))  # noqa: S311 - jitter
        pause = min(_LONGEST_PAUSE, pause * 1.5)
