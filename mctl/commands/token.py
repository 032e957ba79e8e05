"""mctl token: tokens with which bases call the HTTP gateway. Made here, without a server."""

import os
from pathlib import Path
from typing import Annotated

import typer

from mctl.errors import UsageError
from service.process import StartError
from service.tokens import read_keys

KEYS = "HTTP_TUNNEL_TOKEN_KEYS"

app = typer.Typer(help="Make tokens with which bases call the HTTP gateway.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Keep create a command of a group, also while it is the only one."""


@app.command()
def create(
    base: Annotated[str, typer.Option("--base", metavar="IDENTITY", help="Identity of the base that gets the token.")],
    keys: Annotated[
        str, typer.Option("--keys", metavar="FILE", help=f"File with the gateway's keys (default: what {KEYS} gives).")
    ] = "",
) -> None:
    """Print the token of one base, which begins with the id of its key. The first key makes it; no server is asked.

    The base is then configured with the URL http://GATEWAY:7777/t/TOKEN. To revoke its tokens, take a key away.
    """
    variable = "--keys" if keys else KEYS
    value = str(Path(keys).absolute()) if keys else os.environ.get(KEYS, "")
    if not value:
        raise UsageError(f"no key: name the gateway's file with --keys, or set {KEYS} as for the gateway")
    try:
        first, *_ = read_keys(variable, value)
        typer.echo(first.token(base))
    except (StartError, ValueError) as error:
        raise UsageError(str(error)) from None
