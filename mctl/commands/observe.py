"""mctl events and baseline: what happened, and what a starting base would be given."""

from __future__ import annotations

from typing import Annotated

import typer

from mctl.commands.completion import base_names
from mctl.errors import Usage
from mctl.following import follow_events
from mctl.invocation import NoHeaders, Output, connected
from mctl.output import Format, Printer
from mctl.records import BaselineModule, Change, ChangeType, Event
from mctl.rpc.client import Client


@connected
def events(
    client: Client,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on printing new events.")] = False,
    vnode: Annotated[
        str,
        typer.Option("--vnode", metavar="NAME", help="Only of this VNode.", autocompletion=base_names),
    ] = "",
    output: Output = Format.TABLE,
    no_headers: NoHeaders = False,
) -> None:
    """Print recent events, oldest first: installs, uninstalls, failures, VNodes that come and go."""
    if output is Format.NAME:
        raise Usage("events have no names: use --output table, wide, json or yaml")
    printer = Printer(Event, output, headers=not no_headers)
    if not watch:
        printer.print_all(client.watch_events(vnode))
        return
    stream = follow_events(
        lambda left: client.within(left).watch_events(vnode, follow=True),
        lambda left: client.within(left).list_replicas(),
        patience=client.patience,
    )
    for event in stream:
        printer.print_change(Change(ChangeType.ADDED, event))


@connected
def baseline(
    client: Client,
    cluster_name: Annotated[str, typer.Option("--cluster-name", metavar="NAME", help="Cluster of the base.")],
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Name of the base application.")] = "",
    base_version: Annotated[str, typer.Option("--base-version", metavar="VERSION", help="Version of it.")] = "",
    base: Annotated[str, typer.Option("--base", metavar="IDENTITY", help="Identity of the base.")] = "",
    output: Output = Format.TABLE,
    no_headers: NoHeaders = False,
) -> None:
    """Print the modules that a base starting in a cluster would be given."""
    printer = Printer(BaselineModule, output, headers=not no_headers)
    printer.print_all(client.baseline(cluster_name, name, base_version, base))
