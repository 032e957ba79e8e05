"""What commands that talk to the server have in common: client, deadline, options, and what completes them."""

import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from functools import update_wrapper
from typing import Annotated, Any, Concatenate, ParamSpec

import typer

from mctl import connection
from mctl.errors import CommandError
from mctl.kinds import ItemKind, M
from mctl.output import Format, Printer
from mctl.rpc.client import ToolingClient
from service.wording import clean

P = ParamSpec("P")
Printing = Callable[Concatenate[ToolingClient, Printer[M], P], None]

DEFAULT_REQUEST_TIMEOUT = 10.0

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|)")
_LONGEST = 7 * 24 * 3600.0
_COMPLETED_WITHIN = 1.0
_MOST_COMPLETED = 200
_PASSED = ("client", "printer")
"""Parameters of commands that are no options."""


def seconds(value: str | float) -> float:
    """Return the seconds of a duration such as 500ms, 30s, 2m, 1h or 30. Raises BadParameter."""
    # typer hands defaults, which are seconds already, to the parser too.
    if isinstance(value, float):
        return value
    found = _DURATION.fullmatch(value.strip())
    duration = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if not 0.001 <= duration <= _LONGEST:
        raise typer.BadParameter(f"{value!r} is no duration from 1ms to 168h: write for example 500ms, 30s, 2m or 1h")
    return duration


def base_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the base identities that begin with incomplete; none when the server cannot be asked at once."""
    return _names(ctx, incomplete, lambda client: (vnode.base for vnode in client.vnodes()))


def replica_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the replicas whose names begin with incomplete; none when the server cannot be asked at once."""
    return _names(ctx, incomplete, lambda client: (replica.id for replica in client.replicas()))


def _names(ctx: typer.Context, incomplete: str, ask: Callable[[ToolingClient], Iterable[str]]) -> list[str]:
    try:
        access = connection.access(ctx, ctx.params, attended=False, within=_COMPLETED_WITHIN)
        with ToolingClient(access, _COMPLETED_WITHIN) as client:
            names = [name for name in ask(client) if name.startswith(incomplete)]
    except (typer.BadParameter, CommandError):
        return []
    return [name for name in names[:_MOST_COMPLETED] if clean(name) == name]


def duration_option(name: str, text: str, default: str | bool = False) -> Any:
    """Return an option that is a duration; default is how its default is shown."""
    return typer.Option(name, metavar="DURATION", parser=seconds, show_default=default, help=text)


_SHOWN_TIMEOUT = f"{DEFAULT_REQUEST_TIMEOUT:g}s"
_FOR_AN_ANSWER = "Longest to wait for an answer, pages and retries included"

RootTimeout = Annotated[
    float, duration_option("--request-timeout", f"{_FOR_AN_ANSWER}: 500ms, 10s, 2m.", _SHOWN_TIMEOUT)
]
_Timeout = Annotated[
    float | None, duration_option("--request-timeout", f"{_FOR_AN_ANSWER} (default {_SHOWN_TIMEOUT}).")
]

All = Annotated[bool, typer.Option("--all", help="Modules: on all bases.")]
Base = Annotated[
    str,
    typer.Option("--base", metavar="IDENTITY", help="Modules: on this base or Node name.", autocompletion=base_names),
]
Selector = Annotated[
    str, typer.Option("--selector", "-l", metavar="SELECTOR", help="Label selector over the labels of the Nodes.")
]
OnVNode = Annotated[
    str,
    typer.Option("--vnode", metavar="NAME", help="Only on this Node name or base identity.", autocompletion=base_names),
]
Namespace = Annotated[str, typer.Option("--namespace", "-n", metavar="NS", help="Namespace of objects that name none.")]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Go on printing what changes.")]
ShowSecrets = Annotated[
    bool, typer.Option("--show-secrets", help="Print URLs with user, password and signatures, as who may read Pods.")
]
FILES: Any = typer.Option(
    "--filename", "-f", metavar="FILE|DIR|-", help="Manifest, folder of manifests, or - for standard input."
)
_Output = Annotated[Format, typer.Option("--output", "-o", help="How to print.")]
_NoHeaders = Annotated[bool, typer.Option("--no-headers", help="Print tables without their first line.")]


def warn_of_unreachable(replicas: Sequence[str]) -> None:
    """Say on standard error what an answer lacks when these replicas could not be asked."""
    one = len(replicas) == 1
    who, owns, knows = ("replica", "it owns", "it knows") if one else ("replicas", "they own", "they know")
    text = f"cannot ask {who} {', '.join(replicas)}: what {owns} is shown as the cluster has it"
    typer.echo(clean(f"mctl: warning: {text}, without what only {knows}"), err=True)


def connected(command: Callable[Concatenate[ToolingClient, P], None]) -> Callable[..., None]:
    """Turn a function whose first parameter is a client into a command that also takes server, user and timeout."""
    options = connection.parameters(shown=False)

    def run(ctx: typer.Context, request_timeout: _Timeout = None, **own: Any) -> None:
        access = connection.access(ctx, {option.name: own.pop(option.name) for option in options})
        timeout = request_timeout or ctx.find_root().params["request_timeout"]
        with ToolingClient(access, timeout, warn_of_unreachable) as client:
            command(client, **own)  # type: ignore[call-arg]  # typer passes all by name

    return _with_parameters(run, command, options)


def printing(kind: ItemKind[M]) -> Callable[[Printing[M, P]], Callable[..., None]]:
    """Return what turns a function whose parameters client and printer are for this kind into a command."""

    def decorate(command: Printing[M, P]) -> Callable[..., None]:
        def run(
            client: ToolingClient, output: _Output = Format.TABLE, no_headers: _NoHeaders = False, **own: Any
        ) -> None:
            command(client, Printer(kind, output, headers=not no_headers), **own)  # type: ignore[call-arg]

        return connected(_with_parameters(run, command))

    return decorate


def _with_parameters(
    run: Callable[..., None], command: Callable[..., None], more: Sequence[inspect.Parameter] = ()
) -> Callable[..., None]:
    """Give run the name, the help and the parameters of a command, without those that run passes to it itself."""
    own = inspect.signature(command, eval_str=True).parameters
    added = inspect.signature(run, eval_str=True).parameters
    shown = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in (*own.values(), *added.values(), *more)
        if parameter.name not in _PASSED and parameter.kind is not parameter.VAR_KEYWORD
    ]
    update_wrapper(run, command)
    run.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]  # what typer reads
    return run
