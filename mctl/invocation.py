"""What all commands that talk to the server have in common: the server, the deadline, the output options.

--server and --request-timeout may stand before or after the command's name.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Concatenate, ParamSpec

import typer

from mctl.output import Format
from mctl.rpc.client import Client
from mctl.rpc.connection import Connection
from mctl.text import clean, duration, server_address

P = ParamSpec("P")

DEFAULT_SERVER = "127.0.0.1:50051"
DEFAULT_REQUEST_TIMEOUT = 10.0


def _server(text: str) -> str:
    try:
        return server_address(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def seconds(value: str | float) -> float:
    """Read the value of an option that is a duration, in seconds."""
    # typer hands defaults, which are seconds already, to the parser too.
    if isinstance(value, float):
        return value
    try:
        return duration(value)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


RootServer = Annotated[
    str,
    typer.Option(
        "--server", metavar="HOST:PORT", envvar="MCTL_SERVER", parser=_server, help="gRPC address of the control plane."
    ),
]
RootTimeout = Annotated[
    float,
    typer.Option(
        "--request-timeout",
        metavar="DURATION",
        parser=seconds,
        show_default=f"{DEFAULT_REQUEST_TIMEOUT:g}s",
        help="Longest to wait for an answer, pages and retries included: 500ms, 10s, 2m.",
    ),
]
Server = Annotated[
    str | None,
    typer.Option(
        "--server",
        metavar="HOST:PORT",
        parser=_server,
        help=f"gRPC address of the control plane; else MCTL_SERVER, else {DEFAULT_SERVER}.",
    ),
]
Timeout = Annotated[
    float | None,
    typer.Option(
        "--request-timeout",
        metavar="DURATION",
        parser=seconds,
        help=f"Longest to wait for an answer, pages and retries included (default {DEFAULT_REQUEST_TIMEOUT:g}s).",
    ),
]
Seconds = Annotated[
    float,
    typer.Option(
        "--timeout", metavar="DURATION", parser=seconds, show_default="60s", help="Longest to wait: 500ms, 60s, 5m."
    ),
]
Output = Annotated[Format, typer.Option("--output", "-o", help="How to print.")]
NoHeaders = Annotated[bool, typer.Option("--no-headers", help="Print tables without their first line.")]
Selector = Annotated[
    str, typer.Option("--selector", "-l", metavar="SELECTOR", help="Label selector over the labels of the Nodes.")
]
Files = Annotated[
    list[str],
    typer.Option(
        "--filename", "-f", metavar="FILE|DIR|-", help="Manifest, folder of manifests, or - for standard input."
    ),
]
OptionalFiles = Annotated[
    list[str] | None,
    typer.Option(
        "--filename",
        "-f",
        metavar="FILE|DIR|-",
        show_default=False,
        help="The objects of these manifests.",
    ),
]
Namespace = Annotated[
    str, typer.Option("--namespace", "-n", metavar="NS", help="Namespace of objects that name none themselves.")
]


def connection(ctx: typer.Context, server: str | None = None, timeout: float | None = None) -> Connection:
    """Return a connection as asked for after the command's name, else before it, else by MCTL_SERVER."""
    root = ctx.find_root().params
    return Connection(server or root["server"], timeout or root["request_timeout"])


def warn_of_silent(replicas: Sequence[str]) -> None:
    """Tell on standard error what an answer lacks when these replicas could not be asked."""
    who, owns, knows = (
        ("replica", "it owns", "it knows") if len(replicas) == 1 else ("replicas", "they own", "they know")
    )
    names = ", ".join(replicas)
    text = f"cannot ask {who} {names}: what {owns} is shown as the cluster has it, without what only {knows}"
    typer.echo(clean(f"mctl: warning: {text}"), err=True)


def connected(command: Callable[Concatenate[Client, P], None]) -> Callable[..., None]:
    """Turn a function whose first parameter is a Client into a command with --server and --request-timeout."""

    def run(ctx: typer.Context, server: str | None, request_timeout: float | None, **arguments: Any) -> None:
        channel = connection(ctx, server, request_timeout)
        try:
            command(Client(channel, warn_of_silent), **arguments)  # type: ignore[call-arg]  # typer passes all by name
        finally:
            channel.close()

    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
    keyword = inspect.Parameter.KEYWORD_ONLY
    signature = inspect.Signature(
        [
            inspect.Parameter("ctx", keyword, annotation=typer.Context),
            *(p.replace(kind=keyword) for p in own),
            inspect.Parameter("server", keyword, default=None, annotation=Server),
            inspect.Parameter("request_timeout", keyword, default=None, annotation=Timeout),
        ]
    )
    run.__signature__ = signature  # type: ignore[attr-defined]  # what typer reads
    run.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
    run.__doc__ = command.__doc__
    run.__name__ = command.__name__
    return run
