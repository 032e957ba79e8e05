"""mctl rollout: follows a workload or module until all of it is ready, and steers releases in batches."""

from collections.abc import Callable
from typing import Annotated
from uuid import uuid4

import typer
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

from mctl.commands.changes import target
from mctl.errors import CommandError, UsageError
from mctl.invocation import All, Base, Namespace, Selector, connected, duration_option
from mctl.kinds import object_ref
from mctl.pacing import Looks
from mctl.rpc.client import ToolingClient
from mctl.text import joined
from service.wording import clean

app = typer.Typer(no_args_is_help=True)


KINDS = {"deployment": ("deployment", "replicas"), "daemonset": ("daemon set", "pods"), "module": ("module", "bases")}
"""What kubectl calls a kind and its parts."""


@app.callback()
def group() -> None:
    """Follow rollouts of workloads and modules, and steer releases in batches."""


@app.command()
@connected
def status(
    client: ToolingClient,
    subject: Annotated[
        str,
        typer.Argument(
            metavar="KIND/NAME", help="deployment/NAME, daemonset/NAME or module/NAME[:VERSION].", show_default=False
        ),
    ],
    base: Base = "",
    selector: Selector = "",
    everywhere: All = False,
    namespace: Namespace = "default",
    timeout: Annotated[float, duration_option("--timeout", "Longest to wait: 30s, 5m.", "10m")] = 600.0,
) -> None:
    """Follow a rollout until it is done; a module without --base, --selector or --all where Pods ask for it.

    Ends with code 1 when it cannot get on without a change, with code 4 when it is not done in time.
    """
    word, _, name = subject.partition("/")
    if word not in KINDS or not name:
        raise UsageError(f"{subject!r} has no rollout: write deployment/NAME, daemonset/NAME or module/NAME[:VERSION]")
    chosen = sum(map(bool, (base, selector, everywhere)))
    if chosen > 1 or (chosen and word != "module"):
        raise UsageError("say where a module is rolled out with one of --base IDENTITY, --selector SELECTOR and --all")
    if word == "module":
        biz, _, version = name.partition(":")
        where = target(base, selector) if chosen else None
        request = pb.GetRolloutRequest(module=pb.ModuleRollout(name=biz, version=version, target=where))
    else:
        request = pb.GetRolloutRequest(workload=object_ref(word, namespace, name))
    looks = Looks(timeout)
    follow(lambda: client.within(looks.left).call(client.stub.GetRollout, request), word, name, looks)


Batched = Annotated[
    str, typer.Argument(metavar="deployment/NAME", help="A Deployment that is released in batches.", show_default=False)
]


@app.command()
@connected
def confirm(
    client: ToolingClient,
    subject: Batched,
    namespace: Namespace = "default",
    failed: Annotated[bool, typer.Option("--failed", help="Go on although the batch failed.")] = False,
) -> None:
    """Let a release in batches go on after the batch that it is at, which may still be under way."""
    workload, at = _releasing(client, subject, namespace)
    request = pb.ConfirmRolloutRequest(
        workload=workload, revision=at.revision, batch=at.batch, failed=failed, request_id=str(uuid4())
    )
    done = client.call(client.stub.ConfirmRollout, request)
    typer.echo(clean(f"{subject}: batch {done.batch} of revision {done.revision} confirmed"))


@app.command()
@connected
def abort(client: ToolingClient, subject: Batched, namespace: Namespace = "default") -> None:
    """Give up a release in batches: the Deployment goes back to the revision before, all bases at once."""
    workload, at = _releasing(client, subject, namespace)
    request = pb.AbortRolloutRequest(workload=workload, revision=at.revision, request_id=str(uuid4()))
    done = client.call(client.stub.AbortRollout, request)
    typer.echo(clean(f"{subject}: revision {done.revision} aborted"))


def _releasing(client: ToolingClient, subject: str, namespace: str) -> tuple[pb.ObjectRef, pb.BatchedRelease]:
    """Return a Deployment and the batch that it is at; raises CommandError where nothing is being released."""
    word, _, name = subject.partition("/")
    if word != "deployment" or not name:
        raise UsageError(f"{subject!r} is not released in batches: write deployment/NAME")
    workload = object_ref(word, namespace, name)
    found = client.call(client.stub.GetRollout, pb.GetRolloutRequest(workload=workload))
    if not found.HasField("batches"):
        raise CommandError(f"{subject} has no annotation module.koupleless.io/batches")
    if not found.batches.batch:
        raise CommandError(f"{subject}: {found.batches.message}")
    return workload, found.batches


def follow(ask: Callable[[], pb.GetRolloutResponse], kind: str, name: str, looks: Looks) -> None:
    """Print a line for each thing that is new until the rollout is done.

    Raises CommandError when it does not get on by itself, TimedOut.
    """
    title, parts = KINDS[kind]
    title, line = f'{title} "{name}"', ""
    troubles: list[str] = []
    batches = ""
    for _ in looks:
        rollout = ask()
        last, line = line, progress(title, parts, rollout)
        if line != last:
            typer.echo(clean(line))
        if rollout.done:
            return
        if rollout.failure:
            raise CommandError(f"{title} failed: {rollout.failure}")
        known, troubles = troubles, [_trouble(trouble) for trouble in rollout.troubles]
        for trouble in troubles:
            if trouble not in known:
                typer.echo(clean(trouble))
        said, batches = batches, rollout.batches.message
        if batches != said:
            typer.echo(clean(batches))
    raise looks.timed_out(line, details=troubles)


def progress(title: str, parts: str, rollout: pb.GetRolloutResponse) -> str:
    """Return what is waited for, or that nothing is."""
    if rollout.done:
        return f"{title} successfully rolled out"
    if not rollout.observed:
        return f"Waiting for {title} spec update to be observed..."
    if rollout.updated < rollout.desired:
        lacking = f"{rollout.updated} out of {rollout.desired} new {parts} have been updated"
    elif rollout.old:
        lacking = f"{rollout.old} old {parts} are pending termination"
    else:
        lacking = f"{rollout.available} of {rollout.updated} updated {parts} are available"
    return f"Waiting for {title} rollout to finish: {lacking}..."


def _trouble(trouble: pb.RolloutTrouble) -> str:
    """Return what keeps a rollout on one line: where, what, why."""
    where = " on ".join(filter(None, (trouble.pod and f"pod {trouble.pod}", trouble.vnode)))
    return joined(where, trouble.module, trouble.reason, trouble.message)
