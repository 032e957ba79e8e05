"""mctl get, events and baseline: lists, single items, and their changes."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Annotated

import typer
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

from mctl.errors import ItemNotFound, UsageError
from mctl.following import KnownItems, follow, poll, unseen
from mctl.invocation import OnVNode, Selector, ShowSecrets, Watch, base_names, printing, replica_names
from mctl.kinds import BASELINE_MODULE, EVENT, GATEWAY, MODULE, REPLICA, SHARD, VNODE, M
from mctl.output import Format, Printer
from mctl.rpc.client import ToolingClient

app = typer.Typer(no_args_is_help=True, help="Print VNodes, modules, gateways, replicas or shards.")

_POLL_INTERVAL = 2.0

Name = Annotated[str, typer.Argument(metavar="[NAME]", show_default=False, help="Only the one of this name.")]
VNodeName = Annotated[
    str,
    typer.Argument(
        metavar="[NAME]", show_default=False, help="Only this Node name or base identity.", autocompletion=base_names
    ),
]


@printing(VNODE)
def vnodes(
    client: ToolingClient,
    printer: Printer[pb.VNode],
    name: VNodeName = "",
    selector: Selector = "",
    watch: Watch = False,
) -> None:
    """Print VNodes: bases and how they are."""
    if name and selector:
        raise UsageError("a name and --selector exclude each other: give one of them")
    if watch:
        request = pb.WatchVNodesRequest(selector=selector)
        stream = partial(client.watch, client.stub.WatchVNodes, request, VNODE)
        changes = follow(stream, KnownItems(VNODE).read, client.timeout)
        printer.print_changes(c for c in changes if not name or name in (c.item.name, c.item.base))
    elif name:
        printer.print_all([client.call(client.stub.GetVNode, pb.GetVNodeRequest(name=name)).vnode])
    else:
        printer.print_all(client.vnodes(selector))


@printing(MODULE)
def modules(
    client: ToolingClient,
    printer: Printer[pb.Module],
    name: Name = "",
    vnode: OnVNode = "",
    selector: Selector = "",
    unmanaged: Annotated[
        bool, typer.Option("--unmanaged", help="Only those without a Pod that the controller did not install.")
    ] = False,
    watch: Watch = False,
    show_secrets: ShowSecrets = False,
) -> None:
    """Print modules: what runs, or should run, on which VNode."""
    management = pb.MANAGEMENT_UNMANAGED if unmanaged else pb.MANAGEMENT_UNSPECIFIED
    if watch and selector:
        raise UsageError("--watch and --selector exclude each other for modules: use --vnode, or watch VNodes")
    if watch:
        request = pb.WatchModulesRequest(vnode=vnode, name=name, management=management, show_secrets=show_secrets)
        stream = partial(client.watch, client.stub.WatchModules, request, MODULE)
        printer.print_changes(follow(stream, KnownItems(MODULE).read, client.timeout))
        return
    found = list(client.modules(vnode, name, management, show_secrets=show_secrets))
    if selector:
        selected = {one.name for one in client.vnodes(selector)}
        found = [module for module in found if module.vnode in selected]
    _print(printer, lambda: found, lambda module: (module.name,), name)


@printing(GATEWAY)
def gateways(client: ToolingClient, printer: Printer[pb.Gateway], name: Name = "", watch: Watch = False) -> None:
    """Print the gateways and what they do for all replicas."""

    def ask() -> Iterable[pb.Gateway]:
        return client.within().call(client.stub.ListGateways, pb.ListGatewaysRequest()).items

    _print(printer, ask, lambda gateway: (gateway.id,), name, watch=watch)


@printing(REPLICA)
def replicas(client: ToolingClient, printer: Printer[pb.Replica], name: Name = "", watch: Watch = False) -> None:
    """Print the replicas of the control plane: state, how many VNodes each owns, which tunnels it reaches."""
    _print(printer, lambda: client.within().replicas(), lambda replica: (replica.id,), name, watch=watch)


@printing(SHARD)
def shards(
    client: ToolingClient,
    printer: Printer[pb.Shard],
    name: VNodeName = "",
    owner: Annotated[
        str,
        typer.Option("--owner", metavar="REPLICA", help="Only those of this replica.", autocompletion=replica_names),
    ] = "",
    watch: Watch = False,
) -> None:
    """Print which replica owns which VNode, and since when."""

    def ask() -> Iterable[pb.Shard]:
        asked = client.within()
        found = list(asked.shards(owner))
        if owner and not found and not watch and all(replica.id != owner for replica in asked.replicas()):
            raise ItemNotFound(f"there is no replica {owner}")
        return found

    place = f" of replica {owner}" if owner else ""
    _print(printer, ask, lambda shard: (shard.vnode, shard.base), name, watch=watch, place=place)


def _print(
    printer: Printer[M],
    ask: Callable[[], Iterable[M]],
    names: Callable[[M], Sequence[str]],
    name: str,
    *,
    watch: bool = False,
    place: str = "",
) -> None:
    """Print the items of one name, or all; when watching, go on asking and print what changes."""

    def wanted(item: M) -> bool:
        return not name or name in names(item)

    if watch:
        changes = poll(ask, printer.kind, _POLL_INTERVAL)
        printer.print_changes(change for change in changes if wanted(change.item))
        return
    found = [item for item in ask() if wanted(item)]
    if name and not found:
        raise ItemNotFound(f"there is no {printer.kind.name} {name}{place}")
    printer.print_all(found)


for _command in (vnodes, modules, gateways, replicas, shards):
    app.command()(_command)
    app.command(_command.__name__.removesuffix("s"), hidden=True)(_command)


@printing(EVENT)
def events(client: ToolingClient, printer: Printer[pb.Event], watch: Watch = False, vnode: OnVNode = "") -> None:
    """Print recent events, oldest first: installs, uninstalls, failures, VNodes that come and go."""
    if printer.format is Format.NAME:
        raise UsageError("events have no names: use --output table, wide, json or yaml")
    if not watch:
        printer.print_all(client.events(vnode))
        return
    request = pb.WatchEventsRequest(vnode=vnode, follow=True)
    stream = partial(client.watch, client.stub.WatchEvents, request, EVENT)
    printer.print_changes(follow(stream, unseen(), client.timeout))


@printing(BASELINE_MODULE)
def baseline(
    client: ToolingClient,
    printer: Printer[pb.BaselineModule],
    cluster_name: Annotated[str, typer.Option("--cluster-name", metavar="NAME", help="Cluster of the base.")],
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Name of the base application.")] = "",
    base_version: Annotated[str, typer.Option("--base-version", metavar="VERSION", help="Version of it.")] = "",
    base: Annotated[str, typer.Option("--base", metavar="IDENTITY", help="Identity of the base.")] = "",
    show_secrets: ShowSecrets = False,
) -> None:
    """Print the modules that a base starting in a cluster would be given."""
    request = pb.GetBaselineRequest(
        cluster_name=cluster_name, name=name, version=base_version, base=base, show_secrets=show_secrets
    )
    printer.print_all(client.call(client.stub.GetBaseline, request).modules)
