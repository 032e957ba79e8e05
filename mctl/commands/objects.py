"""mctl apply and delete: manifests on the embedded cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated

import typer

from mctl import manifests
from mctl.errors import ExitCode, Failure, InvalidFields, NotFound, Refused, SomeFailed, Unreachable
from mctl.invocation import Files, Namespace, connected
from mctl.manifests import Manifest
from mctl.output import Format, Printer
from mctl.records import ObjectResult
from mctl.rpc.client import Client
from mctl.text import clean

ObjectOutput = Annotated[Format | None, typer.Option("--output", "-o", help="How to print (default: one line each).")]


@connected
def apply(
    client: Client,
    filename: Files,
    namespace: Namespace = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only check, on the server.")] = False,
    output: ObjectOutput = None,
) -> None:
    """Create or update the objects of manifests. All are read before the first is sent."""
    found = [m.with_default_namespace(namespace) for m in manifests.read(filename)]
    _each(found, lambda manifest: client.within().apply(manifest.value, dry_run=dry_run), output)


@connected
def delete(
    client: Client,
    filename: Files,
    namespace: Namespace = "",
    grace_period: Annotated[
        int | None, typer.Option("--grace-period", min=0, metavar="SECONDS", help="Seconds that Pods are given.")
    ] = None,
    ignore_not_found: Annotated[bool, typer.Option("--ignore-not-found", help="An absent object is no error.")] = False,
    output: ObjectOutput = None,
) -> None:
    """Delete the objects of manifests. mctl wait --for=gone -f waits until they are gone."""

    def gone(manifest: Manifest) -> ObjectResult:
        result = client.within().delete(manifest.ref(), grace_period)
        if result.result == "absent" and not ignore_not_found:
            raise NotFound("not found")
        return result

    _each([m.with_default_namespace(namespace) for m in manifests.read(filename)], gone, output)


def _each(found: list[Manifest], act: Callable[[Manifest], ObjectResult], output: Format | None) -> None:
    # One refused object does not keep the others back; an unreachable server does.
    done: list[ObjectResult] = []
    lines: list[str] = []
    codes: list[ExitCode] = []
    for number, manifest in enumerate(found, 1):
        try:
            result = act(manifest)
        except (Refused, NotFound, InvalidFields) as error:
            lines += _explained(manifest, error)
            codes.append(error.exit_code)
            continue
        except Unreachable as error:
            lines += error.lines
            if len(found) > 1:
                lines.append(_left(manifest, len(found) - number))
            codes.append(error.exit_code)
            break
        done.append(result)
        if output is None:
            typer.echo(clean(f"{result.title} {result.done}"))
    if output is not None:
        Printer(ObjectResult, output).print_all(done)
    if codes:
        raise SomeFailed(lines, done=len(done), first=codes[0])


def _left(manifest: Manifest, more: int) -> str:
    text = f"{manifest.place}: {manifest.ref().title} was not confirmed"
    return f"{text}; {more} after it {'was' if more == 1 else 'were'} not sent" if more else text


def _explained(manifest: Manifest, error: Failure) -> Iterator[str]:
    if isinstance(error, InvalidFields) and error.violations:
        yield from (manifest.where(field, message) for field, message in error.violations)
    else:
        yield from (f"{manifest.place}: {manifest.ref().title}: {line}" for line in error.lines)
