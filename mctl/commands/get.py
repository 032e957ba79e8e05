"""mctl get: lists, single items, and their changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Annotated

import typer

from mctl.commands.completion import base_names, replica_names
from mctl.errors import NotFound, Usage
from mctl.following import follow, poll
from mctl.invocation import NoHeaders, Output, Selector, connected
from mctl.output import Format, Printer
from mctl.records import Change, Gateway, Module, R, Replica, Shard, VNode
from mctl.rpc.client import Client

app = typer.Typer(no_args_is_help=True, help="Print VNodes, modules, gateways, replicas or shards.")

_POLL_INTERVAL = 2.0

Name = Annotated[str, typer.Argument(metavar="[NAME]", show_default=False, help="Only the one of this name.")]
VNodeName = Annotated[
    str,
    typer.Argument(
        metavar="[NAME]", show_default=False, help="Only this Node name or base identity.", autocompletion=base_names
    ),
]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Go on printing what changes.")]
OnVNode = Annotated[
    str,
    typer.Option("--vnode", metavar="NAME", help="Only on this Node name or base identity.", autocompletion=base_names),
]


@connected
def vnodes(
    client: Client,
    name: VNodeName = "",
    selector: Selector = "",
    watch: Watch = False,
    output: Output = Format.TABLE,
    no_headers: NoHeaders = False,
) -> None:
    """Print VNodes: bases and how they are."""
    if name and selector:
        raise Usage("a name and --selector exclude each other: give one of them")
    printer = Printer(VNode, output, headers=not no_headers)
    if watch:
        changes = follow(
            lambda left: client.within(left).watch_vnodes(selector),
            lambda left: client.within(left).list_vnodes(selector),
            patience=client.patience,
        )
        _print_changes(printer, changes, lambda vnode: not name or name in (vnode.name, vnode.base))
        return
    printer.print_all([client.get_vnode(name).vnode] if name else client.list_vnodes(selector))


@connected
def modules(
    client: Client,
    name: Name = "",
    vnode: OnVNode = "",
    selector: Selector = "",
    unmanaged: Annotated[
        bool, typer.Option("--unmanaged", help="Only those without a Pod that the controller did not install.")
    ] = False,
    watch: Watch = False,
    output: Output = Format.TABLE,
    no_headers: NoHeaders = False,
) -> None:
    """Print modules: what runs, or should run, on which VNode."""
    if watch and selector:
        raise Usage("--watch and --selector exclude each other for modules: use --vnode, or watch VNodes")
    printer = Printer(Module, output, headers=not no_headers)
    if watch:
        changes = follow(
            lambda left: client.within(left).watch_modules(vnode, name, unmanaged=unmanaged),
            lambda left: client.within(left).list_modules(vnode, name, unmanaged=unmanaged),
            patience=client.patience,
        )
        _print_changes(printer, changes, lambda _: True)
        return
    items: Iterable[Module] = client.list_modules(vnode, name, unmanaged=unmanaged)
    if selector:
        selected = {v.name for v in client.list_vnodes(selector)}
        items = [m for m in items if m.vnode in selected]
    printer.print_all(_named("module", name, items, lambda module: module.name))


@connected
def gateways(
    client: Client,
    name: Name = "",
    watch: Watch = False,
    output: Output = Format.TABLE,
    no_headers: NoHeaders = False,
) -> None:
    """Print the gateways and what they do for all replicas."""
    printer = Printer(Gateway, output, headers=not no_headers)
    _show(printer, lambda: client.within().list_gateways(), name, watch=watch)


@connected
def replicas(
    client: Client,
    name: Name = "",
    watch: Watch = False,
    output: Output = Format.TABLE,
    no_headers: NoHeaders = False,
) -> None:
    """Print the replicas of the control plane: state, how many VNodes each owns, which tunnels it reaches."""
    printer = Printer(Replica, output, headers=not no_headers)
    _show(printer, lambda: client.within().list_replicas(), name, watch=watch)


@connected
def shards(
    client: Client,
    name: VNodeName = "",
    owner: Annotated[
        str,
        typer.Option("--owner", metavar="REPLICA", help="Only those of this replica.", autocompletion=replica_names),
    ] = "",
    watch: Watch = False,
    output: Output = Format.TABLE,
    no_headers: NoHeaders = False,
) -> None:
    """Print which replica owns which VNode, and since when."""
    printer = Printer(Shard, output, headers=not no_headers)

    def wanted(shard: Shard) -> bool:
        return not name or name in (shard.vnode, shard.base)

    if watch:
        _print_changes(printer, poll(lambda: client.within().list_shards(owner), _POLL_INTERVAL), wanted)
        return
    found = list(filter(wanted, client.list_shards(owner)))
    if name and not found:
        raise NotFound(f"there is no shard {name}{f' of replica {owner}' if owner else ''}")
    if owner and not found and all(replica.id != owner for replica in client.list_replicas()):
        raise NotFound(f"there is no replica {owner}")
    printer.print_all(found)


def _show(printer: Printer[R], snapshot: Callable[[], Iterable[R]], name: str, *, watch: bool) -> None:
    def title(record: R) -> str:
        return record.identity[-1]

    if watch:
        _print_changes(printer, poll(snapshot, _POLL_INTERVAL), lambda record: not name or title(record) == name)
        return
    printer.print_all(_named(printer.kind, name, snapshot(), title))


def _named(kind: str, name: str, items: Iterable[R], title: Callable[[R], str]) -> list[R]:
    found = [item for item in items if not name or title(item) == name]
    if name and not found:
        raise NotFound(f"there is no {kind} {name}")
    return found


def _print_changes(printer: Printer[R], changes: Iterator[Change[R]], wanted: Callable[[R], bool]) -> None:
    for change in changes:
        if wanted(change.item):
            printer.print_change(change)


for _command, _singular in (
    (vnodes, "vnode"),
    (modules, "module"),
    (gateways, "gateway"),
    (replicas, "replica"),
    (shards, "shard"),
):
    app.command(f"{_singular}s")(_command)
    app.command(_singular, hidden=True)(_command)
