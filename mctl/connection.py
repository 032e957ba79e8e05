"""The options that say which server is asked and as whom; they may stand before or after the command's name."""

import inspect
import logging
import os
import re
import sys
from collections.abc import Callable, Mapping, MutableMapping
from typing import Annotated, Any

import typer

from mctl.auth import places
from mctl.auth.access import ServerAccess
from mctl.auth.choice import DEFAULT_SERVER, Connection, ContextUser, Given, choose
from mctl.auth.headers import FETCH_WITHIN
from service.wording import clean

_SERVER = re.compile(r"(?:\[[0-9A-Fa-f:.%]+\]|[0-9A-Za-z._-]+):(\d{1,5})")
_PORTS = range(1, 65536)

_OPTIONS = {
    "server": ("HOST:PORT", f"gRPC address of the control plane (default: that of mctl login, else {DEFAULT_SERVER})"),
    "ca": ("FILE", "PEM file of the CA that the server's certificate must be from; turns TLS on"),
    "server_name": ("NAME", "Name that the server's certificate must have, when it is not the host of --server"),
    "token": ("TOKEN", "Bearer token; other users see command lines, so rather use a file or the variable"),
    "token_file": ("FILE", "File with a bearer token, read for each call"),
    "cert": ("FILE", "PEM file of a client certificate"),
    "key": ("FILE", "PEM file of its key"),
    "kubeconfig": ("FILES", "kubeconfig whose user you are"),
    "context": ("NAME", "Context of the kubeconfig whose user you are"),
}
"""What each field of Given is on a command line: metavar and help."""


def server_address(text: str) -> str:
    """Return text when it is host:port. Raises BadParameter."""
    found = _SERVER.fullmatch(text.strip())
    if not found or int(found[1]) not in _PORTS:
        raise typer.BadParameter(f"{text!r} is no host:port: write for example 127.0.0.1:50051 or [::1]:50051")
    return text.strip()


def parameters(*, shown: bool) -> list[inspect.Parameter]:
    """Return the options as parameters of a function that typer reads, in the help of a command where shown."""
    return [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default="",
            annotation=Annotated[
                str,
                typer.Option(
                    "--" + name.replace("_", "-"),
                    metavar=metavar,
                    hidden=not shown,
                    show_default=False,
                    help=f"{text}. [env: {places.variable(name)}]",
                ),
            ],
        )
        for name, (metavar, text) in _OPTIONS.items()
    ]


def explained(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command that takes **options these options, in its help."""
    own = inspect.signature(command, eval_str=True).parameters.values()
    named = [each.replace(kind=each.KEYWORD_ONLY) for each in own if each.kind is not each.VAR_KEYWORD]
    command.__signature__ = inspect.Signature(named + parameters(shown=True))  # type: ignore[attr-defined]
    return command


def taken(options: Mapping[str, Any]) -> Given:
    """Return what the options of one command say."""
    return Given(**{name: (options.get(name) or "").strip() for name in _OPTIONS})


def connection(*given: Given) -> Connection:
    """Return the server and the user that command line, environment, saved logins and this machine say.

    Raises BadParameter, UsageError.
    """
    logins = places.read_logins(places.logins_file(os.environ))
    chosen = choose((*given, places.from_environment(os.environ)), logins, places.on_this_machine(os.environ))
    server_address(chosen.server)
    return chosen


def access(
    ctx: typer.Context, own: Mapping[str, Any], *, attended: bool = True, within: float = FETCH_WITHIN
) -> ServerAccess:
    """Return access to the server with the options of a command, own, and those before its name.

    Raises BadParameter, UsageError, Unauthenticated.
    """
    chosen = connection(taken(own), taken(ctx.find_root().params))
    return opened(chosen, attended=attended, within=within)


def opened(chosen: Connection, *, attended: bool = True, within: float = FETCH_WITHIN) -> ServerAccess:
    """Return access to a server for a command, which warns on standard error. Raises UsageError, Unauthenticated."""
    if isinstance(chosen.bearer, ContextUser):
        _warn_on_standard_error()
    return ServerAccess(chosen, attended=attended, within=within)


def _warn_on_standard_error() -> None:
    """Have what kubeaccess warns of written where people read, not among the output."""
    import structlog  # few commands need it

    def line(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
        more = ", ".join(str(value) for name, value in event.items() if name != "event")
        return clean(f"mctl: warning: {event['event']}" + (f" ({more})" if more else ""))

    structlog.configure(
        processors=[line],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
