"""mctl describe: all that is known of one VNode or module, for people."""

from collections.abc import Sequence
from typing import Annotated

import typer
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

from mctl.errors import ItemNotFound
from mctl.invocation import OnVNode, ShowSecrets, base_names, connected
from mctl.kinds import EVENT, MODULE, PAST_OPERATION, VNODE, ItemKind, M, age_of, moment
from mctl.output import aligned
from mctl.rpc.client import ToolingClient
from mctl.text import rfc3339
from service.wording import clean

app = typer.Typer(no_args_is_help=True, help="Print all that is known of one VNode or module.")

_WIDTH = 14
_VNODE_FIELDS = "Name, Base, Base name, Version, Cluster, Tunnel, Address, Gateway, State, Ready, Message, Owner, Fence"
_VNODE_TIMES = {"Last seen": "last_seen", "Created": "created", "Known since": "since"}
_MODULE_FIELDS = "Name, Version, VNode, State, Ready, Management, Reason, Message, Operation, Restarts, Pod, URL"


@app.command()
@connected
def vnode(
    client: ToolingClient,
    name: Annotated[str, typer.Argument(help="Node name or base identity.", autocompletion=base_names)],
    show_secrets: ShowSecrets = False,
) -> None:
    """Print a VNode with its modules and recent events."""
    detail = client.call(client.stub.GetVNode, pb.GetVNodeRequest(name=name, show_secrets=show_secrets))
    _print_fields(VNODE, detail.vnode, _VNODE_FIELDS)
    for title, field in _VNODE_TIMES.items():
        time = moment(detail.vnode, field)
        _print_field(title, f"{rfc3339(time)} ({age_of(detail.vnode, field)} ago)" if time else "-")
    typer.echo("Labels:")
    for key, value in sorted(detail.vnode.labels.items()):
        typer.echo(f"  {clean(key)}={clean(value)}")
    _print_table("Modules", MODULE, detail.modules)
    _print_table("Events", EVENT, detail.events)


@app.command()
@connected
def module(
    client: ToolingClient,
    name: Annotated[str, typer.Argument(metavar="NAME[:VERSION]", help="Name of the module.")],
    vnode: OnVNode = "",
    show_secrets: ShowSecrets = False,
) -> None:
    """Print a module on each VNode that has it, with its last operations and recent events there."""
    biz, _, version = name.partition(":")
    found = [m for m in client.modules(vnode, biz, show_secrets=show_secrets) if version in ("", m.version)]
    if not found:
        raise ItemNotFound(f"there is no module {name}{f' on {vnode}' if vnode else ''}")
    past = list(client.operations(vnode, biz))
    events = client.events(vnode)
    for item in found:
        _print_fields(MODULE, item, _MODULE_FIELDS)
        done = [o for o in past if (o.vnode, o.name, o.version) == (item.vnode, item.name, item.version)]
        _print_table("Operations", PAST_OPERATION, done)
        mine = [e for e in events if (e.vnode, e.module) == (item.vnode, f"{item.name}:{item.version}")]
        _print_table("Events", EVENT, mine)


def _print_fields(kind: ItemKind[M], item: M, titles: str) -> None:
    for title in titles.split(", "):
        _print_field(title, kind.cell(item, title.upper().replace(" ", "-")))


def _print_field(title: str, value: str) -> None:
    typer.echo(f"{title + ':':<{_WIDTH}}{value}")


def _print_table(title: str, kind: ItemKind[M], items: Sequence[M]) -> None:
    if not items:
        typer.echo(f"{title}: none")
        return
    headers = [header for header in kind.headers(wide=True) if header != "VNODE"]
    rows = [[kind.cell(item, header) for header in headers] for item in items]
    typer.echo("\n".join([f"{title}:", *(f"  {line}" for line in aligned([headers, *rows]))]))
