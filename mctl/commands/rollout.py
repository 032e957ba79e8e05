"""mctl rollout status: follows a workload or module until all of it is ready."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Annotated

import typer

from mctl.commands.completion import base_names
from mctl.errors import Refused, TimedOut, Usage
from mctl.invocation import Selector, connected, seconds
from mctl.records import Ref
from mctl.rollouts import WORDS, Rollout, Words
from mctl.rpc.client import Client, Target
from mctl.text import clean

app = typer.Typer(no_args_is_help=True, help="Follow rollouts of workloads and modules.")

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 1.0
_LAST_LOOK = 1.0


@app.callback()
def group() -> None:
    """Follow rollouts of workloads and modules."""


@app.command()
@connected
def status(
    client: Client,
    subject: Annotated[
        str,
        typer.Argument(
            metavar="KIND/NAME", help="deployment/NAME, daemonset/NAME or module/NAME[:VERSION].", show_default=False
        ),
    ],
    base: Annotated[
        str,
        typer.Option(
            "--base", metavar="IDENTITY", help="Modules: on this base or Node name.", autocompletion=base_names
        ),
    ] = "",
    selector: Selector = "",
    everywhere: Annotated[bool, typer.Option("--all", help="Modules: on all bases.")] = False,
    namespace: Annotated[
        str, typer.Option("--namespace", "-n", metavar="NS", help="Namespace of the workload.")
    ] = "default",
    timeout: Annotated[
        float,
        typer.Option(
            "--timeout", metavar="DURATION", parser=seconds, show_default="10m", help="Longest to wait: 30s, 5m."
        ),
    ] = 600.0,
) -> None:
    """Follow a rollout until it is done; a module without --base, --selector or --all where Pods ask for it.

    Ends with code 1 when it cannot get on without a change, with code 4 when it is not done in time.
    """
    kind, _, name = subject.partition("/")
    if kind not in WORDS or not name:
        raise Usage(f"{subject!r} has no rollout: write deployment/NAME, daemonset/NAME or module/NAME[:VERSION]")
    chosen = sum(map(bool, (base, selector, everywhere)))
    if chosen > 1 or (chosen and kind != "module"):
        raise Usage("say where a module is rolled out with one of --base IDENTITY, --selector SELECTOR and --all")
    if kind == "module":
        biz, _, version = name.partition(":")
        target = Target(base=base, selector=selector) if chosen else None

        def look(limit: float) -> Rollout:
            return client.within(limit).module_rollout(biz, version, target)

    else:
        ref = Ref("apps/v1", {"deployment": "Deployment", "daemonset": "DaemonSet"}[kind], namespace, name)

        def look(limit: float) -> Rollout:
            return client.within(limit).workload_rollout(ref)

    follow(look, WORDS[kind], name, timeout, told=lambda line: typer.echo(clean(line)))


def follow(
    look: Callable[[float], Rollout],
    words: Words,
    name: str,
    timeout: float,
    *,
    told: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Return when the rollout is done; told gets a line for each thing that is new.

    look is given the seconds that it may take. Raises Refused when the rollout does
    not get on by itself, TimedOut after timeout seconds.
    """
    deadline = clock() + timeout
    pause = _FIRST_PAUSE
    known: set[str] = set()
    last = ""
    while True:
        rollout = look(max(_LAST_LOOK, deadline - clock()))
        line = words.progress(name, rollout)
        if line != last:
            told(line)
            last, pause = line, _FIRST_PAUSE
        if rollout.done:
            return
        troubles = [str(trouble) for trouble in rollout.troubles]
        if rollout.failure:
            raise Refused(f'{words.kind} "{name}" failed: {rollout.failure}')
        for trouble in troubles:
            if trouble not in known:
                told(trouble)
        known = set(troubles)
        remaining = deadline - clock()
        if remaining <= 0:
            raise TimedOut(f"timed out after {timeout:g}s: {line}", *troubles)
        sleep(min(remaining, random.uniform(pause / 2, pause)))  # noqa: S311 - jitter
        pause = min(_LONGEST_PAUSE, pause * 1.5)
