"""mctl install and uninstall: a module on one base, on those that a selector matches, or on all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from mctl.commands.completion import base_names
from mctl.errors import NotFound, SomeFailed, Usage
from mctl.invocation import NoHeaders, Output, Selector, connected
from mctl.output import Format, Printer
from mctl.records import Operation
from mctl.rpc.client import Client, Target

Name = Annotated[str, typer.Argument(help="Name of the module (bizName), a DNS label.")]
Version = Annotated[str, typer.Option("--version", metavar="VERSION", help="Version of the module (bizVersion).")]
Base = Annotated[
    str, typer.Option("--base", metavar="IDENTITY", help="This base, or Node name.", autocompletion=base_names)
]
_NAMED = 5
"""VNodes that are named for each cause of failures; the table and --output json tell all."""

All = Annotated[bool, typer.Option("--all", help="All bases.")]


@connected
def install(
    client: Client,
    name: Name,
    version: Version,
    url: Annotated[str, typer.Option("--url", metavar="URL", help="Where the base gets the jar (bizUrl).")],
    base: Base = "",
    selector: Selector = "",
    everywhere: All = False,
    namespace: Annotated[
        str, typer.Option("--namespace", "-n", metavar="NS", help="Namespace of the Pods.")
    ] = "default",
    output: Output = Format.TABLE,
    no_headers: NoHeaders = False,
) -> None:
    """Ask for a module on bases: creates a Pod for each. mctl wait module/NAME:VERSION waits until it runs."""
    target = _target(base, selector, everywhere=everywhere)
    operations = client.install(target, name, version, url, namespace)
    if not operations:
        raise NotFound("no base matches: mctl get vnodes --output wide shows which there are")
    _print(Printer(Operation, output, headers=not no_headers), operations)


@connected
def uninstall(
    client: Client,
    name: Name,
    version: Version,
    base: Base = "",
    selector: Selector = "",
    everywhere: All = False,
    namespace: Annotated[
        str, typer.Option("--namespace", "-n", metavar="NS", help="Only Pods of this namespace (default: of any).")
    ] = "",
    output: Output = Format.TABLE,
    no_headers: NoHeaders = False,
) -> None:
    """Delete a module's Pods on bases. mctl wait module/NAME:VERSION --for=gone waits until it is gone."""
    operations = client.uninstall(_target(base, selector, everywhere=everywhere), name, version, namespace)
    if not operations:
        raise NotFound(f"no Pod stands for {name}:{version} there: mctl get modules {name} shows where it is")
    _print(Printer(Operation, output, headers=not no_headers), operations)


def _print(printer: Printer[Operation], operations: Sequence[Operation]) -> None:
    """Print what was done for each Pod; raises SomeFailed with each cause once, and where."""
    printer.print_all(operations)
    causes: dict[str, list[str]] = {}
    for operation in operations:
        if operation.failed:
            causes.setdefault(f"{operation.reason}: {operation.message}", []).append(operation.vnode)
    if causes:
        failed = sum(map(len, causes.values()))
        lines = [f"{failed} of {len(operations)} failed; the same command again tries them again"]
        lines += [f"{_some(vnodes)}: {cause}" for cause, vnodes in causes.items()]
        raise SomeFailed(lines, done=len(operations) - failed)


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_NAMED])
    return f"{shown} and {len(names) - _NAMED} more" if len(names) > _NAMED else shown


def _target(base: str, selector: str, *, everywhere: bool) -> Target:
    if sum(map(bool, (base, selector, everywhere))) != 1:
        raise Usage("say where: exactly one of --base IDENTITY, --selector SELECTOR and --all")
    return Target(base=base, selector=selector)
