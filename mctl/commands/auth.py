"""mctl auth: who you are to the server, and what you may."""

from typing import Annotated, Any

import typer
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

from mctl.errors import ExitCode, UsageError
from mctl.invocation import connected
from mctl.rpc.client import ToolingClient
from mctl.text import joined
from service.wording import clean

app = typer.Typer(no_args_is_help=True, help="Who you are to the server, and what you may.")

METHODS = {"certificate": "a client certificate", "token": "a token", "local": "the token file of that machine"}


@app.command()
@connected
def whoami(client: ToolingClient) -> None:
    """Print as whom the server knows you."""
    for line in described(client.call(client.stub.WhoAmI, pb.WhoAmIRequest())):
        typer.echo(line)


@app.command("can-i")
@connected
def can_i(
    client: ToolingClient,
    verb: Annotated[str, typer.Argument(help="get, list, watch, create, update, patch or delete.")],
    resource: Annotated[
        str, typer.Argument(metavar="RESOURCE", help="RESOURCE[.GROUP][/NAME]: pods, deployments.apps, nodes/NAME.")
    ],
    namespace: Annotated[
        str, typer.Option("--namespace", "-n", metavar="NS", help="In this namespace (default: in all).")
    ] = "",
) -> None:
    """Print whether you may do something, as yes or no; ends with code 1 for no."""
    answer = client.call(client.stub.CanI, question(verb, resource, namespace))
    typer.echo(clean(joined("yes" if answer.allowed else "no", answer.reason)))
    if not answer.allowed:
        raise typer.Exit(ExitCode.REFUSED)


def described(caller: pb.WhoAmIResponse) -> list[str]:
    """Return who a caller is, for people, on a line for each thing."""
    known = METHODS.get(caller.method, caller.method)
    given: dict[str, Any] = {"User": caller.user, "Groups": ", ".join(caller.groups), "Known by": known}
    return [clean(f"{title + ':':<10}{value or '-'}") for title, value in given.items()]


def question(verb: str, resource: str, namespace: str) -> pb.CanIRequest:
    """Return the question whether we may do something to RESOURCE[.GROUP][/NAME]; raises UsageError."""
    kind, slash, name = resource.partition("/")
    plural, _, group = kind.partition(".")
    if not plural or (slash and not name):
        raise UsageError(f"{resource!r} is no resource: write RESOURCE, RESOURCE.GROUP or RESOURCE/NAME, such as pods")
    return pb.CanIRequest(verb=verb, group=group, resource=plural.lower(), namespace=namespace, name=name)
