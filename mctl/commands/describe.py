"""mctl describe: all that is known of one VNode or module, for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer

from mctl.columns import columns
from mctl.commands.completion import base_names
from mctl.errors import NotFound
from mctl.invocation import connected
from mctl.output import aligned
from mctl.records import Event, Module, PastOperation, R, VNode, rfc3339
from mctl.rpc.client import Client
from mctl.text import age, clean

app = typer.Typer(no_args_is_help=True, help="Print all that is known of one VNode or module.")

_WIDTH = 14


@app.command()
@connected
def vnode(
    client: Client,
    name: Annotated[str, typer.Argument(help="Node name or base identity.", autocompletion=base_names)],
) -> None:
    """Print a VNode with its modules and recent events."""
    detail = client.get_vnode(name)
    _print(_vnode(detail.vnode))
    _print(_table("Modules", Module, detail.modules))
    _print(_table("Events", Event, detail.events))


@app.command()
@connected
def module(
    client: Client,
    name: Annotated[str, typer.Argument(metavar="NAME[:VERSION]", help="Name of the module.")],
    vnode: Annotated[
        str,
        typer.Option(
            "--vnode", metavar="NAME", help="Only on this Node name or base identity.", autocompletion=base_names
        ),
    ] = "",
) -> None:
    """Print a module on each VNode that has it, with its last operations and recent events there."""
    biz, _, version = name.partition(":")
    found = [m for m in client.list_modules(vnode, biz) if version in ("", m.version)]
    if not found:
        raise NotFound(f"there is no module {name}{f' on {vnode}' if vnode else ''}")
    past = list(client.list_operations(vnode, biz))
    events = [e for e in client.watch_events(vnode) if e.module.partition(":")[0] == biz]
    for item in found:
        _print(_module(item))
        done = [o for o in past if (o.vnode, o.name, o.version) == (item.vnode, item.name, item.version)]
        _print(_table("Operations", PastOperation, done))
        mine = [e for e in events if e.vnode == item.vnode and e.module == f"{item.name}:{item.version}"]
        _print(_table("Events", Event, mine))


def _vnode(item: VNode) -> Iterator[str]:
    yield from _fields(
        ("Name", item.name),
        ("Base", item.base),
        ("Base name", item.base_name),
        ("Version", item.version),
        ("Cluster", item.cluster_name),
        ("Tunnel", item.tunnel),
        ("Address", item.address),
        ("Gateway", item.gateway),
        ("State", item.state),
        ("Ready", "yes" if item.ready else "no"),
        ("Message", item.message),
        ("Owner", item.owner),
        ("Fence", str(item.fence)),
        ("Last seen", _moment(item.last_seen)),
        ("Created", _moment(item.created)),
        ("Known since", _moment(item.since)),
    )
    yield "Labels:"
    yield from (f"  {clean(key)}={clean(value)}" for key, value in item.labels.items())


def _module(item: Module) -> Iterator[str]:
    yield from _fields(
        ("Name", item.name),
        ("Version", item.version),
        ("VNode", item.vnode),
        ("State", item.state),
        ("Ready", "yes" if item.ready else "no"),
        ("Management", item.management),
        ("Reason", item.reason),
        ("Message", item.message),
        ("Operation", item.operation),
        ("Restarts", str(item.restarts)),
        ("Pod", f"{item.namespace}/{item.pod}" if item.pod else ""),
        ("URL", item.url),
    )


def _fields(*fields: tuple[str, str]) -> Iterator[str]:
    return (f"{title + ':':<{_WIDTH}}{clean(value) or '-'}" for title, value in fields)


def _moment(time: datetime | None) -> str:
    return f"{rfc3339(time)} ({age(time, datetime.now(UTC))} ago)" if time else ""


def _table(title: str, record: type[R], items: Sequence[R]) -> Iterator[str]:
    if not items:
        yield f"{title}: none"
        return
    shown = [c for c in columns(record, wide=True) if c.header != "VNODE"]
    yield f"{title}:"
    yield from (
        f"  {line}" for line in aligned([[c.header for c in shown], *([c.cell(i) for c in shown] for i in items)])
    )


def _print(lines: Iterable[str]) -> None:
    typer.echo("\n".join(lines))
