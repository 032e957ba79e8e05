"""mctl install and uninstall for modules on bases, apply and delete for manifests on the embedded cluster."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated
from uuid import uuid4

import orjson
import typer
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

from mctl import manifests
from mctl.errors import CannotAsk, CommandError, InvalidFields, ItemNotFound, SomeFailed, UsageError
from mctl.invocation import FILES, All, Base, Namespace, Selector, connected, printing
from mctl.kinds import OPERATION, changed_object, object_title
from mctl.manifests import Manifest
from mctl.output import Format, Printer
from mctl.rpc.client import ToolingClient
from mctl.text import some
from service.wording import clean

Name = Annotated[str, typer.Argument(help="Name of the module (bizName), a DNS label.")]
Version = Annotated[str, typer.Option("--version", metavar="VERSION", help="Version of the module (bizVersion).")]
ObjectOutput = Annotated[Format | None, typer.Option("--output", "-o", help="How to print (default: one line each).")]


@printing(OPERATION)
def install(
    client: ToolingClient,
    printer: Printer[pb.ModuleOperation],
    name: Name,
    version: Version,
    url: Annotated[str, typer.Option("--url", metavar="URL", help="Where the base gets the jar (bizUrl).")],
    base: Base = "",
    selector: Selector = "",
    everywhere: All = False,
    namespace: Namespace = "default",
) -> None:
    """Ask for a module on bases: creates a Pod for each. mctl wait module/NAME:VERSION waits until it runs."""
    where = _required_target(base, selector, everywhere=everywhere)
    request = pb.InstallModuleRequest(
        request_id=str(uuid4()), target=where, name=name, version=version, url=url, namespace=namespace
    )
    operations = client.call(client.stub.InstallModule, request).operations
    _print(printer, operations, "no base matches: mctl get vnodes --output wide shows which there are")


@printing(OPERATION)
def uninstall(
    client: ToolingClient,
    printer: Printer[pb.ModuleOperation],
    name: Name,
    version: Version,
    base: Base = "",
    selector: Selector = "",
    everywhere: All = False,
    namespace: Annotated[
        str, typer.Option("--namespace", "-n", metavar="NS", help="Only Pods of this namespace (default: of any).")
    ] = "",
) -> None:
    """Delete a module's Pods on bases. mctl wait module/NAME:VERSION --for=gone waits until it is gone."""
    where = _required_target(base, selector, everywhere=everywhere)
    request = pb.UninstallModuleRequest(
        request_id=str(uuid4()), target=where, name=name, version=version, namespace=namespace
    )
    operations = client.call(client.stub.UninstallModule, request).operations
    absent = f"no Pod stands for {name}:{version} there: mctl get modules {name} shows where it is"
    _print(printer, operations, absent)


def _print(printer: Printer[pb.ModuleOperation], operations: Sequence[pb.ModuleOperation], absent: str) -> None:
    """Print what was done for each Pod. Raises ItemNotFound, and SomeFailed with each cause once, and where."""
    if not operations:
        raise ItemNotFound(absent)
    printer.print_all(operations)
    causes: dict[str, list[str]] = defaultdict(list)
    for operation in operations:
        if operation.result == "failed":
            causes[f"{operation.reason}: {operation.message}"].append(operation.vnode)
    if causes:
        failed = sum(map(len, causes.values()))
        lines = [f"{failed} of {len(operations)} failed; the same command again tries them again"]
        # The table and --output json name all VNodes.
        lines += [f"{some(vnodes)}: {cause}" for cause, vnodes in causes.items()]
        raise SomeFailed(lines, done=len(operations) - failed)


def _required_target(base: str, selector: str, *, everywhere: bool) -> pb.Target:
    if sum(map(bool, (base, selector, everywhere))) != 1:
        raise UsageError("say where: exactly one of --base IDENTITY, --selector SELECTOR and --all")
    return target(base, selector)


def target(base: str, selector: str) -> pb.Target:
    """Return which bases are meant: all without identity, Node name and selector."""
    if base:
        return pb.Target(base=base)
    return pb.Target(selector=selector) if selector else pb.Target(all=True)


@connected
def apply(
    client: ToolingClient,
    filename: Annotated[list[str], FILES],
    namespace: Namespace = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only check, on the server.")] = False,
    output: ObjectOutput = None,
) -> None:
    """Create or update the objects of manifests. All are read before the first is sent."""

    def send(manifest: Manifest) -> pb.ApplyManifestResponse:
        text = orjson.dumps(manifest.value)
        request = pb.ApplyManifestRequest(request_id=str(uuid4()), manifest_json=text, dry_run=dry_run)
        return client.within().call(client.stub.ApplyManifest, request)

    _each(manifests.read(filename, namespace), send, output, dry_run=dry_run)


@connected
def delete(
    client: ToolingClient,
    filename: Annotated[list[str], FILES],
    namespace: Namespace = "",
    grace_period: Annotated[
        int | None, typer.Option("--grace-period", min=0, metavar="SECONDS", help="Seconds that Pods are given.")
    ] = None,
    ignore_not_found: Annotated[bool, typer.Option("--ignore-not-found", help="An absent object is no error.")] = False,
    output: ObjectOutput = None,
) -> None:
    """Delete the objects of manifests. mctl wait --for=gone -f waits until they are gone."""

    def send(manifest: Manifest) -> pb.ApplyManifestResponse:
        ref = manifest.ref()
        request = pb.DeleteManifestRequest(request_id=str(uuid4()), object=ref, grace_period_seconds=grace_period)
        result = client.within().call(client.stub.DeleteManifest, request).result
        if result == "absent" and not ignore_not_found:
            raise ItemNotFound("not found")
        return pb.ApplyManifestResponse(object=ref, result=result)

    _each(manifests.read(filename, namespace), send, output)


def _each(
    found: list[Manifest],
    send: Callable[[Manifest], pb.ApplyManifestResponse],
    output: Format | None,
    *,
    dry_run: bool = False,
) -> None:
    # One refused object does not keep the others back; an unreachable server does.
    kind = changed_object(dry_run=dry_run)
    done: list[pb.ApplyManifestResponse] = []
    failures: list[CommandError] = []
    lines: list[str] = []
    for number, manifest in enumerate(found, 1):
        try:
            result = send(manifest)
        except CannotAsk as error:
            failures.append(error)
            lines += error.lines
            if len(found) > 1:
                lines.append(_unsent(manifest, len(found) - number))
            break
        except CommandError as error:
            failures.append(error)
            lines += _explained(manifest, error)
            continue
        done.append(result)
        if output is None:
            typer.echo(clean(f"{kind.title(result)} {kind.cell(result, 'RESULT')}"))
    if output is not None:
        Printer(kind, output).print_all(done)
    if failures:
        raise SomeFailed(lines, done=len(done), first=failures[0].exit_code)


def _unsent(manifest: Manifest, more: int) -> str:
    text = f"{manifest.place()}: {object_title(manifest.ref())} was not confirmed"
    return f"{text}; {more} after it {'was' if more == 1 else 'were'} not sent" if more else text


def _explained(manifest: Manifest, error: CommandError) -> Iterator[str]:
    if isinstance(error, InvalidFields) and error.violations:
        yield from (manifest.where(field, message) for field, message in error.violations)
    else:
        yield from (f"{manifest.place()}: {object_title(manifest.ref())}: {line}" for line in error.lines)
